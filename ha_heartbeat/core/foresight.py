"""What would happen if something died now: the member's own rules, followed on a copy of its state.

Nothing is told here that the table does not do. The state is copied, the world around it is made to
fail, and the same `Core` takes its steps until it comes to rest. What it would log is what is said.
"""

from __future__ import annotations

from copy import copy
from enum import Enum
from typing import Final, NamedTuple

from ha_heartbeat.core.machine import Core
from ha_heartbeat.core.state import FOREVER, NEVER, RUNNING, LinkState, Op, State
from ha_heartbeat.core.types import (
    Answer,
    Answered,
    Connect,
    Connected,
    CutTree,
    Effect,
    Event,
    Evidence,
    FenceDone,
    InboundClosed,
    KillTree,
    Level,
    LinkBroken,
    Phase,
    ReadWitness,
    Refused,
    RoleChanged,
    RunEnded,
    RunFence,
    Say,
    SendAsk,
    StartHook,
    StopTree,
    SwapWitness,
    Tick,
    TreeGone,
    Wants,
    WitnessConflict,
    WitnessFailed,
    WitnessRead,
    WitnessSwapped,
)

MAX_STEPS: Final = 2000
"""A limit for the program's sake: no course that was looked at needs more than a few hundred."""

FAR_S: Final = 1e9
HORIZON_LEASES: Final = 4
"""How far ahead is looked: beyond it nothing new happens while the failure lasts."""


class Loss(Enum):
    """What may be lost, as seen from one member; the value is what a person calls it."""

    PEER_PROCESS = "the peer's member is killed"
    PEER_HOST = "the peer's machine is lost"
    LINK = "the link between the two is cut"
    WITNESS = "the witness is lost"


class Foreseen(NamedTuple):
    """What comes of it on this member.

    `phase` it ends in, `after_s` when that phase begins (0 if it is the present one), `runs_at_s`
    when it becomes worker (FOREVER: it does not), `ends_at_s` when its own command is ended for
    want of a lease (FOREVER: it is not), and what the log would say, each line with its time.
    """

    phase: Phase
    after_s: float
    runs_at_s: float
    ends_at_s: float
    evidence: Evidence | None
    lines: tuple[tuple[float, str], ...]


def losses(s: State) -> tuple[Loss, ...]:
    """What this member can lose."""
    peer = (Loss.PEER_PROCESS, Loss.PEER_HOST, Loss.LINK) if s.settings.peer else ()
    return (*peer, Loss.WITNESS) if s.settings.has_witness else peer


def foresee(state: State, now: float, loss: Loss) -> Foreseen:
    """Follow the rules from `state` at `now` (the member's clock) on, with `loss` lasting."""
    return _Course(state, now, loss).follow()


class _Course:
    """One copy of a member, and a world in which one thing is lost."""

    def __init__(self, state: State, now: float, loss: Loss) -> None:
        self.core = Core.__new__(Core)
        self.core.strict = False
        self.core.state = copy(state)
        self.core.state.out = []
        s = self.core.state
        s.said = frozenset()  # whatever was said before is worth saying here
        s.skip_said = True
        s.settings = s.settings._replace(interval_commands_s=FAR_S)  # runs are not what is asked
        s.next_run_at = FOREVER
        self.loss = loss
        self.began = self.now = now
        self.end = now + HORIZON_LEASES * state.settings.lease_s + state.settings.stop_timeout_s
        self.due: list[tuple[float, Event]] = []
        self.version = 0
        self.phase = state.phase
        self.phase_at = now
        self.runs_at = self.ends_at = FOREVER
        self.lines: list[tuple[float, str]] = []

    def follow(self) -> Foreseen:
        self._lose()
        for _ in range(MAX_STEPS):
            wake = self.core.wake_at()
            at = self.due[0][0] if self.due else FOREVER
            if min(wake, at) > self.end or self.core.state.phase is Phase.STOPPED:
                break
            self.now = max(self.now, min(wake, at))
            event = self.due.pop(0)[1] if at <= wake else Tick()
            for effect in self.core.step(event, self.now, 1.0):
                self._do(effect)
        s = self.core.state
        won = s.evidence if self.runs_at != FOREVER else None
        return Foreseen(
            s.phase,
            self.phase_at - self.began,
            self.runs_at - self.began,
            self.ends_at - self.began,
            won,
            tuple(self.lines),
        )

    def _lose(self) -> None:
        """What is noticed at once, and what is under way and gets no answer any more."""
        s = self.core.state
        if self.loss is Loss.PEER_PROCESS:
            if s.inbound:
                self._soon(InboundClosed(s.inbound))
            if s.link_state is not LinkState.NONE:
                self._soon(LinkBroken(s.link, "closed"))
        if s.op_kind is not Op.NONE:
            self._soon(WitnessFailed(s.op, "no answer"))

    def _soon(self, event: Event) -> None:
        self.due.append((self.now, event))

    def _do(self, effect: Effect) -> None:
        s = self.core.state
        match effect:
            case Connect(link=link) if self.loss is Loss.PEER_PROCESS:
                self._soon(Refused(link))
            case Connect(link=link) if self.loss is Loss.WITNESS and s.peer is not None:
                self._soon(Connected(link))
            case SendAsk() if self.loss is Loss.WITNESS and s.peer is not None:
                self._answer(effect)
            case ReadWitness() | SwapWitness():
                self._soon(self._witness(effect))
            case StopTree() | KillTree():
                self._soon(TreeGone())
            case CutTree():
                self._soon(TreeGone(undone=False))
            case StartHook(run=run):
                self._soon(RunEnded(run, 0, 0, 0))
            case RunFence():
                self._soon(FenceDone(True, "exit status 0"))
            case RoleChanged():
                self._change(effect)
            case Say(level=level, text=text) if level is not Level.CHECK:
                if len(self.lines) == 0 or self.lines[-1][1] != text:
                    self.lines.append((self.now - self.began, text))

    def _change(self, effect: RoleChanged) -> None:
        was, self.phase = self.phase, effect.phase
        self.phase_at = self.now
        if effect.phase is Phase.WORKER and self.runs_at == FOREVER:
            self.runs_at = self.now
        elif was in RUNNING and effect.phase not in RUNNING and self.ends_at == FOREVER:
            self.ends_at = self.now

    def _answer(self, effect: SendAsk) -> None:
        """The peer lives, and says what it said before."""
        s, ask = self.core.state, effect.ask
        if s.peer is None:
            return
        view = s.peer._replace(number=s.peer.number + 1)
        vote = ask.wants is Wants.RENEWAL and not view.holding
        answer = Answer(ask.seq, s.incarnation, view, vote, False, "")
        self._soon(Answered(effect.link, answer))

    def _witness(self, effect: ReadWitness | SwapWitness) -> Event:
        """The register as it is last known; a living holder beyond a cut goes on writing it."""
        s = self.core.state
        if self.loss is Loss.WITNESS:
            return WitnessFailed(effect.op, "it is lost")
        if isinstance(effect, SwapWitness):
            if effect.expected != s.record_version:
                return WitnessConflict(effect.op)
            self.version += 1
            return WitnessSwapped(effect.op, f"foreseen-{self.version}")
        peer, record = s.peer, s.record
        renews = self.loss is Loss.LINK and peer is not None and peer.holding
        if renews and peer and record and record.incarnation == peer.incarnation:
            self.version += 1
            return WitnessRead(effect.op, f"foreseen-{self.version}", s.record)
        version = s.record_version if s.record_since != NEVER else ""
        return WitnessRead(effect.op, version, s.record)
