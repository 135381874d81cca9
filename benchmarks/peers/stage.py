"""One peer at work: a worker, a standby, and who runs the command where at this moment."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

from benchmarks.hosts import Host
from benchmarks.members import BenchmarkError
from benchmarks.network import MEMBERS
from benchmarks.peers.peer import Ground, Peer, Program, Settings
from benchmarks.recorder import Run

T = TypeVar("T")
LOOK_S = 0.003
START_S = 60.0
"""What an agent gets for its start, beyond what its settings make it wait."""
STRANDED_S = 5.0
"""The same for a takeover that is under way."""
LOG_TAIL_CHARACTERS = 1500


class Stage:
    """A peer on its ground. What does not come in time is a BenchmarkError with the logs."""

    def __init__(self, ground: Ground, program: Program, settings: Settings) -> None:
        self._ground = ground
        self._peer: Peer = settings.deploy(ground)
        self._agent = program
        self._silence_s = settings.silence_s
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._program = ground.recorder.command("", "quick")[0].encode()

    def host(self, name: str) -> Host:
        """The host of that name."""
        return self._ground.hosts[name]

    def main_pid(self, name: str) -> int:
        """The agent's main process there."""
        word = self._agent.main.encode()
        if not word:
            return self._started[name].pid
        return next(pid for pid in self.host(name).pids() if _program(pid) == word)

    def start(self, name: str) -> None:
        """Start the agent there."""
        self._started[name] = self._peer.start(self.host(name))

    def start_both(self) -> tuple[str, str]:
        """A worker whose command runs, and its standby, by name; nothing earlier is left."""
        for name in MEMBERS:
            self.host(name).clear()
        began_ns = time.monotonic_ns()
        for name in MEMBERS:  # some do not begin before they have seen each other
            self.start(name)
        self.wait_until(
            lambda: (run := self.latest()) and run.start_ns > began_ns,
            "a run begins",
            START_S + 2 * self._silence_s,
        )
        worker = self.wait_until(self.sole_worker, "one command runs, not two", START_S)
        standby = MEMBERS[1 - MEMBERS.index(worker)]
        self._await_standby(standby)
        return worker, standby

    def _await_standby(self, name: str) -> None:
        host = self.host(name)
        self.wait_until(
            lambda: self._peer.stands_by(host), f"{name} stands by", START_S + 2 * self._silence_s
        )

    def replace(self, name: str, worker: str) -> bool:
        """End all that is left on that host, and have a fresh standby there beside the worker.

        Returns False when the worker does not run the command for longer than a takeover needs, or
        when the fresh one runs it, too.
        """
        host = self.host(name)
        host.clear()
        host.heal()
        if not self.wait_for(lambda: self.commands(worker), STRANDED_S + 2 * self._silence_s):
            return False
        self.start(name)
        self.wait_until(
            lambda: self._peer.stands_by(host) or self.commands(name),
            f"{name} stands by",
            START_S + 2 * self._silence_s,
        )
        return not self.commands(name)

    def sole_worker(self) -> str:
        """The name of the one host on which the command runs; "" when it is none or both."""
        running = [name for name in MEMBERS if self.commands(name)]
        return running[0] if len(running) == 1 else ""

    def ask_to_stop(self, name: str) -> None:
        """The planned stop."""
        self._peer.ask_to_stop(self.host(name), self.main_pid(name))

    def commands(self, name: str) -> list[int]:
        """The processes of the command there."""
        return [pid for pid in self.host(name).pids() if _program(pid) == self._program]

    def agents(self, name: str) -> list[int]:
        """The processes of the agent there: all others, but what stands for the machine."""
        others = {self._program, *(word.encode() for word in self._agent.machine), b""}
        return [pid for pid in self.host(name).pids() if _program(pid) not in others]

    def latest(self) -> Run | None:
        """The life of the command that began last."""
        return self._ground.recorder.latest()

    def runs(self) -> list[Run]:
        """All lives so far."""
        return self._ground.recorder.runs()

    def wait_until(self, condition: Callable[[], T], what: str, limit_s: float) -> T:
        """The first true value of the condition. Raises BenchmarkError when none comes."""
        value = self.wait_for(condition, limit_s)
        if not value:
            logs = [f"--- log of {name}\n{self._log_tail(name)}" for name in MEMBERS]
            raise BenchmarkError("\n".join([f"not within {limit_s:g} s: {what}", *logs]))
        return value

    def wait_for(self, condition: Callable[[], T], limit_s: float) -> T:
        """The same, and the last false value when none comes."""
        end_s = time.monotonic() + limit_s
        while not (value := condition()) and time.monotonic() < end_s:
            time.sleep(LOOK_S)
        return value

    def _log_tail(self, name: str) -> str:
        host = self.host(name)
        return host.said()[-LOG_TAIL_CHARACTERS:] if os.path.exists(host.log_path) else ""


def _program(pid: int) -> bytes:
    """The first word of its command line; nothing for one that has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().partition(b"\0")[0]
    except OSError:
        return b""
