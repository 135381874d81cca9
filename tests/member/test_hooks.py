"""Hooks around a term, with real processes: in order, in time, and undone whatever dies."""

from __future__ import annotations

import signal
from itertools import pairwise
from pathlib import Path

import pytest

from tests.member.rig import Member, Rig, holds_for, paused, send, wait_for

pytestmark = pytest.mark.side_by_side


def hooks(rig: Rig, up: str = "true", down: str = "true") -> tuple[str, ...]:
    """Options with hooks that note who begins and ends, in a file that both members share."""
    note = f'echo "$0 $HA_HEARTBEAT_MEMBER" >> {rig.place}/notes'
    return (
        *("--on-worker", f"set -e; {up}; {note.replace('$0', 'up')}"),
        *("--on-supervisor", f"{down}; {note.replace('$0', 'down')}"),
    )


def notes(rig: Rig) -> list[str]:
    path = rig.place / "notes"
    return path.read_text().splitlines() if path.exists() else []


def alternate(rig: Rig) -> bool:
    """Nobody sets up before the other has undone."""
    words = [line.split() for line in notes(rig)]
    return all(a[0] != b[0] and (b[0] == "up" or a[1] == b[1]) for a, b in pairwise(words))


def ill(rig: Rig, member: Member) -> Path:
    return rig.place / f"ill-{member.name}"


def test_they_are_in_order(rig: Rig) -> None:
    """Set up before the first run, undone before the other sets up, whatever ends the term."""
    worker, other = rig.pair(*hooks(rig, down="sleep 0.2"))
    assert notes(rig) == [f"up {worker.name}"]
    worker.stop()
    rig.works(other)
    assert notes(rig)[1:] == [f"down {worker.name}", f"up {other.name}"]
    again = rig.member(int(worker.name[1]), *hooks(rig))
    rig.settle(other, again)
    other.kill()
    rig.works(again)
    assert notes(rig)[3:] == [f"down {other.name}", f"up {again.name}"]
    assert alternate(rig)


def test_a_stopped_member_is_undone_within_its_lease(rig: Rig) -> None:
    worker, other = rig.pair(*hooks(rig), "--hook-timeout", "0.5")
    with paused(worker.pid):
        rig.works(other)
        assert notes(rig)[1:] == [f"down {worker.name}", f"up {other.name}"]
    wait_for(lambda: worker.is_supervisor, "the one before to supervise")
    assert notes(rig)[3:] == []


def test_a_killed_guardian_is_no_end_of_the_term(rig: Rig) -> None:
    """It is set up anew by the next guardian, which undoes it in the end."""
    one = rig.member(1, *hooks(rig))
    rig.works(one)
    send(one.guardian, signal.SIGKILL)
    wait_for(lambda: len(rig.runs()) == 2, "another run")
    rig.works(one)
    one.stop()
    assert notes(rig) == ["up m1", "up m1", "down m1"]


def test_a_hook_that_fails_stops_the_promotion(rig: Rig) -> None:
    """The command does not run; the peer gets the role, and keeps it."""
    options = hooks(rig, up=f'test ! -e {rig.place}/ill-"$HA_HEARTBEAT_MEMBER"')
    one = rig.member(1, *options)
    rig.works(one)
    two = rig.member(2, *options)
    rig.settle(one, two)
    ill(rig, two).touch()
    one.stop()
    two.hears(r"--on-worker failed \(exit status 1\), but .* is not up: staying worker")
    assert len(rig.runs()) == 1
    one = rig.member(1, *options)
    rig.works(one)
    two.hears("Held down for")
    holds_for(1, lambda: one.is_worker and two.is_supervisor, "the role stays there")


def test_a_hook_that_hangs_is_named(rig: Rig) -> None:
    one = rig.member(1, *hooks(rig, up="sleep 600"), "--hook-timeout", "0.5")
    one.hears(r"--on-worker took longer than 0.5 s \(--hook-timeout\), but .* is not up")
    wait_for(lambda: notes(rig) == ["down m1"], "what was begun to be undone")
    assert not rig.runs()


def test_an_undoing_that_fails_is_an_error(rig: Rig) -> None:
    one, two = rig.pair(*hooks(rig, down="exit 7"))
    one.terminate()
    rig.works(two)
    one.hears(r"--on-supervisor failed \(exit status 7\): what --on-worker set up may still stand")
