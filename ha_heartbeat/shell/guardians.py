"""The guardians of a member with many services: one keeper, and one guardian a service that runs.

On Linux a guardian is a fork of the keeper (`guardian.many`), made when its service is first told
to run something, and ended again when nothing of it is here. Elsewhere it is a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from ha_heartbeat.guardian.clock import now_ns
from ha_heartbeat.guardian.protocol import VERSION, Cleared, Expired, Failed, Gone, Ready, Run, Undo
from ha_heartbeat.shell import guardian as handle
from ha_heartbeat.shell.aside import aside
from ha_heartbeat.shell.guardian import Event, Guardian, GuardianError, Process, take_off

if sys.platform == "linux":
    from ha_heartbeat.guardian import sweep
    from ha_heartbeat.guardian.linux import become_subreaper

LINGER_S = 1.0
"""How long a guardian stays when nothing of its service is left: the next run may be due."""
_LEAVE_S = 1.0
_ANSWER_S = 2.0
"""What the keeper has to answer when a guardian is gone and it has not said so."""
_DUE_S = 0.05
"""The same when that guardian's lease is over."""
_FIRST_PAUSE_S = 0.002
_LAST_PAUSE_S = 1.0


class Guardians:
    """All guardians of one member.

    listeners, spare, stdout, stderr, keep_open and variant: as of `Guardian`.
    """

    def __init__(
        self,
        *,
        listeners: Sequence[int],
        spare: Callable[[], Collection[int]] = tuple,
        stdout: int | None = None,
        stderr: int | None = None,
        keep_open: Sequence[int] = (),
        variant: str | None = None,
    ) -> None:
        self._listeners = tuple(listeners)
        self._spare = spare
        self._output = (stdout, stderr)
        self._keep_open = tuple(keep_open)
        self._variant = variant
        forks = sys.platform == "linux" and variant in (None, "linux", "linux-sweep")
        self._keeper = Keeper(self._listeners, spare, self._output, self._keep_open)
        self._forks = forks

    @property
    def keeper_pid(self) -> int | None:
        """The process id of the keeper; None where there is none."""
        return self._keeper.pid

    async def start(self) -> None:
        """Start the keeper. Raises GuardianError when it does not start."""
        if self._forks:
            try:
                await self._keeper.start()
            except OSError as problem:
                raise GuardianError(f"the keeper could not be started: {problem}") from problem

    async def end(self) -> None:
        """Return when the keeper is gone; to be called after the end of every runner."""
        if self._forks:
            await self._keeper.end()

    def make_runner(
        self,
        *,
        stop_timeout_s: float,
        margin_s: float,
        on_event: Callable[[Event], None],
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> Guardian | LazyGuardian:
        """The runner of one service; arguments as of `Guardian`, output by default the member's."""
        output = (
            self._output[0] if stdout is None else stdout,
            self._output[1] if stderr is None else stderr,
        )

        def make(hear: Callable[[Event], None]) -> Guardian:
            return Guardian(
                listeners=self._listeners,
                stop_timeout_s=stop_timeout_s,
                margin_s=margin_s,
                on_event=hear,
                variant=self._variant,
                spare=self._spare,
                stdout=output[0],
                stderr=output[1],
                keep_open=self._keep_open,
                keeper=self._keeper if self._forks else None,
            )

        return LazyGuardian(make, on_event, self._keeper) if self._forks else make(on_event)


class LazyGuardian:
    """A runner that has a guardian only while it is needed; for the rest see `Guardian`."""

    def __init__(
        self,
        make: Callable[[Callable[[Event], None]], Guardian],
        on_event: Callable[[Event], None],
        keeper: Keeper,
    ) -> None:
        self._make = make
        self._on_event = on_event
        self._keeper = keeper
        self._guardian: Guardian | None = None
        self._up = False
        self._changing: asyncio.Task[None] | None = None
        self._waiting: list[Callable[[Guardian], None]] = []
        self._runs: list[int] = []  # asked for while it was not up
        self._lease_ns: tuple[int, int] | None = None
        self._armed: tuple[Undo | None, bool, tuple[str, ...]] = (None, False, ())
        self._linger: asyncio.TimerHandle | None = None
        self._ending = False

    @property
    def pid(self) -> int | None:
        """The guardian's process id; None while there is none."""
        return self._guardian.pid if self._guardian is not None else None

    @property
    def keeper_pid(self) -> int | None:
        """The process id of the keeper of all."""
        return self._keeper.pid

    def arm(self, undo: Undo | None, *, needs_set_up: bool, vips: Sequence[str] = ()) -> None:
        """As of `Guardian`."""
        self._armed = (undo, needs_set_up, tuple(vips))

    async def start(self) -> None:
        """Be ready: there is a keeper, and no guardian yet."""
        take_off(self._armed[2])
        self._on_event(Ready(self._keeper.pid or os.getpid()))

    def run(self, order: Run) -> None:
        """Start a run; answered by Started or Failed."""
        if not self._up:
            self._runs.append(order.run)
        self._do(lambda guardian: guardian.run(order))

    def begin_set_up(self) -> None:
        """The runs to come set up what the others need."""
        self._do(Guardian.begin_set_up)

    def extend(self, term_at_ns: int, kill_at_ns: int) -> None:
        """The lease as it now stands; times on clock.now_ns()."""
        self._lease_ns = (term_at_ns, kill_at_ns)
        if self._guardian is not None:
            self._do(lambda guardian: guardian.extend(term_at_ns, kill_at_ns))

    def stop(self, grace_s: float) -> None:
        """SIGTERM to the whole tree, SIGKILL after the grace; answered by Gone."""
        if self._idle():
            self._answer(Gone(now_ns()))
        else:
            self._do(lambda guardian: guardian.stop(grace_s))

    def kill(self) -> None:
        """SIGKILL to the whole tree; answered by Gone."""
        if self._idle():
            self._answer(Gone(now_ns()))
        else:
            self._do(Guardian.kill)

    def cut(self, grace_s: float) -> None:
        """As stop, but nothing is undone; answered by Cleared, or by Lost."""
        if self._idle():
            self._answer(Cleared(now_ns()))
        else:
            self._do(lambda guardian: guardian.cut(grace_s))

    async def end(self) -> None:
        """Kill what is left, and return when the guardian and all of its tree are gone."""
        self._ending = True
        if self._linger is not None:
            self._linger.cancel()
        if self._changing is not None:
            await self._changing
        if self._guardian is not None:
            await self._guardian.end()
            self._guardian, self._up = None, False

    def _idle(self) -> bool:
        return self._guardian is None and not self._waiting

    def _answer(self, event: Event) -> None:
        asyncio.get_running_loop().call_soon(self._on_event, event)

    def _do(self, call: Callable[[Guardian], None]) -> None:
        """Now, or when there is a guardian: in the order of the calls."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._up and self._guardian is not None:
            call(self._guardian)
            return
        self._waiting.append(call)
        if self._changing is None and not self._ending:
            self._changing = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        guardian = self._make(self._hear)
        undo, needs_set_up, vips = self._armed
        guardian.arm(undo, needs_set_up=needs_set_up, vips=vips)
        if self._lease_ns is not None:
            guardian.extend(*self._lease_ns)
        self._guardian = guardian
        reason = ""
        try:
            await guardian.start()
        except GuardianError as problem:
            reason = str(problem)
        self._changing = None
        waiting, self._waiting = self._waiting, []
        runs, self._runs = self._runs, []
        if not reason:
            self._up = True
            for call in waiting:
                call(guardian)
            return
        self._guardian = None
        for run in runs:
            self._on_event(Failed(run, reason, 0))
        if len(waiting) > len(runs):  # whatever else was asked, nothing is here
            self._on_event(Gone(now_ns()))

    def _hear(self, event: Event) -> None:
        self._on_event(event)
        if isinstance(event, Gone | Expired) and not self._ending:
            if self._linger is not None:
                self._linger.cancel()
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(LINGER_S, self._retire)

    def _retire(self) -> None:
        self._linger = None
        if self._changing is None and self._guardian is not None and not self._ending:
            self._changing = asyncio.get_running_loop().create_task(self._leave(self._guardian))

    async def _leave(self, guardian: Guardian) -> None:
        self._up = False
        await guardian.end()
        self._guardian = self._changing = None
        if self._waiting and not self._ending:
            self._changing = asyncio.get_running_loop().create_task(self._open())


class Forked:
    """One guardian as the keeper knows it: what `subprocess.Popen` is for one of the member's."""

    def __init__(
        self, keeper: Keeper, number: int, process: subprocess.Popen[bytes], gone: asyncio.Event
    ) -> None:
        loop = asyncio.get_running_loop()
        self.process = process  # the keeper's; there may be another one by now
        self.gone = gone
        self.number = number
        self.pid = 0
        self.returncode: int | None = None
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.hung_up = False
        self._keeper = keeper

    def kill(self) -> None:
        """SIGKILL."""
        self._keeper.kill(self)


class Keeper:
    """The keeper process, and another when that one is lost."""

    def __init__(
        self,
        listeners: Sequence[int],
        spare: Callable[[], Collection[int]],
        output: tuple[int | None, int | None],
        keep_open: Sequence[int],
    ) -> None:
        self._listeners = tuple(listeners)
        self._spare = spare
        self._output = output
        self._keep_open = tuple(keep_open)
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._unsent: list[tuple[bytes, tuple[int, ...]]] = []
        self._forks: dict[int, Forked] = {}
        self._number = 0
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._lock = asyncio.Lock()  # a process that is being started is nobody's orphan
        self._gone: asyncio.Event = asyncio.Event()
        self._started_s = float("-inf")

    @property
    def pid(self) -> int | None:
        """Its process id; None while there is none."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Have one. Raises OSError."""
        if sys.platform == "win32":
            return
        loop = asyncio.get_running_loop()
        if self._requests is None:
            await asyncio.sleep(max(0.0, self._started_s + handle.RETRY_S - loop.time()))
        async with self._lock:
            if self._requests is not None:
                return
            self._started_s = loop.time()
            if self._process is not None:  # before anybody else can take its exit status
                with ThreadPoolExecutor(1) as thread:
                    await aside(thread, _await_exit, self._process)
            if sys.platform == "linux":
                become_subreaper()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                with theirs, ThreadPoolExecutor(1) as thread:
                    self._process = await aside(thread, self._spawn, theirs)
            except (OSError, ValueError) as problem:
                ours.close()
                raise OSError(str(problem)) from problem
            ours.setblocking(False)
            self._requests = ours
            self._gone = asyncio.Event()
            loop.add_reader(ours, self._hear, ours)

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        program = handle.PROGRAM.format(root=handle._ROOT, module="many")
        fds = (theirs.fileno(), *self._listeners)
        return subprocess.Popen(
            [
                sys.executable,
                *("-X", f"utf8={sys.flags.utf8_mode}"),
                *("-I", "-S", "-E", "-c", program),
                *(str(VERSION), str(fds[0]), ",".join(map(str, self._listeners))),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._output[0],
            stderr=self._output[1],
            pass_fds=(*fds, *self._keep_open),
            start_new_session=True,
        )

    async def open(
        self,
        control: socket.socket,
        stop_timeout_s: float,
        margin_s: float,
        output: tuple[int | None, int | None],
        vips: Sequence[str],
    ) -> Forked:
        """A guardian with that channel and these virtual addresses. Raises OSError."""
        await self.start()
        assert self._process is not None
        self._number += 1
        fork = self._forks[self._number] = Forked(self, self._number, self._process, self._gone)
        stdout, stderr = (given if given is not None else own for given, own in zip(
            output, (1, 2), strict=True))  # fmt: skip
        times = f"{round(stop_timeout_s * 1e9)} {round(margin_s * 1e9)}"
        words = " ".join(("open", str(fork.number), times, *vips))
        self._ask(words, (control.fileno(), stdout, stderr))
        try:
            await fork.opened  # the descriptor is not to be closed before it was passed
        except OSError:
            del self._forks[fork.number]
            raise
        return fork

    def kill(self, fork: Forked) -> None:
        """SIGKILL to that guardian."""
        fork.hung_up = True
        if not fork.gone.is_set():
            self._ask(f"kill {fork.number}")
        elif fork.pid and not fork.ended.done():  # it is a child of ours now, and not reaped
            with suppress(OSError):
                os.kill(fork.pid, 9)

    async def bury(self, fork: Process, due_ns: int) -> None:
        """Return when that guardian is gone, and nothing of its tree is left.

        due_ns: by when its tree has to be dead. A keeper that says nothing is killed itself.
        """
        assert isinstance(fork, Forked)
        fork.hung_up = True
        while not (fork.ended.done() or fork.gone.is_set()):
            limit_s = _DUE_S if now_ns() >= due_ns else _ANSWER_S
            if not await self._answers(fork, limit_s):
                fork.process.kill()
                await fork.gone.wait()
        if not fork.ended.done():
            code = await self._clear(fork.process)
            fork.returncode = code if code else -9
            fork.ended.set_result(None)
        self._forks.pop(fork.number, None)

    async def end(self) -> None:
        """Return when it is gone, and nothing of any tree is left."""
        if self._requests is not None:
            self._lose()
        process, self._process = self._process, None
        if process is not None:
            await self._clear(process)

    async def _answers(self, fork: Forked, limit_s: float) -> bool:
        """Whether it shows within that time that it is there; returns when the guardian ended."""
        self._number += 1
        number = self._number
        pong = self._pings[number] = asyncio.get_running_loop().create_future()
        self._ask(f"ping {number}")
        try:
            waited = {pong, fork.ended}
            done, _ = await asyncio.wait(
                waited, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
            )
            if pong in done and not fork.ended.done():  # it is clearing up
                await asyncio.wait({fork.ended}, timeout=limit_s)
            return bool(done) or fork.gone.is_set()
        finally:
            self._pings.pop(number, None)

    async def _clear(self, process: subprocess.Popen[bytes]) -> int | None:
        """Kill what the lost keeper left to this process, but guardians that end by themselves."""
        pause_s = _FIRST_PAUSE_S
        with ThreadPoolExecutor(1) as thread:
            await aside(thread, _await_exit, process)
            while True:
                async with self._lock:
                    spared = {*self._spare()}
                    spared |= {f.pid for f in self._forks.values() if not f.hung_up}
                    if self._process is not None and self._process.returncode is None:
                        spared.add(self._process.pid)
                    left = False  # there is no such keeper elsewhere
                    if sys.platform == "linux":
                        left = await aside(thread, sweep.strike_orphans, spared)
                    if not left:
                        break
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LAST_PAUSE_S)
        return process.returncode

    # The channel.

    def _ask(self, words: str, fds: tuple[int, ...] = ()) -> None:
        self._unsent.append((words.encode(), fds))
        self._flush()

    def _flush(self) -> None:
        if sys.platform == "win32":  # there is no such keeper there
            return
        if (requests := self._requests) is None:
            return
        loop = asyncio.get_running_loop()
        while self._unsent:
            words, fds = self._unsent[0]
            try:
                socket.send_fds(requests, [words], fds) if fds else requests.send(words)
            except BlockingIOError:
                loop.add_writer(requests, self._flush)
                return
            except OSError:  # it is gone, which reading shows
                break
            del self._unsent[0]
        loop.remove_writer(requests)

    def _hear(self, requests: socket.socket) -> None:
        while True:
            try:
                data = requests.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._lose()
                return
            word, number, rest = (*data.decode().split(" ", 2), "")[:3]
            self._take(word, int(number), rest)

    def _take(self, word: str, number: int, rest: str) -> None:
        if word == "pong":
            if (pong := self._pings.get(number)) is not None and not pong.done():
                pong.set_result(None)
            return
        if (fork := self._forks.get(number)) is None:
            return
        if word == "opened":
            fork.pid = int(rest)
            fork.opened.set_result(None)
        elif word == "failed":
            fork.opened.set_exception(OSError(rest))
        elif word == "ended":
            fork.returncode = int(rest)
            fork.ended.set_result(None)

    def _lose(self) -> None:
        """The keeper has hung up, or is to see that this did."""
        if (requests := self._requests) is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(requests)
        loop.remove_writer(requests)
        requests.close()
        self._requests = None
        self._unsent.clear()
        self._gone.set()
        for fork in self._forks.values():
            if not fork.opened.done():
                fork.opened.set_exception(OSError("its keeper is gone"))
        for pong in self._pings.values():
            if not pong.done():
                pong.set_result(None)


def _await_exit(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_LEAVE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
