"""Whether the command does well here: its health checks, runs that fail, and the hold-down.

A worker on which it does not hands over, if its peer is fit. It is held down then: for a time that
doubles with each such hand-over it is not fit to get the role back that way. So where the command
does well on neither machine, the role moves ever more seldom, and where it does on one, it stays
there. A hold-down never keeps a member from replacing a worker that is gone.
"""

from __future__ import annotations

from typing import Final

from ha_heartbeat.core.state import FOREVER, NEVER, State
from ha_heartbeat.core.types import CheckDone, Level, Phase, RunCheck, Settings

DOUBLINGS: Final = 6
"""How often a hold-down doubles at most; a member is tried again at last."""


# -- rules -----------------------------------------------------------------------------------------


def is_failing(s: State) -> bool:
    """Whether so many checks or runs failed in a row, or a hook did, that the peer may do better.

    Not on failed runs alone while another one goes on: it may do well, and its end will tell.
    """
    cfg = s.settings
    if s.hook_failed or (cfg.has_check and s.failed_checks >= cfg.check_failures):
        return True
    return 0 < cfg.max_failures <= s.failed_runs and not s.run


def is_fit(s: State, now: float) -> bool:
    """Whether this member may be given the role by a peer that is alive: it is not held down."""
    return now >= s.unfit_until


def least_hold_down_s(cfg: Settings) -> float:
    """The first hold-down: a lease, or as long as it takes to see that the command does badly."""
    checks_s = cfg.check_interval_s * cfg.check_failures if cfg.has_check else 0.0
    return max(cfg.lease_s, checks_s, cfg.interval_commands_s * cfg.max_failures)


def hold_down_s(s: State) -> float:
    """The hold-down that follows from the number of those before it."""
    return least_hold_down_s(s.settings) * float(2 ** min(s.hold_downs - 1, DOUBLINGS))


# -- a term ----------------------------------------------------------------------------------------


def begin(s: State, now: float) -> None:
    """A new worker has a clean record."""
    s.failed_checks = s.failed_runs = 0
    s.gave_up = s.hook_failed = ""
    s.well_since = s.health_check_at = FOREVER
    s.steps_done = 0
    s.take_back("failing")
    s.unfit_until = NEVER
    if not s.settings.steps:
        start_checks(s, now)


def start_checks(s: State, now: float) -> None:
    """The command is about to be run: the first check comes an interval later."""
    s.health_check_at = now + s.settings.check_interval_s if s.settings.has_check else FOREVER
    if not is_failing(s):
        s.take_back("failing")


def hold_down(s: State, now: float) -> None:
    """The role is lost because the command does badly here: do not get it back too soon."""
    s.hold_downs += 1
    held_s = hold_down_s(s)
    s.unfit_until = now + held_s
    s.say(
        Level.WARNING,
        f"Held down for {held_s:g} s: until then this member takes the role only if nobody else "
        f"has it.",
    )


# -- checks ----------------------------------------------------------------------------------------


def due(s: State, now: float) -> None:
    """Run the health check that is due; forget hold-downs where the command does well again.

    Not in a pause: whatever is wrong then may be the operator's doing.
    """
    if s.phase is not Phase.WORKER or s.paused:
        return
    if s.hold_downs and _does_well(s, now):
        s.hold_downs = 0
    if now >= s.health_check_at and not s.check_running:
        s.check_running = True
        s.check_epoch = s.epoch
        s.health_check_at = now + s.settings.check_interval_s
        s.out.append(RunCheck())


def _does_well(s: State, now: float) -> bool:
    """Whether the command has done well here for as long as the last hold-down was.

    Only as worker, however long ago that was. Of a service that never ends, and has no check,
    nothing is known but that it goes on: for twice as long.
    """
    held_s = hold_down_s(s)
    goes_on = s.run != "" and not s.settings.has_check and now - s.run_started_at >= 2 * held_s
    return goes_on or now - s.well_since >= held_s


def wake_at(s: State) -> float:
    """When `due` must be asked next by a worker."""
    return FOREVER if s.check_running or s.paused else s.health_check_at


def checked(s: State, e: CheckDone, now: float) -> bool:
    """Count a health check, if it is of this term; false for one that is not known."""
    if not s.check_running:
        return False
    s.check_running = False
    if s.phase is not Phase.WORKER or s.check_epoch != s.epoch or s.paused:
        return True
    if e.succeeded:
        if s.failed_checks:
            s.say(Level.INFO, "The health check succeeds again.")
        s.failed_checks = 0
        _succeeded(s, now)
        return True
    s.failed_checks += 1
    s.well_since = FOREVER
    limit = s.settings.check_failures
    s.say(
        Level.WARNING if s.failed_checks == 1 else Level.CHECK,
        f"The health check failed ({e.detail}), {s.failed_checks} of {limit}.",
    )
    return True


def count_run(s: State, now: float, *, failed: bool) -> None:
    """A worker's run has ended by itself, or was ended for its time."""
    if s.paused:
        return
    if failed:
        s.failed_runs += 1
        s.well_since = FOREVER
    else:
        s.failed_runs = 0
        _succeeded(s, now)


def _succeeded(s: State, now: float) -> None:
    s.well_since = min(s.well_since, now)
    if not is_failing(s):
        s.take_back("failing")


# -- in words --------------------------------------------------------------------------------------


def complaint(s: State) -> str:
    """What is wrong with the command here."""
    cfg = s.settings
    if s.hook_failed:
        return s.hook_failed
    if cfg.has_check and s.failed_checks >= cfg.check_failures:
        often = "" if s.failed_checks == 1 else f" {s.failed_checks} times in a row"
        return f"The health check failed{often} (--check)"
    runs = "A run failed" if s.failed_runs == 1 else f"{s.failed_runs} runs failed in a row"
    return f"{runs} (--max-failures)"
