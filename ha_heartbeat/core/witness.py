"""The witness: a third vote from a register that knows nothing but compare-and-swap (DESIGN 5).

Its vote belongs to whoever the record names, for as long as the holder goes on writing it. Anybody
else may write only after the very same version has stood for a lease on their own clock, for then
the holder, who counts from before it wrote, has stopped; or when the holder is proved to be dead,
or says itself that it has let go. No clock of the store's is trusted, and what cannot be read right
is a witness that does not answer.
"""

from __future__ import annotations

from typing import Final

from ha_heartbeat.core import evidence, votes
from ha_heartbeat.core.state import FOREVER, NEVER, RUNNING, WATCHING, Op, State
from ha_heartbeat.core.types import (
    Level,
    Phase,
    ReadWitness,
    Record,
    SwapWitness,
    WitnessConflict,
    WitnessFailed,
    WitnessRead,
    WitnessSwapped,
)

COMPLAINTS: Final = frozenset({"witness", "witness-write"})
"""Marks of what was said once: that it cannot be read, and that it cannot be written."""

VACANT: Final = "vacant"
"""What stands in the place of an incarnation in a record that is nobody's."""

# -- rules -----------------------------------------------------------------------------------------


def is_ours(s: State) -> bool:
    """Whether the record, as last known, names this life of this member."""
    return s.record is not None and s.record.incarnation == s.incarnation


def is_free(s: State, now: float) -> bool:
    """Whether the record may be taken by this member, as far as the register is concerned.

    An absence is never free by itself: a register that was wiped has forgotten a holder that may
    still run, and an absence, unlike a version, may come again between two looks. So where there is
    no record a vacant one is founded first, and has to stand for a lease like any other. Only a
    worker that has its peer's vote may write at once: nobody else can be running.
    """
    if s.record_since == NEVER:
        return False
    record = s.record
    if record is None:
        return (
            s.phase is Phase.WORKER or s.phase is Phase.HANDING_OVER
        ) and now < s.peer_vote_until
    if record.incarnation == s.incarnation or _holder_gone(s, record, now):
        return True
    return now >= free_at(s)


def free_at(s: State) -> float:
    """When the present record becomes free if nobody writes it again; never, if there is none."""
    if s.record_since == NEVER or s.record is None:
        return FOREVER
    return s.record_since + votes.kept_s(max(s.record.lease_s, s.settings.lease_s))


def is_vacant(record: Record) -> bool:
    """Whether the record names nobody."""
    return record.incarnation == VACANT


def shows_life(s: State, now: float) -> bool:
    """Whether another's record was written so lately that its holder still has the witness's vote.

    Then silence is a cut between the two members, and no reason to fence.
    """
    record = s.record
    if not s.settings.has_witness or record is None or is_ours(s):
        return False
    if record.released or is_vacant(record):
        return False
    return now < free_at(s)


def _holder_gone(s: State, record: Record, now: float) -> bool:
    """Whether the holder is proved not to run: it said so, is dead, or voted for us itself."""
    if record.released or record.incarnation == s.former or record.incarnation in s.past:
        return True
    peer = s.peer
    return (
        peer is not None
        and record.incarnation == peer.incarnation
        and not peer.holding
        and now < s.peer_vote_until
    )


def may_claim(s: State, now: float) -> bool:
    """Whether a candidate may ask for the witness's vote: its peer is silent, the record is free.

    Its own promise to the peer has run out then (that is part of silence), and while the claim is
    under way it votes for nobody.
    """
    return (
        s.phase in WATCHING
        and not s.tree_alive
        and not s.paused
        and evidence.is_silent(s, now)
        and is_free(s, now)
    )


def may_found(s: State, now: float) -> bool:
    """Whether to found a vacant record: there is none, and no worker that would write its own.

    One that was founded by somebody who knows less is founded anew, so that whoever claims it knows
    the epochs that a wiped register has forgotten: a lease is time enough for all to look.
    """
    if s.phase not in WATCHING or s.record_since == NEVER or not evidence.is_silent(s, now):
        return False
    record = s.record
    return record is None or (is_vacant(record) and record.epoch < s.epoch_seen)


# -- asking ----------------------------------------------------------------------------------------


def ask(s: State, now: float) -> None:
    """Put the question that is due, unless one is under way: renew, claim, or see who holds it."""
    if not s.settings.has_witness or s.op_kind is not Op.NONE:
        return
    if s.phase in RUNNING:
        if s.op_record is None and is_free(s, now):
            _swap(s, Op.RENEW, now, released=False)
            return
    elif s.op_record is None and may_claim(s, now):
        _swap(s, Op.CLAIM, now, released=False)
        return
    elif s.op_record is None and may_found(s, now):
        _swap(s, Op.FOUND, now, released=False)
        return
    if s.phase is not Phase.STOPPED:
        _begin(s, Op.READ, now)
        s.out.append(ReadWitness(s.op))


def let_go(s: State, now: float) -> None:
    """Write into the record that this member is not worker any more, if it names it.

    From now on anybody may take it, so its vote is not relied on any more.
    """
    s.witness_vote_until = NEVER
    if s.settings.has_witness and is_ours(s) and s.op_record is None:
        _swap(s, Op.RELEASE, now, released=True)


def _swap(s: State, kind: Op, now: float, *, released: bool) -> None:
    _begin(s, kind, now)
    epochs = {Op.CLAIM: s.epoch_reserved, Op.FOUND: s.epoch_seen}
    epoch = epochs.get(kind, s.epoch)
    # Whoever a wiped register has forgotten may have the longer lease of the two.
    lease_s = max(s.settings.lease_s, s.peer_lease_s if kind is Op.FOUND else 0.0)
    counter = s.record.counter + 1 if s.record is not None else 1
    members = _members(s) if s.settings.peer else ()
    s.op_record = Record(
        s.settings.member,
        VACANT if kind is Op.FOUND else s.incarnation,
        epoch,
        counter,
        lease_s,
        released,
        members,
    )
    s.out.append(SwapWitness(s.op, s.record_version, s.op_record))


def _begin(s: State, kind: Op, now: float) -> None:
    s.op += 1
    s.op_kind = kind
    s.op_sent_at = now


def _members(s: State) -> tuple[str, ...]:
    """The names and addresses under which the two members may know each other."""
    cfg = s.settings
    names = {cfg.member, cfg.local, cfg.peer} | ({s.peer.member} if s.peer else set())
    return tuple(sorted(names))


# -- answers ---------------------------------------------------------------------------------------


def was_read(s: State, e: WitnessRead, now: float) -> bool:
    """Take in the record; true if it is news that somebody else holds it, or that it is there."""
    if e.op != s.op or s.op_kind is not Op.READ:
        return False
    _ended(s)
    record = e.record
    if record is not None and not _is_of_our_cluster(s, record):
        _silent(s, "witness", _foreign(s, record))
        return False
    _answers(s, "witness")
    doubt, s.op_record = s.op_record, None
    if doubt is not None and record == doubt:
        # The swap of which nobody knew had been carried out; its date is when it was sent.
        _written(s, Op.RENEW, doubt, e.version, s.doubt_sent_at, now)
        return False
    if s.record_since == NEVER or e.version != s.record_version:
        s.record, s.record_version, s.record_since = record, e.version, now
    s.read_at = now
    if record is not None and record.holder != s.settings.member:
        _note_holder_lease(s, record, now)
    if not is_ours(s):
        s.witness_vote_until = NEVER
    return True


def _note_holder_lease(s: State, record: Record, now: float) -> None:
    """It may be all that is known of the peer's lease: one that is refused says nothing."""
    if not s.settings.peer:
        s.peer_lease_s = max(s.peer_lease_s, record.lease_s)
    elif not is_vacant(record):
        votes.note_peer_lease(s, record.lease_s)
        if s.phase in RUNNING and now <= s.lease_until:
            votes.keep_lease(s, now)


def was_swapped(s: State, e: WitnessSwapped, now: float) -> bool:
    """The swap was carried out; true if it was a candidate's, who has the witness's vote now."""
    if e.op != s.op or s.op_record is None or s.op_kind in (Op.NONE, Op.READ):
        return False
    kind, record = s.op_kind, s.op_record
    _ended(s)
    s.op_record = None
    _answers(s, "witness", "witness-write")
    _written(s, kind, record, e.version, s.op_sent_at, now)
    return kind is Op.CLAIM


def _written(s: State, kind: Op, record: Record, version: str, sent_at: float, now: float) -> None:
    """The record is this one now. It is a vote for a candidate's claim, or in a worker's own term.

    A renewal of an earlier term gives nothing: that one's votes were given up at its end.
    """
    s.record, s.record_version, s.record_since = record, version, now
    counts = kind is Op.CLAIM or (s.phase in RUNNING and sent_at >= s.worker_since)
    if counts and not record.released and is_ours(s):
        s.witness_vote_until = sent_at + votes.relied_on_s(s.settings.lease_s)
        if s.phase in RUNNING:
            votes.keep_lease(s, now)


def conflicted(s: State, e: WitnessConflict, now: float) -> None:
    """Somebody else has written, or a proxy repeated what we wrote: see which."""
    if e.op != s.op or s.op_kind in (Op.NONE, Op.READ):
        return
    _ended(s)
    s.doubt_sent_at = s.op_sent_at
    if s.phase is not Phase.STOPPED:
        _begin(s, Op.READ, now)
        s.out.append(ReadWitness(s.op))


def failed(s: State, e: WitnessFailed, now: float) -> None:
    """No answer: what was sent may have been carried out, so the next question is a read."""
    if e.op != s.op or s.op_kind is Op.NONE:
        return
    about = "witness"
    if s.op_kind is not Op.READ:
        s.doubt_sent_at = s.op_sent_at
        about = "witness-write"
    _ended(s)
    _silent(s, about, e.reason)


def _ended(s: State) -> None:
    s.op_kind = Op.NONE
    s.looked_at = s.op_sent_at


def _answers(s: State, *abouts: str) -> None:
    """What was said of reading is taken back by a read, what was said of writing by a write."""
    if s.said.isdisjoint(COMPLAINTS):
        return
    s.take_back(*abouts)
    if s.said.isdisjoint(COMPLAINTS):
        s.say(Level.INFO, "The witness answers again.")


def _silent(s: State, about: str, reason: str) -> None:
    if s.said.isdisjoint(COMPLAINTS):
        s.say(Level.WARNING, f"The witness does not answer: {reason}")
    s.said |= {about}


def _is_of_our_cluster(s: State, record: Record) -> bool:
    cfg = s.settings
    if not cfg.peer or not record.members:
        return not cfg.peer and not record.members
    return cfg.member in record.members or cfg.local in record.members


def _foreign(s: State, record: Record) -> str:
    theirs = " and ".join(record.members) or "any number of members"
    ours = f"{s.settings.member} and {s.settings.peer}" if s.settings.peer else "any number"
    return (
        f"its record for {s.settings.service} was written by {record.holder}, of another cluster "
        f"({theirs}) than this one ({ours}). Give one of the two another --name."
    )
