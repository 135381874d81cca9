"""What happens around the command: steps before the first run of a term, and their undoing.

A term begins with its steps, one after the other: a virtual address, the on-worker hook. The
command is run when all of them have succeeded, so one that fails stops the promotion. What was set
up stands until it is undone (the on-supervisor hook), which the guardian sees to whenever a tree
ends for good. It is part of the tree until then: the role is not given away before.
"""

from __future__ import annotations

from ha_heartbeat.core import health
from ha_heartbeat.core.state import FOREVER, State
from ha_heartbeat.core.types import Level, Phase, RunEnded, RunFailed, StartHook, UndoEnded


def is_ready(s: State) -> bool:
    """Whether every step of this term has succeeded, so that the command may run."""
    return s.steps_done >= len(s.settings.steps)


def has_taken(s: State, step: str) -> bool:
    """Whether that step of this term has succeeded, and stands."""
    return step in s.settings.steps[: s.steps_done]


def due(s: State, now: float) -> None:
    """Take the next step, if it is time for a run. Only as worker, and one thing at a time."""
    if s.hook:
        return
    step = s.settings.steps[s.steps_done]
    s.hook_count += 1
    s.hook = s.latest_run = f"{s.epoch}.{step}.{s.hook_count}"
    s.hook_started_at = now
    s.hook_late = False
    s.hook_failed = ""
    s.set_up = s.settings.leaves_traces
    s.out.append(StartHook(s.hook, s.epoch, step, s.steps_done == 0))


def times_out_at(s: State) -> float:
    """When the present step has taken too long (--hook-timeout); not in a pause."""
    if not s.hook or s.hook_late or s.paused:
        return FOREVER
    return s.hook_started_at + s.settings.hook_timeout_s


def is_late(s: State, now: float) -> bool:
    """Whether the present step has just been found to take too long: it has failed."""
    if s.phase is not Phase.WORKER or s.ending or now < times_out_at(s):
        return False
    s.hook_late = True
    _fail(s, f"took longer than {s.settings.hook_timeout_s:g} s (--hook-timeout)")
    return True


def failed(s: State, e: RunFailed, now: float) -> bool:
    """A step could not be started. False for one that is not known."""
    if not e.run or e.run != s.hook:
        return False
    s.hook = ""
    if e.tried and s.phase is Phase.WORKER and not s.ending:
        _fail(s, f"could not be started: {e.reason.rstrip('.')}")
    return True


def ended(s: State, e: RunEnded, now: float) -> bool:
    """A step has ended. False for one that is not known."""
    if not e.run or e.run != s.hook:
        return False
    s.hook = ""
    s.leftovers = e.leftovers
    if s.phase is not Phase.WORKER or s.ending:
        return True
    if e.status or e.signal:
        how = f"killed by signal {e.signal}" if e.signal else f"exit status {e.status}"
        _fail(s, f"failed ({how})")
        return True
    s.steps_done += 1
    if is_ready(s):
        s.hook_failed = ""
        health.start_checks(s, now)
    return True


def _fail(s: State, how: str) -> None:
    s.hook_failed = f"--{s.settings.steps[s.steps_done]} {how}"


def undone(s: State, e: UndoEnded) -> None:
    """Only what went wrong is said: nothing waits for it any more."""
    if e.status == 0 and e.signal == 0:
        return
    how = "was not begun in time"
    if e.signal:
        how = f"was killed by signal {e.signal}, as it took too long or its time was over"
    elif e.status > 0:
        how = f"failed (exit status {e.status})"
    s.say(
        Level.ERROR,
        f"--on-supervisor {how}: what --on-worker set up may still stand here, while the role goes "
        f"on its way. See to it by hand.",
    )
