"""The simulator: many seeds hold, a seed is a world, and a planted bug is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ha_heartbeat.core import machine, votes, watch
from ha_heartbeat.core.state import State
from ha_heartbeat.sim.__main__ import run_batch
from ha_heartbeat.sim.world import World

ROOT = Path(__file__).parents[2]
SEEDS = range(1_000_000, 1_001_500)


def test_many_seeds_hold() -> None:
    outcome = run_batch(SEEDS)
    assert outcome.violations == ()
    assert outcome.failovers > len(SEEDS), "the nemesis has to hurt"
    assert outcome.overlaps > 0, "silence has to be acted on, too"


def test_a_seed_is_a_world_to_the_last_step() -> None:
    worlds = [World.from_seed(77, tracing=True) for _ in range(2)]
    for world in worlds:
        world.run()
    assert worlds[0].lines == worlds[1].lines
    assert len(worlds[0].lines) > 100


def found(seeds: range) -> str:
    """What the first seed that finds something says."""
    for seed in seeds:
        violations = run_batch(range(seed, seed + 1)).violations
        if violations:
            return violations[0][1]
    return ""


def test_it_finds_a_guardian_that_lets_go_too_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget_tree_at_once(s: State, e: object, now: float, chance: float) -> None:
        s.leftovers = 0

    monkeypatch.setitem(machine.NOTE, machine.Leftovers, forget_tree_at_once)
    monkeypatch.setattr(State, "tree_alive", property(lambda s: False))
    assert "two live commands" in found(range(3000))


def test_it_finds_a_vote_that_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(votes, "promise", lambda s, ask, now: None)
    assert found(range(3000))


def test_it_finds_an_answer_that_counts_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "forget_questions", lambda s: None)
    monkeypatch.setattr(votes, "is_fresh", lambda s, asked_at, now: True)
    assert found(range(20000))


def test_the_command_prints_a_seed_that_can_be_replayed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ha_heartbeat.sim", "--runs", "3", "--jobs", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "3 seeds" in done.stdout
    assert "0 violations" in done.stdout
    replayed = subprocess.run(
        [sys.executable, "-m", "ha_heartbeat.sim", "--seed", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "Becoming worker" in replayed.stdout
    assert "seed 1: no violation" in replayed.stdout
