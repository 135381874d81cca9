"""The member's handle on the keeper of many guardians (Linux): asks for forks, hears of their ends.

What is said is described in `guardian.many`. When the keeper is lost, its guardians end their trees
and become children of this process; whatever else they leave is killed here.
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
from typing import Any

from ha_heartbeat.guardian.clock import now_ns
from ha_heartbeat.guardian.protocol import VERSION
from ha_heartbeat.shell import guardian as handle
from ha_heartbeat.shell.aside import aside
from ha_heartbeat.shell.guardian import Process

if sys.platform == "linux":
    from ha_heartbeat.guardian import sweep
    from ha_heartbeat.guardian.linux import become_subreaper

_LEAVE_S = 1.0
_ANSWER_S = 2.0
"""What the keeper has to answer when a guardian is gone and it has not said so."""
_DUE_S = 0.05
"""The same when that guardian's lease is over."""
_FIRST_PAUSE_S = 0.002
_LAST_PAUSE_S = 1.0


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
    ) -> None:
        self._listeners = tuple(listeners)
        self._spare = spare
        self._output = output
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
            ours, theirs = _channel()
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
            pass_fds=fds,
            start_new_session=True,
        )

    async def open(
        self,
        control: socket.socket,
        stop_timeout_s: float,
        margin_s: float,
        output: tuple[int | None, int | None],
        keep_open: Sequence[int],
        vips: Sequence[str],
    ) -> Forked:
        """A guardian with that channel and these virtual addresses. Raises OSError.

        keep_open: no descriptors, or two, which it and its runs inherit and leave alone.
        """
        await self.start()
        assert self._process is not None
        self._number += 1
        fork = self._forks[self._number] = Forked(self, self._number, self._process, self._gone)
        stdout, stderr = (given if given is not None else own for given, own in zip(
            output, (1, 2), strict=True))  # fmt: skip
        times = f"{round(stop_timeout_s * 1e9)} {round(margin_s * 1e9)}"
        words = " ".join(("open", str(fork.number), times, *vips))
        self._ask(words, (control.fileno(), stdout, stderr, *keep_open))
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

    def reap(self) -> None:
        """As of `Guardian`; the guardians of a keeper that was lost are children, too."""
        if sys.platform == "linux" and self._requests is not None and self._process is not None:
            forks = {fork.pid for fork in self._forks.values()}
            sweep.reap_orphans({*self._spare(), *forks, self._process.pid})

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
        loop = asyncio.get_running_loop()
        pong = self._pings[number] = loop.create_future()
        gone = loop.create_task(fork.gone.wait())
        over: set[asyncio.Future[Any]] = {fork.ended, gone}
        self._ask(f"ping {number}")
        try:
            done, _ = await asyncio.wait(
                {pong, *over}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
            )
            if pong in done and not done & over:  # it is clearing up, or it has hung up
                await asyncio.wait(over, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            return bool(done) or fork.gone.is_set()
        finally:
            gone.cancel()
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
                    if not await aside(thread, _strike, spared):
                        break
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LAST_PAUSE_S)
        return process.returncode

    # The channel.

    def _ask(self, words: str, fds: tuple[int, ...] = ()) -> None:
        self._unsent.append((words.encode(), fds))
        self._flush()

    def _flush(self) -> None:
        if (requests := self._requests) is None:
            return
        loop = asyncio.get_running_loop()
        while self._unsent:
            words, fds = self._unsent[0]
            try:
                _send(requests, words, fds)
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


def _channel() -> tuple[socket.socket, socket.socket]:
    """Of packets; and this process is the one to which orphans come. Raises OSError."""
    if sys.platform == "linux":
        become_subreaper()
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    raise OSError("a keeper of many guardians needs Linux")


def _strike(spared: Collection[int]) -> bool:
    return sys.platform == "linux" and sweep.strike_orphans(spared)


def _send(requests: socket.socket, words: bytes, fds: Sequence[int]) -> None:
    if sys.platform == "linux" and fds:
        socket.send_fds(requests, [words], fds)
    else:
        requests.send(words)
