"""The numbers of --check-config: they follow from the rules, and simulated members keep to them."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_heartbeat.core import bounds, evidence, votes
from ha_heartbeat.core.bounds import Failure, bounds_of, objections, outcome
from ha_heartbeat.core.state import FOREVER, State, terms
from ha_heartbeat.core.types import Phase, Settings, TakeoverPolicy
from ha_heartbeat.sim.host import Host
from ha_heartbeat.sim.scene import plain_scene
from ha_heartbeat.sim.world import World

ROUND_TRIPS_S = 0.1
"""What simulated messages take, all together, in a takeover."""

SPANS_S = st.floats(0.001, 1e5)


@st.composite
def settings(draw: st.DrawFn) -> Settings:
    """Anything that may be given on a command line."""
    has_witness = draw(st.booleans())
    policy = draw(st.sampled_from(TakeoverPolicy))
    plain = plain_scene(
        takeover=TakeoverPolicy.PROOF if has_witness else policy,
        intervals_test_s=(draw(SPANS_S),) * 2,
        check_count=draw(st.integers(1, 1000)),
        stop_timeout_s=draw(SPANS_S),
        distrust_refused=draw(st.booleans()),
        has_fence=draw(st.booleans()),
        has_witness=has_witness,
    ).settings[0]
    plain = plain._replace(has_undo=draw(st.booleans()), hook_timeout_s=draw(SPANS_S))
    return (
        plain._replace(peer="", has_fence=False) if has_witness and draw(st.booleans()) else plain
    )


@given(settings())
def test_the_numbers_follow_from_the_rules(cfg: Settings) -> None:
    b = bounds_of(cfg)
    assert b.relied_s == votes.relied_on_s(cfg.lease_s)
    assert b.silence_s == votes.kept_s(cfg.lease_s)
    assert (b.term_s, b.kill_s) == votes.ending_times(State(cfg, terms(cfg)), b.relied_s)
    assert 0 < b.term_s <= b.kill_s < b.relied_s < b.lease_s < b.silence_s < b.elected_s
    assert b.lease_s >= 2 * b.check_s * (1 - 1e-9)
    assert b.ending_s <= cfg.stop_timeout_s + 1e-9 * max(1.0, b.lease_s)  # as floats go
    assert b.crash_s <= b.kill_s + b.undo_s


@given(settings())
def test_no_command_is_ended_before_the_next_check_could_renew_its_lease(cfg: Settings) -> None:
    b = bounds_of(cfg)
    latest_s = votes.next_check_within_s(b.check_s)
    assert b.term_s >= min(latest_s, b.kill_s) - 1e-9 * max(1.0, b.lease_s)
    if cfg.interval_test_s >= 1:  # below, there may be no time for an answer in a lease of one
        assert b.kill_s > latest_s
    if not objections(cfg):
        whole_s = min(cfg.stop_timeout_s, cfg.lease_s / 4)
        is_whole = pytest.approx(whole_s, abs=1e-9 * max(1.0, b.lease_s))
        assert b.ending_s == is_whole, "what is accepted is cut no further"


@given(settings())
def test_a_worker_that_may_be_replaced_has_ended_its_command_before(cfg: Settings) -> None:
    b = bounds_of(cfg)
    for failure in Failure:
        told = outcome(cfg, failure)
        if told.takeover_s == FOREVER:
            assert told.overlap_s == 0
        elif told.overlap_s == 0 and failure is not Failure.PROCESS_KILLED:
            assert told.takeover_s >= b.silence_s > b.kill_s
        if told.goes_on and told.overlap_s == 0:
            assert told.takeover_s == FOREVER


@given(settings())
def test_only_silence_promises_an_overlap_without_end(cfg: Settings) -> None:
    endless = {f for f in Failure if outcome(cfg, f).overlap_s == FOREVER}
    cut = {Failure.CABLE_PULLED, Failure.WORKER_CUT_OFF}
    assert endless == (cut if bounds.acts_on_silence(cfg) else set())
    assert bounds.acts_on_silence(cfg) == evidence.acts_on_silence(State(cfg, terms(cfg)))


@given(settings())
def test_whoever_has_a_witness_is_replaced_when_its_machine_is_lost(cfg: Settings) -> None:
    replaced = outcome(cfg, Failure.HOST_LOST).takeover_s < FOREVER
    assert replaced == (cfg.has_witness or cfg.has_fence or bounds.acts_on_silence(cfg))


@given(settings())
def test_an_objection_names_a_value_that_would_do(cfg: Settings) -> None:
    for _ in range(4):
        found = objections(cfg)
        if not found:
            break
        cfg = _corrected(cfg, found[0])
    assert objections(cfg) == ()
    b = bounds_of(cfg)
    assert cfg.stop_timeout_s <= b.room_s < b.kill_s - b.check_s
    assert b.limit_s <= b.check_s
    assert b.check_s < b.term_s, "the next check comes before SIGTERM"


def _corrected(cfg: Settings, sentence: str) -> Settings:
    """The settings with the last number of the sentence in the place that it names."""
    value = sentence.rsplit(" ", 1)[1]
    if sentence.startswith("--check-count"):
        return cfg._replace(check_count=int(value))
    return cfg._replace(interval_test_s=float(value))


@given(settings())
def test_the_shorter_timeout_would_do(cfg: Settings) -> None:
    for sentence in objections(cfg):
        if "give at most" in sentence:
            value = float(sentence.partition("give at most ")[2].partition(",")[0])
            if sentence.startswith("--hook-timeout"):
                shorter = cfg._replace(hook_timeout_s=value)
                assert not any(x.startswith("--hook-timeout") for x in objections(shorter))
            else:
                assert objections(cfg._replace(stop_timeout_s=value)) == ()


def test_the_defaults_are_fine_with_and_without_a_witness() -> None:
    for has_witness in (False, True):
        cfg = plain_scene(has_witness=has_witness).settings[0]
        assert objections(cfg) == ()
        assert bounds.guarantee(cfg).endswith(".")


def test_each_objection() -> None:
    plain = plain_scene(has_witness=True).settings[0]
    assert objections(plain._replace(check_count=1)) == (
        "--check-count 1 makes a check every 5 s while an answer may take 10 s, so one late answer "
        "uses up the lease; give at least 2",
    )
    (short,) = objections(plain._replace(interval_test_s=0.01, stop_timeout_s=0.001))
    assert short.startswith("--interval-test 0.01 is shorter than a question and its answer take")
    (stop,) = objections(plain._replace(interval_test_s=5.0))
    assert stop == (
        "--stop-timeout 10 is longer than a lease of 15 s leaves after the next check; "
        "give at most 9.28, or an --interval-test of at least 5.39"
    )


@pytest.mark.parametrize("has_witness", [False, True], ids=["silence", "witness"])
@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("failure", [Failure.HOST_LOST, Failure.WORKER_CUT_OFF])
def test_a_lost_worker_is_replaced_in_time(has_witness: bool, count: int, failure: Failure) -> None:
    policy = TakeoverPolicy.PROOF if has_witness else TakeoverPolicy.SILENCE
    scene = plain_scene(takeover=policy, has_witness=has_witness, check_count=count)
    longest_s = outcome(scene.settings[0], failure).takeover_s
    took_s = [_takeover_s(World(Random(seed), scene), failure) for seed in range(60)]
    assert max(took_s) <= longest_s + ROUND_TRIPS_S
    assert max(took_s) > longest_s - 1.1 * scene.settings[0].interval_test_s, "it is no guess"


def _takeover_s(world: World, failure: Failure) -> float:
    """Start both, let them run for a while, lose the worker, and wait for the other."""
    for host in world.hosts:
        host.boot()
        world.timeline.run_until(world.now + world.rng.random())
    world.settle("start")
    world.timeline.run_until(world.now + 50 + 10 * world.rng.random())
    world.healed_at = world.disturbed_at = world.now
    (worker,) = [host for host in world.hosts if _is_worker(host)]
    if failure is Failure.HOST_LOST:
        worker.power_off()
    else:
        world.network.cut = [[True, True], [True, True]]
        world.witness.cut[worker.index] = True
    lost_at = world.now
    assert world.timeline.run_until(lost_at + 1e4, lambda: _is_worker(worker.peer))
    return world.now - lost_at


def _is_worker(host: Host) -> bool:
    return host.core is not None and host.core.state.phase is Phase.WORKER
