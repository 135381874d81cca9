"""The rules of votes, leases and epochs, each against every number that may come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ha_heartbeat.core import votes
from ha_heartbeat.core.machine import Core
from ha_heartbeat.core.state import State
from ha_heartbeat.core.types import Ask, Mode, Started, View, Wants
from ha_heartbeat.sim.scene import plain_scene

LEASES_S = st.floats(0.003, 1e6)
RATES = st.floats(0.995025, 1.004975)  # any two of these differ by less than 1 %


def fresh(i: int = 0, **changes: object) -> State:
    core = Core(plain_scene().settings[i]._replace(**changes), strict=True)
    core.step(Started(f"life{i}", 0, 0), 100.0)
    return core.state


def view_of(s: State, **changes: object) -> View:
    from ha_heartbeat.core.state import view

    return view(s, 100.0)._replace(**changes)


def ask_of(s: State, wants: Wants, **changes: object) -> Ask:
    return Ask("sim", 1, view_of(s, **changes), wants, 30.0)


@given(LEASES_S, RATES, RATES)
def test_the_one_who_relies_has_stopped_before_the_one_who_promised_is_free(
    lease_s: float, asker_rate: float, voter_rate: float
) -> None:
    stopped_at = votes.relied_on_s(lease_s) / asker_rate
    free_at = votes.kept_s(lease_s) / voter_rate
    assert stopped_at < free_at


@given(st.integers(0, 2**50), st.integers(0, 2**50))
def test_two_members_never_choose_the_same_epoch(seen_a: int, seen_b: int) -> None:
    a, b = votes.next_epoch(seen_a, 0), votes.next_epoch(seen_b, 1)
    assert a != b
    assert a > seen_a
    assert b > seen_b


@given(LEASES_S, st.floats(0.001, 1e6), st.floats(0, 1e9))
def test_the_tree_is_asked_to_end_before_it_is_killed_and_dead_before_the_lease_ends(
    lease_s: float, stop_timeout_s: float, now: float
) -> None:
    s = fresh(interval_test_s=lease_s, check_count=1, stop_timeout_s=stop_timeout_s)
    end = now + votes.relied_on_s(lease_s)
    term_at, kill_at = votes.ending_times(s, end)
    assert now <= term_at <= kill_at <= end <= now + lease_s


@given(st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_both_members_agree_on_who_goes_first(wa: bool, wb: bool, fa: bool, fb: bool) -> None:
    a = view_of(fresh(0), mode=Mode.WORKER if wa else Mode.SUPERVISOR, fallback=fa)
    b = view_of(fresh(1), mode=Mode.WORKER if wb else Mode.SUPERVISOR, fallback=fb)
    a_first, reason_a = votes.goes_first(a, b)
    b_first, reason_b = votes.goes_first(b, a)
    assert a_first is not b_first
    assert reason_a == reason_b


def test_no_vote_while_anything_of_the_tree_may_be_alive() -> None:
    s = fresh(1)
    s.leftovers = 1
    vote, reason = votes.answer_to(s, ask_of(fresh(0), Wants.VOTE), view_of(s), 100.0)
    assert not vote
    assert "not all ended" in reason


def test_a_vote_is_kept_for_the_asker_s_lease_whatever_our_own_is() -> None:
    s = fresh(1, interval_test_s=1.0)
    assert votes.answer_to(s, ask_of(fresh(0), Wants.VOTE), view_of(s), 100.0) == (True, "")
    assert s.promised_until == 100.0 + 30.0 * 1.01
    assert not votes.may_ask_for_vote(s, 130.0)
    assert votes.may_ask_for_vote(s, 130.4)


def test_two_candidates_that_voted_for_each_other_run_neither() -> None:
    s = fresh(1)
    votes.promise(s, ask_of(fresh(0), Wants.VOTE), 100.0)
    assert votes.promise_blocks(s, 101.0)


def test_a_vote_raises_the_epoch_that_comes_after_the_one_voted_for() -> None:
    s = fresh(1)
    votes.promise(s, ask_of(fresh(0), Wants.VOTE, epoch_seen=6), 100.0)
    assert s.epoch_granted == 8, "the next epoch of rank 0 above 6"
