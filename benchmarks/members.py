"""Two members as real processes, from the plain checkout, and all that is needed to be rough.

What is waited for are conditions: a line of a member's log, a life of the command. A member that
does not do what is waited for ends the benchmark with the last of both logs.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from benchmarks import processes
from benchmarks.network import MEMBERS, Network
from benchmarks.recorder import Recorder

T = TypeVar("T")

SCRIPT = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "ha_heartbeat.py"
)
INTERPRETER = (sys.executable, "-S", "-E")
"""Without site-packages, which a member does not need and whose hooks can weigh megabytes."""
LIMIT_S = 120.0
"""How long anything is waited for; long enough for a takeover by silence with default options."""
LOOK_S = 0.005
END_S = 15.0
"""What guardians and commands get to be gone at the end; longer than the stop timeout."""
LOG_TAIL_LINES = 12


class BenchmarkError(Exception):
    """A member did not do what was waited for; the text holds the end of the logs."""


class Member:
    """One process of ha_heartbeat.py, its guardian, and its log."""

    def __init__(self, name: str, words: Sequence[str], log_path: str) -> None:
        self.name = name
        self._log_path = log_path
        self._offset = os.path.getsize(log_path) if os.path.exists(log_path) else 0
        with open(log_path, "ab") as log:
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._guardian: dict[int, int] = {}  # pid -> pidfd

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def guardian_pids(self) -> list[int]:
        """The living processes of its guardian, and of a command that ran when first asked.

        To be asked for once the member listens.
        """
        if not self._guardian:
            below = processes.descendants(self.pid)[1:]
            if not below:
                raise BenchmarkError(f"{self.name} has no guardian")
            for pid in below:
                with contextlib.suppress(ProcessLookupError):  # a short command has ended
                    self._guardian[pid] = os.pidfd_open(pid)
        return [pid for pid, pidfd in self._guardian.items() if not _ended(pidfd)]

    def said(self, words: str) -> bool:
        """Whether this process has logged a line with these words since it began."""
        with open(self._log_path, "rb") as log:
            log.seek(self._offset)
            return words.encode() in log.read()

    def forget_log(self) -> None:
        """What was said until now does not count any more."""
        self._offset = os.path.getsize(self._log_path)

    def is_gone(self) -> bool:
        """Whether the member and its guardian have ended."""
        return self.process.poll() is not None and self._guardian_gone()

    def _guardian_gone(self) -> bool:
        return all(map(_ended, self._guardian.values()))

    def finish(self) -> None:
        """End everything, the guardian gently first: it sees to the command."""
        if self.process.poll() is None:
            with contextlib.suppress(BenchmarkError):
                _ = self.guardian_pids  # to see them out
            self.process.kill()
            self.process.wait()
        end_s = time.monotonic() + END_S
        while not self._guardian_gone() and time.monotonic() < end_s:
            time.sleep(LOOK_S)
        for pidfd in self._guardian.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        self._guardian.clear()


def _ended(pidfd: int) -> bool:
    """pidfd_open(2): readable once the process has ended."""
    return bool(select.select([pidfd], [], [], 0)[0])


class Pair:
    """Two members that face each other, with the same options and the same command."""

    def __init__(
        self,
        network: Network,
        recorder: Recorder,
        folder: str,
        options: Sequence[str] = (),
        *,
        lasting: bool = False,
    ) -> None:
        os.mkdir(folder)
        self._network = network
        self._recorder = recorder
        self._folder = folder
        self._options = tuple(options)
        self._lasting = lasting
        self.members: dict[str, Member] = {}

    def start(self, name: str) -> Member:
        """Start this member, after whatever is left of the one before."""
        if before := self.members.get(name):
            before.finish()
        other = MEMBERS[1 - MEMBERS.index(name)]
        where = ("-l", self._network.address(name), "-r", self._network.address(other))
        state = ("--member", name, "--state-dir", os.path.join(self._folder, f"state-{name}"))
        words = (
            *(*self._network.inside(name), *INTERPRETER, SCRIPT),
            *(*where, *state, *self._options),
            *self._recorder.command(name, "lasting" if self._lasting else "quick"),
        )
        with processes.uninterrupted():
            member = Member(name, words, os.path.join(self._folder, f"{name}.log"))
            self.members[name] = member
        return member

    def start_supervisor(self, name: str) -> Member:
        """Start a member beside a worker, and wait until it supervises."""
        member = self.start(name)
        self.wait_until(lambda: member.said("Supervising"), f"{name} supervises")
        _ = member.guardian_pids
        return member

    def start_both(self) -> tuple[Member, Member]:
        """A worker whose command has started, and its supervisor."""
        worker = self.start(MEMBERS[0])
        self.wait_until(self._recorder.latest, "the first run begins")
        _ = worker.guardian_pids
        return worker, self.start_supervisor(MEMBERS[1])

    def state_path(self, name: str) -> str:
        """Where this member keeps its state file."""
        top = os.path.join(self._folder, f"state-{name}")
        return os.path.join(top, os.listdir(top)[0], "state.json")

    def wait_until(self, condition: Callable[[], T], what: str, limit_s: float = LIMIT_S) -> T:
        """The first true value of the condition. Raises BenchmarkError when none comes."""
        end_s = time.monotonic() + limit_s
        while not (value := condition()):
            if time.monotonic() > end_s:
                raise BenchmarkError(f"not within {limit_s:g} s: {what}\n{self._log_tails()}")
            time.sleep(LOOK_S)
        return value

    def _log_tails(self) -> str:
        tails = []
        for name in self.members:
            with open(os.path.join(self._folder, f"{name}.log"), errors="replace") as log:
                tails += [f"--- log of {name}", *log.read().splitlines()[-LOG_TAIL_LINES:]]
        return "\n".join(tails)

    def close(self) -> None:
        """End both members, their guardians and their commands."""
        with processes.uninterrupted():
            for member in self.members.values():
                member.finish()


@contextlib.contextmanager
def running(pair: Pair) -> Iterator[Pair]:
    """The pair, whose processes are gone afterwards, whatever happens."""
    try:
        yield pair
    finally:
        pair.close()
