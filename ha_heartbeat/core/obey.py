"""What follows from an operator's request: the actions of the rows that such requests lead to."""

from __future__ import annotations

from ha_heartbeat.core import actions, orders, schedule, votes, watch, witness
from ha_heartbeat.core.state import NEVER, WATCHING, LinkState, State
from ha_heartbeat.core.types import (
    Event,
    Level,
    PauseRequested,
    Phase,
    Replied,
    RunRequested,
    SwitchoverRequested,
)


def _reply(s: State, e: Event, done: bool, text: str) -> None:
    """Answer the operator, if the event is his."""
    if isinstance(e, SwitchoverRequested | PauseRequested | RunRequested):
        s.out.append(Replied(e.request, done, text))


# -- switchover ------------------------------------------------------------------------------------


def refuse_switchover(s: State, e: Event, now: float) -> None:
    """Nothing changes, and the operator is told why."""
    to = e.to if isinstance(e, SwitchoverRequested) else ""
    _reply(s, e, False, f"{orders.order_objection(s, to)}.")


def ask_for_role(s: State, e: Event, now: float) -> None:
    """The operator wants the role here: the worker is asked for it, for a lease at most."""
    s.switch_until = now + votes.relied_on_s(s.settings.lease_s)
    s.switch_note = ""
    s.moved_from = s.peer.incarnation if s.peer is not None else ""
    worker = s.peer_name
    s.say(Level.INFO, f"The operator asks for a switchover: asking {worker} for the role.")
    _reply(s, e, True, f"asked {worker} for the role.")
    watch.question(s, now)


def begin_switchover(s: State, e: Event, now: float) -> None:
    """The role is moved because an operator says so, here or at the peer."""
    s.switch_note = ""
    actions.hand_over(s, e, now, _order(s, e))
    _reply(s, e, True, f"handing over to {s.peer_name}.")


def release_at_once(s: State, e: Event, now: float) -> None:
    """The same, with nothing to wait for."""
    s.switch_note = ""
    actions.release_for(s, e, now, _order(s, e))
    _reply(s, e, True, f"gave the role to {s.peer_name}.")


def _order(s: State, e: Event) -> str:
    where = "here" if isinstance(e, SwitchoverRequested) else f"at {s.peer_name}"
    return f"The operator asks {where} for a switchover"


# -- pause -----------------------------------------------------------------------------------------


def spread_hold(s: State, e: Event, now: float) -> None:
    """The peer is told at once; after a pause this member sees at once how things stand."""
    s.switch_until = NEVER
    actions.inform(s, now)
    if not s.paused:
        schedule.due(s, now)
        if s.phase in WATCHING:
            witness.ask(s, now)
            if s.link_state is LinkState.NONE:
                watch.probe(s, now)
    _reply(s, e, True, "paused." if s.paused else "resumed.")


def note_hold(s: State, e: Event, now: float) -> None:
    """This member has said its last word to its peer; the order is on disk for its next life."""
    _reply(s, e, True, "paused." if s.paused else "resumed.")


def undo_for_pause(s: State, e: Event, now: float) -> None:
    """A hand-over that still waits for its run is off: in a pause the role stays."""
    s.switch_note = f"the hand-over is undone: {orders.pause_in_words(s)}."
    actions.keep_role(s, now, f"The hand-over is undone, since {orders.pause_in_words(s)}")
    _reply(s, e, True, "paused.")


def fence_held(s: State, e: Event, now: float) -> None:
    """What the fence command did is not acted on in a pause, and is out of date after it."""
    s.fenced_at = NEVER
    s.say(Level.WARNING, "The fence command ended in a pause: its result counts for nothing.")
    actions.inform(s, now)


# -- a run now -------------------------------------------------------------------------------------


def refuse_run(s: State, e: Event, now: float) -> None:
    """Nothing is started, and the operator is told why."""
    _reply(s, e, False, f"{orders.run_objection(s)}.")


def run_now(s: State, e: Event, now: float) -> None:
    """The next runs follow from this one: the interval counts from start to start."""
    s.next_run_at = now
    schedule.due(s, now)
    s.say(Level.INFO, f"The operator asks for a run now: run {s.run}.")
    _reply(s, e, s.phase is Phase.WORKER and s.run != "", f"started run {s.run}.")
