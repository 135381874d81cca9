"""Runs a shell command of the operator's beside the service's tree: the fence, or a health check.

It is no part of the tree: it does not hold the port, and outlives the loss of a guardian. What its
end means is for the core. Its end is waited for without a thread, which asyncio needs in some
versions: a host that is out of processes has none to give, and the end would never be told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Final

from ha_heartbeat.config import Config

FIRST_PAUSE_S: Final = 0.002
LAST_PAUSE_S: Final = 0.05
"""Between two looks at a process whose end the platform does not show."""

LOST_STATUS: Final = 255
"""That of a process which was reaped by somebody else: a failure."""


class ShellCommand:
    """At most one run of one command at a time, with a time limit.

    command: a shell command. limit_s: seconds; what has not ended by then is killed, and failed.
    on_end: told whether it exited with 0, and how it ended, in words.
    quiet: its standard output is thrown away, since it runs again and again.
    """

    def __init__(
        self,
        config: Config,
        command: str,
        limit_s: float,
        on_end: Callable[[bool, str], None],
        *,
        quiet: bool = False,
    ) -> None:
        self._command = command
        self._limit_s = limit_s
        self._on_end = on_end
        self._stdout = subprocess.DEVNULL if quiet else None
        self._environment = {
            "HA_HEARTBEAT_MEMBER": config.member,
            "HA_HEARTBEAT_PEER": str(config.remote or ""),
            "HA_HEARTBEAT_SERVICE": config.service,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def pids(self) -> Collection[int]:
        """The process that runs it, if any."""
        return () if self._process is None else (self._process.pid,)

    def run(self) -> None:
        """Start it; the errors it prints are the member's own."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """Kill it if it still runs; it is reaped, but its end is not told any more."""
        self._is_closed = True
        self._kill()

    async def _run(self) -> None:
        if self._is_closed:
            return
        try:
            succeeded, detail = await self._outcome()
        except Exception as error:  # whoever waits for its end would wait for ever
            succeeded, detail = False, f"it could not be run, {type(error).__name__}: {error}"
            await self._get_rid()
        self._process = None
        if not self._is_closed:
            self._on_end(succeeded, detail)

    async def _outcome(self) -> tuple[bool, str]:
        try:
            self._process = process = self._start()
        except OSError as error:
            return False, f"it could not be started: {error.strerror or error}"
        try:
            status = await asyncio.wait_for(_end_of(process), self._limit_s)
        except TimeoutError:
            self._kill()
            await _end_of(process)
            return False, f"it took longer than {self._limit_s:g} s"
        if status < 0:
            return False, f"killed by signal {-status}"
        return status == 0, f"exit status {status}"

    def _start(self) -> subprocess.Popen[bytes]:
        """Raises OSError, and whatever else keeps a process from being started."""
        return subprocess.Popen(
            self._command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            env={**os.environ, **self._environment},
            start_new_session=True,
        )

    async def _get_rid(self) -> None:
        """Leave nothing of one that went wrong, as far as it can be had."""
        self._kill()
        if self._process is not None:
            with contextlib.suppress(Exception):
                await _end_of(self._process)

    def _kill(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)


async def _end_of(process: subprocess.Popen[bytes]) -> int:
    """Its exit status, once it has ended."""
    with _end_shown(process.pid) as end:
        if end is not None:
            await end.wait()
    pause_s = FIRST_PAUSE_S
    while (status := _look_at(process)) is None:
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, LAST_PAUSE_S)
    return status


@contextlib.contextmanager
def _end_shown(pid: int) -> Iterator[asyncio.Event | None]:
    """What is set at the end of that process, where there is such a thing (pidfd_open(2))."""
    end = None
    with contextlib.ExitStack() as undo:
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # an old kernel, or one short of descriptors
                fd = os.pidfd_open(pid)
                undo.callback(os.close, fd)
                loop, shown = asyncio.get_running_loop(), asyncio.Event()
                loop.add_reader(fd, shown.set)
                undo.callback(loop.remove_reader, fd)
                end = shown
        yield end


def _look_at(process: subprocess.Popen[bytes]) -> int | None:
    """Its exit status; None while it runs.

    Popen.poll takes one that was lost for 0, and a fence would have succeeded.
    """
    if sys.platform == "win32":
        return process.poll()
    if process.returncode is None:
        try:
            pid, status = os.waitpid(process.pid, os.WNOHANG)
        except ChildProcessError:
            process.returncode = LOST_STATUS
        else:
            process.returncode = os.waitstatus_to_exitcode(status) if pid else None
    return process.returncode
