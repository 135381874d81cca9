"""Watching the peer: when to connect, when to ask, and what is known of it.

One question is under way at a time, on our own connection, and only the latest is believed. The
peer asks on a connection of its own; a later answer to its latest question is how it is told of a
change. Nothing here changes the role; it keeps the facts that the table decides on.
"""

from __future__ import annotations

from typing import Final

from ha_heartbeat.core import evidence, orders, votes, witness
from ha_heartbeat.core.state import LEASED, NEVER, LinkState, State, view
from ha_heartbeat.core.types import (
    Answer,
    Answered,
    Ask,
    Asked,
    Connect,
    Connected,
    Disconnect,
    Evidence,
    InboundClosed,
    Level,
    LinkBroken,
    Mode,
    Phase,
    Refused,
    Remember,
    SendAnswer,
    SendAsk,
    Terms,
    Unreachable,
    View,
    Wants,
)

QUICK_PROBES: Final = 3
"""Connections that end unanswered may be tried again at once this often between two checks.

A port that is held while a tree is dying accepts, and resets when the tree is gone: that reset is
worth a probe at once. A stranger on that port that accepts and hangs up must not make us spin.
"""

PAST_INCARNATIONS: Final = 8
"""Replaced incarnations remembered, so that their late questions are not taken for news."""


ABSENCES: Final = frozenset({"silent", "peer-gone"})
"""Lines said once about a peer that is not heard; void when it is heard again."""


# -- checks ----------------------------------------------------------------------------------------


def check(s: State, now: float, chance: float) -> bool:
    """Make the check that is due; true if the one before it has failed.

    A connection on which a whole interval brought no answer is dropped for a new one: after a cut
    the old one only waits for retransmissions that come ever more slowly (RFC 6298).
    """
    failed = s.ask_pending or s.link_state is LinkState.CONNECTING
    if not s.settings.peer:
        s.next_check_at = now + _pause(s, chance)
        return False
    s.unanswered += 1
    s.quick_probes = 0
    s.vote_asked_of = None
    s.next_check_at = now + _pause(s, chance)
    if failed or s.link_state is LinkState.NONE:
        connect(s, now, probe=False)
    else:
        question(s, now)
    if failed:
        s.say(Level.CHECK, f"{s.settings.peer} did not answer the last check")
    return failed


def _pause(s: State, chance: float) -> float:
    """The time to the next check: a random one while looking, so that two do not keep step."""
    interval_s = votes.check_period_s(s)
    return interval_s * (0.5 + chance / 2) if s.phase is Phase.LOOKING else interval_s


def connect(s: State, now: float, *, probe: bool) -> None:
    """Begin a new attempt, dropping the one before."""
    s.link += 1
    s.link_state = LinkState.CONNECTING
    s.link_since = now
    s.link_answered = False
    s.ask_pending = False
    s.out.append(Connect(s.link, probe))


def probe(s: State, now: float) -> None:
    """See at once how the peer stands, if there is one and no connection to it."""
    if s.settings.peer and s.link_state is LinkState.NONE:
        connect(s, now, probe=False)


def disconnect(s: State) -> None:
    """Drop our connection."""
    if s.link_state is not LinkState.NONE:
        s.link_state = LinkState.NONE
        s.ask_pending = False
        s.out.append(Disconnect(s.link))


def question(s: State, now: float) -> None:
    """Put the next question; it supersedes the one before."""
    s.ask_seq += 1
    wanted = wants(s, now)
    s.asks = (*s.asks[-1:], (s.ask_seq, now, wanted))
    if wanted is Wants.VOTE and s.peer is not None:
        s.vote_asked_of = (s.peer.incarnation, s.peer.phase, s.peer.holding)
    s.ask_pending = True
    cfg = s.settings
    s.out.append(SendAsk(s.link, Ask(cfg.service, s.ask_seq, view(s, now), wanted, cfg.lease_s)))


def forget_questions(s: State) -> None:
    """The role has changed: no answer to a question put before gives any right."""
    s.asks = ()


def wants(s: State, now: float) -> Wants:
    """What the next question asks for."""
    if s.phase is Phase.WORKER or s.phase is Phase.HANDING_OVER:
        return Wants.RENEWAL
    if votes.may_ask_for_vote(s, now):
        return Wants.VOTE
    if s.phase is Phase.SUPERVISOR and orders.switch_pending(s, now):
        return Wants.SWITCHOVER
    if s.settings.mode is Mode.WORKER and s.phase is Phase.SUPERVISOR:
        return Wants.ROLE
    return Wants.NOTHING


def ask_if_first(s: State, now: float) -> None:
    """Ask for the vote at once when nobody runs and it is ours to go first.

    Otherwise both would wait for their next check, up to an interval, for nothing.
    """
    if s.peer is None or s.peer.phase is Phase.STOPPED or not votes.may_ask_for_vote(s, now):
        return
    if s.vote_asked_of == (s.peer.incarnation, s.peer.phase, s.peer.holding):
        return  # it said no to that already, or is about to answer
    if not votes.goes_first(view(s, now), s.peer)[0]:
        return
    if s.link_state is LinkState.OPEN:
        question(s, now)
    elif s.link_state is LinkState.NONE:
        connect(s, now, probe=False)


# -- our own connection ----------------------------------------------------------------------------


def connected(s: State, e: Connected, now: float) -> None:
    """The port is open: put the question at once."""
    if e.link != s.link or s.link_state is not LinkState.CONNECTING:
        return
    s.link_state = LinkState.OPEN
    s.was_connected = True
    question(s, now)


def refused(s: State, e: Refused, now: float) -> bool:
    """Take note of a refusal; true if it proves that nothing of the peer is alive."""
    if e.link != s.link or s.link_state is not LinkState.CONNECTING:
        return False
    s.link_state = LinkState.NONE
    objection = evidence.refusal_objection(s, now)
    peer = s.settings.peer
    if objection:
        s.say(Level.CHECK, f"{peer} refused the connection, which proves nothing: {objection}")
        if s.inbound:
            # If nobody is left at the other end of that connection, writing to it ends it.
            tell(s, now)
        elif s.heard_at >= s.link_since and s.quick_probes < QUICK_PROBES:
            # Its last words may have been under way when it died.
            s.quick_probes += 1
            connect(s, now, probe=s.was_connected)
        return False
    if not votes.is_fresh(s, s.refused_at, now):
        s.refused_since = s.link_since
    s.refused_at = now
    s.refused_checks += 1
    votes.count_proof_of_death(s, s.link_since)
    if s.record is not None and s.record_since <= s.link_since and not witness.is_ours(s):
        # Whoever of the peer's lives wrote that, it was before the question.
        _retire(s, s.record.incarnation)
    s.say(Level.CHECK, f"{peer} refused the connection: nothing of it is alive")
    forget_peer(s)
    return True


def forget_peer(s: State) -> None:
    """The incarnation that was known is proved dead: so is whatever it was promised."""
    votes.free_promise(s)
    if s.peer is not None:
        _retire(s, s.peer.incarnation)
        s.peer = None
    s.inbound = 0
    s.inbound_ask = None


def forget_fenced(s: State) -> None:
    """The same by the operator's own word; should it speak again, that word was not true."""
    disconnect(s)
    s.fenced_life = s.peer.incarnation if s.peer is not None else ""
    forget_peer(s)


def unreachable(s: State, e: Unreachable) -> bool:
    """An attempt failed in a way that proves nothing; true if it was the current one."""
    if e.link != s.link or s.link_state is not LinkState.CONNECTING:
        return False
    s.link_state = LinkState.NONE
    s.unanswered_why = ""
    s.say(Level.CHECK, f"no connection to {s.settings.peer}: {e.reason}")
    return True


def link_broken(s: State, e: LinkBroken, now: float) -> None:
    """The connection has ended: ask at once whether anybody is left there."""
    if e.link != s.link or s.link_state is not LinkState.OPEN:
        return
    s.link_state = LinkState.NONE
    s.ask_pending = False
    s.say(Level.CHECK, f"the connection to {s.settings.peer} ended: {e.reason}")
    if s.link_answered:
        connect(s, now, probe=True)
        return
    s.unanswered_why = e.reason
    if s.quick_probes < QUICK_PROBES:
        s.quick_probes += 1
        connect(s, now, probe=s.was_connected)


def inbound_closed(s: State, e: InboundClosed, now: float) -> None:
    """The peer's own connection has ended; if ours has too, see who is left."""
    if e.conn != s.inbound:
        return
    s.inbound = 0
    s.inbound_ask = None
    if s.link_state is LinkState.NONE:
        connect(s, now, probe=s.was_connected)


# -- hearing ---------------------------------------------------------------------------------------


def answered(s: State, e: Answered, now: float) -> bool:
    """Take in an answer; true if the peer was heard.

    The process at the other end of our own connection is the peer, whatever was thought before:
    it holds the port, and nothing else can.
    """
    answer = e.answer
    learn_epoch(s, answer.view.epoch_seen)  # an epoch was used, however late the news is
    if e.link != s.link or s.link_state is not LinkState.OPEN or answer.to != s.incarnation:
        return False
    _hear(s, answer.view, now)
    s.link_answered = True
    if answer.seq == s.ask_seq:
        s.ask_pending = False
        s.say(Level.CHECK, f"{answer.view.member} answered: it is {answer.view.phase.value}")
    for seq, asked_at, wanted in s.asks:
        if seq == answer.seq:
            s.understood_at = max(s.understood_at, asked_at)
            if votes.is_fresh(s, asked_at, now):
                s.grant = _grant(s, answer, wanted, now)
                _note_vote(s, answer, asked_at, now)
            if wanted is Wants.SWITCHOVER:
                orders.note_answer(s, answer)
            elif answer.reason:
                _note_refusal(s, answer.reason, wanted)
    return True


def _grant(s: State, answer: Answer, wanted: Wants, now: float) -> Evidence | None:
    """What a fresh answer to a question that wanted this entitles to."""
    if answer.view.holding or not answer.vote:
        return None
    if answer.released or answer.view.phase is Phase.STOPPED:
        # It was worker and says that it is not: nothing it was promised as such is used any more.
        votes.free_promise(s)
        return Evidence.RELEASED
    if wanted is not Wants.VOTE or votes.promise_blocks(s, now):
        return None
    return Evidence.VOTED


def _note_refusal(s: State, reason: str, wanted: Wants) -> None:
    """Log why the role was kept, or why the other one will not be our peer."""
    if wanted is Wants.ROLE:
        s.say_once("role-denied", Level.INFO, f"{reason}.")
    elif wanted is Wants.NOTHING:
        s.say_once(
            "denied",
            Level.WARNING,
            f"{s.settings.peer} does not take this member for its peer: {reason}. Stop this "
            f"member, or correct --remote on one of the two.",
        )


def _note_vote(s: State, answer: Answer, asked_at: float, now: float) -> None:
    """The peer's vote counts from when it was asked for; a worker's lease goes as far.

    Only where votes are counted: without a witness each check extends the lease by itself.
    """
    if answer.vote and not answer.view.holding:
        votes.count_peer_vote(s, asked_at)
        if s.settings.has_witness and s.phase in LEASED and now <= s.lease_until:
            votes.keep_lease(s, now)


def asked(s: State, e: Asked, now: float) -> bool:
    """Take in a question; true if it was the peer's. It is answered after the table was asked."""
    ask = e.ask
    incarnation = ask.view.incarnation
    if incarnation in s.past or _is_third(s, ask.view):
        _deny(s, e, now)
        return False
    stale = (s.peer is None or s.peer.incarnation != incarnation) and not s.link_answered
    missed_checks = s.unanswered - 1
    known = s.inbound_ask
    is_news = _hear(s, ask.view, now)
    if known is None or known.view.incarnation != incarnation or known.seq < ask.seq:
        s.inbound = e.conn
        s.inbound_ask = ask
    if not is_news and not _still_renews(s, ask):
        # It was overtaken by what its asker has said since, so no vote is given for it.
        _answer_without_vote(s, e, now, "")
        return False
    if stale and s.link_state is LinkState.OPEN:
        question(s, now)  # if what we are connected to is the life before, this breaks it
    elif stale and s.link_state is LinkState.CONNECTING and missed_checks > 0:
        connect(s, now, probe=False)  # what was sent before it was there may be lost
    return True


def _still_renews(s: State, ask: Ask) -> bool:
    """Whether an overtaken question is a renewal, and its asker still worker by its latest word.

    A member speaks on two connections, so its answer often overtakes its question by a moment.
    """
    return ask.wants is Wants.RENEWAL and s.peer is not None and s.peer.phase is ask.view.phase


def _is_third(s: State, other: View) -> bool:
    """Whether somebody asks who is not the process that our own connection leads to."""
    if s.peer is None or other.incarnation == s.peer.incarnation:
        return False
    return s.link_state is LinkState.OPEN and s.link_answered


def _deny(s: State, e: Asked, now: float) -> None:
    """Neither believe nor vote; but if it bears the peer's name, see who holds its port now.

    A life that was taken for dead may have said that before its end. It gets no reason: none of
    the two is to be stopped.
    """
    ask = e.ask
    reason = f"{s.settings.member} is paired with {s.settings.peer}"
    learn_epoch(s, ask.view.epoch_seen)
    if s.peer is None:
        reason = ""
        if ask.view.incarnation == s.fenced_life:
            _say_not_off(s, ask.view)
    elif ask.view.member != s.peer.member:
        s.say_once(
            f"third:{ask.view.member}",
            Level.WARNING,
            f"{ask.view.member} asks to be the peer, but {reason}, which answers. It is ignored: "
            f"check its --remote.",
        )
    elif s.quick_probes < QUICK_PROBES:
        s.quick_probes += 1
        connect(s, now, probe=False)
    _answer_without_vote(s, e, now, reason)


def _say_not_off(s: State, seen: View) -> None:
    """The worst that a fence command can do; whoever wrote it has to know."""
    s.say_once(
        f"not-off:{seen.incarnation}",
        Level.ERROR,
        f"{seen.member} was fenced and speaks all the same: the fence command said that it is off "
        f"when it was not, and two may have run. It must not exit 0 before the machine is off.",
    )


def _answer_without_vote(s: State, e: Asked, now: float, reason: str) -> None:
    ask = e.ask
    answer = Answer(ask.seq, ask.view.incarnation, view(s, now), False, False, reason)
    s.out.append(SendAnswer(e.conn, answer))


def _hear(s: State, seen: View, now: float) -> bool:
    """The peer was heard: everything that silence or a refusal had begun to mean is void.

    False if it said this before what is known of it already: it speaks on two connections.
    """
    learn_epoch(s, seen.epoch_seen)
    if s.peer is None or seen.incarnation != s.peer.incarnation:
        _meet(s, seen, now)
    elif seen.number < s.peer.number:
        return False
    elif s.peer.holding and not seen.holding and not s.promised_to_candidate:
        # What it was promised, it was promised as worker, and it is none any more.
        votes.free_promise(s)
    if s.peer is None or seen.incarnation != s.peer.incarnation or s.unanswered > 1:
        s.present_since = now  # it was away, or a whole check long not to be heard
    s.peer = seen
    if seen.ran_ago_s is not None:
        s.last_run_at = max(s.last_run_at, now - seen.ran_ago_s)
    orders.learn_hold(s, seen.hold)
    if s.said & ABSENCES and seen.phase is not Phase.STOPPED:
        s.take_back(*ABSENCES)
        s.say(Level.INFO, f"{seen.member} is heard: it is {seen.phase.value}.")
    s.heard_at = now
    s.unanswered = 0
    s.unanswered_why = ""
    s.refused_checks = 0
    s.refused_at = NEVER
    s.awaits_witness = False
    if seen.holding and s.promised_to_candidate:
        s.promised_to_candidate = False
    return True


def _meet(s: State, seen: View, now: float) -> None:
    """An incarnation not known before. The one before it is dead: its port was free to be bound."""
    if seen.incarnation == s.fenced_life:
        _say_not_off(s, seen)
    if s.peer is not None:
        votes.free_promise(s)
        _retire(s, s.peer.incarnation)
    _retire(s, seen.former)
    if seen.incarnation == s.former:
        s.former = ""  # two that share a state directory, by mistake
    s.past = tuple(p for p in s.past if p != seen.incarnation)
    s.take_back("role-denied", "denied", "fallback-waits")
    votes.note_peer_lease(s, seen.terms.interval_test_s * seen.terms.check_count)
    if s.settings.has_witness and s.phase in LEASED and now <= s.lease_until:
        votes.keep_lease(s, now)
    if seen.rank == s.rank:
        # Both were told the same address for the two, so the order of their names must decide.
        s.rank = 0 if (s.settings.member, s.incarnation) < (seen.member, seen.incarnation) else 1
        reserve_epoch(s)
    _compare(s, seen)
    if s.link_state is LinkState.NONE:
        connect(s, now, probe=False)


def _retire(s: State, incarnation: str) -> None:
    """That life is over: another one has bound its port, or the port refused. "" is nobody's."""
    if incarnation:
        s.past = (*s.past, incarnation)[-PAST_INCARNATIONS:]


def _compare(s: State, seen: View) -> None:
    """Say once, when two members meet, what they were told differently."""
    cfg = s.settings
    if seen.member == cfg.member:
        s.say(
            Level.WARNING,
            f"Both members are called {cfg.member}: give each a name of its own with --member.",
        )
    if cfg.fallback and seen.fallback:
        s.say(
            Level.WARNING,
            f"{seen.member} was started with --fallback, too: each prefers the other, so "
            f"--fallback is off on both.",
        )
    told = [
        f"{label} is {mine!s:.60} here and {theirs!s:.60} there"
        for label, mine, theirs in zip(TERM_LABELS, s.terms, seen.terms, strict=True)
        if mine != theirs
    ]
    if told:
        s.say(Level.WARNING, f"{seen.member} was started differently: {'; '.join(told)}.")


TERM_LABELS: Final = tuple(name.removesuffix("_s").replace("_", "-") for name in Terms._fields)


# -- telling ---------------------------------------------------------------------------------------


def tell(s: State, now: float, *, released: bool = False) -> None:
    """Answer the peer's latest question again: something has changed, or it has just asked.

    So a release and a goodbye are dated by the question they answer, like every other vote, and
    one that comes late is worth nothing.
    """
    ask = s.inbound_ask
    if not s.inbound or ask is None:
        return
    s.told = True
    own = view(s, now)
    if released:
        votes.promise(s, ask, now)
        vote, reason = True, ""
    else:
        vote, reason = votes.answer_to(s, ask, own, now)
    s.out.append(
        SendAnswer(s.inbound, Answer(ask.seq, ask.view.incarnation, own, vote, released, reason))
    )
    if vote:
        reserve_epoch(s)


# -- epochs ----------------------------------------------------------------------------------------


def learn_epoch(s: State, epoch: int) -> None:
    """An epoch was heard of: the next one chosen here must be above it."""
    if epoch > s.epoch_seen:
        s.epoch_seen = epoch
        reserve_epoch(s)


def reserve_epoch(s: State) -> None:
    """Write the next epoch down ahead of need, so that a takeover waits for no disk."""
    reserved = votes.next_epoch(max(s.epoch_seen, s.epoch_granted), s.rank)
    if (s.epoch_seen, reserved) != (s.epoch_seen_kept, s.epoch_reserved):
        s.epoch_seen_kept, s.epoch_reserved = s.epoch_seen, reserved
        s.out.append(Remember(s.epoch_seen, reserved))
