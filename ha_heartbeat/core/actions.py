"""What a transition does: every change of role in one place, with the line that the log shows.

An action is called by a row of the table, after the phase was set to the row's `then`.
"""

from __future__ import annotations

from typing import Final

from ha_heartbeat.core import evidence, health, orders, schedule, votes, watch, witness
from ha_heartbeat.core.state import FOREVER, NEVER, LinkState, State
from ha_heartbeat.core.types import (
    CutTree,
    Event,
    Evidence,
    Exit,
    FenceDone,
    KillTree,
    Level,
    Phase,
    RecordOverlap,
    RunFence,
    StopTree,
)

# -- becoming worker -------------------------------------------------------------------------------


def take_over_refused(s: State, e: Event, now: float) -> None:
    """Nothing of the peer is alive."""
    known = s.was_connected or s.heard_at != NEVER
    meaning = "its process tree is gone" if known else "nothing of it is running"
    why = f"{s.settings.peer} refused the connection: {meaning}."
    _become_worker(s, now, Evidence.REFUSED, why)


def take_over_silent(s: State, e: Event, now: float) -> None:
    """By policy only: this proves nothing."""
    heard = now - s.heard_at
    how_long = (
        f"was not heard in the {now - s.looking_since:.3g} s since the start"
        if s.heard_at == NEVER
        else f"has been silent for {heard:.3g} s"
    )
    if s.unanswered_why:  # somebody is there, who does not take this member for its peer
        how_long += f" ({s.unanswered_why.rstrip('.')})"
    _become_worker(
        s,
        now,
        Evidence.SILENT,
        f"{s.settings.peer} {how_long}, which proves nothing, but --takeover silence acts on it.",
    )


def take_over_fenced(s: State, e: Event, now: float) -> None:
    """The operator's own command vouches for it. What it said before is not news any more."""
    watch.forget_fenced(s)
    votes.count_proof_of_death(s, s.fence_started_at)
    _become_worker(s, now, Evidence.FENCED, f"{s.settings.peer} was fenced: it is off.")


def take_over_granted(s: State, e: Event, now: float) -> None:
    """The peer itself said that it does not run, and promised to keep it so."""
    peer = s.peer_name
    if s.grant is Evidence.RELEASED:
        stopped = s.peer is not None and s.peer.phase is Phase.STOPPED
        if s.fallback and s.peer is not None and s.peer.fit and not stopped:
            # A preferred peer that does well gives it away only because an operator moved it.
            s.moved_from = s.peer.incarnation
        how = "said goodbye" if stopped else "gave the role away"
        why = f"{peer} {how}: its command has ended."
        _become_worker(s, now, Evidence.RELEASED, why)
    else:
        _become_worker(s, now, Evidence.VOTED, f"{peer} does not run and voted for this member.")


def take_over_outvoted(s: State, e: Event, now: float) -> None:
    """Silence, and the witness has given its vote to us after the worker's lease had run out."""
    if s.settings.peer:
        why = f"{s.settings.peer} is silent, and the witness voted for this member."
    else:
        why = "The witness voted for this member."
    _become_worker(s, now, Evidence.OUTVOTED, why)


def fenced_late(s: State, e: Event, now: float) -> None:
    """It is off, but so long after the question that another life of it may have begun."""
    watch.forget_fenced(s)
    s.say(
        Level.INFO,
        f"{s.settings.peer} was fenced, but that took longer than a lease: asking the witness.",
    )
    witness.ask(s, now)


def supervise_record(s: State, e: Event, now: float) -> None:
    """The witness's vote belongs to another member."""
    record = s.record
    if record is not None:
        s.supervised = (record.incarnation, record.epoch)
        s.say(Level.INFO, f"{record.holder} is worker, epoch {record.epoch}. Supervising it.")


def note_record(s: State, e: Event, now: float) -> None:
    """Another member has the witness's vote now."""
    record = s.record
    if record is not None and s.supervised != (record.incarnation, record.epoch):
        supervise_record(s, e, now)


def ask_epochs(s: State, e: Event, now: float) -> None:
    """The peer is dead; when the witness has answered, or has not, the role is taken."""
    s.awaits_witness = True
    witness.ask(s, now)


def claim(s: State, e: Event, now: float) -> None:
    """What was read shows that the record is free."""
    witness.ask(s, now)


def _become_worker(s: State, now: float, proof: Evidence, why: str) -> None:
    s.epoch = s.epoch_reserved
    s.epoch_seen = s.epoch
    s.evidence = proof
    s.worker_since = now
    s.overlap_s, s.overlap_epoch = 0.0, 0  # that was another term
    votes.free_promise(s)
    s.take_back("silent", "peer-gone", "preferred", "leftovers", "fallback-waits")
    spoke = proof is Evidence.VOTED or proof is Evidence.RELEASED
    if not spoke or s.peer is None or s.peer.phase is Phase.STOPPED:
        s.said |= {"peer-gone"}  # that nobody supervises follows from what is said here
    s.say(Level.INFO, f"{why} Becoming worker, epoch {s.epoch}.")
    votes.keep_lease(s, now)
    health.begin(s, now)
    schedule.begin_term(s, now)
    schedule.due(s, now)
    watch.reserve_epoch(s)
    inform(s, now)
    witness.ask(s, now)


# -- keeping the right -----------------------------------------------------------------------------


def lapse(s: State, e: Event, now: float) -> None:
    """The lease ran out: whoever was paused so long must ask before it goes on."""
    schedule.rest(s)
    _end_term(s, now)
    s.worker_since = NEVER
    s.looking_since = now
    s.abstain_until = now + votes.kept_s(s.settings.lease_s)
    if s.settings.has_witness and s.settings.peer:
        why = "neither its peer nor the witness renewed their vote in time, or it was paused"
    elif s.settings.has_witness:
        why = "the witness has not renewed its vote in time, or it was paused"
    else:
        why = "it was paused or starved for longer than that"
    s.say(
        Level.WARNING,
        f"This member could not keep its lease of {s.settings.lease_s:g} s: {why}. Another may "
        f"have taken over, so the command is ended here; asking before it is started again.",
    )
    if s.tree_alive:
        s.ending = s.undoing = True
        s.out.append(KillTree())
    inform(s, now)


def look_again(s: State, e: Event, now: float) -> None:
    """Our own tree is gone, or the witness was heard: see at once how the peer stands."""
    watch.tell(s, now)
    watch.probe(s, now)
    witness.ask(s, now)


def forget_run(s: State, e: Event, now: float) -> None:
    """The tree is gone and the role is still ours: the next run starts at its tick."""
    schedule.due(s, now)


def go_on(s: State, e: Event, now: float) -> None:
    """The guardian had to end the command, but the role is still ours."""
    if s.settings.has_witness:
        cause, why = "The votes were not renewed in time", "a moment of it is left"
    else:
        cause = "This member was paused or starved"
        why = "nobody takes over on silence (--takeover proof)"
        if evidence.acts_on_silence(s):
            why = "the lease still holds"
    s.say(
        Level.WARNING,
        f"{cause}, so its guardian ended the command as the lease of {s.settings.lease_s:g} s ran "
        f"out; {why}: going on as worker.",
    )
    votes.keep_lease(s, now)


# -- becoming or staying supervisor ----------------------------------------------------------------


def supervise_worker(s: State, e: Event, now: float) -> None:
    """The peer runs the command."""
    peer = s.peer
    if peer is not None:
        s.supervised = (peer.incarnation, peer.epoch)
        s.say(Level.INFO, f"{peer.member} is worker, epoch {peer.epoch}. Supervising it.")
    inform(s, now)


def note_worker(s: State, e: Event, now: float) -> None:
    """The member that was voted for has become worker."""
    peer = s.peer
    if peer is not None and s.supervised != (peer.incarnation, peer.epoch):
        s.supervised = (peer.incarnation, peer.epoch)
        s.say(Level.INFO, f"{peer.member} is worker, epoch {peer.epoch}.")


def supervise_candidate(s: State, e: Event, now: float) -> None:
    """The peer goes first, and has our vote."""
    peer = s.peer
    if peer is not None:
        s.say(
            Level.INFO,
            f"Nobody runs the command, and {peer.member} goes first. Voted for it; supervising.",
        )
    inform(s, now)


def wait_for_proof(s: State, e: Event, now: float) -> None:
    """Silence is not acted on: say so once, and go on asking."""
    if not s.settings.peer:
        return
    fenced = ", is fenced" if s.settings.has_fence else ""
    if s.settings.has_witness:
        judge = f"the witness decides: waiting for its vote, or until {s.settings.peer} answers"
    else:
        judge = "--takeover proof does not act on it: waiting until it answers"
    s.say_once(
        "silent",
        Level.WARNING,
        f"{s.settings.peer} has not answered for {s.settings.lease_s:g} s. That proves nothing, "
        f"and {judge}, refuses{fenced} or says goodbye.",
    )


def say_peer_left(s: State, e: Event, now: float) -> None:
    """The supervisor ends in good order."""
    s.say_once(
        "peer-gone",
        Level.INFO,
        f"{s.settings.peer} said goodbye: nobody supervises this worker until it is up again.",
    )


def say_peer_gone(s: State, e: Event, now: float) -> None:
    """A worker alone: nobody would take over."""
    s.say_once(
        "peer-gone",
        Level.WARNING,
        f"{s.settings.peer} refused the connection: nobody supervises this worker until it is up "
        f"again.",
    )


def say_peer_silent(s: State, e: Event, now: float) -> None:
    """A worker whose peer cannot be heard."""
    if s.unanswered > s.settings.check_count:
        s.say_once(
            "peer-gone",
            Level.WARNING,
            f"{s.settings.peer} has not answered {s.settings.check_count} checks: going on as "
            f"worker, but nobody may be supervising.",
        )


def say_preferred(s: State, e: Event, now: float) -> None:
    """At the start, --fallback lets the peer appear first."""
    s.say_once(
        "preferred",
        Level.INFO,
        f"{s.settings.peer} refused the connection: nothing of it is alive. It is preferred "
        f"(--fallback), so it has {s.settings.check_count} checks to appear first.",
    )


# -- the fence -------------------------------------------------------------------------------------


def start_fence(s: State, e: Event, now: float) -> None:
    """Silence, and the operator gave a command that can end the doubt.

    One that still runs since an earlier silence is waited for: a second beside it might turn off a
    peer that is up again, and the end of the first would be taken for that of the second.
    """
    if s.fence_running:
        s.say(
            Level.WARNING,
            f"{s.settings.peer} has not answered for {s.settings.lease_s:g} s: waiting for the "
            f"fence command, which still runs since an earlier silence.",
        )
        return
    s.fence_started_at = now
    s.fence_running = True
    s.fenced_at = NEVER
    s.say(
        Level.WARNING,
        f"{s.settings.peer} has not answered for {s.settings.lease_s:g} s: running the fence "
        f"command.",
    )
    s.out.append(RunFence())


def fence_failed(s: State, e: Event, now: float) -> None:
    """It proves nothing, and is tried again after a lease."""
    s.fence_retry_at = now + s.settings.lease_s
    detail = e.detail if isinstance(e, FenceDone) else ""
    s.say(
        Level.ERROR,
        f"The fence command failed ({detail}), so {s.settings.peer} is not proved to be off. "
        f"Trying again in {s.settings.lease_s:g} s.",
    )


def take_over_unfenced(s: State, e: Event, now: float) -> None:
    """The fence failed, and the policy acts on silence all the same."""
    detail = e.detail if isinstance(e, FenceDone) else ""
    s.say(Level.ERROR, f"The fence command failed ({detail}).")
    take_over_silent(s, e, now)


def fence_void(s: State, e: Event, now: float) -> None:
    """Its result is about a moment before the peer was heard again."""
    s.say(
        Level.INFO,
        f"{s.settings.peer} was heard again while the fence command ran: its result counts for "
        f"nothing. Supervising.",
    )
    inform(s, now)


# -- hand-over -------------------------------------------------------------------------------------


def begin_hand_over(s: State, e: Event, now: float) -> None:
    """The preferred peer is up again: wait for the run to end, at most the stop timeout."""
    hand_over(s, e, now, _preferred(s))


def hand_over_at_once(s: State, e: Event, now: float) -> None:
    """The same, with nothing to wait for."""
    release_for(s, e, now, _preferred(s))


def _preferred(s: State) -> str:
    return f"{s.peer_name} is up again and preferred (--fallback)"


def hand_over(s: State, e: Event, now: float, why: str) -> None:
    """Rest, and end the tree when the run has had its time; `why` begins the line of the log."""
    schedule.rest(s)
    timeout_s = s.settings.stop_timeout_s
    when = f"when run {s.run} has ended, at most in {timeout_s:g} s" if s.run else "now"
    s.take_back("fallback-waits")
    s.say(Level.INFO, f"{why}: handing over {when}.")
    s.give_up_at = min(now + timeout_s, schedule.times_out_at(s)) if s.run else now
    if not s.run:
        end_tree(s, e, now)


def say_fallback_waits(s: State, e: Event, now: float) -> None:
    """It has to prove that it stays."""
    if s.peer is not None:
        s.say_once(
            "fallback-waits",
            Level.INFO,
            f"{s.peer.member} is up again and preferred (--fallback): it gets the role when it has "
            f"been there for {s.settings.fallback_delay_s:g} s (--fallback-delay).",
        )


def begin_giving_up(s: State, e: Event, now: float) -> None:
    """The command does badly here and the peer is fit: end it, and let the peer try."""
    schedule.rest(s)
    s.gave_up = health.complaint(s)
    peer = s.peer_name
    s.say(Level.WARNING, f"{s.gave_up}: handing over to {peer}.")
    end_tree(s, e, now)


def say_failing(s: State, e: Event, now: float) -> None:
    """The command does badly here, and nobody is there that may do better."""
    if not s.settings.peer:
        why = "there is no peer"
    elif s.paused:
        why = orders.pause_in_words(s)
    elif s.peer is None or s.peer.phase is Phase.STOPPED:
        why = f"{s.settings.peer} is not up"
    elif not s.peer.fit:
        why = f"{s.peer.member} is held down, since it failed there, too"
    else:
        why = f"{s.peer.member} is not ready"
    s.say_once(
        "failing",
        Level.WARNING,
        f"{health.complaint(s)}, but {why}: staying worker, epoch {s.epoch}.",
    )


def end_long_run(s: State, e: Event, now: float) -> None:
    """The run, and with it what earlier ones left behind: the tree is ended as a whole."""
    s.run_timed_out = True
    s.say(
        Level.WARNING,
        f"Run {s.run} has taken longer than {s.settings.run_timeout_s:g} s (--run-timeout): ending "
        f"it, at most {s.settings.stop_timeout_s:g} s. It counts as failed.",
    )
    s.ending = True
    s.out.append(CutTree(s.settings.stop_timeout_s))


def go_on_starting(s: State, e: Event, now: float) -> None:
    """The hook succeeded: the next one, or the command."""
    schedule.due(s, now)


def retry_hooks(s: State, e: Event, now: float) -> None:
    """Undo what they did so far, and begin anew when some time has passed."""
    wait_s = health.least_hold_down_s(s.settings)
    say_failing(s, e, now)
    s.say(Level.CHECK, f"the hooks are tried again in {wait_s:g} s")
    s.next_run_at = now + wait_s
    end_tree(s, e, now)


def end_tree(s: State, e: Event, now: float) -> None:
    """SIGTERM, the stop timeout, SIGKILL, for everything that belongs to the command; undo."""
    s.give_up_at = FOREVER
    if not s.undoing:
        s.ending = s.undoing = True
        s.out.append(StopTree(s.settings.stop_timeout_s))


def release_for(s: State, e: Event, now: float, why: str) -> None:
    """There is nothing to end first; `why` begins the line of the log."""
    s.say(Level.INFO, f"{why}: handing over now.")
    release(s, e, now)


def release(s: State, e: Event, now: float) -> None:
    """Nothing of the tree is alive: the role goes to the peer in one message."""
    s.worker_since = NEVER
    s.give_up_at = FOREVER
    _end_term(s, now)
    peer = s.peer_name
    s.say(Level.INFO, f"The command has ended here. Gave the role to {peer}; supervising it.")
    inform(s, now, released=True)


def undo_hand_over(s: State, e: Event, now: float) -> None:
    """The peer cannot take it: the role was never away."""
    s.switch_note = f"{s.settings.peer} does not answer any more: the hand-over is undone."
    keep_role(s, now, f"{s.settings.peer} does not answer any more: the hand-over is undone")


def keep_role(s: State, now: float, why: str) -> None:
    """Go on as worker, as if nothing had been handed over; `why` begins the line of the log."""
    s.give_up_at = FOREVER
    s.gave_up = ""
    s.next_run_at = schedule.first_run_at(s, now)
    s.say(Level.WARNING, f"{why}, staying worker, epoch {s.epoch}.")
    votes.keep_lease(s, now)
    schedule.due(s, now)
    inform(s, now)


# -- two workers -----------------------------------------------------------------------------------


def step_down(s: State, e: Event, now: float) -> None:
    """Of two workers that meet, the one with the lower epoch ends: the other took over later."""
    schedule.rest(s)
    _end_term(s, now)
    note_overlap(s, e, now)
    peer = s.peer
    if peer is not None:
        s.overlap_s = min(now - s.worker_since, peer.worker_for_s)
        s.overlap_epoch = peer.epoch
        s.say(
            Level.WARNING,
            f"{peer.member} is worker, too, with the later epoch {peer.epoch}: stepping down from "
            f"epoch {s.epoch}.",
        )
    end_tree(s, e, now)
    inform(s, now)


def note_overlap(s: State, e: Event, now: float) -> None:
    """Both members record it, once, with the longest it can have lasted."""
    peer = s.peer
    if peer is None:
        return
    seconds = peer.overlap_s or min(now - s.worker_since, peer.worker_for_s)
    s.overlap_noted = (s.epoch, peer.incarnation)
    s.out.append(RecordOverlap(peer.member, s.epoch, peer.epoch, seconds))
    s.say(
        Level.ERROR,
        f"{peer.member} and this member were both worker for up to {seconds:.3g} s.",
    )


def stepped_down(s: State, e: Event, now: float) -> None:
    """Nothing of the tree is alive: the other one goes on alone."""
    s.worker_since = NEVER
    s.say(Level.INFO, "The command has ended here. Supervising.")
    inform(s, now, released=True)


# -- stopping --------------------------------------------------------------------------------------


def begin_stop(s: State, e: Event, now: float) -> None:
    """End the command first; the role is released when nothing of it is alive."""
    s.stop_requests += 1
    schedule.rest(s)
    s.say(
        Level.INFO,
        f"Asked to stop: ending the command, at most {s.settings.stop_timeout_s:g} s.",
    )
    end_tree(s, e, now)


def hurry_stop(s: State, e: Event, now: float) -> None:
    """A second request skips the waiting, never the release."""
    s.stop_requests += 1
    if s.stop_requests == HURRY:
        s.say(Level.WARNING, "Asked to stop again: killing the command.")
        s.out.append(KillTree())


HURRY: Final = 2
"""Which request to stop is the impatient one; those after it change nothing."""


def say_goodbye(s: State, e: Event, now: float) -> None:
    """Nothing is alive here, and nothing will be: the peer may take over in the same moment."""
    schedule.rest(s)
    role = "it was not worker" if s.worker_since == NEVER else "the role is released"
    s.say(Level.INFO, f"Stopped: nothing of the command is alive here, and {role}.")
    inform(s, now, released=True)
    watch.disconnect(s)
    witness.let_go(s, now)
    s.out.append(Exit())


# -- shared ----------------------------------------------------------------------------------------


def _end_term(s: State, now: float) -> None:
    """The role goes: if it does because the command did badly, it must not come back at once."""
    if s.gave_up or health.is_failing(s):
        s.gave_up = ""
        health.hold_down(s, now)


def inform(s: State, now: float, *, released: bool = False) -> None:
    """Tell the peer of the change at once; no answer to an older question counts any more."""
    watch.forget_questions(s)
    watch.tell(s, now, released=released)
    if s.link_state is LinkState.OPEN and s.phase is not Phase.STOPPED:
        watch.question(s, now)
