"""Votes, promises, leases and epochs: who may run, for how long, and under which number.

The rules are those of leases with bounded clock drift (Gray and Cheriton, "Leases: an efficient
fault-tolerant mechanism for distributed file cache consistency", SOSP 1989): the one who relies on
a vote counts it from before it asked and shortens it, the one who gave it counts from after it
answered and lengthens it. Then the first has stopped before the second is free, whatever the
network did in between.
"""

from __future__ import annotations

from typing import Final

from ha_heartbeat.core import orders
from ha_heartbeat.core.state import NEVER, Op, State
from ha_heartbeat.core.types import Ask, ExtendLease, Mode, Phase, Settings, View, Wants

DRIFT: Final = 0.01
"""How much faster one machine's clock may run than the other's: each side allows for 1 %."""

KILL_MARGIN_S: Final = 0.05
"""How long SIGKILL may take to end a process tree; at most a twentieth of the lease."""

CHECK_SLIDE: Final = 0.1
"""By how much of its period a check may be put off, to be in step with those of other services."""

LEAST_INTERVAL_S: Final = 0.02
"""A check needs this for its question, its answer and a busy machine between the two."""


def relied_on_s(lease_s: float) -> float:
    """How long the receiver of a vote may rely on it, from when it sent the question."""
    return lease_s * (1 - DRIFT)


def kept_s(lease_s: float) -> float:
    """How long the giver of a vote keeps to it, from when it answered."""
    return lease_s * (1 + DRIFT)


# -- giving a vote ---------------------------------------------------------------------------------


def goes_first(a: View, b: View) -> tuple[bool, str]:
    """Whether `a` goes before `b` when nobody runs, and the reason.

    Both members apply this to the same two views, so they agree without another round: one that is
    fit before one that is held down, because the command did badly there; WORKER mode first; then
    away from the one that prefers its peer (--fallback); then by member name. With --fallback on
    both sides it contradicts itself, and decides nothing.
    """
    if a.fit is not b.fit:
        first = a if a.fit else b
        return first is a, f"{first.member} goes first: the command failed on its peer"
    if a.mode is not b.mode:
        first = a if a.mode is Mode.WORKER else b
        return first is a, f"{first.member} goes first: it was started in WORKER mode"
    if a.fallback is not b.fallback:
        first = b if a.fallback else a
        return first is a, f"{first.member} goes first: its peer prefers it (--fallback)"
    first = min(a, b, key=lambda v: (v.member, v.incarnation))
    return first is a, f"{first.member} goes first by name: neither is preferred"


def answer_to(s: State, ask: Ask, own: View, now: float) -> tuple[bool, str]:
    """Whether `ask` gets this member's vote, and why not ("" when nothing was refused).

    A vote is a promise that nothing runs here, so it is never given while anything may: neither as
    worker nor while a process of the command's tree may be alive. A member that has just started
    may vote for its peer, though it abstains for itself: whatever it promised before its start, it
    promised to that peer or to itself, and nothing of its own former life is alive, for then it
    could not have bound its port.
    """
    if ask.wants is Wants.NOTHING:
        return False, ""
    if ask.wants is Wants.ROLE:
        return False, _keeps_role(s)
    if ask.wants is Wants.SWITCHOVER:
        return False, orders.hand_over_objection(s) if s.phase is Phase.WORKER else ""
    if own.holding:
        if s.phase is Phase.WORKER:
            return False, f"{own.member} is worker, epoch {s.epoch}"
        return False, f"the command's processes on {own.member} have not all ended yet"
    if s.op_kind is Op.CLAIM:
        return False, f"{own.member} is asking the witness"
    if ask.wants is Wants.VOTE and s.phase is not Phase.STOPPED:
        own_first, reason = goes_first(own, ask.view)
        if own_first and now >= s.promised_until:
            return False, reason
    promise(s, ask, now)
    return True, ""


def promise(s: State, ask: Ask, now: float) -> None:
    """Keep to a vote for the asker's lease, whatever this member's own settings are.

    The one who has it may take the witness's record from us on it, so that vote is given up, too.
    """
    s.promised_until = max(s.promised_until, now + kept_s(ask.lease_s))
    s.witness_vote_until = NEVER
    s.promised_to_candidate = ask.wants is not Wants.RENEWAL
    if s.promised_to_candidate:
        # It may die as worker before it says a word, and its successor's epoch must be higher.
        taken = next_epoch(max(s.epoch_seen, ask.view.epoch_seen), ask.view.rank)
        s.epoch_granted = max(s.epoch_granted, taken)


def free_promise(s: State) -> None:
    """The one it was given to is proved not to use it any more."""
    s.promised_until = NEVER
    s.promised_to_candidate = False


def _keeps_role(s: State) -> str:
    if s.phase is not Phase.WORKER or s.prefers_peer:
        return ""
    why = "an operator moved it here" if s.fallback else "it was not started with --fallback"
    return f"{s.settings.member} keeps the role: {why}"


# -- using a vote ----------------------------------------------------------------------------------


def may_ask_for_vote(s: State, now: float) -> bool:
    """Whether this member may compete for the worker's role at all.

    Not while it is promised to its peer, not while anything of its own tree is alive, not in a
    pause, and not against a worker: nobody ever takes the role from a live worker.
    """
    return (
        (s.phase is Phase.LOOKING or s.phase is Phase.SUPERVISOR)
        and not s.tree_alive
        and now >= s.promised_until
        and (s.peer is None or not s.peer.holding)
        and not s.paused
    )


def is_fresh(s: State, asked_at: float, now: float) -> bool:
    """Whether what was answered to a question sent at `asked_at` may still be relied on."""
    return now - asked_at <= relied_on_s(shorter_lease_s(s))


def promise_blocks(s: State, now: float) -> bool:
    """Whether a promise to the peer forbids to run even though the peer now votes for us.

    A promise made to a worker ends when that worker says that it is none; one made to a candidate
    does not: both may have voted for each other at once, and then neither may run on it.
    """
    return s.promised_to_candidate and now < s.promised_until


def count_proof_of_death(s: State, asked_at: float) -> None:
    """A dead peer's vote counts as ours: whoever starts there has to abstain for its lease first.

    One that was never heard is taken to have a lease as long as ours.
    """
    s.proved_dead_at = asked_at
    count_peer_vote(s, asked_at)


def count_peer_vote(s: State, asked_at: float) -> None:
    """The peer's vote is ours, from when it was asked for."""
    s.peer_vote_until = asked_at + relied_on_s(shorter_lease_s(s))


def shorter_lease_s(s: State) -> float:
    """The lease for which the peer's word can be relied on: ours or its own, whichever is shorter.

    It gives its vote for ours, but if it starts anew it has forgotten that, and abstains for its
    own.
    """
    return min(s.settings.lease_s, s.peer_lease_least_s)


def check_period_s(s: State) -> float:
    """Time between checks: what the settings say, and two in the shorter of the two leases.

    Otherwise a vote that counts for the shorter one would run out between two checks.
    """
    return min(s.settings.check_period_s, shorter_lease_s(s) / 2)


def note_peer_lease(s: State, lease_s: float) -> None:
    """The peer has named its lease: what was taken for granted of it may have to be corrected."""
    s.peer_lease_s = max(s.peer_lease_s, lease_s)
    s.peer_lease_least_s = min(s.peer_lease_least_s, lease_s)
    s.abstain_until = max(s.abstain_until, s.started_at + kept_s(lease_s))
    if s.proved_dead_at != NEVER:
        count_peer_vote(s, s.proved_dead_at)
        s.proved_dead_at = NEVER


# -- the lease -------------------------------------------------------------------------------------


def keep_lease(s: State, now: float) -> None:
    """Extend the lease as far as the votes reach.

    With a witness, two of the three voters have to have voted for this member: itself, and the peer
    or the witness, whichever vote lasts longer. Without one there is nobody to ask: a worker
    confirms its right to itself, at the very moment at which it shows its peer that it lives.
    """
    if s.settings.has_witness:
        end = max(s.peer_vote_until, s.witness_vote_until)
    else:
        end = now + relied_on_s(s.settings.lease_s)
    if end != s.lease_until:
        s.lease_until = end
        s.run_until, kill_at = ending_times(s, end)
        s.out.append(ExtendLease(s.run_until, kill_at))


def kill_margin_s(lease_s: float) -> float:
    """From SIGKILL to the end of the lease: for all that has to act if a guardian is late."""
    return min(KILL_MARGIN_S, lease_s / 20)


def ending_times(s: State, lease_until: float) -> tuple[float, float]:
    """When to send SIGTERM and when SIGKILL, for the tree to be dead when the lease ends.

    SIGKILL comes a margin before the end, or before the time that undoing has there, and SIGTERM
    the stop timeout before that; with a lease too short for it, a quarter of the lease, and never
    before the next check had its chance to renew it: a member that is merely late does not end
    its command.
    """
    lease_s = s.settings.lease_s
    kill_at = lease_until - kill_margin_s(lease_s) - undo_reserve_s(s.settings)
    renewed_at = lease_until - relied_on_s(lease_s)
    ending_s = kill_at - (renewed_at + next_check_within_s(check_period_s(s)))
    return kill_at - max(0.0, min(s.settings.stop_timeout_s, lease_s / 4, ending_s)), kill_at


def next_check_within_s(period_s: float) -> float:
    """By when the check after this one has been made and answered."""
    return period_s * (1 + CHECK_SLIDE) + LEAST_INTERVAL_S


def undo_reserve_s(cfg: Settings) -> float:
    """What the on-supervisor hook has at the end of a lease: its time limit, or a quarter of it."""
    return min(cfg.hook_timeout_s, cfg.lease_s / 4) if cfg.has_undo else 0.0


# -- epochs ----------------------------------------------------------------------------------------


def next_epoch(seen: int, rank: int) -> int:
    """The next epoch of a member of this rank: even for one and odd for the other.

    So the two never choose the same one, not even while they cannot hear each other.
    """
    epoch = seen + 1
    return epoch if epoch % 2 == rank else epoch + 1
