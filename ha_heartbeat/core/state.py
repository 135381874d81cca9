"""What one member knows and has promised: the whole state of the core, and nothing that decides.

Every field holds an immutable value, so a shallow copy of a `State` is a complete one. Times are
seconds on the member's own monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from ha_heartbeat.core.types import (
    NO_HOLD,
    Ask,
    Effect,
    Evidence,
    Hold,
    Level,
    Phase,
    Record,
    Say,
    Settings,
    Terms,
    View,
    Wants,
)

NEVER: Final = float("-inf")
"""A time before every other: "it has not happened"."""

FOREVER: Final = float("inf")


class LinkState(Enum):
    """How far our own connection to the peer has come."""

    NONE = "none"
    CONNECTING = "connecting"
    OPEN = "open"


class Op(Enum):
    """What is under way at the witness."""

    NONE = "none"
    READ = "read"
    FOUND = "found"  # a record that is nobody's, where there was none
    CLAIM = "claim"  # by a candidate: it votes for nobody else meanwhile
    RENEW = "renew"  # by a worker
    RELEASE = "release"


@dataclass(slots=True)
class State:
    """One member. Fields are grouped by the module that writes them."""

    settings: Settings
    terms: Terms
    incarnation: str = ""
    former: str = ""  # that of the life before, which is dead

    # the role (table, actions)
    phase: Phase = Phase.LOOKING
    phase_since: float = NEVER
    worker_since: float = NEVER
    looking_since: float = NEVER
    supervised: tuple[str, int] = ("", 0)  # incarnation and epoch of the worker last logged
    evidence: Evidence | None = None
    stop_requests: int = 0
    give_up_at: float = FOREVER  # when a hand-over stops waiting for the run to end by itself

    # epochs (votes)
    rank: int = 0
    epoch: int = 0
    epoch_seen: int = 0
    epoch_granted: int = 0  # the highest that the peer can have taken on our vote
    epoch_reserved: int = 0
    epoch_seen_kept: int = 0  # as last written down

    # the peer (watch)
    messages: int = 0
    peer: View | None = None
    heard_at: float = NEVER
    present_since: float = NEVER  # since when it answers without missing a check
    past: tuple[str, ...] = ()  # incarnations that a newer one has replaced
    peer_lease_s: float = 0.0  # the longest that a life of it has named; 0: none was heard
    peer_lease_least_s: float = FOREVER  # and the shortest
    proved_dead_at: float = NEVER  # when the question was put that proved its last life dead
    started_at: float = NEVER
    understood_at: float = NEVER  # when the latest question was put that it is known to have heard
    refused_checks: int = 0  # consecutive refusals, nothing heard in between
    refused_at: float = NEVER  # the latest of them
    refused_since: float = NEVER  # when the first of them was asked for
    unanswered: int = 0  # checks made since the peer was last heard
    unanswered_why: str = ""  # the port is open, but whoever is there ended the connection so

    # our connection to it (watch)
    link: int = 0
    link_state: LinkState = LinkState.NONE
    link_since: float = NEVER  # when the attempt began: the date of a refusal's question
    link_answered: bool = False
    was_connected: bool = False
    quick_probes: int = 0
    ask_seq: int = 0
    asks: tuple[tuple[int, float, Wants], ...] = ()  # the last two: number, time, what was wanted
    ask_pending: bool = False
    vote_asked_of: tuple[str, Phase, bool] | None = None  # as the peer was known, since the check
    next_check_at: float = FOREVER

    # its connection to us (watch)
    inbound: int = 0  # 0: none
    inbound_ask: Ask | None = None

    # votes (votes)
    abstain_until: float = NEVER
    promised_until: float = NEVER
    promised_to_candidate: bool = False
    grant: Evidence | None = None  # what the event of this step gives us, if anything
    lease_until: float = NEVER
    run_until: float = NEVER  # when the tree is asked to end, if the lease is not extended
    peer_vote_until: float = NEVER  # the peer's vote for us, with a witness

    # the witness (witness)
    op: int = 0
    op_kind: Op = Op.NONE
    op_sent_at: float = NEVER
    op_record: Record | None = None  # what the swap under way, or in doubt, writes
    doubt_sent_at: float = NEVER  # when the swap in doubt was sent
    record: Record | None = None
    record_version: str = ""
    record_since: float = NEVER  # when this version was first read; NEVER: nothing was read yet
    read_at: float = NEVER  # when it last answered a read; how fresh what is shown is
    looked_at: float = NEVER  # when the latest question was sent that it answered, or failed to
    awaits_witness: bool = False  # proof of death is at hand, and the witness is asked first
    witness_vote_until: float = NEVER

    # the command (schedule)
    run: str = ""
    latest_run: str = ""  # the one last asked for, whether it lives or not
    run_started_at: float = NEVER
    last_run_at: float = NEVER  # when the latest run started, here or elsewhere
    run_untold: bool = False  # and the peer does not know yet
    run_count: int = 0
    next_run_at: float = FOREVER
    skip_said: bool = False
    run_failing: bool = False
    run_timed_out: bool = False  # the present one is being ended for that
    leftovers: int = 0
    ending: bool = False  # StopTree or KillTree was asked for and TreeGone is awaited

    # what is around the command (hooks)
    hook: str = ""  # the step under way
    hook_count: int = 0
    hook_started_at: float = NEVER
    hook_late: bool = False
    hook_failed: str = ""  # what went wrong with the last attempt
    steps_done: int = 0
    set_up: bool = False  # something may have to be undone
    undoing: bool = False  # and will be before the TreeGone that is awaited

    # how the command does (health)
    check_running: bool = False
    check_epoch: int = 0  # the term that it was asked for in
    health_check_at: float = FOREVER
    failed_checks: int = 0  # in a row
    failed_runs: int = 0  # in a row
    gave_up: str = ""  # what was wrong when a hand-over for it was begun
    well_since: float = FOREVER  # since when something has succeeded and nothing failed
    hold_downs: int = 0
    unfit_until: float = NEVER

    # the fence command (actions)
    fence_started_at: float = NEVER
    fence_running: bool = False
    fenced_at: float = NEVER  # when it ended with success; NEVER since it was started again
    fence_retry_at: float = NEVER
    fenced_life: str = ""  # the incarnation of the peer that was turned off last

    # the operator (orders)
    hold: Hold = NO_HOLD
    switch_until: float = NEVER  # until when the peer is asked for the role, for the operator
    switch_note: str = ""  # what became of the last switchover asked for, if that failed
    moved_from: str = ""  # the peer's incarnation that gave the role away though it is preferred

    # overlaps (actions)
    overlap_s: float = 0.0
    overlap_epoch: int = 0  # the epoch of the worker that stayed, then
    overlap_noted: tuple[int, str] = (0, "")  # own epoch and peer incarnation last recorded

    now: float = NEVER  # of the latest step
    told: bool = False  # the peer's latest question was answered in this step
    said: frozenset[str] = frozenset()
    out: list[Effect] = field(default_factory=list)

    @property
    def tree_alive(self) -> bool:
        """Whether anything of the command's tree may be alive, or what was set up for it stands."""
        return self.run != "" or self.leftovers > 0 or self.ending or self._surroundings

    @property
    def _surroundings(self) -> bool:
        return self.hook != "" or self.set_up

    @property
    def peer_name(self) -> str:
        """What the log calls the peer: its own name, or its address as long as it said none."""
        return self.peer.member if self.peer is not None else self.settings.peer

    @property
    def holding(self) -> bool:
        """Whether the command runs here, may be started here, or may not have ended here yet."""
        return self.phase in HOLDING or self.tree_alive

    @property
    def fallback(self) -> bool:
        """Whether `--fallback` is in effect: on both sides it contradicts itself and is off."""
        return self.settings.fallback and not (self.peer is not None and self.peer.fallback)

    @property
    def prefers_peer(self) -> bool:
        """Whether the role is to go to the peer as soon as that can be done.

        Not if an operator has moved it here, away from this very life of the peer.
        """
        moved = self.peer is not None and self.peer.incarnation == self.moved_from
        return self.fallback and not moved

    @property
    def paused(self) -> bool:
        """Whether an operator has ordered hands off."""
        return self.hold.on

    def say(self, level: Level, text: str) -> None:
        """Add a line for the log."""
        self.out.append(Say(level, text))

    def say_once(self, key: str, level: Level, text: str) -> None:
        """Add a line for the log unless `key` was said since it was last taken back."""
        if key not in self.said:
            self.said |= {key}
            self.out.append(Say(level, text))

    def take_back(self, *keys: str) -> None:
        """Let lines said once be said again: what they were about has changed."""
        if self.said:
            self.said = self.said.difference(keys)


WATCHING: Final = frozenset({Phase.LOOKING, Phase.SUPERVISOR})
"""Phases in which the role may be taken, on evidence."""

RUNNING: Final = frozenset({Phase.WORKER, Phase.HANDING_OVER})
"""Phases in which the command may run, for as long as the lease lasts."""

LEASED: Final = RUNNING | {Phase.STOPPING}
"""Phases in which the right to run is confirmed by every vote."""

HOLDING: Final = frozenset({Phase.WORKER, Phase.HANDING_OVER, Phase.STEPPING_DOWN, Phase.STOPPING})


def view(s: State, now: float) -> View:
    """What this member says of itself, as its next message."""
    cfg = s.settings
    s.messages += 1
    holding = s.holding
    return View(
        cfg.member,
        s.incarnation,
        s.messages,
        s.phase,
        holding,
        s.epoch,
        s.epoch_seen,
        cfg.mode,
        cfg.fallback,
        s.rank,
        now - s.worker_since if s.phase in HOLDING else 0.0,
        s.overlap_s,
        s.overlap_epoch,
        now >= s.unfit_until,
        s.terms,
        s.hold,
        s.former,
        None if s.last_run_at == NEVER else now - s.last_run_at,
    )


def terms(cfg: Settings) -> Terms:
    """What the two members compare when they meet."""
    return Terms(
        cfg.interval_test_s,
        cfg.check_count,
        cfg.interval_commands_s,
        cfg.takeover.value,
        cfg.command,
    )
