"""When the command is started (DESIGN 8): from start to start, never overlapping."""

from __future__ import annotations

from typing import Final

from ha_heartbeat.core import health, hooks
from ha_heartbeat.core.state import FOREVER, NEVER, State
from ha_heartbeat.core.types import (
    Cadence,
    Level,
    Phase,
    RunEnded,
    RunFailed,
    StartRun,
)

AGAIN_S: Final = 1.0
"""What a guardian that is not there, or not ready, is given before anything is started again."""

SERVICE_TICKS: Final = 10
"""A run that outlasts this many intervals is a service: a command that is not meant to end."""


def begin_term(s: State, now: float) -> None:
    """A new worker counts its runs from one."""
    s.run_count = 0
    s.next_run_at = first_run_at(s, now)


def first_run_at(s: State, now: float) -> float:
    """When somebody runs again who did not, or not for certain: at once.

    Nobody knows how long nothing has run. With --cadence continue it is when the next run is due
    after the latest that is known, whoever made it: a tick that has passed meanwhile is made up for
    at once, and those to come stay where they were.
    """
    if s.settings.cadence is Cadence.RESTART or s.last_run_at == NEVER:
        return now
    return s.last_run_at + s.settings.interval_commands_s


def rest(s: State) -> None:
    """Nothing more is started here."""
    s.next_run_at = FOREVER


def due(s: State, now: float) -> None:
    """Start the run that is due, or note that its tick passes while the one before still runs."""
    if now < s.next_run_at or now >= s.run_until or s.phase is not Phase.WORKER or s.ending:
        return
    if s.paused:
        return  # hands off; what falls due meanwhile is skipped
    if s.run:
        _skip(s)
        return
    if not hooks.is_ready(s):
        hooks.due(s, now)
        return
    interval_s = s.settings.interval_commands_s
    late_s = now - s.next_run_at
    s.next_run_at += interval_s * (1 + late_s // interval_s)
    s.run_count += 1
    s.run = s.latest_run = f"{s.epoch}.{s.run_count}"
    s.run_started_at = s.last_run_at = now
    s.run_untold = s.settings.cadence is Cadence.CONTINUE
    s.run_timed_out = False
    s.skip_said = False
    s.set_up = s.settings.leaves_traces
    s.out.append(StartRun(s.run, s.epoch))


def _skip(s: State) -> None:
    """Said once a run, not once a tick: a service would fill the log."""
    if not s.skip_said:
        s.skip_said = True
        s.say(
            Level.INFO,
            f"Run {s.run} is still going after {s.settings.interval_commands_s:g} s: it is not "
            f"started again before it has ended.",
        )


def wake_at(s: State) -> float:
    """When `due` must be asked next by a worker."""
    if s.paused or s.ending or s.now >= s.run_until:
        return FOREVER
    if s.hook:
        return hooks.times_out_at(s)
    limit_at = times_out_at(s)
    return limit_at if s.run and s.skip_said else min(s.next_run_at, limit_at)


def times_out_at(s: State) -> float:
    """When the present run has taken too long (--run-timeout)."""
    return s.run_started_at + s.settings.run_timeout_s if s.run else FOREVER


def failed(s: State, e: RunFailed, now: float) -> bool:
    """The run could not be started; the next tick tries again. False for a run not known.

    One that was not even tried is due all the same, and says nothing of the command.
    """
    if not e.run or e.run != s.run:
        return False
    s.run = ""
    text = f"Run {e.run} could not be started: {e.reason.rstrip('.')}."
    if not e.tried:
        s.say_once("untried", Level.WARNING, f"{text} It is tried again every second.")
        again(s, now)
        return True
    s.say_once("unstarted", Level.ERROR, text)
    s.run_failing = True
    if s.phase is Phase.WORKER:
        health.count_run(s, now, failed=True)
    _plan(s, now)
    return True


def again(s: State, now: float) -> None:
    """What was not even tried is due, as soon as there may be a guardian that is ready for it."""
    if s.next_run_at != FOREVER:
        s.next_run_at = now + min(AGAIN_S, s.settings.interval_commands_s)


def started(s: State) -> None:
    """The run is under way: if the next cannot be started, that is news."""
    s.take_back("untried", "unstarted")


def ended(s: State, e: RunEnded, now: float) -> bool:
    """The run's main process has ended. False for a run not known."""
    if not e.run or e.run != s.run:
        return False
    s.run = ""
    s.leftovers = e.leftovers
    _tell_outcome(s, e, now)
    _plan(s, now)
    return True


def _plan(s: State, now: float) -> None:
    """Leave out the ticks that passed; a service is started again an interval after its end."""
    interval_s = s.settings.interval_commands_s
    if s.next_run_at == FOREVER:
        return
    if now - s.run_started_at >= SERVICE_TICKS * interval_s:
        s.next_run_at = now + interval_s
    elif now > s.next_run_at:
        skipped = -((s.next_run_at - now) // interval_s)
        s.next_run_at += interval_s * skipped
        s.say(Level.CHECK, f"{skipped:.0f} ticks passed during the run and were skipped")


def _tell_outcome(s: State, e: RunEnded, now: float) -> None:
    """Every run with -v; without, only a change between success and failure."""
    how = f"killed by signal {e.signal}" if e.signal else f"exit status {e.status}"
    left = f", leaving {_processes(e.leftovers)} behind" if e.leftovers else ""
    text = f"Run {e.run} ended after {now - s.run_started_at:.3f} s: {how}{left}."
    failing = s.run_timed_out or e.status != 0 or e.signal != 0
    if s.phase is Phase.WORKER and (s.run_timed_out or not s.ending):
        health.count_run(s, now, failed=failing)
    if failing != s.run_failing and s.phase is Phase.WORKER:
        s.run_failing = failing
        again = "" if failing else " It succeeds again."
        s.say(Level.WARNING if failing else Level.INFO, text + again)
    else:
        s.say(Level.CHECK, text)
    if e.leftovers and s.phase is Phase.WORKER:
        s.say_once(
            "leftovers",
            Level.INFO,
            f"Run {e.run} left {_processes(e.leftovers)} behind. What a run leaves is part of the "
            f"command and is ended at every hand-over.",
        )


def _processes(number: int) -> str:
    return "1 process" if number == 1 else f"{number} processes"


def forget_tree(s: State, *, undone: bool) -> None:
    """Nothing of the tree is alive; what was set up around it stands, or does not any more."""
    s.run = s.hook = ""
    s.run_started_at = NEVER
    s.leftovers = 0
    s.ending = s.undoing = False
    if undone:
        s.set_up = False
        s.steps_done = 0
