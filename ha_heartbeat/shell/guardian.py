"""The member's handle on its guardian: orders out, reports in, and never without one for long.

When the guardian is lost, by a kill -9 or for want of memory, this first kills and reaps whatever
of its tree is left, then says so, then starts another. Nothing here blocks the event loop, and
nothing decides when a run is due or a lease is over.

Without a `Keeper` that they share, a process has one handle: what the guardian of another would
leave behind looks like its own.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ha_heartbeat.guardian import __file__ as _guardian_file
from ha_heartbeat.guardian.clock import NEVER_NS, now_ns
from ha_heartbeat.guardian.protocol import (
    LIMIT_BYTES,
    VERSION,
    Cleared,
    Cut,
    Decoder,
    End,
    Ended,
    Expired,
    Extend,
    Failed,
    Gone,
    Kill,
    Leftovers,
    Message,
    Order,
    Ping,
    Pong,
    ProtocolError,
    Ready,
    Run,
    SetUp,
    Started,
    Stop,
    Undo,
    Undone,
    encode,
)
from ha_heartbeat.guardian.tree import make_addresses
from ha_heartbeat.shell.aside import aside
from ha_heartbeat.shell.overdue import Overdue

if TYPE_CHECKING:
    from ha_heartbeat.shell.keeper import Keeper
if sys.platform == "linux":
    from ha_heartbeat.guardian import cgroup, sweep
    from ha_heartbeat.guardian.linux import become_subreaper
if sys.platform != "win32":
    from ha_heartbeat.guardian.posix import kill_groups

RETRY_S = 1.0
"""The least time from one start of a guardian to the next."""
UNREAD_LIMIT_BYTES = 2 * LIMIT_BYTES
"""A guardian that leaves so much unread has stopped working and is replaced; bounds the memory."""
_LEAVE_S = 1.0
"""What a guardian that was told to end is given to be gone before it is killed."""
_CLEAR_S = 0.02
"""What the keeper of a lost guardian is given to clear up, before that is done here."""
_FIRST_PAUSE_S = 0.002
_LAST_PAUSE_S = 1.0
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(_guardian_file))))
PROGRAM = (
    "import sys; sys.path.insert(0, {root!r}); "
    "from ha_heartbeat.guardian.{module} import main; main()"
)


class Lost(NamedTuple):
    """There is no guardian, and nothing is left of the tree that it guarded."""

    reason: str


Event = Ready | Started | Failed | Ended | Leftovers | Expired | Gone | Cleared | Undone | Lost


class GuardianError(RuntimeError):
    """No guardian could be started; the text is a sentence for a human."""


class Process(Protocol):
    """What a handle needs of its guardian's process, whoever has started that."""

    pid: int

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None until it is known."""

    def kill(self) -> None:
        """SIGKILL."""


class _Link(asyncio.Protocol):
    """One guardian process and the channel to it, from its start to its end."""

    def __init__(self, process: Process, hear: Callable[[Message], None]) -> None:
        self.process = process
        self.pid = process.pid
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.broken = ""
        self._hear = hear
        self._decoder = Decoder()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._decoder.feed(data)
        try:
            for message in self._decoder.messages():
                if isinstance(message, Ready) and not self.ready.done():
                    self.pid = message.pid
                    self.ready.set_result(None)
                self._hear(message)
        except ProtocolError as problem:
            self.abandon(f"what it says is not understood: {problem}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for future in (self.ready, self.closed):
            if not future.done():
                future.set_result(None)

    @property
    def up(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, order: Order) -> None:
        """Queue an order. Raises ProtocolError for one that cannot be sent."""
        frame = encode(order)
        if self._transport is not None:
            self._transport.write(frame)
            if self._transport.get_write_buffer_size() > UNREAD_LIMIT_BYTES:
                self.abandon("it does not read its orders")

    def abandon(self, reason: str) -> None:
        """Kill the guardian; it is lost for that reason."""
        self.broken = self.broken or reason
        self.process.kill()
        if self._transport is not None:
            self._transport.abort()

    def obituary(self) -> str:
        """Why it is no more, as a sentence; the process has been waited for."""
        code = self.process.returncode
        if self.broken:
            return f"the guardian was killed: {self.broken}"
        if code is not None and code < 0:
            return f"the guardian was killed by signal {-code}"
        return f"the guardian ended with exit status {code}"


class Guardian:
    """A guardian, and another when that one is lost.

    listeners: file descriptors (Windows: handles) of the member's listening sockets.
    stop_timeout_s: from SIGTERM to SIGKILL for the tree when the member dies, in seconds.
    margin_s: from a lease's SIGKILL to its end, in seconds: what all that stand behind the guardian
        have to act in.
    on_event: gets every report, in order, in the event loop; must not raise.
    spare: pids of children with a session of their own that the member started beside the
        guardian (Linux); they survive the loss of a guardian, with all that is below them.
        Children in the member's own session do in any case. Asked in the event loop.
    stdout, stderr: descriptors for the output of guardian and runs; None is the member's own.
    keep_open: descriptors that the guardian and its runs inherit and leave alone (not on Windows);
        with a `Keeper`, none or two.
    variant: one of ha_heartbeat.guardian.tree.VARIANTS; None is the platform's.
    keeper: what forks the guardian, and holds listeners and descriptors for it (Linux); None: it
        is started as a process, which has a keeper of its own.
    """

    def __init__(
        self,
        *,
        listeners: Sequence[int],
        stop_timeout_s: float,
        margin_s: float,
        on_event: Callable[[Event], None],
        variant: str | None = None,
        spare: Callable[[], Collection[int]] = tuple,
        stdout: int | None = None,
        stderr: int | None = None,
        keep_open: Sequence[int] = (),
        keeper: Keeper | None = None,
    ) -> None:
        self._keeper = keeper
        self._keep_open = tuple(keep_open)
        self._listeners = tuple(listeners)
        self._stop_timeout_s = stop_timeout_s
        self._margin_s = margin_s
        self._on_event = on_event
        self._variant = variant or ""
        self._spare = spare
        self._undo: Undo | None = None
        self._vips: tuple[str, ...] = ()
        self._needs_set_up = False
        self._undo_owed = False  # something was run and may not be undone
        self._deferred = False  # the next guardian is told to undo, and answers
        self._output = (stdout, stderr)
        self._link: _Link | None = None
        self._mender: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._cleared = True  # nothing of a lost guardian's tree is left
        self._started_s = float("-inf")
        self._unanswered: set[int] = set()
        self._groups: dict[int, int] = {}  # run -> pid, of those with something left
        self._owes_gone = False
        self._overdue: Overdue | None = None
        self._term_at_ns = self._kill_at_ns = NEVER_NS
        self._runs: set[int] = set()  # asked for, and not known to have ended
        self._leftovers = 0

    @property
    def pid(self) -> int | None:
        """The guardian's process id; None while there is none."""
        return self._link.pid if self._link is not None else None

    @property
    def runs_something(self) -> bool:
        """Whether a run was asked for that is not known to have ended."""
        return bool(self._runs)

    @property
    def keeper_pid(self) -> int | None:
        """The process id of its keeper, on Linux; elsewhere the guardian's own."""
        if self._keeper is not None:
            return self._keeper.pid
        return self._link.process.pid if self._link is not None else None

    def arm(self, undo: Undo | None, *, needs_set_up: bool, vips: Sequence[str] = ()) -> None:
        """What each guardian is told at its start; to be called before that of the first.

        undo: what it runs when a tree has ended for good. needs_set_up: it starts no run before
        `begin_set_up`, or after a tree has ended for good. vips: the virtual addresses that it
        extends with the lease, and takes off when a tree has ended for good (Linux).
        """
        self._undo = undo
        self._needs_set_up = needs_set_up
        self._vips = tuple(vips)

    async def start(self) -> None:
        """Start the guardian and wait until it listens. Raises GuardianError when it does not."""
        if sys.platform == "linux" and self._variant != "posix" and self._keeper is None:
            become_subreaper()
        take_off(self._vips)  # the port is ours: nobody is left of an earlier life who could
        await self._open()

    def run(self, order: Run) -> None:
        """Start a run; answered by Started or Failed."""
        self._unanswered.add(order.run)
        try:
            if not self._send(order):
                self._fail(order.run, "there is no guardian at the moment", 0)
                return
        except ProtocolError as problem:
            self._fail(order.run, str(problem), 1)
            return
        self._runs.add(order.run)
        self._undo_owed = True
        self._term_at_ns, self._kill_at_ns = order.term_at_ns, order.kill_at_ns
        self._watch()
        self._expect_answer()

    def begin_set_up(self) -> None:
        """The runs to come set up what the others need."""
        self._send(SetUp(1))

    def extend(self, term_at_ns: int, kill_at_ns: int) -> None:
        """The lease as it now stands; times on clock.now_ns()."""
        self._send(Extend(term_at_ns, kill_at_ns))
        self._term_at_ns, self._kill_at_ns = term_at_ns, kill_at_ns
        self._watch()

    def stop(self, grace_s: float) -> None:
        """SIGTERM to the whole tree, SIGKILL after the grace; answered by Gone."""
        self._clear_out(Stop(round(grace_s * 1e9)))

    def kill(self) -> None:
        """SIGKILL to the whole tree; answered by Gone."""
        self._clear_out(Kill())

    def cut(self, grace_s: float) -> None:
        """As stop, but nothing is undone; answered by Cleared, or by Lost."""
        if self._send(Cut(round(grace_s * 1e9))):
            self._expect_answer()

    def reap(self) -> None:
        """Reap orphans that have ended: what the processes to be spared have left (Linux).

        A guardian that is being started or buried is not known well enough to be told from them,
        and who buries one reaps them all.
        """
        if self._keeper is not None:
            self._keeper.reap()
        elif sys.platform == "linux" and self._variant != "posix" and self._link is not None:
            sweep.reap_orphans({*self._spare(), self._link.process.pid})

    async def end(self) -> None:
        """Kill what is left, and return when the guardian and all of its tree are gone."""
        self._ending.set()
        if self._mender is not None:
            await self._mender
        if (link := self._link) is None:
            return
        link.send(End())
        await link.closed
        if self._mender is not None:
            await self._mender

    # Orders.

    def _send(self, order: Order) -> bool:
        if self._link is None or not self._link.up:
            return False
        self._link.send(order)
        return True

    def _fail(self, run: int, reason: str, tried: int) -> None:
        """Answer a run that no guardian will; not from within the caller's call."""

        def answer() -> None:
            if run in self._unanswered:
                self._hear(Failed(run, reason, tried))

        asyncio.get_running_loop().call_soon(answer)

    def _clear_out(self, order: Stop | Kill) -> None:
        self._owes_gone = True
        if self._send(order):
            self._expect_answer()
        elif self._undo is not None and self._undo_owed:
            self._deferred = True
        elif self._cleared:
            asyncio.get_running_loop().call_soon(self._pay_gone)

    def _pay_gone(self) -> None:
        if self._owes_gone and not self._deferred:
            self._hear(Gone(now_ns()))

    # Whether it is still there.

    def _expect_answer(self) -> None:
        if self._overdue is not None:
            self._overdue.expect_answer()

    def _watch(self) -> None:
        """By when the tree has to be dead, if anything of it may be alive."""
        if self._overdue is not None:
            alive = self._runs or self._leftovers
            self._overdue.tree_dead_by(self._kill_at_ns if alive else NEVER_NS)

    def _note(self, message: Message) -> None:
        """What a report says of the tree's life."""
        if isinstance(message, Failed | Ended):
            self._runs.discard(message.run)
        if isinstance(message, Ended):
            self._leftovers = message.leftovers
        elif isinstance(message, Leftovers):
            self._leftovers = message.number
        elif isinstance(message, Expired):
            self._runs = {run for run in self._runs if run > message.latest}
            self._leftovers = 0
        elif isinstance(message, Gone | Cleared):
            self._runs.clear()
            self._leftovers = 0
        self._watch()

    # Reports.

    def _hear(self, message: Message) -> None:
        if isinstance(message, Run | Extend | Undo | SetUp | Cut | Stop | Kill | End | Ping):
            raise ProtocolError(f"{type(message).__name__} is not for a member")
        if isinstance(message, Pong):
            if self._overdue is not None:
                self._overdue.heard(message.number)
            return
        self._note(message)
        if isinstance(message, Started | Failed):
            self._unanswered.discard(message.run)
        if isinstance(message, Started):
            self._groups[message.run] = message.pid
        elif isinstance(message, Ended) and not message.leftovers:
            self._groups.pop(message.run, None)
        elif isinstance(message, Gone | Expired):
            self._groups.clear()
            self._undo_owed = self._deferred = False
            self._owes_gone = self._owes_gone and isinstance(message, Expired)
        self._on_event(message)

    # Starting one, and another.

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        self._started_s = loop.time()
        with ExitStack() as undo:
            try:
                ours, theirs = socket.socketpair()
                undo.callback(ours.close)
                ours.setblocking(False)
                process = await self._begin(theirs)
            except (OSError, ValueError) as problem:
                raise GuardianError(f"the guardian could not be started: {problem}") from problem
            undo.pop_all()
        link = _Link(process, self._hear)
        await loop.create_connection(lambda: link, sock=ours)
        await link.ready
        if not link.up:
            await self._bury(link)
            raise GuardianError(link.obituary())
        self._link = link
        if self._needs_set_up:
            link.send(SetUp(0))
        if self._undo is not None:
            link.send(Extend(self._term_at_ns, self._kill_at_ns))
            link.send(self._undo._replace(owed=self._undo_owed))
        if self._deferred:
            link.send(Kill())
        self._overdue = Overdue(self._send, link.abandon, self._margin_s * 2 / 3)
        link.closed.add_done_callback(lambda _closed: self._on_loss(link))

    async def _begin(self, control: socket.socket) -> Process:
        with control:
            if self._keeper is not None:
                times = self._stop_timeout_s, self._margin_s
                fds = self._output, self._keep_open
                return await self._keeper.open(control, *times, *fds, self._vips)
            with ThreadPoolExecutor(1) as thread:  # asked once: it spawns one at most
                return await aside(thread, self._spawn, control)

    def _spawn(self, control: socket.socket) -> subprocess.Popen[bytes]:
        """Off the event loop: the fork of a process takes its time. Raises OSError."""
        fds = (control.fileno(), *self._listeners)
        command = [
            sys.executable,
            *("-X", f"utf8={sys.flags.utf8_mode}"),  # so that both write file names alike
            *("-I", "-S", "-E", "-c", PROGRAM.format(root=_ROOT, module="main")),
            *(str(VERSION), self._variant, str(fds[0])),
            ",".join(map(str, self._listeners)),
            str(round(self._stop_timeout_s * 1e9)),
            str(round(self._margin_s * 1e9)),
            *self._vips,
        ]
        stdout, stderr = self._output
        if sys.platform == "win32":
            control.set_inheritable(True)
            for handle in self._listeners:
                os.set_handle_inheritable(handle, True)
            startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": list(fds)})
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                startupinfo=startup,
                creationflags=subprocess.CREATE_NEW_PROCESS_GROUP,
            )
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(*fds, *self._keep_open),
            start_new_session=True,
        )

    # Losing one.

    def _on_loss(self, link: _Link) -> None:
        self._link = None
        self._cleared = False
        self._deferred = self._owes_gone and self._undo is not None and self._undo_owed
        if (self._runs or self._leftovers) and now_ns() >= self._kill_at_ns:
            link.broken = link.broken or "it was stopped or starved beyond a deadline"
        if self._overdue is not None:
            self._overdue.close()
            self._overdue = None
        self._runs.clear()
        self._leftovers = 0
        self._mender = asyncio.get_running_loop().create_task(self._mend(link))

    async def _mend(self, lost: _Link) -> None:
        await self._bury(lost)
        self._cleared = True
        reason = lost.obituary()
        for run in sorted(self._unanswered):
            self._hear(Failed(run, f"{reason} before it answered; this run may have begun", 0))
        if not (self._ending.is_set() and lost.process.returncode == 0):
            self._on_event(Lost(reason))
        self._pay_gone()
        while not self._ending.is_set():
            try:
                await self._pause()
                if not self._ending.is_set():
                    await self._open()
                return
            except GuardianError as problem:
                if str(problem) != reason:
                    reason = str(problem)
                    self._on_event(Lost(reason))

    async def _pause(self) -> None:
        """Until the next start is due, or the end."""
        due_s = self._started_s + RETRY_S - asyncio.get_running_loop().time()
        if due_s > 0:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ending.wait(), due_s)

    async def _bury(self, link: _Link) -> None:
        """Return when the guardian is gone and nothing of its tree is left.

        Only after its exit are its children ours: the kernel closes the channel before it hands
        them over.
        """
        process = link.process
        if self._keeper is not None:
            await self._keeper.bury(process, self._kill_at_ns)
            if self._vips and process.returncode != 0:
                with ThreadPoolExecutor(1) as thread:
                    await aside(thread, take_off, self._vips)
            return
        assert isinstance(process, subprocess.Popen)
        with ThreadPoolExecutor(1) as thread:
            leave_s = _LEAVE_S if self._ending.is_set() else _CLEAR_S
            await aside(thread, _await_exit, process, leave_s)
            if process.returncode == 0:  # it has seen to that itself
                return
            pause_s = _FIRST_PAUSE_S
            groups = tuple(self._groups.values())
            while True:
                spared = frozenset(self._spare())
                if not await aside(thread, _kill_left, process.pid, self._variant, groups, spared):
                    break
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LAST_PAUSE_S)
            await aside(thread, take_off, self._vips)
        self._groups.clear()


def _await_exit(process: subprocess.Popen[bytes], limit_s: float) -> None:
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def take_off(vips: Sequence[str]) -> None:
    """Neither the guardian nor its keeper may have come to that."""
    if addresses := make_addresses(vips):
        addresses.remove()


def _kill_left(
    guardian: int, variant: str, groups: Collection[int], spared: Collection[int]
) -> bool:
    """One round of killing what the guardian left; whether anything may be left.

    On Windows its job object has done so already.
    """
    if sys.platform == "linux" and variant != "posix":
        group = cgroup.Group(cgroup.folder_for(guardian))
        group.kill()
        left = sweep.strike_orphans(spared)
        group.remove()
        return left
    if sys.platform != "win32":
        return kill_groups(groups)
    return False
