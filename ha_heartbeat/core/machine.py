"""One step of a member: note the facts of an event, ask the table what follows, and do it.

`Core.step(event, now, chance)` returns the effects in the order in which they are to be done. It
has no other input and no other output, so the same events give the same effects, always.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ha_heartbeat.core import (
    actions,
    evidence,
    health,
    hooks,
    orders,
    schedule,
    votes,
    watch,
    witness,
)
from ha_heartbeat.core.state import FOREVER, LEASED, NEVER, RUNNING, WATCHING, Op, State, terms
from ha_heartbeat.core.table import TABLE, Kind
from ha_heartbeat.core.types import (
    Answered,
    Asked,
    CheckDone,
    Connected,
    Effect,
    Event,
    Expired,
    FenceDone,
    GuardianLost,
    InboundClosed,
    Leftovers,
    Level,
    LinkBroken,
    PauseRequested,
    Phase,
    Refused,
    RoleChanged,
    RunEnded,
    RunFailed,
    RunRequested,
    RunStarted,
    Settings,
    Started,
    StopRequested,
    SwitchoverRequested,
    Tick,
    TreeGone,
    UndoEnded,
    Unreachable,
    WitnessConflict,
    WitnessFailed,
    WitnessRead,
    WitnessSwapped,
)


class ImpossibleEventError(Exception):
    """An event that cannot happen in this phase did happen: a fault of the program."""


AFTER_S: Final = 1e-6
"""A lease has ended when it is over, not at its last moment."""


class Core:
    """The decisions of one member.

    `strict` makes an impossible pair of phase and event raise `ImpossibleEventError`, as in tests;
    otherwise it is logged, and survived.
    """

    __slots__ = ("_ticked_at", "state", "strict")

    def __init__(self, settings: Settings, *, strict: bool = False) -> None:
        self.state = State(settings, terms(settings), rank=settings.rank)
        self.strict = strict
        self._ticked_at = NEVER

    def step(self, event: Event, now: float, chance: float = 0.5) -> list[Effect]:
        """Take in `event` at `now` (seconds, monotonic); `chance` is a random number in [0, 1)."""
        s = self.state
        s.grant = None
        s.told = False
        s.now = now
        if s.phase in RUNNING and evidence.may_have_been_replaced(s, now):
            # Whatever the event is: nothing it says was meant for a worker without a lease.
            self._decide(Kind.TICK, event, now)
        kind = NOTE[type(event)](s, event, now, chance)
        if kind is not None:
            self._decide(kind, event, now)
            if s.phase in WATCHING:
                watch.ask_if_first(s, now)
        if ((type(event) is Asked and kind is not None) or s.run_untold) and not s.told:
            watch.tell(s, now)
        s.run_untold = False
        out, s.out = s.out, []
        if self.strict and type(event) is Tick:
            self._assert_progress(now)
        return out

    def _assert_progress(self, now: float) -> None:
        """A tick may ask for another at once, but that one may not."""
        if self._ticked_at == now and self.wake_at() <= now:
            raise ImpossibleEventError(f"ticks at {now} ask for another at {self.wake_at()}")
        self._ticked_at = now

    def _decide(self, kind: Kind, event: Event, now: float) -> None:
        """Apply the first row that holds."""
        s = self.state
        for row in TABLE[s.phase][kind]:
            if row.when(s, event, now):
                if row.then is None:
                    row.do(s, event, now)
                else:
                    self._enter(row.then, row.do, event, now)
                return
        text = f"{event!r} cannot happen in phase {s.phase.value}"
        if self.strict:
            raise ImpossibleEventError(text)
        s.say(Level.ERROR, f"A fault of the program, survived: {text}. Please report it.")

    def _enter(
        self, phase: Phase, do: Callable[[State, Event, float], None], event: Event, now: float
    ) -> None:
        """Change the phase, then act; the shell is told of the change first."""
        s = self.state
        s.phase = phase
        s.phase_since = now
        before = len(s.out)
        do(s, event, now)
        won = s.evidence if phase is Phase.WORKER else None
        s.out.insert(before, RoleChanged(phase, s.epoch if s.holding else s.epoch_seen, won))

    def wake_at(self) -> float:
        """When the next `Tick` is needed at the latest; infinity when none is."""
        s = self.state
        phase = s.phase
        if phase is Phase.WORKER or phase is Phase.HANDING_OVER:
            due = s.give_up_at
            if phase is Phase.WORKER:
                due = min(schedule.wake_at(s), health.wake_at(s))
            if s.settings.has_witness and s.now <= s.lease_until:
                due = min(due, s.lease_until + AFTER_S)
            return min(s.next_check_at, due)
        if phase is Phase.STOPPED:
            return FOREVER
        if phase in WATCHING and (due := self._judged_at()) < s.next_check_at:
            return due
        return s.next_check_at

    def _judged_at(self) -> float:
        """When silence, or the witness's record, has to be judged between two checks."""
        s = self.state
        if s.settings.peer and s.unanswered < s.settings.check_count:
            return FOREVER
        silent_at = evidence.silence_due_at(s) if s.settings.peer else NEVER
        claim_at = max(silent_at, witness.free_at(s)) if s.settings.has_witness else FOREVER
        return min((at for at in (silent_at, claim_at) if at > s.now), default=FOREVER)


# -- noting facts ----------------------------------------------------------------------------------
# Each function notes what an event says and returns what it means for the role, or None.


def _started(s: State, e: Started, now: float, chance: float) -> Kind | None:
    s.incarnation = e.incarnation
    s.former = e.former
    s.phase_since = s.looking_since = s.started_at = now
    s.epoch_seen = max(e.epoch_seen, e.epoch_reserved)
    s.hold = e.hold
    if s.paused:
        s.say(Level.WARNING, f"Still paused since an earlier life: {s.hold.reason}.")
    s.abstain_until = now + votes.kept_s(s.settings.lease_s)
    s.next_check_at = now
    watch.reserve_epoch(s)
    watch.check(s, now, chance)
    witness.ask(s, now)
    return None


def _tick(s: State, e: Tick, now: float, chance: float) -> Kind | None:
    leased = s.phase in LEASED and not evidence.may_have_been_replaced(s, now)
    if now >= s.next_check_at:
        failed = watch.check(s, now, chance)
        if leased:
            votes.keep_lease(s, now)
        witness.ask(s, now)
        if failed and s.phase is Phase.WORKER:
            actions.say_peer_silent(s, e, now)
    elif witness.may_claim(s, now):
        witness.ask(s, now)
    schedule.due(s, now)
    health.due(s, now)
    return Kind.HOOK_ENDED if hooks.is_late(s, now) else Kind.TICK


def _connected(s: State, e: Connected, now: float, chance: float) -> Kind | None:
    watch.connected(s, e, now)
    return None


def _refused(s: State, e: Refused, now: float, chance: float) -> Kind | None:
    return Kind.REFUSED if watch.refused(s, e, now) else None


def _unreachable(s: State, e: Unreachable, now: float, chance: float) -> Kind | None:
    return Kind.SILENT if watch.unreachable(s, e) else None


def _link_broken(s: State, e: LinkBroken, now: float, chance: float) -> Kind | None:
    watch.link_broken(s, e, now)
    return None


def _asked(s: State, e: Asked, now: float, chance: float) -> Kind | None:
    return Kind.HEARD if watch.asked(s, e, now) else None


def _answered(s: State, e: Answered, now: float, chance: float) -> Kind | None:
    return Kind.HEARD if watch.answered(s, e, now) else None


def _inbound_closed(s: State, e: InboundClosed, now: float, chance: float) -> Kind | None:
    watch.inbound_closed(s, e, now)
    return None


def _run_started(s: State, e: RunStarted, now: float, chance: float) -> Kind | None:
    schedule.started(s)
    return None


def _run_failed(s: State, e: RunFailed, now: float, chance: float) -> Kind | None:
    if hooks.failed(s, e, now):
        if not e.tried:
            schedule.again(s, now)
        return Kind.HOOK_ENDED
    return Kind.RUN_ENDED if schedule.failed(s, e, now) else None


def _run_ended(s: State, e: RunEnded, now: float, chance: float) -> Kind | None:
    if hooks.ended(s, e, now):
        return Kind.HOOK_ENDED
    return Kind.RUN_ENDED if schedule.ended(s, e, now) else None


def _leftovers(s: State, e: Leftovers, now: float, chance: float) -> Kind | None:
    s.leftovers = e.processes
    return None


def _tree_gone(s: State, e: TreeGone, now: float, chance: float) -> Kind | None:
    if not s.ending or (s.undoing and not e.undone):
        return None  # one that was not for good, overtaken by one that is
    schedule.forget_tree(s, undone=s.undoing)
    return Kind.TREE_GONE


def _undo_ended(s: State, e: UndoEnded, now: float, chance: float) -> Kind | None:
    hooks.undone(s, e)
    return None


def _expired(s: State, e: Expired, now: float, chance: float) -> Kind | None:
    if e.latest != s.latest_run:
        s.steps_done = 0  # the guardian does not start what was asked for since without them
        return None
    schedule.forget_tree(s, undone=True)
    return Kind.EXPIRED


def _guardian_lost(s: State, e: GuardianLost, now: float, chance: float) -> Kind | None:
    what = f", and run {s.run} with it" if s.run else ""
    reason = e.reason.rstrip(".")
    s.say(Level.ERROR, f"The guardian was lost{what}: {reason}. A new one is started.")
    if s.undoing and s.set_up:
        s.run = s.hook = ""
        s.leftovers = 0
        return None  # the new one undoes what this one has not, and says that the tree is gone
    schedule.forget_tree(s, undone=False)
    if s.settings.steps and s.phase is Phase.WORKER:
        s.steps_done = 0  # an address went with the guardian
        s.next_run_at = max(min(s.next_run_at, now), now + schedule.AGAIN_S)
    return Kind.TREE_GONE


def _fence_done(s: State, e: FenceDone, now: float, chance: float) -> Kind | None:
    if not s.fence_running:
        return None
    s.fence_running = False
    if e.succeeded:
        s.fenced_at = now
    return Kind.FENCE_DONE


def _check_done(s: State, e: CheckDone, now: float, chance: float) -> Kind | None:
    return Kind.CHECKED if health.checked(s, e, now) else None


def _witness_read(s: State, e: WitnessRead, now: float, chance: float) -> Kind | None:
    if e.record is not None:
        watch.learn_epoch(s, e.record.epoch)
    is_news = witness.was_read(s, e, now)
    if s.phase in RUNNING and witness.is_ours(s):
        witness.ask(s, now)  # the check in which a swap's outcome was unknown renews after all
    _no_longer_await_witness(s, now)
    return Kind.RECORD if is_news else None


def _witness_swapped(s: State, e: WitnessSwapped, now: float, chance: float) -> Kind | None:
    return Kind.ELECTED if witness.was_swapped(s, e, now) else None


def _witness_conflict(s: State, e: WitnessConflict, now: float, chance: float) -> Kind | None:
    witness.conflicted(s, e, now)
    return None


def _witness_failed(s: State, e: WitnessFailed, now: float, chance: float) -> Kind | None:
    witness.failed(s, e, now)
    _no_longer_await_witness(s, now)
    return None


def _no_longer_await_witness(s: State, now: float) -> None:
    """A refusal that waited for the witness is asked for again."""
    if s.awaits_witness and s.op_kind is Op.NONE:
        s.awaits_witness = False
        watch.probe(s, now)


def _stop_requested(s: State, e: StopRequested, now: float, chance: float) -> Kind | None:
    return Kind.STOP


def _switchover_requested(
    s: State, e: SwitchoverRequested, now: float, chance: float
) -> Kind | None:
    return Kind.SWITCHOVER


def _pause_requested(s: State, e: PauseRequested, now: float, chance: float) -> Kind | None:
    orders.order_hold(s, e.on, e.reason, e.at)
    return Kind.PAUSE


def _run_requested(s: State, e: RunRequested, now: float, chance: float) -> Kind | None:
    return Kind.RUN_NOW


NOTE: Final[dict[type, Callable[[State, Any, float, float], Kind | None]]] = {
    Started: _started,
    Tick: _tick,
    Connected: _connected,
    Refused: _refused,
    Unreachable: _unreachable,
    LinkBroken: _link_broken,
    Asked: _asked,
    Answered: _answered,
    InboundClosed: _inbound_closed,
    RunStarted: _run_started,
    RunFailed: _run_failed,
    RunEnded: _run_ended,
    Leftovers: _leftovers,
    TreeGone: _tree_gone,
    UndoEnded: _undo_ended,
    Expired: _expired,
    GuardianLost: _guardian_lost,
    FenceDone: _fence_done,
    CheckDone: _check_done,
    WitnessRead: _witness_read,
    WitnessSwapped: _witness_swapped,
    WitnessConflict: _witness_conflict,
    WitnessFailed: _witness_failed,
    StopRequested: _stop_requested,
    SwitchoverRequested: _switchover_requested,
    PauseRequested: _pause_requested,
    RunRequested: _run_requested,
}
