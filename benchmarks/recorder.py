"""The independent recorder: the payload that the members run, and the records that it leaves.

Nothing here asks a member anything: what counts is when the command itself lived.
"""

from __future__ import annotations

import os
import shutil
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

HERE = os.path.dirname(os.path.abspath(__file__))
RECORD = struct.Struct("=4q")
Mode = Literal["quick", "lasting", "still"]
"""Whether a life ends at once, ticks every millisecond until it is told to end, or lasts and costs
nothing."""
SPAWNS = 50
"""How often the payload is started to measure its own start-up."""


class Run(NamedTuple):
    """One life of the command: its start, its last sign of life, its end (0: none was recorded)."""

    start_ns: int
    last_ns: int
    end_ns: int
    epoch: int
    member: str
    pid: int


class Payload(NamedTuple):
    """The command to run: its first words, and how it came about."""

    words: tuple[str, ...]
    description: str


def build_payload(folder: str) -> Payload:
    """Compile the payload into `folder`; without a compiler it is a Python script."""
    program = os.path.join(folder, "payload")
    source = os.path.join(HERE, "payload.c")
    compiler = shutil.which("gcc") or shutil.which("cc")
    for flags in (("-static",), ()) if compiler else ():
        made = subprocess.run(
            [str(compiler), "-O2", *flags, "-o", program, source], capture_output=True, check=False
        )
        if made.returncode == 0:
            linked = "statically" if flags else "dynamically"
            return Payload((program,), f"C, {linked} linked")
    script = os.path.join(HERE, "payload.py")
    return Payload((sys.executable, "-I", "-S", script), "Python, since there is no C compiler")


class Recorder:
    """The records of one scenario, in a folder of its own, in memory where the system has that."""

    def __init__(self, payload: Payload, folder: str) -> None:
        os.mkdir(folder)
        self._payload = payload
        self.folder = folder

    def command(self, member: str, mode: Mode) -> tuple[str, ...]:
        """The words that make `member` run the payload, without a shell."""
        return (*self._payload.words, self.folder, member, mode)

    def runs(self) -> list[Run]:
        """All lives so far, in the order of their starts."""
        names = [name for name in os.listdir(self.folder) if not name.startswith(".")]
        return sorted(self._read(name) for name in names)

    def latest(self) -> Run | None:
        """The life that began last."""
        names = [name for name in os.listdir(self.folder) if not name.startswith(".")]
        if not names:
            return None
        return self._read(max(names, key=lambda name: int(name.partition(".")[0])))

    def _read(self, name: str) -> Run:
        _start, member, pid = name.split(".")
        with open(os.path.join(self.folder, name), "rb") as file:
            return Run(*RECORD.unpack(file.read()), member, int(pid))


def count_overlaps(runs: Sequence[Run]) -> int:
    """Of the runs, how many began while one of the other member still gave a sign of life later."""
    return sum(
        any(old.member != new.member and old.start_ns <= new.start_ns < old.last_ns for old in runs)
        for new in runs
    )


def measure_start_up_ns(payload: Payload, folder: str) -> list[int]:
    """From just before a spawn in this process to the payload's first instruction, many times."""
    recorder = Recorder(payload, folder)
    command = recorder.command("x", "quick")
    took_ns = []
    for _ in range(SPAWNS):
        before_ns = time.monotonic_ns()
        pid = os.posix_spawn(command[0], command, os.environ)
        os.waitpid(pid, 0)
        latest = recorder.latest()
        assert latest is not None
        took_ns.append(latest.start_ns - before_ns)
    return took_ns


def describe_start_up(payload: Payload, took_ns: Sequence[int]) -> str:
    """One line about the payload and what its own start takes."""
    return (
        f"{payload.description}; spawn to first instruction: median "
        f"{statistics.median(took_ns) / 1e6:.2f} ms, worst {max(took_ns) / 1e6:.2f} ms of {SPAWNS}"
    )
