"""The state file, written aside of the loop: a slow disk holds up nothing, a full one is said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ha_heartbeat.core import types as core
from ha_heartbeat.shell.aside import aside
from ha_heartbeat.shell.state import StateFile, StateWriteError


class Disk:
    """Writes the state file aside of the loop, and tries again what could not be written.

    writer: a thread that others use, too, and that is not closed here; by default one of its own.
    """

    def __init__(
        self,
        state: StateFile,
        notice: Callable[[str], None],
        writer: ThreadPoolExecutor | None = None,
    ) -> None:
        self._state = state
        self._notice = notice
        self._is_own = writer is None
        self._writer = writer or ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._kept = state.epoch_reserved  # on disk for certain
        self._loop = asyncio.get_running_loop()
        self.failing = False

    @property
    def epochs(self) -> tuple[int, int]:
        """What an earlier life has left: the highest epoch seen, and the highest reserved."""
        return self._state.epoch_seen, self._state.epoch_reserved

    def begin(self, incarnation: str) -> str:
        """This life begins, with its first write; the incarnation of the life before, or ""."""
        former = self._state.former
        self._state.begin(incarnation)
        return former

    def remember(self, seen: int, reserved: int) -> None:
        """Keep the epochs, soon."""
        self._aside(self._save, seen, reserved)

    def ensure(self, epoch: int) -> None:
        """Return when `epoch` is on disk, or cannot be; reserved ahead, it seldom waits."""
        if epoch > self._kept:
            self._told(self._save(epoch, epoch))

    def record_overlap(self, overlap: core.RecordOverlap) -> None:
        """Keep the overlap, soon."""
        self._aside(self._add_overlap, overlap)

    @property
    def hold(self) -> core.Hold:
        """The latest order to pause or to resume that an earlier life has left."""
        return self._state.hold

    def keep_hold(self, hold: core.Hold) -> None:
        """Keep the order, soon."""
        self._aside(self._save_hold, hold)

    def settled(self, then: Callable[[bool], None]) -> None:
        """Call `then` in the loop, with whether all that was asked for before is on disk."""
        self._writer.submit(int).add_done_callback(
            lambda _: self._loop.call_soon_threadsafe(lambda: then(not self.failing))
        )

    def retry(self) -> None:
        """Write what could not be written before."""
        if self.failing:
            self._aside(self._flush)

    async def close(self) -> None:
        """Return when everything that can be written is."""
        if not self._is_own:
            await aside(self._writer, int)  # what was asked for before is done before
            return
        with ThreadPoolExecutor(1) as thread:
            await aside(thread, self._writer.shutdown)

    def _aside(self, write: Callable[..., str], *args: object) -> None:
        self._writer.submit(write, *args).add_done_callback(
            lambda done: self._loop.call_soon_threadsafe(self._told, done.result())
        )

    def _told(self, problem: str) -> None:
        """Say a failure once, and that it is over."""
        if problem and not self.failing:
            self._notice(problem)
        elif self.failing and not problem:
            self._notice(f"the state file {self._state.path} is written again")
        self.failing = bool(problem)

    def _save(self, seen: int, reserved: int) -> str:
        try:
            self._state.save(seen, reserved)
        except StateWriteError as error:
            return str(error)
        self._kept = max(self._kept, reserved)
        return ""

    def _save_hold(self, hold: core.Hold) -> str:
        try:
            self._state.keep_hold(hold)
        except StateWriteError as error:
            return str(error)
        return ""

    def _add_overlap(self, overlap: core.RecordOverlap) -> str:
        try:
            self._state.add_overlap(*overlap)
        except StateWriteError as error:
            return str(error)
        return ""

    def _flush(self) -> str:
        try:
            self._state.flush()
        except StateWriteError as error:
            return str(error)
        self._kept = max(self._kept, self._state.epoch_reserved)
        return ""
