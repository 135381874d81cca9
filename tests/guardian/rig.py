"""What the guardian's tests share: a bare member, probes of ports, and looks at /proc."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from ha_heartbeat.guardian.clock import now_ns
from ha_heartbeat.guardian.protocol import (
    VERSION,
    Decoder,
    Leftovers,
    Message,
    Order,
    Ready,
    Run,
    encode,
)

T = TypeVar("T")
MARK = "HA_HEARTBEAT_TEST_MARK"
PATIENCE_S = 20.0
PF_EXITING = 0x4  # proc_pid_stat(5), include/linux/sched.h: it closes its files in this state
FAR_NS = 2**62
ROOT = str(Path(__file__).parents[2])
PROGRAM = (
    f"import sys; sys.path.insert(0, {ROOT!r}); from ha_heartbeat.guardian.main import main; main()"
)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs the Linux guardian")
DAEMON = (
    "import os, sys, time\n"
    "if os.fork(): os._exit(0)\n"
    "os.setsid()\n"
    "if os.fork(): os._exit(0)\n"
    "open(sys.argv[1], 'w').write(str(os.getpid()))\n"
    "time.sleep(600)\n"
)
"""A program that daemonises by the book and writes its last pid to the file named."""


def variants() -> list[str]:
    """The variants to be tested here."""
    if sys.platform == "linux":
        return ["linux", "linux-sweep", "posix"]
    return [] if sys.platform == "win32" else ["posix"]


def wait_for(condition: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """The condition's first true value. Raises AssertionError when there is none in time."""
    end_s = time.monotonic() + patience_s
    while True:
        if value := condition():
            return value
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.005)


def listen() -> socket.socket:
    """A listening socket on a free port, that stands a thousand probes."""
    return socket.create_server(("127.0.0.1", 0), backlog=4096)


def refused(port: int) -> bool:
    """Whether nothing holds the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def alive(pid: int) -> bool:
    """Whether that process can still do anything: a zombie cannot, nor one that is exiting."""
    fields = stat_of(pid)
    return bool(fields) and fields[0] not in ("Z", "X") and not int(fields[6]) & PF_EXITING


def stat_of(pid: int) -> list[str]:
    """The fields of proc_pid_stat(5) from the state on; none if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def marked(word: str) -> list[int]:
    """The processes with that mark in their environment, but this one."""
    found: list[int] = []
    if sys.platform != "linux":
        return found
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            try:
                environ = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"{MARK}={word}".encode() in environ and alive(int(folder.name)):
                found.append(int(folder.name))
    return found


def settle(word: str) -> list[int]:
    """Wait for marked processes to end; kill and name those that do not."""
    end_s = time.monotonic() + PATIENCE_S
    while (left := marked(word)) and time.monotonic() < end_s:
        time.sleep(0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return left


def pid_from(path: Path) -> int:
    """The process id that somebody writes to that file."""
    return int(wait_for(lambda: path.read_text() if path.exists() else ""))


def orphans() -> list[int]:
    """Two that came to this process when their parent ended, and have ended since (Linux)."""
    line = "sleep 600 & echo $!; setsid sleep 600 & echo $!"
    with subprocess.Popen(
        line, shell=True, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(parent.stdout.readline()) for _ in range(2)]
        wait_for(lambda: os.getsid(pids[1]) == pids[1])
        parent.wait()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        await_end(pid)
    return pids


def await_end(pid: int) -> None:
    """Return when that child has ended; it is not reaped. Raises ChildProcessError if it was."""
    if sys.platform != "win32":
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def shell(line: str, run: int = 1, *, term_at_ns: int = FAR_NS, kill_at_ns: int = FAR_NS) -> Run:
    """A run of one shell command."""
    return Run(run, term_at_ns, kill_at_ns, True, (line,), ())


def order(
    argv: tuple[str, ...],
    run: int = 1,
    env: tuple[tuple[str, str], ...] = (),
    *,
    term_at_ns: int = FAR_NS,
    kill_at_ns: int = FAR_NS,
) -> Run:
    """A run with a lease of a century, if none is given."""
    return Run(run, term_at_ns, kill_at_ns, False, argv, env)


class Rig:
    """The barest member: a guardian, the channel to it, and a listening socket."""

    def __init__(
        self,
        variant: str,
        stop_timeout_s: float,
        program: str = PROGRAM,
        margin_s: float = PATIENCE_S,
    ) -> None:
        self._decoder = Decoder()
        self._heard: list[Message] = []
        self.listener = listen()
        self.port: int = self.listener.getsockname()[1]
        self.output, writer = os.pipe()
        self.control, theirs = socket.socketpair()
        with theirs:
            fds = (theirs.fileno(), self.listener.fileno())
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-E", "-c", program),
                    *(str(VERSION), variant, str(fds[0]), str(fds[1])),
                    *(str(round(seconds * 1e9)) for seconds in (stop_timeout_s, margin_s)),
                ],
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                start_new_session=True,
            )
        os.close(writer)
        self.keeper = self.process.pid
        self.pid = self.expect(Ready).pid
        assert (self.pid != self.keeper) == variant.startswith("linux")

    def say(self, *orders: Order) -> None:
        self.control.sendall(b"".join(map(encode, orders)))

    def hear(self, patience_s: float = PATIENCE_S) -> Message:
        """The next report. Raises AssertionError when there is none in time."""
        self.control.settimeout(patience_s)
        while not self._heard:
            data = self.control.recv(65536)
            assert data, "the guardian hung up"
            self._decoder.feed(data)
            self._heard += self._decoder.messages()
        return self._heard.pop(0)

    def expect(self, kind: type[T]) -> T:
        """The next report, of that kind; Leftovers are passed over unless asked for."""
        while isinstance(message := self.hear(), Leftovers) and kind is not Leftovers:
            pass
        assert isinstance(message, kind), message
        return message

    def text(self) -> str:
        """All output of guardian and runs; when all of them have ended."""
        with os.fdopen(self.output, "rb") as stream:
            self.output = -1
            return stream.read().decode()

    def leave(self) -> None:
        """Die, as far as the guardian can tell, and let go of the port."""
        self.control.close()
        self.listener.close()

    def finish(self) -> None:
        """The end of the test, whatever state that left behind."""
        self.leave()
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.wait()
            if self.output != -1:
                os.close(self.output)


def lease(term_in_s: float, kill_in_s: float) -> dict[str, int]:
    """The times of a lease, from now."""
    now = now_ns()
    return {
        "term_at_ns": now + round(term_in_s * 1e9),
        "kill_at_ns": now + round(kill_in_s * 1e9),
    }
