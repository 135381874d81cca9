"""One host: a network namespace, a control group, a small disk for the state, and a member."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Sequence

from benchmarks import processes
from benchmarks.network import Namespaces
from faults.groups import Group
from faults.logs import Logs

PROGRAM_NAME = "faults-command"
STATE_SIZE = "16m"
_ENTER = (
    'n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1" || exit 99; shift; n=$((n-1)); done; '
    'exec "$@"'
)
"""For sh: enter the control groups of the first $1 files, then become the rest of the words."""
Processes = dict[str, int]


class Host:
    """A machine that can be struck. `name` is that of its place in the network."""

    def __init__(
        self, name: str, stem: str, network: Namespaces, logs: Logs, wall_clock_library: str
    ) -> None:
        self.name = name
        self.network = network
        self.logs = logs
        self.group = Group(f"{stem}-{name}")
        self.process: subprocess.Popen[bytes] | None = None
        self.words: tuple[str, ...] = ()
        self.stdout: int = subprocess.DEVNULL
        self._library = wall_clock_library
        self._clock_path = ""
        self._state = ""
        self._hard_files = 0

    # -- the disk and the clock --------------------------------------------------------------------

    def prepare(self, folder: str) -> None:
        """An empty disk for the state, and a clock that is right."""
        self.unmount()
        self._state = os.path.join(folder, f"state-{self.name}")
        os.makedirs(self._state, exist_ok=True)
        options = f"size={STATE_SIZE},mode=0700"
        subprocess.run(("mount", "-t", "tmpfs", "-o", options, "tmpfs", self._state), check=True)
        self._clock_path = os.path.join(folder, f"clock-{self.name}")
        self.step_wall_clock(0)

    @property
    def state_dir(self) -> str:
        return self._state

    def step_wall_clock(self, seconds: int) -> None:
        """From now on the member sees the time of day moved by so much."""
        if not os.path.exists(self._clock_path):
            with open(self._clock_path, "wb") as file:
                file.write(bytes(8))
        with open(self._clock_path, "r+b") as file:
            file.write(struct.pack("=q", seconds))

    def fill_disk(self) -> None:
        """No byte is left for the state."""
        path = os.path.join(self._state, "filler")
        with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free_disk(self) -> None:
        """Undo `fill_disk`."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._state, "filler"))

    def make_immutable(self, *, immutable: bool) -> None:
        """Nothing can be made in the directories of the state. Raises CalledProcessError.

        A disk on which a file is open for writing, as the journal is, cannot be made read-only.
        """
        folders = [folder for folder, _below, _files in os.walk(self._state)]
        words = ("chattr", "+i" if immutable else "-i", *folders)
        subprocess.run(words, check=True, capture_output=True)

    def unmount(self) -> None:
        """Throw the disk away, if there is one."""
        if self._state and os.path.ismount(self._state):
            subprocess.run(("umount", "-l", self._state), check=False)

    # -- the member --------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Whether the member's own process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the member; it may wait for what is left of the one before."""
        doors = self.group.doors
        words = (str(len(doors)), *doors, *self.network.inside(self.name), *self.words)
        environment = dict(os.environ)
        if self._library:
            environment |= {"LD_PRELOAD": self._library, "FAULTS_WALL_CLOCK": self._clock_path}
        error = self.logs.open(self.name)
        try:
            with processes.uninterrupted():
                self.process = subprocess.Popen(
                    ("sh", "-c", _ENTER, "sh", *words),
                    stdin=subprocess.DEVNULL,
                    stdout=self.stdout,
                    stderr=error,
                    env=environment,
                    start_new_session=True,
                )
        finally:
            os.close(error)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def parts(self) -> Processes:
        """The processes that can be struck, by what they are, found by their place in the tree.

        The member's descendants that are no command are its watchers; the one next to the command
        is the guardian, and one between it and the member a keeper.
        """
        found: Processes = {"member": self.pid} if self.is_up else {}
        inside = {pid: about for pid in self.group.processes() if (about := _about(pid))}
        below = [pid for pid, (_name, parent) in inside.items() if parent == self.pid]
        chain: list[int] = []
        while below and len(chain) < 3:
            watchers = [pid for pid in below if inside[pid][0] != PROGRAM_NAME]
            chain += watchers[:1]
            below = [p for p, (_n, parent) in inside.items() if parent in chain[-1:] and watchers]
        if chain:
            found |= dict(zip(("guardian", "keeper"), chain[::-1], strict=False))
        mains = [p for p, (n, parent) in inside.items() if n == PROGRAM_NAME and parent in chain]
        if mains:
            found["command"] = min(mains)
        return found

    def command_processes(self) -> list[int]:
        """Every process of the command that is on this host."""
        return [p for p in self.group.processes() if (_about(p) or ("", 0))[0] == PROGRAM_NAME]

    def limit_files(self, spare: int | None) -> None:
        """Let the member open that many files more than it has; None: as many as before."""
        if not self.is_up:
            return
        soft, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        self._hard_files = hard
        if spare is not None:
            names = os.listdir(f"/proc/{self.pid}/fd")
            if not names:
                return  # it was killed in the same step, and has closed them all
            soft = max(map(int, names)) + 1 + spare
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (hard if spare is None else soft, hard))

    # -- its end -----------------------------------------------------------------------------------

    def stop(self, limit_s: float) -> bool:
        """Stop the member in good order; whether it ended within that time."""
        if self.process is None:
            return True
        if self.is_up:
            self.process.terminate()
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait_until_empty(self, limit_s: float) -> bool:
        """Whether nothing is left on this host within that time."""
        return wait_until(lambda: not self.group.processes(), limit_s)

    def kill(self) -> None:
        """The end of every process of this host, at once."""
        with processes.uninterrupted():
            self.group.thaw()
            self.group.kill()
            if self.process is not None:
                self.process.kill()  # one that was just started may not have entered yet
                self.process.wait()

    def close(self) -> None:
        """Remove everything that this host is made of."""
        self.kill()
        self.unmount()
        self.group.remove()


def send(pids: Sequence[int], number: int) -> None:
    """A signal to each of these, as close together as system calls can be."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def wait_until(condition: Callable[[], object], limit_s: float, look_s: float = 0.005) -> bool:
    """Whether the condition came true in that time."""
    end_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(look_s)
    return True


def are_stopped(pids: Sequence[int]) -> bool:
    """Whether each of these is stopped, or gone."""
    return all(_state(pid) in ("T", "t", "Z", "") for pid in pids)


def stop_all(pids: Sequence[int]) -> None:
    """SIGSTOP to each, and see them stopped."""
    send(pids, signal.SIGSTOP)
    wait_until(lambda: are_stopped(pids), 1.0, look_s=0.001)


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _about(pid: int) -> tuple[str, int] | None:
    """Name and parent of a process that lives."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            head, _, tail = file.read().rpartition(")")
    except OSError:
        return None
    fields = tail.split()
    if fields[0] in "ZX":
        return None
    return head.partition("(")[2], int(fields[1])
