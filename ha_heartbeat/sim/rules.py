"""The safety rules of the core, and the edits that take each of them away.

A mutant is one rule and the change of the source that removes it. A line that is not found is an
error: the list is to be kept with the code. `REDUNDANT` holds rules that another one covers.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import CodeType
from typing import Any, Final, NamedTuple

from ha_heartbeat.core import (
    actions,
    evidence,
    health,
    hooks,
    machine,
    schedule,
    table,
    votes,
    watch,
    witness,
)
from ha_heartbeat.core.state import State
from ha_heartbeat.sim.host import Host
from ha_heartbeat.sim.witness import Witness


class Edit(NamedTuple):
    """In `where`, a function or property, the text `old`, which occurs once, becomes `new`."""

    where: str
    old: str
    new: str


class Mutant(NamedTuple):
    """A rule, as a sentence that is true of the core, and what makes it untrue.

    `first` is the seed to begin with: of a rule that is seldom all that stands between two workers,
    a long search has found one that shows it.
    """

    name: str
    rule: str
    edits: tuple[Edit, ...]
    first: int = 0


@contextmanager
def removed(mutant: Mutant) -> Iterator[None]:
    """Until the block ends, the core lacks the rule, wherever its functions are referred to."""
    codes = _codes(mutant)
    before = {function: function.__code__ for function in codes}
    try:
        for function, code in codes.items():
            function.__code__ = code
        yield
    finally:
        for function, code in before.items():
            function.__code__ = code


@cache
def _codes(mutant: Mutant) -> dict[Any, CodeType]:
    """The functions that lack the rule, compiled once."""
    changes: dict[Any, str] = {}
    for edit in mutant.edits:
        function = _function(edit.where)
        source = changes.get(function) or textwrap.dedent(inspect.getsource(function))
        if source.count(edit.old) != 1:
            raise LookupError(f"{mutant.name}: {edit.old!r} is not once in {edit.where}")
        changes[function] = source.replace(edit.old, edit.new)
    codes = {}
    for function, source in changes.items():
        names: dict[str, Any] = {}
        exec(source.removeprefix("@property\n"), function.__globals__, names)
        codes[function] = names[function.__name__].__code__
    return codes


def _function(where: str) -> Any:
    """What is meant by `module.function` or `Class.method`."""
    place, name = where.split(".")
    found = vars(PLACES[place]).get(name)
    if found is None:
        raise LookupError(f"there is no {where}")
    return found.fget if isinstance(found, property) else found


PLACES: Final[dict[str, Any]] = {
    "Host": Host,
    "State": State,
    "Witness": Witness,
    "actions": actions,
    "evidence": evidence,
    "health": health,
    "hooks": hooks,
    "machine": machine,
    "schedule": schedule,
    "table": table,
    "votes": votes,
    "watch": watch,
    "witness": witness,
}


def _mutant(name: str, rule: str, *edits: tuple[str, str, str], first: int = 0) -> Mutant:
    return Mutant(name, rule, tuple(Edit(*e) for e in edits), first)


MUTANTS: Final = (
    # -- leases and votes --------------------------------------------------------------------------
    _mutant(
        "drift",
        "each side of a vote allows for clocks that differ by 1 %",
        ("votes.relied_on_s", "(1 - DRIFT)", "1"),
        ("votes.kept_s", "(1 + DRIFT)", "1"),
    ),
    _mutant(
        "deadline",
        "the tree is dead before the lease ends",
        (
            "votes.ending_times",
            "kill_at = lease_until - ",
            "kill_at = lease_until + lease_s * 0.2 + ",
        ),
    ),
    _mutant(
        "lapse",
        "a worker whose lease has run out asks before it goes on",
        ("evidence.may_have_been_replaced", "now > s.lease_until and", "False and"),
    ),
    _mutant(
        "lease-without-votes",
        "with a witness the lease reaches as far as a second vote does",
        ("votes.keep_lease", "if s.settings.has_witness:", "if False:"),
    ),
    _mutant(
        "witness-vote-date",
        "the witness's vote counts from when the swap was sent, not from when it was answered",
        ("witness._written", "sent_at + votes", "now + votes"),
    ),
    _mutant(
        "witness-vote-given-up",
        "who votes for the other, or lets go of the record, has the witness's vote no more",
        ("votes.promise", "s.witness_vote_until = NEVER", "pass"),
        ("witness.let_go", "s.witness_vote_until = NEVER", "pass"),
        (
            "witness._written",
            "kind is Op.CLAIM or (s.phase in RUNNING and sent_at >= s.worker_since)",
            "True",
        ),
    ),
    _mutant(
        "hands-off",
        "in a pause nobody takes over",
        ("table.paused", "return s.paused", "return False"),
        ("table.granted_in_pause", "return s.paused and", "return False and"),
        ("table.fence_ended_in_pause", "return s.paused and", "return False and"),
    ),
    _mutant(
        "no-run-in-a-pause",
        "in a pause no run is started",
        ("schedule.due", "if s.paused:", "if False:"),
    ),
    _mutant(
        "promise-kept",
        "a vote is a promise that lasts for the asker's lease",
        (
            "votes.promise",
            "s.promised_until = max(s.promised_until, now + kept_s(ask.lease_s))",
            "",
        ),
    ),
    _mutant(
        "promise-and-candidacy",
        "who has promised its vote does not ask for the other's",
        ("votes.may_ask_for_vote", "and now >= s.promised_until", ""),
    ),
    _mutant(
        "stale-answer",
        "an answer gives nothing when it is older than a lease, or was asked for in another role",
        ("votes.is_fresh", "return now - asked_at <=", "return True or now <="),
        ("watch.forget_questions", "s.asks = ()", "pass"),
        ("watch._note_vote", "count_peer_vote(s, asked_at)", "count_peer_vote(s, now)"),
    ),
    _mutant(
        "longest-lease",
        "of two leases that differ, promises, silence and records last for the longer",
        ("votes.promise", "kept_s(ask.lease_s)", "kept_s(s.settings.lease_s)"),
        (
            "evidence.silence_due_at",
            "max(s.settings.lease_s, s.peer_lease_s)",
            "s.settings.lease_s",
        ),
        ("witness.free_at", "max(s.record.lease_s, s.settings.lease_s)", "s.settings.lease_s"),
    ),
    _mutant(
        "cross-votes",
        "of two that ask each other for their votes one goes first, and no two votes cross",
        ("votes.promise_blocks", "return s.promised", "return False and s.promised"),
        ("votes.answer_to", "if own_first and now >= s.promised_until:", "if False:"),
        ("votes.may_ask_for_vote", "and now >= s.promised_until", ""),
    ),
    _mutant(
        "vote-while-tree",
        "who is worker, or has anything of its tree alive, gives no vote, and is not believed to",
        ("votes.answer_to", "if own.holding:", "if False:"),
        ("watch._grant", "answer.view.holding or", ""),
    ),
    _mutant(
        "vote-and-claim",
        "who asks for the witness's vote does not give its own to the peer meanwhile",
        ("votes.answer_to", "if s.op_kind is Op.CLAIM:", "if False:"),
        ("table.clear_to_run", "now >= s.promised_until and", ""),
    ),
    _mutant(
        "late-election",
        "a vote of the witness that has run out starts no run",
        ("table.clear_to_run", "and now <= s.witness_vote_until", ""),
        ("schedule.due", "now >= s.run_until or", ""),
    ),
    _mutant(
        "release-after-tree",
        "the role is released when nothing of the tree is alive, and not taken before",
        ("table.fallback_due_and_idle", "not s.tree_alive and ", ""),
        ("watch._grant", "answer.view.holding or", ""),
    ),
    # -- a start -----------------------------------------------------------------------------------
    _mutant(
        "abstention",
        "who has just started remembers no promise, and abstains for a lease",
        ("evidence.silence_due_at", "silent_since(s)", "s.heard_at"),
        ("evidence.silence_due_at", ", s.abstain_until", ""),
    ),
    _mutant(
        "bind-before-looking",
        "a member binds its port before it looks for its peer",
        (
            "Host.port_held",
            "self.core is not None",
            "(self.core and self.world.now > self.booted_at + 0.002)",
        ),
    ),
    _mutant(
        "port-held-by-tree",
        "every process of the tree holds the port",
        ("Host.port_held", " or self.guardian.alive", ""),
    ),
    # -- the tree ----------------------------------------------------------------------------------
    _mutant(
        "run-after-tree",
        "who wins the role has nothing of an earlier tree alive",
        ("State.tree_alive", 'return self.run != "" or', "return False and"),
    ),
    _mutant(
        "late-expiry",
        "a report of the guardian about an earlier run ends no later one",
        ("machine._expired", "if e.latest != s.latest_run:", "if False:"),
    ),
    # -- evidence ----------------------------------------------------------------------------------
    _mutant(
        "heard-since",
        "a refusal is void when the peer was heard after the question was sent",
        ("evidence.refusal_objection", "if s.heard_at >= s.link_since:", "if False:"),
        ("evidence.refusal_objection", "if s.inbound and", "if False and"),
    ),
    _mutant(
        "old-refusal",
        "a refusal older than a lease proves nothing",
        ("evidence.refusal_objection", "if now - s.link_since >", "if False and now >"),
        ("votes.count_proof_of_death", "count_peer_vote(s, asked_at)", "count_peer_vote(s, s.now)"),
        first=21_000,
    ),
    _mutant(
        "shorter-lease",
        "the peer's word is relied on for the shorter of the two leases",
        (
            "votes.shorter_lease_s",
            "min(s.settings.lease_s, s.peer_lease_least_s)",
            "s.settings.lease_s",
        ),
    ),
    _mutant(
        "proof-policy",
        "--takeover proof does not act on silence",
        ("evidence.acts_on_silence", "s.settings.takeover is TakeoverPolicy.SILENCE and", ""),
    ),
    _mutant(
        "silence-with-witness",
        "with a witness silence alone gives nothing",
        (
            "evidence.acts_on_silence",
            "s.settings.takeover is TakeoverPolicy.SILENCE and not",
            "s.settings.takeover is TakeoverPolicy.SILENCE or",
        ),
    ),
    _mutant(
        "heard-since-fence",
        "a fence's success is void when the peer was heard after it was started",
        ("table.heard_since_fence", "return s.heard_at >=", "return False and s.heard_at >="),
    ),
    _mutant(
        "one-fence",
        "a fence command that still runs is waited for, and no second one started beside it",
        ("actions.start_fence", "if s.fence_running:", "if False:"),
    ),
    # -- the witness -------------------------------------------------------------------------------
    _mutant(
        "unchanged-record",
        "a record may be taken after it has stood unchanged for a lease",
        ("witness.is_free", "return now >= free_at(s)", "return True"),
    ),
    _mutant(
        "absent-record",
        "where there is no record a vacant one is founded first, and stands for a lease",
        ("witness.is_free", "if record is None:", "if record is None or is_vacant(record):"),
        ("witness.is_free", "return (\n", "return True or (\n"),
    ),
    _mutant(
        "compare-and-swap",
        "the witness swaps the version that was expected, and no other",
        ("Witness._swap", "if effect.expected != self.version:", "if False:"),
    ),
    _mutant(
        "conflict",
        "a conflict is no vote",
        (
            "machine._witness_conflict",
            "    witness.conflicted(s, e, now)\n    return None",
            "    swapped = WitnessSwapped(e.op, s.record_version)\n"
            "    return Kind.ELECTED if witness.was_swapped(s, swapped, now) else None",
        ),
    ),
    _mutant(
        "holder-heard",
        "the peer's record may be taken while its vote for us lasts, and no longer",
        ("witness._holder_gone", "and now < s.peer_vote_until", ""),
    ),
    _mutant(
        "peer-silent-before-claim",
        "the witness is asked for its vote when the peer is silent",
        ("witness.may_claim", "and evidence.is_silent(s, now)", ""),
    ),
    _mutant(
        "founded-epoch",
        "a record founded by one who knows less is founded anew, with the higher epoch",
        ("witness.may_found", "or (is_vacant(record) and record.epoch < s.epoch_seen)", ""),
    ),
    # -- around the command ------------------------------------------------------------------------
    _mutant(
        "hooks-first",
        "the command runs when every hook before it has succeeded",
        ("hooks.is_ready", "s.steps_done >= len(s.settings.steps)", "True"),
    ),
    _mutant(
        "hooks-anew",
        "what was undone, or went with a guardian, is set up anew before the command runs",
        ("schedule.forget_tree", "s.steps_done = 0", "pass"),
    ),
    _mutant(
        "undone-before-released",
        "hooks and what they set up are part of the tree: the role is not released before",
        ("State._surroundings", 'return self.hook != "" or self.set_up', "return False"),
    ),
    _mutant(
        "undo-before-deadline",
        "a lease that ends leaves time to undo what was set up",
        ("votes.ending_times", " - undo_reserve_s(s.settings)", ""),
    ),
    # -- the command does badly --------------------------------------------------------------------
    _mutant(
        "hold-down",
        "who hands over because the command does badly does not get the role back at once",
        ("health.hold_down", "s.unfit_until = now + held_s", "pass"),
    ),
    _mutant(
        "hold-down-grows",
        "each further hold-down is twice as long",
        ("health.hold_down_s", "2 ** min(s.hold_downs - 1, DOUBLINGS)", "1"),
    ),
    _mutant(
        "fit-peer",
        "the role is not handed to a peer that is held down, preferred or not",
        ("table.peer_is_ready", "and s.peer.fit", ""),
    ),
    _mutant(
        "hold-downs-forgotten",
        "hold-downs are forgotten only where the command has done well for as long",
        (
            "health._does_well",
            "return goes_on or now - s.well_since >= held_s",
            "return True",
        ),
    ),
    # -- epochs ------------------------------------------------------------------------------------
    _mutant(
        "epoch-granted",
        "the next epoch is above the one that the peer can have taken on our vote",
        ("watch.reserve_epoch", "max(s.epoch_seen, s.epoch_granted)", "s.epoch_seen"),
    ),
    _mutant(
        "epoch-parity",
        "the two members choose even and odd epochs",
        ("votes.next_epoch", "return epoch if epoch % 2 == rank else epoch + 1", "return epoch"),
    ),
    _mutant(
        "epoch-heard",
        "the next epoch is above every one that was heard of",
        ("watch.learn_epoch", "if epoch > s.epoch_seen:", "if False:"),
    ),
    _mutant(
        "epoch-kept",
        "the next epoch is above those used before a restart",
        (
            "machine._started",
            "s.epoch_seen = max(e.epoch_seen, e.epoch_reserved)",
            "s.epoch_seen = 0",
        ),
    ),
    _mutant(
        "epochs-of-the-witness",
        "a refused start asks the witness for its epochs before it becomes worker",
        ("evidence.epochs_unknown", "return s.looked_at <", "return False and s.looked_at <"),
    ),
)

REDUNDANT: Final[tuple[Mutant, ...]] = (
    _mutant(
        "fresh",
        "an answer older than a lease gives nothing",
        ("votes.is_fresh", "return now - asked_at <=", "return True or now <="),
    ),
    _mutant(
        "forget-questions",
        "an answer to a question put in another role gives nothing",
        ("watch.forget_questions", "s.asks = ()", "pass"),
    ),
    _mutant(
        "promise-length",
        "a promise lasts for the lease of the one who asked, not of the one who answers",
        ("votes.promise", "kept_s(ask.lease_s)", "kept_s(s.settings.lease_s)"),
    ),
    _mutant(
        "longer-lease",
        "silence lasts for the longer of the two leases before it is judged",
        (
            "evidence.silence_due_at",
            "max(s.settings.lease_s, s.peer_lease_s)",
            "s.settings.lease_s",
        ),
    ),
    _mutant(
        "record-lease",
        "a record stands for the lease of its holder, if that is the longer one",
        ("witness.free_at", "max(s.record.lease_s, s.settings.lease_s)", "s.settings.lease_s"),
    ),
    _mutant(
        "cross-votes-alone",
        "two that have voted for each other at once both stay supervisors",
        ("votes.promise_blocks", "return s.promised", "return False and s.promised"),
    ),
    _mutant(
        "vote-while-tree-alone",
        "who is worker, or has anything of its tree alive, votes for nobody",
        ("votes.answer_to", "if own.holding:", "if False:"),
    ),
    _mutant(
        "vote-during-claim",
        "who has asked for the witness's vote does not vote for its peer meanwhile",
        ("votes.answer_to", "if s.op_kind is Op.CLAIM:", "if False:"),
    ),
    _mutant(
        "claim-and-promise",
        "the witness's vote is not used when the peer was promised ours meanwhile",
        ("table.clear_to_run", "now >= s.promised_until and", ""),
    ),
    _mutant(
        "late-election-alone",
        "the witness's vote is not used after it has run out",
        ("table.clear_to_run", "and now <= s.witness_vote_until", ""),
    ),
    _mutant(
        "release-after-tree-alone",
        "the role is released when nothing of the tree is alive",
        ("table.fallback_due_and_idle", "not s.tree_alive and ", ""),
    ),
    _mutant(
        "promise-and-silence",
        "who has promised its vote does not act on silence before the promise has run out",
        ("evidence.silence_due_at", "s.promised_until, ", ""),
    ),
    _mutant(
        "asked-into-silence",
        "silence counts only if it was asked into often enough",
        ("evidence.is_silent", "s.unanswered >= s.settings.check_count and", ""),
    ),
    _mutant(
        "late-fence",
        "with a witness, a fence that took longer than a lease gives no vote of the peer's",
        ("table.fenced_too_late", "fenced(s, e, now)", "False"),
    ),
    _mutant(
        "old-refusal-alone",
        "a refusal older than a lease proves nothing",
        ("evidence.refusal_objection", "if now - s.link_since >", "if False and now >"),
    ),
    _mutant(
        "overtaken-question",
        "no vote is given for a question that its asker has overtaken",
        ("watch._hear", "return False", "return True"),
    ),
    _mutant(
        "past-lives",
        "what a replaced incarnation said late is not news",
        ("watch._retire", "s.past = (*s.past, incarnation)[-PAST_INCARNATIONS:]", "pass"),
    ),
    _mutant(
        "vote-date",
        "a peer's vote counts from when it was asked for, not from when it came",
        ("watch._note_vote", "count_peer_vote(s, asked_at)", "count_peer_vote(s, now)"),
    ),
    _mutant(
        "vote-lost",
        "who has no peer stops when the record names another",
        ("table.vote_lost", "return not", "return False and not"),
    ),
)

WHY: Final = {
    "fresh": "the vote in it is dated by its question, and a lease that is over starts no run",
    "forget-questions": "an answer is fresh for a lease only, and a worker's is no candidate's",
    "promise-length": "silence is judged after the longer lease, and nothing is taken before",
    "longer-lease": "the promise itself lasts for the asker's lease",
    "record-lease": "the promise or the silence lasts for as long, where the peer was heard",
    "cross-votes-alone": "the order of the two decides who is voted for, so votes do not cross",
    "vote-while-tree-alone": "the answer says that its sender holds, and such a vote is no grant",
    "vote-during-claim": "the witness's vote is not used by one that is promised by then",
    "claim-and-promise": "no promise is made while the witness is asked",
    "late-election-alone": "its lease is over before it begins, so no run starts",
    "release-after-tree-alone": "the release says that its sender holds, so it is no grant",
    "promise-and-silence": "a promise answers what was heard, and silence is counted from there",
    "asked-into-silence": "the record was renewed meanwhile, so the swap of the old version fails",
    "late-fence": "the peer's vote is dated from the fence's start, so the lease is over by then",
    "old-refusal-alone": "the peer's vote is dated by the question, so the lease is over by then",
    "overtaken-question": "it only unmakes a promise, and silence has to last for a lease anyway",
    "past-lives": "late words of a dead life give no vote, and delay what follows",
    "vote-date": "an answer a twentieth of a lease late has to meet a cut in the same moment; "
    "the margin before the deadline covers the rest",
    "vote-lost": "nobody writes the record before the lease is over that it gave, so it only ends "
    "the command sooner",
}
"""Why the removal of each rule of `REDUNDANT` alone was not seen to break an invariant."""
