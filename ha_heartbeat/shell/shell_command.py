"""Runs a shell command of the operator's beside the service's tree: the fence, or a health check.

It is no part of the tree: it does not hold the port, and outlives the loss of a guardian. What its
end means is for the core.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Collection

from ha_heartbeat.config import Config


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
        self._stdout = asyncio.subprocess.DEVNULL if quiet else None
        self._environment = {
            "HA_HEARTBEAT_MEMBER": config.member,
            "HA_HEARTBEAT_PEER": str(config.remote or ""),
            "HA_HEARTBEAT_SERVICE": config.service,
        }
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def pids(self) -> Collection[int]:
        """The process that runs it, if any."""
        return () if self._process is None else (self._process.pid,)

    def run(self) -> None:
        """Start it; the errors it prints are the member's own."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """Kill it if it still runs."""
        self._kill()
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        succeeded, detail = await self._outcome()
        self._process = None
        self._on_end(succeeded, detail)

    async def _outcome(self) -> tuple[bool, str]:
        try:
            self._process = process = await asyncio.create_subprocess_shell(
                self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=self._stdout,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )
        except OSError as error:
            return False, f"it could not be started: {error.strerror or error}"
        try:
            status = await asyncio.wait_for(process.wait(), self._limit_s)
        except TimeoutError:
            self._kill()
            await process.wait()
            return False, f"it took longer than {self._limit_s:g} s"
        if status < 0:
            return False, f"killed by signal {-status}"
        return status == 0, f"exit status {status}"

    def _kill(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)
