"""What a member's settings amount to: the longest takeovers and overlaps, computed beforehand.

Nothing here decides anything while a member runs. The numbers follow from the rules in `votes`,
`evidence` and `witness`, and are true of two members with the same settings. Network round trips
and the start of the command come on top of each, and so does the fence command, where there is one.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Final, NamedTuple

from ha_heartbeat.core import evidence
from ha_heartbeat.core.state import FOREVER, State, terms
from ha_heartbeat.core.types import Settings
from ha_heartbeat.core.votes import (
    CHECK_SLIDE,
    KILL_MARGIN_S,
    LEAST_INTERVAL_S,
    ending_times,
    kept_s,
    next_check_within_s,
    relied_on_s,
    undo_reserve_s,
)


class Failure(Enum):
    """What may happen to a pair; the value is what a person calls it."""

    PROCESS_KILLED = "process killed"
    HOST_LOST = "host lost"
    CABLE_PULLED = "cable pulled between the two"
    WORKER_CUT_OFF = "worker cut from everything"
    WITNESS_LOST = "witness lost"
    WORKER_PAUSED = "worker's machine paused"


class Outcome(NamedTuple):
    """What follows from one failure that lasts.

    `goes_on`: the worker's command goes on. `takeover_s`: the longest time until another member
    runs; FOREVER when none does. `overlap_s`: for how long both may run; FOREVER: until it is over.
    """

    goes_on: bool
    takeover_s: float
    overlap_s: float


class Bounds(NamedTuple):
    """The times that follow from one member's settings, in seconds, and how each is derived.

    - `lease_s`: D, interval-test times check-count.
    - `check_s`: from one check to the next, interval-test; half of it if the lease held only one.
    - `limit_s`: for how long an answer of the peer or the witness is waited for, interval-test.
    - `relied_s`: for how long a worker relies on a vote, from when it asked: D less 1 %.
    - `silence_s`: for how long silence lasts before it is judged, from when the peer was last
      heard: D and 1 %.
    - `kill_s`: when the guardian sends SIGKILL, from the last renewal: a margin before `relied_s`.
    - `term_s`: when it sends SIGTERM: the stop timeout before that, but at most a quarter of D, and
      not before the next check could renew it.
    - `ending_s`: what the command has between the two at the end of a lease.
    - `room_s`: the longest stop timeout before `kill_s` that leaves the next check its chance to
      renew: `kill_s` less one check, put off as far as it may be, and the time of its answer.
    - `elected_s`: from the last renewal to a takeover by the witness's vote: at most one check
      until a candidate has read that version, and D and 1 % while it stands.
    - `undo_s`: what the on-supervisor hook has at the end of a lease, after `kill_s`.
    - `crash_s`: how long the tree of a killed member may live: the stop timeout and the time of the
      hook, at most until that of the lease is over.
    - `meeting_s`: from when two workers can hear each other again to the end of the earlier one: a
      check, and then its stop, at most `crash_s`.
    """

    lease_s: float
    check_s: float
    limit_s: float
    relied_s: float
    silence_s: float
    kill_s: float
    term_s: float
    ending_s: float
    room_s: float
    elected_s: float
    undo_s: float
    crash_s: float
    meeting_s: float


def bounds_of(cfg: Settings) -> Bounds:
    """Compute the times of these settings."""
    lease_s, check_s = cfg.lease_s, cfg.check_period_s
    relied_s = relied_on_s(lease_s)
    term_s, kill_s = ending_times(_state(cfg), relied_s)
    undo_s = undo_reserve_s(cfg)
    hook_s = cfg.hook_timeout_s if cfg.has_undo else 0.0
    crash_s = min(cfg.stop_timeout_s + hook_s, kill_s + undo_s)
    return Bounds(
        lease_s=lease_s,
        check_s=check_s,
        limit_s=cfg.interval_test_s,
        relied_s=relied_s,
        silence_s=kept_s(lease_s),
        kill_s=kill_s,
        term_s=term_s,
        ending_s=kill_s - term_s,
        room_s=kill_s - next_check_within_s(check_s),
        elected_s=check_s + kept_s(lease_s),
        undo_s=undo_s,
        crash_s=crash_s,
        meeting_s=check_s + crash_s,
    )


# -- failures --------------------------------------------------------------------------------------


def outcome(cfg: Settings, failure: Failure) -> Outcome:
    """What follows from `failure`, at the worst."""
    return _OUTCOMES[failure](cfg, bounds_of(cfg))


def acts_on_silence(cfg: Settings) -> bool:
    """Whether silence alone is enough for a takeover."""
    return evidence.acts_on_silence(_state(cfg))


def _state(cfg: Settings) -> State:
    """A member that has just been made, to ask the rules about its settings."""
    return State(cfg, terms(cfg))


def _after_silence_s(cfg: Settings, b: Bounds) -> float:
    """The longest time until a silent worker is replaced."""
    if cfg.has_witness:
        return b.elected_s
    return b.silence_s if acts_on_silence(cfg) or cfg.has_fence else FOREVER


def _process_killed(cfg: Settings, b: Bounds) -> Outcome:
    """The guardian ends the tree, and the port refuses; where nobody asks it, silence follows."""
    if not cfg.peer or cfg.distrust_refused:
        return Outcome(False, _after_silence_s(cfg, b), 0.0)
    return Outcome(False, b.crash_s, 0.0)


def _host_lost(cfg: Settings, b: Bounds) -> Outcome:
    return Outcome(False, _after_silence_s(cfg, b), 0.0)


def _cable_pulled(cfg: Settings, b: Bounds) -> Outcome:
    """The worker goes on, unless it is fenced; a fence that fails does not stop `silence`."""
    if acts_on_silence(cfg):
        return Outcome(True, b.silence_s, FOREVER)
    if cfg.has_fence:
        return Outcome(False, b.silence_s, 0.0)
    return Outcome(True, FOREVER, 0.0)


def _worker_cut_off(cfg: Settings, b: Bounds) -> Outcome:
    """With a witness its lease runs out; without one it looks like a pulled cable."""
    if cfg.has_witness:
        return Outcome(False, b.elected_s, 0.0)
    return _cable_pulled(cfg, b)


def _witness_lost(cfg: Settings, b: Bounds) -> Outcome:
    """The peer's vote is enough; where there is none the lease runs out."""
    return Outcome(bool(cfg.peer) or not cfg.has_witness, FOREVER, 0.0)


def _worker_paused(cfg: Settings, b: Bounds) -> Outcome:
    """The overlap is of clocks that stood still with the machine: the rest of a lease, or less."""
    takeover_s = _after_silence_s(cfg, b)
    if cfg.has_fence and not cfg.has_witness and not acts_on_silence(cfg):
        return Outcome(False, takeover_s, 0.0)
    if takeover_s == FOREVER:
        return Outcome(False, FOREVER, 0.0)
    return Outcome(False, takeover_s, b.meeting_s if acts_on_silence(cfg) else b.kill_s)


_OUTCOMES: Final = {
    Failure.PROCESS_KILLED: _process_killed,
    Failure.HOST_LOST: _host_lost,
    Failure.CABLE_PULLED: _cable_pulled,
    Failure.WORKER_CUT_OFF: _worker_cut_off,
    Failure.WITNESS_LOST: _witness_lost,
    Failure.WORKER_PAUSED: _worker_paused,
}


# -- objections ------------------------------------------------------------------------------------


def objections(cfg: Settings) -> tuple[str, ...]:
    """Why these settings leave a lease no room; each a sentence with the value that would do.

    A lease that is renewed by others has to outlast the answer to the next check and then the end
    of the command. A worker that renews it itself waits for no answer, and ends its command in the
    time that there is (`ending_times`), so without a witness these are warnings. What would do for
    the stop timeout is known when the other two are settled.
    """
    b = bounds_of(cfg)
    found = []
    if cfg.interval_test_s < LEAST_INTERVAL_S:
        found.append(
            f"--interval-test {cfg.interval_test_s:g} is shorter than a question and its answer "
            f"take; give at least {LEAST_INTERVAL_S:g}"
        )
    if b.limit_s > b.check_s:
        found.append(
            f"--check-count {cfg.check_count} makes a check every {b.check_s:g} s while an answer "
            f"may take {b.limit_s:g} s, so one late answer uses up the lease; give at least 2"
        )
    if cfg.has_undo and cfg.hook_timeout_s > b.undo_s:
        enough_s = math.ceil(400 * cfg.hook_timeout_s / cfg.check_count) / 100
        found.append(
            f"--hook-timeout {cfg.hook_timeout_s:g} is longer than the {b.undo_s:.4g} s that a "
            f"lease of {b.lease_s:g} s leaves to --on-supervisor at its end; give at most "
            f"{_down(b.undo_s)}, or an --interval-test of at least {enough_s:.10g}"
        )
    if not found and cfg.stop_timeout_s > b.room_s:
        least_s = _least_interval_s(cfg)
        shorter = f"at most {_down(b.room_s)}, or " if _down(b.room_s) != "0" else ""
        found.append(
            f"--stop-timeout {cfg.stop_timeout_s:g} is longer than a lease of {b.lease_s:g} s "
            f"leaves after the next check; give {shorter}an --interval-test of at least {least_s}"
        )
    return tuple(found)


def _least_interval_s(cfg: Settings) -> str:
    """The interval-test whose `room_s` the stop timeout fits into, with the whole kill margin."""
    hook_s = cfg.hook_timeout_s if cfg.has_undo else 0.0
    needed_s = cfg.stop_timeout_s + KILL_MARGIN_S + LEAST_INTERVAL_S + hook_s
    least_s = needed_s / (relied_on_s(cfg.check_count) - 1 - CHECK_SLIDE)
    return f"{math.ceil(100 * least_s) / 100:.10g}"


def _down(seconds: float) -> str:
    """The number rounded down to milliseconds, and not below 0."""
    return f"{max(0, math.floor(seconds * 1000)) / 1000:.10g}"


# -- in words --------------------------------------------------------------------------------------


def guarantee(cfg: Settings) -> str:
    """What these settings promise, in one sentence."""
    if cfg.has_witness and not cfg.peer:
        return (
            "At most one command runs, always, among all members that share the witness's record; "
            "none runs while the witness is lost."
        )
    if cfg.has_witness:
        return (
            "At most one command runs, always, and one runs while two of the three (this member, "
            "its peer and the witness) hear each other."
        )
    if acts_on_silence(cfg):
        return (
            "After a crash or a stop at most one command runs; when nothing is heard the other "
            "takes over, so both run while the two are up and cannot hear each other."
        )
    if cfg.has_fence:
        return (
            "At most one command runs, always; a silent worker is replaced when the fence command "
            "has turned it off."
        )
    return (
        "At most one command runs, always; a silent worker is not replaced until it answers, "
        "refuses or says goodbye, so none may run."
    )
