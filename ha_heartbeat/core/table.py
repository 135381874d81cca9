"""The transition table: every phase against every kind of event, and a reason on each row.

Read it with a finger: find the phase, find what happened, and the first row whose condition holds
is what the member does. A pair that cannot occur says so; it raises under test and is logged and
survived in the field. The picture in docs/states.md is made from this table.

`WORKER` is the only phase in which a run starts. It is entered from `LOOKING`, `SUPERVISOR` and
`FENCING` on evidence alone (`evidence`, `votes`), and from `HANDING_OVER`, which never gave the
role away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from ha_heartbeat.core import actions as do
from ha_heartbeat.core import evidence, health, hooks, obey, orders, schedule, votes, witness
from ha_heartbeat.core.state import NEVER, LinkState, State, view
from ha_heartbeat.core.types import (
    Answered,
    Asked,
    Event,
    Phase,
    SwitchoverRequested,
    Wants,
)


class Kind(StrEnum):
    """What an event means for the role, once its facts were noted."""

    HEARD = "the peer was heard"
    REFUSED = "the peer's host refused, and that proves it"
    SILENT = "a check brought no answer"
    TICK = "time has passed"
    RUN_ENDED = "the run's main process ended"
    TREE_GONE = "nothing of the tree is alive"
    EXPIRED = "the guardian ended the tree at its deadline"
    FENCE_DONE = "the fence command ended"
    HOOK_ENDED = "a hook before the first run ended, or took too long"
    CHECKED = "a health check of the command ended"
    RECORD = "the witness was read"
    ELECTED = "the witness has voted for this member"
    STOP = "the operator asks to stop"
    SWITCHOVER = "the operator asks for a switchover"
    PAUSE = "the operator pauses or resumes"
    RUN_NOW = "the operator asks for a run now"


Guard: TypeAlias = Callable[[State, Event, float], bool]
Action: TypeAlias = Callable[[State, Event, float], None]


class Row(NamedTuple):
    """One rule: if `when` holds, go to `then` (None: stay) and `do`; `why` is the reason."""

    when: Guard
    then: Phase | None
    do: Action
    why: str


# -- conditions ------------------------------------------------------------------------------------


def always(s: State, e: Event, now: float) -> bool:
    """No condition."""
    return True


def granted(s: State, e: Event, now: float) -> bool:
    """The peer gave its vote or the role, in an answer that is still fresh."""
    return s.grant is not None and not s.tree_alive


def peer_holds(s: State, e: Event, now: float) -> bool:
    """The peer is worker, or its tree may be alive."""
    return s.peer is not None and s.peer.holding


def peer_may_go_first(s: State, e: Event, now: float) -> bool:
    """The peer asks for our vote, and the tie goes to it."""
    return (
        isinstance(e, Asked)
        and e.ask.wants is Wants.VOTE
        and not s.tree_alive
        and votes.goes_first(e.ask.view, view(s, now))[0]
    )


def preferred_peer_may_appear(s: State, e: Event, now: float) -> bool:
    """At the start, a member with --fallback gives its peer some checks."""
    return evidence.gives_preferred_peer_time(s)


def tree_alive(s: State, e: Event, now: float) -> bool:
    """Something of our own tree may be alive."""
    return s.tree_alive


def silent_and_fence(s: State, e: Event, now: float) -> bool:
    """Silent for a lease, to the witness too if there is one, and there is a fence to try."""
    return (
        s.settings.has_fence
        and not s.tree_alive
        and now >= s.fence_retry_at
        and not witness.shows_life(s, now)
        and evidence.is_silent(s, now)
    )


def silent_and_acted_on(s: State, e: Event, now: float) -> bool:
    """Silent for a lease, and the policy acts on silence."""
    return evidence.acts_on_silence(s) and not s.tree_alive and evidence.is_silent(s, now)


def silent(s: State, e: Event, now: float) -> bool:
    """Silent for a lease."""
    return evidence.is_silent(s, now)


def clear_to_run(s: State, e: Event, now: float) -> bool:
    """Nothing of our own tree is alive, and no promise to the peer was given meanwhile."""
    return not s.tree_alive and now >= s.promised_until and now <= s.witness_vote_until


def record_is_free(s: State, e: Event, now: float) -> bool:
    """The peer is silent, and the record may be taken, or has to be founded."""
    return witness.may_claim(s, now) or witness.may_found(s, now)


def another_holds_record(s: State, e: Event, now: float) -> bool:
    """There is no peer, and the witness's vote is another member's."""
    record = s.record
    if s.settings.peer or record is None or witness.is_vacant(record):
        return False
    return not witness.is_free(s, now)


def vote_lost(s: State, e: Event, now: float) -> bool:
    """There is no peer, and the witness's vote is not ours any more."""
    return not s.settings.peer and s.record_since != NEVER and not witness.is_ours(s)


def epochs_unknown(s: State, e: Event, now: float) -> bool:
    """The witness may know of epochs that the dead peer used, and was not asked since."""
    return evidence.epochs_unknown(s, s.refused_since, now)


def fenced_too_late(s: State, e: Event, now: float) -> bool:
    """The fence command vouches for it, but with a witness evidence counts for a lease only."""
    return (
        fenced(s, e, now)
        and s.settings.has_witness
        and not votes.is_fresh(s, s.fence_started_at, now)
    )


def fenced_but_heard(s: State, e: Event, now: float) -> bool:
    """The fence command vouches for it, but the peer was heard since."""
    return fenced(s, e, now) and heard_since_fence(s, e, now)


def fenced_with_epochs_unknown(s: State, e: Event, now: float) -> bool:
    """The fence command vouches for it, and the witness was not asked since."""
    return fenced(s, e, now) and evidence.epochs_unknown(s, s.fenced_at, now)


def heard_since_fence(s: State, e: Event, now: float) -> bool:
    """The peer was heard after the fence command was started."""
    return s.heard_at >= s.fence_started_at


def fenced(s: State, e: Event, now: float) -> bool:
    """The fence command vouches that the peer is off."""
    return s.fenced_at >= s.fence_started_at


def policy_acts_on_silence(s: State, e: Event, now: float) -> bool:
    """--takeover silence."""
    return evidence.acts_on_silence(s)


def peer_is_later_worker(s: State, e: Event, now: float) -> bool:
    """Both are worker, and the peer took over later.

    Only if our own connection leads to it: a question may be late, from one that is dead by now. It
    makes us ask at once, if we have no such connection.
    """
    p = s.peer
    answers = type(e) is Answered or (s.link_state is LinkState.OPEN and s.link_answered)
    return (
        p is not None
        and answers
        and p.phase is Phase.WORKER
        and (p.epoch, p.member, p.incarnation) > (s.epoch, s.settings.member, s.incarnation)
    )


def peer_overlapped(s: State, e: Event, now: float) -> bool:
    """The peer is, or says that it was, worker at the same time, and that is news.

    Only if it says so in answer to what was asked in this term: anything else may be late, and of a
    time before.
    """
    p = s.peer
    if p is None or type(e) is not Answered or s.overlap_noted == (s.epoch, p.incarnation):
        return False
    if all(seq != e.answer.seq for seq, _, _ in s.asks):
        return False
    working = p.phase is Phase.WORKER or p.phase is Phase.HANDING_OVER
    return working or (p.overlap_s > 0 and p.overlap_epoch == s.epoch)


def run_too_long(s: State, e: Event, now: float) -> bool:
    """The run has taken longer than --run-timeout."""
    return now >= schedule.times_out_at(s) and not (s.ending or s.paused)


def fallback_due(s: State, e: Event, now: float) -> bool:
    """The preferred peer supervises us, hears and answers, and has done so for --fallback-delay."""
    return fallback_possible(s) and now >= s.present_since + s.settings.fallback_delay_s


def fallback_possible(s: State) -> bool:
    """Whether the preferred peer supervises us and is fit, and nobody has paused."""
    return s.prefers_peer and peer_is_ready(s)


def failing_and_peer_fit(s: State, e: Event, now: float) -> bool:
    """The command does badly here, and the peer is there and not held down."""
    return health.is_failing(s) and peer_is_ready(s)


def failing(s: State, e: Event, now: float) -> bool:
    """The command does badly here."""
    return health.is_failing(s)


def hook_failed(s: State, e: Event, now: float) -> bool:
    """The hook has failed, or takes too long, and nobody else is there that may do better."""
    return s.hook_failed != "" and not hooks.is_ready(s)


def peer_is_ready(s: State) -> bool:
    """Whether a role that was given to the peer now would arrive, and could be kept there."""
    return s.peer is not None and s.peer.fit and not orders.hand_over_objection(s)


def fallback_too_early(s: State, e: Event, now: float) -> bool:
    """The preferred peer is there, but not for --fallback-delay yet."""
    return fallback_possible(s) and now < s.present_since + s.settings.fallback_delay_s


def fallback_due_and_idle(s: State, e: Event, now: float) -> bool:
    """The preferred peer is there, and nothing of the command is alive."""
    return not s.tree_alive and fallback_due(s, e, now)


def peer_left(s: State, e: Event, now: float) -> bool:
    """The peer says goodbye."""
    return s.peer is not None and s.peer.phase is Phase.STOPPED


def replaced_perhaps(s: State, e: Event, now: float) -> bool:
    """Our lease ran out, and the peer may have acted on our silence."""
    return evidence.may_have_been_replaced(s, now)


def missed_a_check(s: State, e: Event, now: float) -> bool:
    """A whole check interval brought no answer."""
    return s.unanswered > 1


def waited_enough(s: State, e: Event, now: float) -> bool:
    """The run had its time to end by itself."""
    return now >= s.give_up_at


def paused(s: State, e: Event, now: float) -> bool:
    """An operator has ordered hands off."""
    return s.paused


def granted_in_pause(s: State, e: Event, now: float) -> bool:
    """The peer gave its vote or the role, and an operator has ordered hands off."""
    return s.paused and granted(s, e, now)


def fence_ended_in_pause(s: State, e: Event, now: float) -> bool:
    """An operator has ordered hands off, and the fence command has ended."""
    return s.paused and not s.fence_running


def paused_before_the_end(s: State, e: Event, now: float) -> bool:
    """An operator has ordered hands off, and nothing is being ended yet."""
    return s.paused and not s.ending


def switchover_possible(s: State, e: Event, now: float) -> bool:
    """The role can move as asked."""
    return isinstance(e, SwitchoverRequested) and not orders.order_objection(s, e.to)


def switchover_possible_and_idle(s: State, e: Event, now: float) -> bool:
    """The role can move as asked, and nothing of the command is alive."""
    return not s.tree_alive and switchover_possible(s, e, now)


def peer_asks_to_switch(s: State, e: Event, now: float) -> bool:
    """The supervisor asks for the role for its operator, and can have it."""
    return (
        isinstance(e, Asked)
        and e.ask.wants is Wants.SWITCHOVER
        and not orders.hand_over_objection(s)
    )


def peer_asks_to_switch_and_idle(s: State, e: Event, now: float) -> bool:
    """The supervisor asks for the role for its operator, and nothing of the command is alive."""
    return not s.tree_alive and peer_asks_to_switch(s, e, now)


def run_possible(s: State, e: Event, now: float) -> bool:
    """A run can be started now."""
    return not orders.run_objection(s)


# -- rows used in more than one place --------------------------------------------------------------


def nothing(s: State, e: Event, now: float) -> None:
    """The facts are noted, and nothing follows for the role."""


def stay(why: str) -> Row:
    """The last row of a cell: nothing follows, for this reason."""
    return Row(always, None, nothing, why)


IMPOSSIBLE: Final[tuple[Row, ...]] = ()
"""A pair that cannot occur."""

GRANTED = Row(
    granted,
    Phase.WORKER,
    do.take_over_granted,
    "the peer promised for a lease that nothing runs there, in answer to a question still fresh",
)
FENCE = Row(
    silent_and_fence,
    Phase.FENCING,
    do.start_fence,
    "silence proves nothing, but the operator gave a command that can make sure",
)
ACT_ON_SILENCE = Row(
    silent_and_acted_on,
    Phase.WORKER,
    do.take_over_silent,
    "--takeover silence prefers a second worker to none",
)
REFUSAL = Row(
    always,
    Phase.WORKER,
    do.take_over_refused,
    "every process of the peer's tree holds its port, so a refusal proves that none is alive",
)
ELECTED = Row(
    clear_to_run,
    Phase.WORKER,
    do.take_over_outvoted,
    "the same record stood for a lease, so its holder has stopped, and the witness voted for us",
)
CLAIM = Row(
    record_is_free,
    None,
    do.claim,
    "the peer is silent and the witness's vote has run out; a vote that is nobody's is founded",
)
TOO_LATE = stay("the phase is another one by now: the vote is let go when it is found unused")
RECORD_IS_NOTED = stay("the record is noted; each check renews it or sees whether it is free")
HAND_OVER_FAILING = Row(
    failing_and_peer_fit,
    Phase.HANDING_OVER,
    do.begin_giving_up,
    "the peer may do better; this member is held down then, longer each time, so that the role "
    "does not go to and fro",
)
STAY_FAILING = Row(
    failing,
    None,
    do.say_failing,
    "the peer would do no better: a worker that fails is not worse than none",
)
NO_HOOK = stay("the tree is ending, and with it whatever was set up")
OLD_CHECK = stay("the check was of a term that is over")
GOODBYE = Row(
    always,
    Phase.STOPPED,
    do.say_goodbye,
    "nothing is alive here, so the peer may take over in the same moment",
)
LAPSE = Row(
    replaced_perhaps,
    Phase.LOOKING,
    do.lapse,
    "whoever was paused for longer than its lease may wake up beside its successor",
)
STEP_DOWN = Row(
    peer_is_later_worker,
    Phase.STEPPING_DOWN,
    do.step_down,
    "of two workers the later epoch stays: stores that compare epochs refuse the earlier anyway",
)
RELEASE = Row(
    always,
    Phase.SUPERVISOR,
    do.release,
    "the role is given away only when nothing of the tree is alive",
)

ASK_EPOCHS = Row(
    epochs_unknown,
    None,
    do.ask_epochs,
    "the witness may have voted for the dead one meanwhile: it is asked first, so that epochs grow",
)
FENCED = (
    Row(
        fenced_but_heard,
        Phase.SUPERVISOR,
        do.fence_void,
        "evidence is void as soon as the peer is heard after its question was put",
    ),
    Row(
        fenced_too_late,
        Phase.SUPERVISOR,
        do.fenced_late,
        "with a witness, evidence older than a lease gives no vote of the peer's",
    ),
    Row(
        fenced_with_epochs_unknown,
        None,
        do.ask_epochs,
        "the witness may have voted for the peer before it was off, and knows the epoch",
    ),
    Row(
        fenced,
        Phase.WORKER,
        do.take_over_fenced,
        "the operator's command exited 0: the peer is off",
    ),
)

PAUSED = Row(paused, None, nothing, "a pause is hands off: nobody takes over while it lasts")
PAUSED_GRANT = Row(
    granted_in_pause, None, nothing, "a pause is hands off: nobody takes over while it lasts"
)
PAUSED_FENCE = Row(
    fence_ended_in_pause,
    Phase.SUPERVISOR,
    obey.fence_held,
    "a pause is hands off, and when it is over the result is out of date",
)
PAUSED_HAND_OVER = Row(
    paused_before_the_end,
    Phase.WORKER,
    obey.undo_for_pause,
    "a pause is hands off: the run goes on, and the role stays",
)
SWITCH_NOTHING = Row(
    always, None, obey.refuse_switchover, "what cannot be done is refused, and nothing changes"
)
SPREAD = Row(always, None, obey.spread_hold, "a pause is of both members, so the peer is told")
RUN_NOTHING = Row(always, None, obey.refuse_run, "only a worker that is at rest starts a run")
ORDERS: Final[Mapping[Kind, tuple[Row, ...]]] = {
    Kind.SWITCHOVER: (SWITCH_NOTHING,),
    Kind.PAUSE: (SPREAD,),
    Kind.RUN_NOW: (RUN_NOTHING,),
}
"""What an operator gets where there is nothing to move and nothing to start."""

LOOK_AGAIN = Row(
    always, None, do.look_again, "nothing of the lapsed lease is alive, so a vote may be asked for"
)
SUPERVISE = Row(
    peer_holds, Phase.SUPERVISOR, do.supervise_worker, "nobody takes a role from a live worker"
)

# -- the table -------------------------------------------------------------------------------------

TABLE: Final[Mapping[Phase, Mapping[Kind, tuple[Row, ...]]]] = {
    Phase.LOOKING: {
        Kind.HEARD: (
            PAUSED_GRANT,
            GRANTED,
            SUPERVISE,
            Row(
                peer_may_go_first,
                Phase.SUPERVISOR,
                do.supervise_candidate,
                "both apply the same rule to the same two views, so only one of them goes first",
            ),
            stay("our own question is under way, and the tie goes to us"),
        ),
        Kind.REFUSED: (
            Row(tree_alive, None, nothing, "our own tree has to be gone before a new run"),
            PAUSED,
            ASK_EPOCHS,
            Row(
                preferred_peer_may_appear,
                None,
                do.say_preferred,
                "with --fallback the peer is preferred, so it may appear first",
            ),
            REFUSAL,
        ),
        Kind.SILENT: (stay("one check proves nothing; the next tick judges the silence"),),
        Kind.TICK: (
            Row(tree_alive, None, nothing, "our own tree has to be gone before anything else"),
            PAUSED,
            FENCE,
            ACT_ON_SILENCE,
            Row(
                silent,
                Phase.SUPERVISOR,
                do.wait_for_proof,
                "--takeover proof never acts on silence, so it waits for evidence",
            ),
            stay("the silence has not lasted for a lease, or was not asked into often enough"),
        ),
        Kind.RUN_ENDED: (stay("the tree of the lapsed lease is being ended"),),
        Kind.TREE_GONE: (LOOK_AGAIN,),
        Kind.EXPIRED: (LOOK_AGAIN,),
        Kind.FENCE_DONE: (stay("the fence was started before the lease lapsed: it is outdated"),),
        Kind.HOOK_ENDED: (NO_HOOK,),
        Kind.CHECKED: (OLD_CHECK,),
        Kind.RECORD: (
            CLAIM,
            Row(
                another_holds_record,
                Phase.SUPERVISOR,
                do.supervise_record,
                "nobody takes the vote from a holder that renews it",
            ),
            RECORD_IS_NOTED,
        ),
        Kind.ELECTED: (PAUSED, ELECTED, TOO_LATE),
        Kind.STOP: (
            Row(
                tree_alive,
                Phase.STOPPING,
                do.begin_stop,
                "the tree ends before the goodbye is said",
            ),
            GOODBYE,
        ),
        **ORDERS,
    },
    Phase.SUPERVISOR: {
        Kind.HEARD: (
            PAUSED_GRANT,
            GRANTED,
            Row(peer_holds, None, do.note_worker, "the worker is alive: that is what is watched"),
            stay("nobody runs; the vote is being asked for, or was given"),
        ),
        Kind.REFUSED: (PAUSED, ASK_EPOCHS, REFUSAL),
        Kind.SILENT: (stay("one check proves nothing; the next tick judges the silence"),),
        Kind.TICK: (
            PAUSED,
            FENCE,
            ACT_ON_SILENCE,
            Row(silent, None, do.wait_for_proof, "--takeover proof never acts on silence"),
            stay("the worker was heard less than a lease ago"),
        ),
        Kind.RUN_ENDED: (stay("the tree of the lapsed lease is being ended"),),
        Kind.TREE_GONE: (LOOK_AGAIN,),
        Kind.EXPIRED: (LOOK_AGAIN,),
        Kind.FENCE_DONE: (stay("the fence command ended after it was needed"),),
        Kind.HOOK_ENDED: (NO_HOOK,),
        Kind.CHECKED: (OLD_CHECK,),
        Kind.RECORD: (
            CLAIM,
            Row(another_holds_record, None, do.note_record, "its holder renews it"),
            RECORD_IS_NOTED,
        ),
        Kind.ELECTED: (PAUSED, ELECTED, TOO_LATE),
        Kind.STOP: (
            Row(
                tree_alive,
                Phase.STOPPING,
                do.begin_stop,
                "the tree ends before the goodbye is said",
            ),
            GOODBYE,
        ),
        Kind.SWITCHOVER: (
            Row(
                switchover_possible,
                None,
                obey.ask_for_role,
                "only the worker can give the role away, so it is asked",
            ),
            SWITCH_NOTHING,
        ),
        Kind.PAUSE: (SPREAD,),
        Kind.RUN_NOW: (RUN_NOTHING,),
    },
    Phase.FENCING: {
        Kind.HEARD: (
            PAUSED_GRANT,
            GRANTED,
            stay("the fence command cannot be called back; its end decides"),
        ),
        Kind.REFUSED: (PAUSED, ASK_EPOCHS, REFUSAL),
        Kind.SILENT: (stay("the fence command is running"),),
        Kind.TICK: (PAUSED_FENCE, *FENCED, stay("the fence command is running")),
        Kind.RUN_ENDED: IMPOSSIBLE,
        Kind.TREE_GONE: (stay("a guardian was replaced, and nothing ran under it"),),
        Kind.EXPIRED: IMPOSSIBLE,
        Kind.FENCE_DONE: (
            PAUSED_FENCE,
            Row(
                heard_since_fence,
                Phase.SUPERVISOR,
                do.fence_void,
                "evidence is void as soon as the peer is heard after its question was put",
            ),
            *FENCED,
            Row(
                policy_acts_on_silence,
                Phase.WORKER,
                do.take_over_unfenced,
                "--takeover silence acts without proof, too",
            ),
            Row(
                always,
                Phase.SUPERVISOR,
                do.fence_failed,
                "a fence that failed proves nothing; it is tried again after a lease",
            ),
        ),
        Kind.HOOK_ENDED: IMPOSSIBLE,
        Kind.CHECKED: (OLD_CHECK,),
        Kind.RECORD: (PAUSED_FENCE, *FENCED, stay("the fence command is running")),
        Kind.ELECTED: (PAUSED, ELECTED, TOO_LATE),
        Kind.STOP: (GOODBYE,),
        **ORDERS,
    },
    Phase.WORKER: {
        Kind.HEARD: (
            STEP_DOWN,
            Row(
                peer_overlapped,
                None,
                do.note_overlap,
                "the earlier worker steps down; what happened is recorded on both sides",
            ),
            Row(
                peer_asks_to_switch_and_idle,
                Phase.SUPERVISOR,
                obey.release_at_once,
                "an operator asked the supervisor for it, and nothing has to end first",
            ),
            Row(
                peer_asks_to_switch,
                Phase.HANDING_OVER,
                obey.begin_switchover,
                "an operator asked the supervisor for it, which can take the role",
            ),
            HAND_OVER_FAILING,
            Row(
                fallback_due_and_idle,
                Phase.SUPERVISOR,
                do.hand_over_at_once,
                "the preferred peer is there and nothing has to end first",
            ),
            Row(
                fallback_due,
                Phase.HANDING_OVER,
                do.begin_hand_over,
                "--fallback gives the role to the preferred peer when it is up again",
            ),
            Row(
                fallback_too_early,
                None,
                do.say_fallback_waits,
                "one that comes and goes would take the role with it each time",
            ),
            Row(peer_left, None, do.say_peer_left, "a worker needs no supervisor to go on"),
            stay("this member is worker, and the peer knows it"),
        ),
        Kind.REFUSED: (
            Row(always, None, do.say_peer_gone, "a worker needs no supervisor to go on"),
        ),
        Kind.SILENT: (
            Row(always, None, do.say_peer_silent, "a worker needs no supervisor to go on"),
        ),
        Kind.TICK: (
            LAPSE,
            Row(
                run_too_long,
                None,
                do.end_long_run,
                "a run that hangs keeps the next one from starting; it counts as failed",
            ),
            stay("the lease is extended with each check, and due runs are started"),
        ),
        Kind.RECORD: (
            Row(
                vote_lost,
                Phase.LOOKING,
                do.lapse,
                "without a peer the witness's vote is the whole right to run",
            ),
            stay("the record is renewed with each check, or claimed when it is free"),
        ),
        Kind.ELECTED: (stay("worker by another vote meanwhile; this one is as good"),),
        Kind.RUN_ENDED: (
            HAND_OVER_FAILING,
            STAY_FAILING,
            stay("the next run starts at its tick"),
        ),
        Kind.HOOK_ENDED: (
            HAND_OVER_FAILING,
            Row(
                hook_failed,
                None,
                do.retry_hooks,
                "the command must not run without them; what was begun is undone, and tried again",
            ),
            Row(always, None, do.go_on_starting, "the next hook, or the first run"),
        ),
        Kind.CHECKED: (
            HAND_OVER_FAILING,
            STAY_FAILING,
            stay("the command is well, or has not failed often enough in a row"),
        ),
        Kind.TREE_GONE: (
            Row(always, None, do.forget_run, "the role is still ours; runs start at their ticks"),
        ),
        Kind.EXPIRED: (
            LAPSE,
            Row(always, None, do.go_on, "the role is still ours: nobody can have taken over yet"),
        ),
        Kind.FENCE_DONE: (stay("the fence command ended after it was needed"),),
        Kind.STOP: (
            Row(
                tree_alive,
                Phase.STOPPING,
                do.begin_stop,
                "the tree ends before the role is given up",
            ),
            GOODBYE,
        ),
        Kind.SWITCHOVER: (
            Row(
                switchover_possible_and_idle,
                Phase.SUPERVISOR,
                obey.release_at_once,
                "the peer can take the role, and nothing has to end first",
            ),
            Row(
                switchover_possible,
                Phase.HANDING_OVER,
                obey.begin_switchover,
                "the peer can take the role; the run has the stop timeout to end by itself",
            ),
            SWITCH_NOTHING,
        ),
        Kind.PAUSE: (SPREAD,),
        Kind.RUN_NOW: (
            Row(run_possible, None, obey.run_now, "the operator need not wait for the next tick"),
            RUN_NOTHING,
        ),
    },
    Phase.HANDING_OVER: {
        Kind.HEARD: (
            STEP_DOWN,
            PAUSED_HAND_OVER,
            Row(
                peer_left, Phase.WORKER, do.undo_hand_over, "a peer that says goodbye takes nothing"
            ),
            stay("the run has its time to end"),
        ),
        Kind.REFUSED: (
            Row(always, Phase.WORKER, do.undo_hand_over, "a dead peer cannot take the role"),
        ),
        Kind.SILENT: (
            LAPSE,
            Row(always, Phase.WORKER, do.undo_hand_over, "a silent peer may not take the role"),
        ),
        Kind.TICK: (
            LAPSE,
            Row(
                missed_a_check,
                Phase.WORKER,
                do.undo_hand_over,
                "a silent peer may not take the role",
            ),
            Row(waited_enough, None, do.end_tree, "the run had the stop timeout to end by itself"),
            stay("the run has its time to end"),
        ),
        Kind.RUN_ENDED: (
            Row(tree_alive, None, do.end_tree, "what the run left behind is part of the tree"),
            RELEASE,
        ),
        Kind.TREE_GONE: (
            Row(tree_alive, None, do.end_tree, "a guardian was lost, and what was set up stands"),
            RELEASE,
        ),
        Kind.EXPIRED: (LAPSE, RELEASE),
        Kind.HOOK_ENDED: (NO_HOOK,),
        Kind.CHECKED: (stay("the hand-over goes on, whatever the last check says"),),
        Kind.RECORD: (stay("the hand-over goes on, whoever holds the record"),),
        Kind.ELECTED: (TOO_LATE,),
        Kind.FENCE_DONE: (stay("the fence command ended after it was needed"),),
        Kind.STOP: (
            Row(
                tree_alive,
                Phase.STOPPING,
                do.begin_stop,
                "the tree ends before the role is given up",
            ),
            GOODBYE,
        ),
        Kind.SWITCHOVER: (SWITCH_NOTHING,),
        Kind.PAUSE: (PAUSED_HAND_OVER, SPREAD),
        Kind.RUN_NOW: (RUN_NOTHING,),
    },
    Phase.STEPPING_DOWN: {
        Kind.HEARD: (stay("the other worker goes on; this one is ending"),),
        Kind.REFUSED: (stay("whatever became of the other worker, this tree is ending first"),),
        Kind.SILENT: (stay("whatever became of the other worker, this tree is ending first"),),
        Kind.TICK: (stay("the guardian ends the tree after the stop timeout"),),
        Kind.RUN_ENDED: (stay("the run ended, but perhaps not all of its tree"),),
        Kind.TREE_GONE: (
            Row(always, Phase.SUPERVISOR, do.stepped_down, "nothing of the tree is alive"),
        ),
        Kind.EXPIRED: (
            Row(always, Phase.SUPERVISOR, do.stepped_down, "nothing of the tree is alive"),
        ),
        Kind.HOOK_ENDED: (NO_HOOK,),
        Kind.CHECKED: (OLD_CHECK,),
        Kind.RECORD: (stay("the tree is ending, whoever holds the record"),),
        Kind.ELECTED: (TOO_LATE,),
        Kind.FENCE_DONE: (stay("the fence command ended after it was needed"),),
        Kind.STOP: (
            Row(always, Phase.STOPPING, do.begin_stop, "the tree ends before the goodbye is said"),
        ),
        **ORDERS,
    },
    Phase.STOPPING: {
        Kind.HEARD: (stay("the tree ends before the role is given up"),),
        Kind.REFUSED: (stay("the tree ends, whether anybody takes over or not"),),
        Kind.SILENT: (stay("the tree ends, whether anybody takes over or not"),),
        Kind.TICK: (stay("the guardian ends the tree after the stop timeout"),),
        Kind.RUN_ENDED: (stay("the run ended, but perhaps not all of its tree"),),
        Kind.TREE_GONE: (GOODBYE,),
        Kind.EXPIRED: (GOODBYE,),
        Kind.HOOK_ENDED: (NO_HOOK,),
        Kind.CHECKED: (OLD_CHECK,),
        Kind.RECORD: (stay("the tree is ending, whoever holds the record"),),
        Kind.ELECTED: (TOO_LATE,),
        Kind.FENCE_DONE: (stay("the fence command ended after it was needed"),),
        Kind.STOP: (
            Row(
                always,
                None,
                do.hurry_stop,
                "a second request skips the waiting, never the release",
            ),
        ),
        **ORDERS,
    },
    Phase.STOPPED: {
        kind: (stay("this member has said goodbye"),)
        for kind in Kind
        if kind not in (Kind.RUN_ENDED, Kind.EXPIRED, Kind.HOOK_ENDED)
    }
    | {Kind.RUN_ENDED: IMPOSSIBLE, Kind.EXPIRED: IMPOSSIBLE, Kind.HOOK_ENDED: IMPOSSIBLE}
    | dict(ORDERS)
    | {Kind.PAUSE: (Row(always, None, obey.note_hold, "it is kept for the next start"),)},
}
