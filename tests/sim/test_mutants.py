"""A simulator that finds nothing proves nothing: rules taken out of the core are missed."""

from __future__ import annotations

import time

import pytest

from ha_heartbeat.core import evidence
from ha_heartbeat.sim.mutants import catch
from ha_heartbeat.sim.rules import MUTANTS, REDUNDANT, WHY, Mutant, removed

BUDGET_S = 20.0
QUICK = (
    "lapse",
    "lease-without-votes",
    "vote-while-tree",
    "port-held-by-tree",
    "unchanged-record",
    "compare-and-swap",
    "epoch-kept",
    "hold-down",
    "fit-peer",
    "hooks-first",
    "undone-before-released",
    "undo-before-deadline",
)
BY_NAME = {m.name: m for m in (*MUTANTS, *REDUNDANT)}


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(MUTANTS) + len(REDUNDANT)


def test_each_redundant_rule_has_a_reason() -> None:
    assert {m.name for m in REDUNDANT} == set(WHY)


@pytest.mark.parametrize("mutant", BY_NAME.values(), ids=BY_NAME)
def test_each_edit_still_fits_the_code_and_is_taken_back(mutant: Mutant) -> None:
    before = evidence.is_silent.__code__
    with removed(mutant):
        pass
    assert evidence.is_silent.__code__ is before


def test_quick_ones_are_caught() -> None:
    began = time.monotonic()
    for name in QUICK:
        caught = catch(BY_NAME[name], limit_s=BUDGET_S - (time.monotonic() - began))
        assert caught.seed >= 0, f"{name} survives"
