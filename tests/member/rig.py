"""Real members from the plain checkout, on loopback addresses of their own, with what follows them.

Nothing here waits for a fixed time: `wait_for` waits for a condition, generously.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from tests.member import history

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
WORK = Path(__file__).with_name("work.py")
MARK = "HA_HEARTBEAT_MEMBER_TEST"
GUARDIAN = "from ha_heartbeat.guardian."
PATIENCE_S = 40.0
POLL_S = 0.015
LINE = re.compile(r"\S+ \S+ (?P<name>\S+) (?P<role>[a-z-]+)(?: (?P<epoch>\d+))?: (?P<text>.*)")


def wait_for(
    condition: Callable[[], T], what: str = "a condition", patience_s: float = PATIENCE_S
) -> T:
    """The condition's first true value. Raises AssertionError when there is none in time."""
    end_s = time.monotonic() + patience_s
    while True:
        if value := condition():
            return value
        assert time.monotonic() < end_s, f"waited in vain for {what}"
        time.sleep(POLL_S)


def holds_for(seconds: float, condition: Callable[[], bool], what: str) -> None:
    """The condition stays true for so long: for what must not happen."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        assert condition(), f"did not stay so: {what}"
        time.sleep(POLL_S)


def python(script: Path, *arguments: object) -> str:
    """A shell command that becomes this Python running a script."""
    return shlex.join(["exec", sys.executable, "-I", "-S", str(script), *map(str, arguments)])


def is_alive(pid: int) -> bool:
    """Whether that process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def bears(pid: int, word: str) -> bool:
    """Whether that process lives, and its mark begins with `word`."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{MARK}={word}".encode() in environ and is_alive(pid)


def marked(word: str) -> list[int]:
    """The live processes whose mark begins with `word`."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    return [pid for pid in pids if pid != os.getpid() and bears(pid, word)]


def title(pid: int) -> str:
    """The command line of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def send(pid: int, number: signal.Signals) -> None:
    """A signal to one process, which may have gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class Member:
    """One life of a member: the process, its log, and everything below it."""

    def __init__(self, mark: str, name: str, words: list[str], log: Path) -> None:
        self.name = name
        self.mark = mark
        self.log_path = log
        self.asked = False
        with log.open("ab") as err, log.with_suffix(".out").open("ab") as out:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, MARK: mark},
                start_new_session=True,
            )

    # -- what it says

    @property
    def lines(self) -> list[str]:
        """The log so far, whole lines only."""
        return self.log_path.read_text().split("\n")[:-1]

    @property
    def output(self) -> str:
        """What its command has printed."""
        return self.log_path.with_suffix(".out").read_text()

    def said(self, pattern: str) -> int:
        """How many lines match."""
        return sum(re.search(pattern, line) is not None for line in self.lines)

    def hears(self, pattern: str, times: int = 1) -> None:
        """Wait until that many lines match, which must be no more."""
        wait_for(
            lambda: self.said(pattern) >= times, f"{self.name} to say {pattern!r} {times} time(s)"
        )
        assert self.said(pattern) == times

    @property
    def role(self) -> str:
        """The role that its latest line shows."""
        for line in reversed(self.lines):
            if match := LINE.fullmatch(line):
                return match["role"]
        return ""

    @property
    def is_worker(self) -> bool:
        return self.role == "worker" and self.process.poll() is None

    @property
    def is_supervisor(self) -> bool:
        return self.role == "supervisor" and self.process.poll() is None

    # -- what is below it

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def keeper(self) -> int:
        """The process that watches over the guardian; 0 while there is none."""
        return _child(self.pid, GUARDIAN)

    @property
    def guardian(self) -> int:
        """The guardian's process, of a file with one service; 0 while there is none."""
        return _child(self.keeper, GUARDIAN)

    def processes(self) -> list[int]:
        """Everything alive that was started in this life, the member included."""
        return marked(self.mark)

    def command(self) -> list[int]:
        """What of that is neither member nor keeper nor guardian."""
        watchers = (self.pid, self.keeper, self.guardian)
        return [pid for pid in self.processes() if pid not in watchers]

    # -- what is done to it

    def kill(self) -> None:
        """Kill -9 the member alone."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """Ask it to stop."""
        self.asked = True
        self.process.terminate()

    def ended(self) -> int:
        """Wait for its end; the exit status."""
        wait_for(lambda: self.process.poll() is not None, f"{self.name} to end")
        return self.process.wait()

    def stop(self) -> int:
        """Ask it to stop, and wait; the exit status."""
        self.terminate()
        return self.ended()


class Rig:
    """Members of one test, the file that their commands share, and the end of it all."""

    def __init__(self, place: Path, word: str) -> None:
        self.place = place
        self.word = word
        self.shared = place / "shared"
        self.program = ROOT / "ha_heartbeat.py"
        self.members: list[Member] = []
        self._lives = itertools.count(1)
        seed = random.Random(word)
        self._net = f"127.{seed.randrange(2, 250)}.{seed.randrange(256)}"

    def address(self, number: int) -> str:
        """The address of member `number`; nobody else uses its host part."""
        return f"{self._net}.{number}:{22220 + number}"

    def inside(self, number: int) -> tuple[str, ...]:
        """What stands before the words that start member `number`, as to put it elsewhere."""
        return ()

    def free_port(self) -> socket.socket:
        """A socket bound to the address of member 2, not listening."""
        host, port = self.address(2).split(":")
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
        return sock

    def work(self, seconds: float = 0, *flags: str) -> str:
        """A command that tells of itself in the shared file."""
        return python(WORK, self.shared, seconds, *flags)

    def member(
        self,
        number: int,
        *options: str,
        command: tuple[str, ...] | str = "",
        name: str = "",
        has_peer: bool = True,
    ) -> Member:
        """Start member `number` of the pair 1 and 2; by default its command never ends."""
        name = name or f"m{number}"
        words = command or self.work()
        arguments = [
            *("-l", self.address(number)),
            *(("-r", self.address(3 - number)) if has_peer else ()),
            *("--member", name, "--state-dir", str(self.place / "state")),
            *("-t", "1", "-i", "0.2", "--stop-timeout", "5"),
            *options,
            *([words] if isinstance(words, str) else words),
        ]
        life = next(self._lives)
        log = self.place / f"{life}-{name}.log"
        mark = f"{self.word}-{life}."
        start = [*self.inside(number), sys.executable, "-S", "-E", str(self.program)]
        self.members.append(Member(mark, name, [*start, *arguments], log))
        return self.members[-1]

    def pair(self, *options: str, command: str = "") -> tuple[Member, Member]:
        """Start two members, and return the worker and the supervisor once there is one of each."""
        one = self.member(1, *options, command=command)
        two = self.member(2, *options, command=command)
        return self.settle(one, two)

    def settle(self, one: Member, two: Member) -> tuple[Member, Member]:
        """Wait until one is worker and runs, and the other supervises it."""

        def roles() -> tuple[Member, Member] | None:
            for worker, other in ((one, two), (two, one)):
                if worker.is_worker and other.is_supervisor and self.is_running(worker):
                    return worker, other
            return None

        found = wait_for(roles, "a worker and a supervisor")
        assert found is not None
        return found

    def is_running(self, member: Member) -> bool:
        """Whether the latest run is this life's and still goes on."""
        runs = self.runs()
        return bool(runs) and runs[-1].ending == "" and bears(runs[-1].pid, member.mark)

    def runs(self) -> list[history.Run]:
        """The runs so far. Whatever is written at this moment may be missing."""
        return history.read(self.shared)

    def works(self, member: Member) -> None:
        """Wait until this member is worker, and its command the one that runs."""
        wait_for(
            lambda: member.is_worker and self.is_running(member), f"{member.name} to be worker"
        )

    def gap(self) -> float:
        """Seconds without a command before the latest run, if another member ran before it."""
        return history.gaps(self.runs())[-1][2]

    def judge(self) -> None:
        """What must be true of every history."""
        assert not history.faults(self.runs())

    def ask_to_end(self) -> None:
        """Tell every member to stop that was not told yet."""
        for member in self.members:
            if not member.asked:
                member.terminate()

    def finish(self) -> None:
        """Stop every member as an operator would; all must end, and nothing be left."""
        self.ask_to_end()
        for member in self.members:
            member.ended()
        left = self.left()
        assert not left, f"left behind: {left}"

    def left(self) -> dict[int, str]:
        """What is alive of this test after it had its time to end."""
        end_s = time.monotonic() + PATIENCE_S
        while (pids := marked(self.word)) and time.monotonic() < end_s:
            time.sleep(0.01)
        return {pid: title(pid) for pid in pids}

    def destroy(self) -> None:
        """Kill whatever is left."""
        while pids := marked(self.word):
            for pid in pids:
                send(pid, signal.SIGKILL)
            time.sleep(0.01)
        for member in self.members:
            member.process.wait()

    def logs(self) -> str:
        """For whoever reads why the test failed."""
        parts = [
            "\n".join([f"--- the log of {member.log_path.stem}:", *member.lines])
            for member in self.members
        ]
        return "\n".join(parts)


def pairs(
    rigs: Sequence[Rig], *options: str, work: tuple[float, *tuple[str, ...]] = (0,)
) -> list[tuple[Rig, Member, Member]]:
    """Each rig with its worker and its supervisor; all start side by side."""
    started = [
        [rig.member(number, *options, command=rig.work(*work)) for number in (1, 2)] for rig in rigs
    ]
    return [(rig, *rig.settle(*both)) for rig, both in zip(rigs, started, strict=True)]


@contextlib.contextmanager
def paused(*pids: int) -> Iterator[None]:
    """Stop processes for a while."""
    for pid in pids:
        send(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            send(pid, signal.SIGCONT)


def _child(parent: int, words: str) -> int:
    """The child with these words in its command line; 0 if there is none."""
    return next((pid for pid in children(parent) if words in title(pid)), 0)


def children(parent: int) -> list[int]:
    """The children of its main thread, zombies included; none if it has ended."""
    try:
        return [*map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())]
    except OSError:
        return []
