"""Sees from outside which calls a process makes and when, by a preloaded library (trace.c)."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "trace.c")
_SIZE_BYTES = 64 << 20  # sparse; a takeover takes some 40 KiB
_COUNT = struct.Struct("=q")
_RECORD = struct.Struct("=2q4i")


class Call(IntEnum):
    """As in trace.c."""

    EPOLL_WAIT = 0
    POLL = 1
    CONNECT = 2
    RECV = 3
    SEND = 4
    WRITE = 5
    CLOSE = 6
    KILL = 7
    FORK = 8
    EXECVE = 9
    WAITPID = 10
    FSYNC = 11
    EXIT = 12


class Seen(NamedTuple):
    """One call: from when to when (CLOCK_MONOTONIC), whose, on what, with what result."""

    began_ns: int
    ended_ns: int
    pid: int
    call: int
    fd: int
    result: int


class TraceError(Exception):
    """Nothing can be traced here; the text says why."""


class Trace:
    """A trace of everything that is started inside `on`."""

    def __init__(self, disk: str, memory: str) -> None:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise TraceError("there is no C compiler")
        os.mkdir(disk)
        self._library = os.path.join(disk, "trace.so")
        words = (compiler, "-O2", "-shared", "-fPIC", "-o", self._library, SOURCE, "-ldl")
        made = subprocess.run(words, capture_output=True, text=True, check=False)
        if made.returncode:
            raise TraceError(f"trace.c does not compile: {made.stderr.strip().splitlines()[-1]}")
        self._path = memory
        with open(self._path, "wb") as file:
            file.truncate(_SIZE_BYTES)

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Whatever this process starts meanwhile is seen, with all that comes of it."""
        before = dict(os.environ)
        os.environ.update(HB_TRACE=self._path, LD_PRELOAD=self._library)
        try:
            yield
        finally:
            for name in ("HB_TRACE", "LD_PRELOAD"):
                del os.environ[name]
            os.environ.update(before)

    def seen(self) -> list[Seen]:
        """All calls so far, in the order in which they returned. Raises TraceError when full."""
        with open(self._path, "rb") as file:
            data = file.read()
        (count,) = _COUNT.unpack_from(data)
        if _COUNT.size + count * _RECORD.size > len(data):
            raise TraceError("there were more calls than the trace holds; measure fewer takeovers")
        records = _RECORD.iter_unpack(data[_COUNT.size : _COUNT.size + count * _RECORD.size])
        return sorted((Seen(*record) for record in records), key=lambda each: each.ended_ns)
