"""The words of the core: what it is told (events), says (messages), and asks for (effects).

Everything here is immutable and plain, so that a state can be copied, compared and replayed. Times
are seconds on the member's own monotonic clock, which counts suspend; no wall clock appears.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Final, NamedTuple, TypeAlias


class Mode(Enum):
    """The mode a member is started in: a preference, never a right."""

    WORKER = "worker"
    SUPERVISOR = "supervisor"


class TakeoverPolicy(Enum):
    """What silence allows: acting on it (the original's way), or never."""

    SILENCE = "silence"
    PROOF = "proof"


class Cadence(Enum):
    """When a new worker starts its first run: at once, or when the last worker would have."""

    RESTART = "restart"
    CONTINUE = "continue"


class Phase(StrEnum):
    """Where a member stands. `WORKER` is the only phase in which a run may be started."""

    LOOKING = "looking"
    SUPERVISOR = "supervisor"
    FENCING = "fencing"
    WORKER = "worker"
    HANDING_OVER = "handing-over"
    STEPPING_DOWN = "stepping-down"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Evidence(Enum):
    """Why a member may become worker (DESIGN 3); logged and shown with each takeover."""

    RELEASED = "released"
    REFUSED = "refused"
    FENCED = "fenced"
    OUTVOTED = "outvoted"
    VOTED = "voted"
    SILENT = "silent"


VIP: Final = "vip"
"""The step that adds virtual addresses."""


class Settings(NamedTuple):
    """What one member was started with, as far as decisions depend on it.

    `peer` is the address of the peer, "" for a member that competes for the witness alone;
    `local` is its own. All spans are seconds > 0; `check_count` >= 1; `rank` is 0 or 1 and differs
    between the two members, so that the epochs they choose never collide. `run_timeout_s` is
    infinite where a run has no limit; `fallback_delay_s` may be 0. `check_interval_s` and
    `check_failures` are of the health check; `max_failures` is 0 where runs may always fail.
    `steps` are the options that name what is done before the first run of a term, without dashes.
    `has_undo`: and a hook undoes it, for at most `hook_timeout_s`, as each of the steps has. What
    the step `vip` sets up the guardian undoes itself, in no time.
    """

    member: str
    service: str
    local: str
    peer: str
    mode: Mode
    fallback: bool
    interval_test_s: float
    check_count: int
    interval_commands_s: float
    cadence: Cadence
    stop_timeout_s: float
    run_timeout_s: float
    fallback_delay_s: float
    max_failures: int
    steps: tuple[str, ...]
    has_undo: bool
    hook_timeout_s: float
    has_check: bool
    check_interval_s: float
    check_failures: int
    takeover: TakeoverPolicy
    distrust_refused: bool
    has_fence: bool
    has_witness: bool
    command: str
    rank: int

    @property
    def lease_s(self) -> float:
        """D of the design: how long a vote or a lease lasts."""
        return self.interval_test_s * self.check_count

    @property
    def leaves_traces(self) -> bool:
        """Whether something stands between two runs that has to be undone, by hook or guardian."""
        return self.has_undo or VIP in self.steps

    @property
    def check_period_s(self) -> float:
        """Time between checks: interval-test is its maximum, and a lease holds at least two."""
        return self.interval_test_s if self.check_count > 1 else self.interval_test_s / 2


class Terms(NamedTuple):
    """What a member tells its peer of its settings, to be compared when the two meet."""

    interval_test_s: float
    check_count: int
    interval_commands_s: float
    takeover: str
    command: str


class Hold(NamedTuple):
    """A pause that an operator ordered (`on`), or its end; of two the later one counts.

    `number` grows with every order that is given with knowledge of the one before. `reason` is the
    operator's, `by` the member at which it was given, `at` the time of day in seconds since 1970:
    these three are for people and decide nothing.
    """

    number: int
    on: bool
    reason: str
    by: str
    at: float


NO_HOLD: Final = Hold(0, False, "", "", 0.0)
"""No order was ever given."""


class View(NamedTuple):
    """What a member says of itself in every message.

    `number` grows with every message of an incarnation, so that of two the later one is known;
    `holding` is true while it is worker or anything of its command's tree may still be alive;
    `epoch` is the last that it was worker under, 0 if it never was, and `epoch_seen` the highest it
    knows of; `worker_for_s` is how long it has been worker, 0 when it is not. `overlap_s` is for
    how long, at most, it was worker at the same time as the worker of `overlap_epoch`, to which it
    gave way; 0 if there was none. `fit` is false while it is held down, because the command did
    badly there. `hold` is the latest order to pause or to resume that it knows. `former` is the
    incarnation of its life before, "" if that is not known. `ran_ago_s` is how long ago the latest
    run was started that it knows of, its own or another's; None if it knows of none.
    """

    member: str
    incarnation: str
    number: int
    phase: Phase
    holding: bool
    epoch: int
    epoch_seen: int
    mode: Mode
    fallback: bool
    rank: int
    worker_for_s: float
    overlap_s: float
    overlap_epoch: int
    fit: bool
    terms: Terms
    hold: Hold = NO_HOLD
    former: str = ""
    ran_ago_s: float | None = None


class Wants(Enum):
    """What a question asks for besides an answer."""

    NOTHING = "nothing"
    VOTE = "vote"
    RENEWAL = "renewal"
    ROLE = "role"
    SWITCHOVER = "switchover"  # the role, for an operator


class Ask(NamedTuple):
    """A check: are you there, and may I? `lease_s` is the asker's D, for which a vote is given."""

    service: str
    seq: int
    view: View
    wants: Wants
    lease_s: float


class Answer(NamedTuple):
    """An answer to question `seq` of incarnation `to`; a later one to it supersedes this one.

    `vote`: the answerer neither runs nor votes otherwise for the asker's D from now on.
    `released`: it was worker, its command has ended, and it is not worker any more.
    `reason`: why what was asked for is not given; "" otherwise.
    """

    seq: int
    to: str
    view: View
    vote: bool
    released: bool
    reason: str


Message: TypeAlias = Ask | Answer


class Record(NamedTuple):
    """What stands in the witness: who holds its vote.

    `counter` grows with every write of a holder, so that each is another version; `lease_s` is the
    holder's D; `released` says that its command has ended and that it is not worker any more;
    `members` are the names and addresses of the pair it belongs to, () for a cluster of any number.
    """

    holder: str
    incarnation: str
    epoch: int
    counter: int
    lease_s: float
    released: bool
    members: tuple[str, ...]


# -- events: what the shell tells the core ---------------------------------------------------------


class Started(NamedTuple):
    """The member has bound its port and may look for its peer. First event, given once.

    `former` is the incarnation of its life before, as far as that is known, or "": it is dead, as
    it and all of its tree held this port.
    """

    incarnation: str
    epoch_seen: int
    epoch_reserved: int
    hold: Hold = NO_HOLD
    former: str = ""


class Tick(NamedTuple):
    """The time asked for by `Core.wake_at` has come (or any other time: a tick is never wrong)."""


class Connected(NamedTuple):
    """Attempt `link` reached a listening port at the peer's address."""

    link: int


class Refused(NamedTuple):
    """Attempt `link` was refused by the peer's host."""

    link: int


class Unreachable(NamedTuple):
    """Attempt `link` failed in a way that proves nothing; `reason` is for the log."""

    link: int
    reason: str


class LinkBroken(NamedTuple):
    """The connection made by attempt `link` has ended; `reason` is for the log."""

    link: int
    reason: str


class Asked(NamedTuple):
    """A question arrived on inbound connection `conn`."""

    conn: int
    ask: Ask


class Answered(NamedTuple):
    """An answer arrived on the connection made by attempt `link`."""

    link: int
    answer: Answer


class InboundClosed(NamedTuple):
    """Inbound connection `conn` has ended."""

    conn: int


class RunStarted(NamedTuple):
    """The guardian has started run `run`."""

    run: str


class RunFailed(NamedTuple):
    """Run `run` could not be started; `reason` is a sentence. Nothing of it is alive.

    `tried` is false if that says nothing of the command: there is no guardian yet, or it still ends
    what was before.
    """

    run: str
    reason: str
    tried: bool = True


class RunEnded(NamedTuple):
    """The main process of run `run` has ended, leaving `leftovers` descendants alive."""

    run: str
    status: int
    signal: int
    leftovers: int


class Leftovers(NamedTuple):
    """The number of descendants that outlive their run has changed."""

    processes: int


class TreeGone(NamedTuple):
    """Nothing of the command's tree is alive (the answer to `StopTree`, `KillTree` or `CutTree`).

    `undone`: and whatever was set up around it is undone, as far as that can be done.
    """

    undone: bool = True


class UndoEnded(NamedTuple):
    """The on-supervisor hook has ended: exit status, or -1 and a signal; -1 and 0: never begun."""

    status: int
    signal: int


class Expired(NamedTuple):
    """The guardian ended the tree because the lease was not extended in time.

    `latest` is the run that it had started last by then, "" for none: a member that was stopped may
    read of this after it has asked for another one, which is not meant.
    """

    latest: str


class GuardianLost(NamedTuple):
    """The guardian died; whatever it guarded has been killed; another one is being started."""

    reason: str


class FenceDone(NamedTuple):
    """The fence command asked for by `RunFence` has ended; only `succeeded` proves anything."""

    succeeded: bool
    detail: str


class CheckDone(NamedTuple):
    """The health check asked for by `RunCheck` has ended; `detail` is how, for the log."""

    succeeded: bool
    detail: str


class WitnessRead(NamedTuple):
    """The witness answered read `op`: `record` in `version`, or None and "" if it has none."""

    op: int
    version: str
    record: Record | None


class WitnessSwapped(NamedTuple):
    """The witness carried out swap `op`; the record has this version now."""

    op: int
    version: str


class WitnessConflict(NamedTuple):
    """The witness refused swap `op`: the record has another version than was expected."""

    op: int


class WitnessFailed(NamedTuple):
    """The witness did not answer `op`, or not in a way that can be read right.

    A swap may have been carried out all the same.
    """

    op: int
    reason: str


class StopRequested(NamedTuple):
    """The operator asks this member to end (SIGTERM or SIGINT); again: without waiting."""


class SwitchoverRequested(NamedTuple):
    """The operator asks for the role to be moved to member `to`, "" for the one without it.

    `request` is a number of the shell's; `Replied` bears it.
    """

    request: int
    to: str


class PauseRequested(NamedTuple):
    """The operator asks to pause (`on`) or to resume; `reason` and `at` as in `Hold`."""

    request: int
    on: bool
    reason: str
    at: float


class RunRequested(NamedTuple):
    """The operator asks for a run now."""

    request: int


Event: TypeAlias = (
    Started
    | Tick
    | Connected
    | Refused
    | Unreachable
    | LinkBroken
    | Asked
    | Answered
    | InboundClosed
    | RunStarted
    | RunFailed
    | RunEnded
    | Leftovers
    | TreeGone
    | UndoEnded
    | Expired
    | GuardianLost
    | FenceDone
    | CheckDone
    | WitnessRead
    | WitnessSwapped
    | WitnessConflict
    | WitnessFailed
    | StopRequested
    | SwitchoverRequested
    | PauseRequested
    | RunRequested
)


# -- effects: what the core asks the shell to do ---------------------------------------------------


class Connect(NamedTuple):
    """Open a connection to the peer, dropping the one before; report under the name `link`.

    `probe` says that an earlier connection broke and the question is whether anybody is left there:
    the address of that connection is asked again, whatever its name resolves to by now.
    """

    link: int
    probe: bool


class Disconnect(NamedTuple):
    """Drop the connection or attempt `link`; nothing of it is reported any more."""

    link: int


class SendAsk(NamedTuple):
    """Send a question on the connection made by attempt `link`."""

    link: int
    ask: Ask


class SendAnswer(NamedTuple):
    """Send an answer on inbound connection `conn`."""

    conn: int
    answer: Answer


class StartRun(NamedTuple):
    """Start the command as run `run` of `epoch`, under the lease last extended."""

    run: str
    epoch: int


class StartHook(NamedTuple):
    """Take this step before the first run of `epoch`, as a run called `run`.

    `is_first`: nothing of an earlier attempt stands.
    """

    run: str
    epoch: int
    step: str
    is_first: bool


class ExtendLease(NamedTuple):
    """The right to run as it now stands: SIGTERM at `term_at`, SIGKILL at `kill_at`."""

    term_at: float
    kill_at: float


class CutTree(NamedTuple):
    """As `StopTree`, but the role stays: what was set up around the command stands."""

    grace_s: float


class StopTree(NamedTuple):
    """SIGTERM to the whole tree now, SIGKILL after `grace_s`; undo; report `TreeGone`."""

    grace_s: float


class KillTree(NamedTuple):
    """SIGKILL to the whole tree now; undo; report `TreeGone`."""


class RunFence(NamedTuple):
    """Run the operator's fence command against the peer; report `FenceDone`."""


class RunCheck(NamedTuple):
    """Run the health check of the command; report `CheckDone`."""


class ReadWitness(NamedTuple):
    """Read the witness's record; report under the number `op`."""

    op: int


class SwapWitness(NamedTuple):
    """Put `record` in the place of the version `expected` ("": of no record); report under `op`."""

    op: int
    expected: str
    record: Record


class Remember(NamedTuple):
    """Keep on disk; `epoch_reserved` is written ahead of need, so that a takeover need not wait.

    The shell may write it in the background, but a member must not become worker with an epoch
    (`RoleChanged`) above the one last reserved on disk: then it waits for the write.
    """

    epoch_seen: int
    epoch_reserved: int


class KeepHold(NamedTuple):
    """Keep the order to pause or to resume on disk: it outlives a restart."""

    hold: Hold


class Replied(NamedTuple):
    """The answer to the operator's request: whether it is (being) done, and a sentence."""

    request: int
    done: bool
    text: str


class RecordOverlap(NamedTuple):
    """Both members were worker at once, for at most `seconds`; keep it on disk."""

    peer: str
    own_epoch: int
    peer_epoch: int
    seconds: float


class Level(Enum):
    """How loud a line of the log is. CHECK is shown with `--verbose` only."""

    CHECK = "check"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Say(NamedTuple):
    """One line of the log: a sentence for a person; shown with the role and epoch by the shell."""

    level: Level
    text: str


class RoleChanged(NamedTuple):
    """The member's phase is now `phase`; `evidence` is what made it worker, None otherwise."""

    phase: Phase
    epoch: int
    evidence: Evidence | None


class Exit(NamedTuple):
    """The tree is gone and everything was said: flush the connections, end the guardian, exit 0."""


Effect: TypeAlias = (
    Connect
    | Disconnect
    | SendAsk
    | SendAnswer
    | StartRun
    | StartHook
    | ExtendLease
    | CutTree
    | StopTree
    | KillTree
    | RunFence
    | RunCheck
    | ReadWitness
    | SwapWitness
    | Remember
    | KeepHold
    | Replied
    | RecordOverlap
    | Say
    | RoleChanged
    | Exit
)
