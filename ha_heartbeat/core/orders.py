"""What an operator orders: a switchover, a pause, a run now. When it can be done, and why not.

A pause is hands off, on both members: no run is started, none is ended, and the role stays where it
is. It never suspends what keeps two workers apart: a worker whose lease runs out still ends its
command, the earlier of two workers still steps down, and a member that is stopped still ends what
it started. Nobody takes over meanwhile; what is found after the pause is judged then.
"""

from __future__ import annotations

from ha_heartbeat.core.state import NEVER, LinkState, State
from ha_heartbeat.core.types import Answer, Hold, KeepHold, Level, Phase

# -- pauses ----------------------------------------------------------------------------------------


def order_hold(s: State, on: bool, reason: str, at: float) -> None:
    """The operator pauses or resumes here: this order follows the one that is known."""
    _keep(s, Hold(s.hold.number + 1, on, reason, s.settings.member, at))


def learn_hold(s: State, seen: Hold) -> None:
    """The peer knows of an order: the later one counts, on both members.

    Of two that were given without knowledge of each other the pause counts: it does less.
    """
    if (seen.number, seen.on, seen.by) > (s.hold.number, s.hold.on, s.hold.by):
        _keep(s, seen)


def _keep(s: State, hold: Hold) -> None:
    before, s.hold = s.hold, hold
    s.out.append(KeepHold(hold))
    if hold.on:
        s.say(
            Level.WARNING,
            f"Paused at {hold.by}: {hold.reason}. No run is started or ended and nobody takes over "
            f"until it is resumed.",
        )
    elif before.on:
        s.say(Level.INFO, f"Resumed at {hold.by}.")


def pause_in_words(s: State) -> str:
    """Why nothing is done at present."""
    return f"it is paused ({s.hold.reason}, by {s.hold.by})"


# -- the hand-over ---------------------------------------------------------------------------------


def hand_over_objection(s: State) -> str:
    """Why this worker cannot give its role to its peer now; "" if it can.

    The peer has to supervise it, to hear it and to answer it: whoever does not cannot take over.
    """
    name, peer = s.settings.member, s.peer
    if s.paused:
        return f"{name} keeps the role: {pause_in_words(s)}"
    if s.ending:
        return f"{name} is ending its command already"
    if not s.settings.peer:
        return f"{name} has no peer: stop it, and another member takes over"
    if peer is None:
        return f"{name} keeps the role: {s.settings.peer} is not heard"
    if peer.phase is not Phase.SUPERVISOR:
        return f"{name} keeps the role: {peer.member} is {peer.phase.value} and no supervisor"
    if not (s.link_state is LinkState.OPEN and s.link_answered and s.inbound_ask is not None):
        return f"{name} keeps the role: {peer.member} is not connected in both directions"
    return ""


def note_answer(s: State, answer: Answer) -> None:
    """The worker has answered the question for a switchover: it is done, under way, or refused."""
    if s.switch_until == NEVER:
        return
    s.switch_until = NEVER
    if answer.view.phase is not Phase.WORKER:
        return
    why = answer.reason or f"{answer.view.member} keeps the role: its version knows no switchover"
    s.switch_note = f"{why}."
    s.moved_from = ""
    s.say(Level.WARNING, s.switch_note)


def switch_pending(s: State, now: float) -> bool:
    """Whether the worker is still being asked for the role, for the operator."""
    return now <= s.switch_until


def switch_outcome(s: State) -> str:
    """Why the last switchover asked for here came to nothing; "" if it did not, or not yet."""
    if s.switch_until != NEVER and s.now > s.switch_until:
        return f"{s.settings.peer} did not answer."
    return s.switch_note


def order_objection(s: State, to: str) -> str:
    """Why this member cannot do, or ask for, a switchover to member `to`; "" if it can."""
    name, peer = s.settings.member, s.peer
    worker = name if s.phase is Phase.WORKER else peer.member if peer and peer.holding else ""
    if to and to not in (name, peer.member if peer else "", s.settings.local, s.settings.peer):
        known = f"{name} and {peer.member}" if peer else name
        return f"there is no member {to!r} here: the members known are {known}"
    if to and worker and to in (worker, s.settings.local if worker == name else s.settings.peer):
        return f"{worker} is worker already"
    if s.phase is Phase.WORKER:
        return hand_over_objection(s)
    if s.phase is Phase.HANDING_OVER:
        return f"{name} is handing over already"
    if s.phase is not Phase.SUPERVISOR:
        return f"{name} cannot take the role: it is {s.phase.value}"
    if s.paused:
        return f"the role stays where it is: {pause_in_words(s)}"
    if not worker:
        return f"nobody is known to {name} as worker, so there is nothing to hand over"
    if s.link_state is not LinkState.OPEN:
        return f"{worker} is not heard"
    return ""


# -- a run now -------------------------------------------------------------------------------------


def run_objection(s: State) -> str:
    """Why no run can be started now; "" if one can."""
    name = s.settings.member
    if s.phase is not Phase.WORKER:
        peer = s.peer
        where = f": ask {peer.member}" if peer is not None and peer.phase is Phase.WORKER else ""
        return f"{name} is {s.phase.value}, and only the worker starts runs{where}"
    if s.paused:
        return f"no run is started: {pause_in_words(s)}"
    if s.run:
        return f"run {s.run} is still going, and runs never overlap"
    if s.hook or s.hook_failed:
        return "the hooks before the first run have not succeeded"
    if s.ending or s.now >= s.run_until:
        return f"{name} is ending its command"
    return ""
