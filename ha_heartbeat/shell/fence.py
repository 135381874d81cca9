"""Runs the operator's fence command, which vouches for the peer's being off by its exit status."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Collection
from typing import Final

from ha_heartbeat.config import Config
from ha_heartbeat.core.types import Event, FenceDone

LIMIT_S: Final = 60.0
"""How long a fence command may take; what has not ended by then has failed."""


class Fence:
    """At most one fence command at a time; its end is reported as `FenceDone`."""

    def __init__(self, config: Config, on_event: Callable[[Event], None]) -> None:
        self._command = config.fence
        self._environment = {
            "HA_HEARTBEAT_MEMBER": config.member,
            "HA_HEARTBEAT_PEER": str(config.remote or ""),
            "HA_HEARTBEAT_SERVICE": config.service,
        }
        self._on_event = on_event
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def pids(self) -> Collection[int]:
        """The process that runs it, if any: it is no part of the service's tree."""
        return () if self._process is None else (self._process.pid,)

    def run(self) -> None:
        """Start it; the output is the member's own."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """Kill it if it still runs."""
        self._kill()
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        succeeded, detail = await self._outcome()
        self._process = None
        self._on_event(FenceDone(succeeded, detail))

    async def _outcome(self) -> tuple[bool, str]:
        try:
            self._process = process = await asyncio.create_subprocess_shell(
                self._command,
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )
        except OSError as error:
            return False, f"it could not be started: {error.strerror or error}"
        try:
            status = await asyncio.wait_for(process.wait(), LIMIT_S)
        except TimeoutError:
            self._kill()
            return False, f"it took longer than {LIMIT_S:g} s"
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
