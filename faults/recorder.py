"""Reads what the command wrote of itself: `command.c` says how the records come about.

A record outlives the process and its host, lies outside of all hosts, and asks no member anything.
"""

from __future__ import annotations

import os
import struct
from enum import Enum
from typing import NamedTuple

WORDS = 64
SLOTS = 2048
MAX_HOLES = (WORDS - 6) // 2
_HEAD = struct.Struct(f"={WORDS}q")
HOLE_NS = 25_000_000
"""Two ticks further apart than this are noted; as many milliseconds as `command.c` says."""


class Kind(Enum):
    """What a process is to its run."""

    MAIN = 0
    CHILD = 1
    DAEMON = 2


class Life(NamedTuple):
    """One process of a command: what it recorded of itself. Times are nanoseconds, monotonic.

    `end_ns` is 0 where it did not end by itself. `holes` are the times between two ticks that are
    far apart. `foreign` tells what the main process saw at its start: a process of another host
    that was still there, as (pid, state letter of proc(5)).
    """

    host: str
    epoch: int
    run: int
    pid: int
    kind: Kind
    start_ns: int
    last_ns: int
    end_ns: int
    holes: tuple[tuple[int, int], ...] = ()
    foreign: tuple[int, str] | None = None


class Recorder:
    """The records of one chapter, in a folder of its own."""

    def __init__(self, program: str, folder: str) -> None:
        os.mkdir(folder)
        self._program = program
        self._folder = folder
        self.flaws: list[str] = []
        """What could not be recorded or read: the history is not complete, and cannot pass."""

    def command(self, mode: tuple[str, ...]) -> tuple[str, ...]:
        """The words that run the command, without a shell; the environment names its host."""
        return (self._program, self._folder, *mode)

    def lives(self) -> list[Life]:
        """All processes of all runs so far, in the order of their starts."""
        found = [life for name in self._names() for life in self._read(name)]
        return sorted(found, key=lambda life: life.start_ns)

    def latest(self, host: str) -> Life | None:
        """The main process of the highest epoch and run on this host."""
        names = self._names(host)
        if not names:
            return None
        last = max(names, key=lambda name: tuple(map(int, name.split(".")[1:3])))
        return next(iter(self._read(last, only_main=True)), None)

    def _names(self, host: str = "") -> list[str]:
        prefix = f"{host}." if host else ""
        names = os.listdir(self._folder)
        return [name for name in names if not name.startswith(".") and name.startswith(prefix)]

    def _read(self, name: str, *, only_main: bool = False) -> list[Life]:
        host = name.partition(".")[0]
        with open(os.path.join(self._folder, name), "rb") as file:
            head = _HEAD.unpack(file.read(_HEAD.size))
            epoch, run, used, lost, foreign, foreign_pid, foreign_state = head[:7]
            if lost and not only_main:
                self.flaws.append(f"{host} run {epoch}.{run}: {lost} processes had no slot")
            data = file.read(_HEAD.size * (1 if only_main else min(used, SLOTS)))
        lives = []
        for words in _HEAD.iter_unpack(data):
            pid, kind, start_ns, last_ns, end_ns, holes = words[:6]
            if not start_ns:  # it died between two instructions; it did nothing yet
                continue
            pairs = words[6 : 6 + 2 * holes]
            seen = (foreign_pid, chr(foreign_state)) if foreign and kind == 0 else None
            between = tuple(zip(pairs[::2], pairs[1::2], strict=True))
            life = Life(host, epoch, run, pid, Kind(kind), start_ns, last_ns, end_ns, between, seen)
            lives.append(life)
        return lives
