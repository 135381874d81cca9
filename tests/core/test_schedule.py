"""What becomes of a run that could not be started."""

from __future__ import annotations

from ha_heartbeat.core import schedule
from ha_heartbeat.core.machine import Core
from ha_heartbeat.core.types import (
    Effect,
    Level,
    Phase,
    Refused,
    RunFailed,
    RunStarted,
    Say,
    Started,
    StartRun,
    Tick,
)
from ha_heartbeat.sim.scene import plain_scene

NOBODY = "there is no guardian at the moment"


def runs(effects: list[Effect]) -> list[str]:
    return [e.run for e in effects if isinstance(e, StartRun)]


def said(effects: list[Effect], level: Level) -> list[str]:
    return [e.text for e in effects if isinstance(e, Say) and e.level is level]


def worker() -> tuple[Core, str]:
    """One whose peer is not up, and the run that it has asked for."""
    core = Core(plain_scene().settings[0], strict=True)
    core.step(Started("a", 0, 0), 0.0)
    (run,) = runs(core.step(Refused(core.state.link), 0.1))
    assert core.state.phase is Phase.WORKER
    return core, run


def tick_until(core: Core, until: float) -> list[tuple[float, str]]:
    """The runs asked for until then, and when; nobody answers anything."""
    asked = []
    while (now := core.wake_at()) <= until:
        asked += [(now, run) for run in runs(core.step(Tick(), now))]
        if core.state.link_state.value == "connecting":
            core.step(Refused(core.state.link), now)
    return asked


def test_a_run_that_found_no_guardian_is_tried_again_soon_and_said_once() -> None:
    core, run = worker()
    told = core.step(RunFailed(run, NOBODY, tried=False), 0.2)
    assert len(said(told, Level.WARNING)) == 1
    ((at, again),) = tick_until(core, 0.2 + schedule.AGAIN_S)
    assert not said(core.step(RunFailed(again, NOBODY, tried=False), at), Level.WARNING)
    ((at, again),) = tick_until(core, at + schedule.AGAIN_S)
    core.step(RunStarted(again), at)
    assert core.state.failed_runs == 0, "it was not the command that failed"


def test_a_run_that_could_not_be_started_is_tried_again_at_its_tick_and_said_until_one_was() -> (
    None
):
    core, run = worker()
    interval_s = core.state.settings.interval_commands_s
    assert len(said(core.step(RunFailed(run, "no such program"), 0.2), Level.ERROR)) == 1
    assert not tick_until(core, 0.1 + interval_s / 2)
    ((at, run),) = tick_until(core, 0.1 + interval_s)
    assert not said(core.step(RunFailed(run, "no such program"), at), Level.ERROR)
    ((at, run),) = tick_until(core, 0.1 + 2 * interval_s)
    core.step(RunStarted(run), at)
    told = core.step(RunFailed(run, "no more processes"), at)
    assert said(told, Level.ERROR) == [f"Run {run} could not be started: no more processes."]
