"""Hosts that can be killed, frozen and counted as a whole: a namespace and a cgroup for each.

A control group of version 2 has what a host needs (Linux's Documentation/admin-guide/cgroup-v2):
`cgroup.kill` ends everything in it at once, `cgroup.freeze` stops it, and `cpu.stat` has all that
was ever used in it, also by processes that have ended since.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence

from benchmarks import processes
from benchmarks.network import ADDRESSES, Namespaces

LOOK_S = 0.002
LIMIT_S = 15.0
_JOIN = 'echo 0 >"$0"/cgroup.procs && exec "$@"'


class HostError(Exception):
    """The hosts cannot be made, or one does not obey; the text says why."""


class Host:
    """One machine of the benchmark: all that was started on it, its log, its network."""

    def __init__(self, name: str, network: Namespaces, group: str, log_path: str) -> None:
        self.name = name
        self.address = ADDRESSES[name]
        self.log_path = log_path
        self._network = network
        self._group = group
        self._log_offset = 0
        self._started: list[subprocess.Popen[bytes]] = []
        os.mkdir(group)
        if not os.path.exists(f"{group}/cgroup.kill"):
            raise HostError("this kernel has no cgroup.kill (Linux 5.14 and newer have it)")

    def inside(self) -> tuple[str, ...]:
        """The words before a command that make it run on this host."""
        return ("/bin/sh", "-c", _JOIN, self._group, *self._network.inside(self.name))

    def start(
        self, words: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program here; what it says goes to this host's log, and `said` begins anew."""
        self._log_offset = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        with processes.uninterrupted(), open(self.log_path, "ab") as log:
            process = subprocess.Popen(
                (*self.inside(), *words),
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self._started.append(process)
        return process

    def said(self) -> str:
        """The log since the latest start."""
        with open(self.log_path, "rb") as log:
            log.seek(self._log_offset)
            return log.read().decode(errors="replace")

    def pids(self) -> list[int]:
        """Every process on this host, also in groups that a program made below this one."""
        found = []
        for folder, _folders, _files in os.walk(self._group):
            with contextlib.suppress(OSError), open(f"{folder}/cgroup.procs") as file:
                found += [int(pid) for pid in file.read().split()]
        return found

    def cpu_ns(self) -> int:
        """The processor time of everything that ran here since the host was made."""
        with open(f"{self._group}/cpu.stat") as file:
            return 1000 * next(int(line.split()[1]) for line in file if line.startswith("usage_"))

    def cut(self) -> None:
        """Pull this host's cable: nobody sees anything but silence."""
        self._network.cut(self.name)

    def heal(self) -> None:
        """Plug it in again."""
        self._network.heal(self.name)

    def strike_dead(self) -> None:
        """SIGKILL to everything here, in one system call."""
        self._write("cgroup.kill", "1")

    def clear(self) -> None:
        """The same, and return when nothing is left."""
        self._write("cgroup.freeze", "0")
        self.strike_dead()
        self._await_event("populated 0")
        for process in self._started:
            process.wait()
        self._started.clear()

    def freeze(self) -> None:
        """Stop everything here, as a paused virtual machine; returns when all of it stands."""
        self._write("cgroup.freeze", "1")
        self._await_event("frozen 1")

    def thaw(self) -> None:
        """Let it go on."""
        self._write("cgroup.freeze", "0")

    def close(self) -> None:
        """End everything and remove the group."""
        self.clear()
        for folder, _folders, _files in os.walk(self._group, topdown=False):
            os.rmdir(folder)

    def _write(self, name: str, word: str) -> None:
        with open(f"{self._group}/{name}", "w") as file:
            file.write(word)

    def _await_event(self, words: str) -> None:
        end_s = time.monotonic() + LIMIT_S
        while True:
            with open(f"{self._group}/cgroup.events") as file:
                if words in file.read():
                    return
            if time.monotonic() > end_s:
                raise HostError(f"host {self.name} was not '{words}' within {LIMIT_S:g} s")
            time.sleep(LOOK_S)


class Hosts:
    """Two members' hosts and the witness's. Raises HostError where they cannot be made."""

    def __init__(self, network: Namespaces, folder: str) -> None:
        top = _cgroup2()
        os.mkdir(folder)
        self._made: dict[str, Host] = {}
        try:
            for name in ADDRESSES:
                group = f"{top}/hb-bench-{os.getpid()}-{name}"
                self._made[name] = Host(name, network, group, os.path.join(folder, f"{name}.log"))
        except OSError as error:
            self.close()
            raise HostError(f"a control group cannot be made: {error}") from error

    def __getitem__(self, name: str) -> Host:
        return self._made[name]

    def close(self) -> None:
        """End everything on all of them."""
        with processes.uninterrupted():
            for host in self._made.values():
                host.close()


def _cgroup2() -> str:
    """Where the second version of control groups is mounted."""
    with open("/proc/mounts") as file:
        for line in file:
            _device, point, kind = line.split()[:3]
            if kind == "cgroup2" and "\\" not in point:
                return point
    raise HostError("control groups of version 2 are not mounted")
