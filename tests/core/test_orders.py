"""What an operator may order, and what is foreseen, asked of the core alone."""

from __future__ import annotations

from random import Random

import pytest

from ha_heartbeat.core import foresight, watch
from ha_heartbeat.core.foresight import Loss, foresee
from ha_heartbeat.core.state import FOREVER, NEVER
from ha_heartbeat.core.types import (
    Asked,
    Effect,
    Evidence,
    PauseRequested,
    Phase,
    Replied,
    Say,
    SendAnswer,
    StartRun,
    SwitchoverRequested,
    TakeoverPolicy,
    Tick,
)
from ha_heartbeat.sim.host import Host
from ha_heartbeat.sim.scene import plain_scene
from ha_heartbeat.sim.world import World


def world(**settings: object) -> World:
    """Two members that have settled: m1 is worker."""
    made = World(Random(1), plain_scene(**settings))  # type: ignore[arg-type]
    made.disturbed_at = float("inf")
    for host in made.hosts:
        host.boot()
    made.timeline.run_until(65.0)
    return made


def order(host: Host, event: SwitchoverRequested | PauseRequested) -> list[Effect]:
    assert host.core is not None
    return host.core.step(event, host.clock.local(host.world.now))


def reply(effects: list[Effect]) -> Replied:
    (found,) = (e for e in effects if isinstance(e, Replied))
    return found


@pytest.mark.parametrize("to", ["", "m2"])
def test_the_worker_hands_over(to: str) -> None:
    w = world()
    told = reply(order(w.hosts[0], SwitchoverRequested(7, to)))
    assert (told.request, told.done) == (7, True)


def said(effects: list[Effect]) -> list[str]:
    return [effect.text for effect in effects if isinstance(effect, Say)]


def test_with_no_run_going_the_log_says_why_it_is_handed_over() -> None:
    w = world()
    core = w.hosts[0].core
    assert core is not None
    core.state.run = ""
    effects = order(w.hosts[0], SwitchoverRequested(7, ""))
    assert core.state.phase is Phase.SUPERVISOR
    assert said(effects) == [
        "The operator asks here for a switchover: handing over now.",
        "The command has ended here. Gave the role to m2; supervising it.",
    ]


def test_a_life_that_was_fenced_and_speaks_is_no_stranger() -> None:
    """Its fence command said too early that it is off; neither of the two is to be stopped."""
    w = world(has_fence=True)
    core = w.hosts[1].core
    assert core is not None
    s = core.state
    assert s.peer is not None
    assert s.inbound_ask is not None
    ask = s.inbound_ask._replace(seq=s.inbound_ask.seq + 1)
    watch.forget_fenced(s)
    effects = core.step(Asked(9, ask), w.hosts[1].clock.local(w.now))
    (line,) = said(effects)
    assert line.startswith("m1 was fenced and speaks all the same: ")
    (answer,) = (effect.answer for effect in effects if isinstance(effect, SendAnswer))
    assert (answer.vote, answer.reason) == (False, "")


def test_who_lost_its_lease_is_no_worker_that_stops() -> None:
    w = world(has_witness=True)
    core = w.hosts[0].core
    assert core is not None
    core.step(Tick(), w.hosts[0].clock.local(w.now) + 2 * core.state.settings.lease_s)
    assert core.state.phase is Phase.LOOKING
    assert core.state.worker_since == NEVER


@pytest.mark.parametrize(
    ("host", "to", "why"),
    [
        (0, "m1", "m1 is worker already"),
        (0, "m3", "there is no member 'm3'"),
        (1, "m1", "m1 is worker already"),
    ],
)
def test_what_cannot_be_done_is_refused(host: int, to: str, why: str) -> None:
    told = reply(order(world().hosts[host], SwitchoverRequested(1, to)))
    assert not told.done
    assert why in told.text


def test_of_two_pauses_the_later_counts_and_a_tie_pauses() -> None:
    w = world()
    one, two = w.hosts
    w.network.cut = [[False, True], [True, False]]
    one.order_pause(True)
    two.order_pause(True)
    two.order_pause(False)
    w.network.heal()
    w.timeline.run_until(w.now + 60)
    for host in w.hosts:
        assert host.core is not None
        assert host.core.state.hold[:2] == (2, False), "given with more knowledge"
    w.network.cut = [[False, True], [True, False]]
    one.order_pause(True)
    two.order_pause(False)
    w.network.heal()
    w.timeline.run_until(w.now + 60)
    for host in w.hosts:
        assert host.core is not None
        assert host.core.state.hold[:2] == (3, True), "of two without knowledge the pause"


def test_a_pause_suspends_no_lease() -> None:
    """A worker that stood still for longer than its lease ends its command, paused or not."""
    w = world()
    m1 = w.hosts[0]
    m1.order_pause(True)
    w.timeline.run_until(w.now + 1)
    m1.freeze()
    w.timeline.run_until(w.now + 100)
    m1.thaw()
    assert m1.core is not None
    assert m1.core.state.phase is not Phase.WORKER
    w.timeline.run_until(w.now + 200)
    assert all(h.core is not None and h.core.state.phase is not Phase.WORKER for h in w.hosts)
    m1.order_pause(False)
    w.timeline.run_until(w.now + 60)
    phases = [h.core.state.phase for h in w.hosts if h.core is not None]
    assert sorted(phases) == [Phase.SUPERVISOR, Phase.WORKER]


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("takeover", list(TakeoverPolicy))
def test_what_is_foreseen_comes_true(loss: Loss, takeover: TakeoverPolicy) -> None:
    """The supervisor's forecast, and then the world does just that."""
    if loss is Loss.WITNESS:
        return
    w = world(takeover=takeover)
    m1, m2 = w.hosts
    assert m2.core is not None
    seen = foresee(m2.core.state, m2.clock.local(w.now), loss)
    began = w.now
    if loss is Loss.PEER_PROCESS:
        m1.crash()
    elif loss is Loss.PEER_HOST:
        m1.power_off()
    else:
        w.network.cut = [[False, True], [True, False]]
    w.timeline.run_until(began + 100, lambda: m2.core.state.phase is Phase.WORKER)  # type: ignore[union-attr]
    is_worker = m2.core.state.phase is Phase.WORKER
    assert is_worker == (seen.runs_at_s != FOREVER)
    assert seen.phase is m2.core.state.phase
    if is_worker:
        assert seen.evidence is m2.core.state.evidence
        assert abs((w.now - began) - seen.runs_at_s) < 0.1


def test_the_forecast_touches_nothing() -> None:
    w = world()
    for host in w.hosts:
        assert host.core is not None
        before = [getattr(host.core.state, name) for name in host.core.state.__slots__]
        for loss in foresight.losses(host.core.state):
            foresee(host.core.state, host.clock.local(w.now), loss)
        assert before == [getattr(host.core.state, name) for name in host.core.state.__slots__]


def test_with_a_witness() -> None:
    w = world(has_witness=True, takeover=TakeoverPolicy.PROOF)
    m1, m2 = w.hosts
    assert m1.core is not None
    assert m2.core is not None
    now = m2.clock.local(w.now)
    lost = foresee(m2.core.state, now, Loss.PEER_HOST)
    assert (lost.phase, lost.evidence) == (Phase.WORKER, Evidence.OUTVOTED)
    cut = foresee(m2.core.state, now, Loss.LINK)
    assert cut.runs_at_s == FOREVER, "the holder beyond the cut goes on writing the record"
    alone = foresee(m1.core.state, now, Loss.WITNESS)
    assert (alone.phase, alone.ends_at_s) == (Phase.WORKER, FOREVER)
    assert foresight.losses(m1.core.state) == tuple(Loss)


def test_no_run_is_started_in_a_pause_and_the_next_one_after_it_is() -> None:
    w = world()
    m1 = w.hosts[0]
    order(m1, PauseRequested(1, True, "maintenance", 1.0))
    assert m1.core is not None
    before = m1.core.state.run_count
    w.timeline.run_until(w.now + 100)
    assert m1.core.state.run_count == before
    effects = order(m1, PauseRequested(2, False, "", 1.0))
    assert any(isinstance(e, StartRun) for e in effects)
