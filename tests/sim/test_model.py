"""Every course of two members, up to a shallow depth; `make model DEPTH=n` goes deeper."""

from __future__ import annotations

import pytest

from ha_heartbeat.sim.model import cold, explore, settled
from ha_heartbeat.sim.rules import MUTANTS, removed


@pytest.mark.parametrize("has_witness", [False, True])
@pytest.mark.parametrize("begin", [cold, settled])
def test_no_course_with_two_faults_breaks_an_invariant(begin, has_witness: bool) -> None:  # type: ignore[no-untyped-def]
    found = explore(begin(has_witness=has_witness, faults=2), 7)
    assert found.broken == ""
    assert found.states > 5000


def test_a_rule_that_is_missing_is_seen_with_a_lane_for_each_member() -> None:
    mutant = next(m for m in MUTANTS if m.name == "vote-while-tree")
    with removed(mutant):
        found = explore(cold(has_witness=False, faults=0), 14)
    assert "two live commands" in found.broken
    assert "m1" in found.broken
