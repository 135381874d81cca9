"""Keeps the last of what a run prints, if that is wanted, on its way to the member's own output.

The command then writes into a pipe, and a thread for each of the two streams carries that on. Both
ends of the pipe stay open in the member, the guardian and the command, so nobody who dies leaves
the command with a broken pipe. While nobody carries anything on, a command that prints more than
the pipe holds waits: its member is dead or stands still then, and its guardian ends it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from functools import partial
from typing import Final

from ha_heartbeat.shell.guardian import Guardian
from ha_heartbeat.shell.runner import MakeRunner

PIPE_BYTES: Final = 1024 * 1024
CHUNK_BYTES: Final = 65536
CLOSE_S: Final = 1.0


class Output:
    """The two pipes of one member, and the last `limit_bytes` of what came through them."""

    def __init__(self, limit_bytes: int) -> None:
        """Raises OSError when there are no descriptors left."""
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._tail = bytearray()
        self._pipes = [_pipe(), _pipe()]
        self._threads: list[threading.Thread] = []

    @property
    def make_guardian(self) -> MakeRunner:
        """Makes a guardian whose runs print into the pipes, and hold their reading ends open."""
        stdout, stderr = self.streams
        return partial(Guardian, stdout=stdout, stderr=stderr, keep_open=self.reading_ends)

    @property
    def streams(self) -> tuple[int, int]:
        """The descriptors into which the runs print."""
        return self._pipes[0][1], self._pipes[1][1]

    @property
    def reading_ends(self) -> tuple[int, int]:
        """The descriptors that guardian and runs hold open, so that no death breaks the pipes."""
        return self._pipes[0][0], self._pipes[1][0]

    def start(self) -> None:
        """Carry on from now on. Raises RuntimeError when there is no thread to be had."""
        for (read, _), descriptor in zip(self._pipes, (1, 2), strict=True):
            thread = threading.Thread(
                target=self._carry, args=(read, descriptor), name="output", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                self.close()
                raise
            self._threads.append(thread)

    def close(self) -> None:
        """Carry on what is left, once guardian and command are gone; not for long."""
        for _, write in self._pipes:
            os.close(write)
        for read, _ in self._pipes[len(self._threads) :]:  # no thread was to be had for it
            os.close(read)
        for thread in self._threads:
            thread.join(CLOSE_S)

    def cut(self) -> str:
        """The last of what was printed since the last time, as text."""
        with self._lock:
            tail, self._tail = bytes(self._tail), bytearray()
        return tail.decode("utf-8", "replace")

    def _carry(self, read: int, descriptor: int) -> None:
        """Blocks where the command itself would have blocked. Nothing is lost of what is taken."""
        try:
            while data := os.read(read, CHUNK_BYTES):
                with self._lock:
                    self._tail += data
                    del self._tail[: -self._limit]
                _write(descriptor, data)
        finally:
            os.close(read)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except OSError:  # nobody reads it any more: it is kept all the same
            break


def _pipe() -> tuple[int, int]:
    read, write = os.pipe()
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):  # as much as the system allows
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return read, write
