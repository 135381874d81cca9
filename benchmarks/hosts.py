"""Hosts that can be killed, frozen and counted as a whole: a namespace and a cgroup for each.

A group's `cpu.stat` has all that was ever used in it, also by processes that have ended since
(Linux's Documentation/admin-guide/cgroup-v2).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from benchmarks import processes
from benchmarks.groups import Group, GroupError
from benchmarks.network import ADDRESSES, Namespaces

LIMIT_S = 15.0
_JOIN = 'echo 0 >"$0"/cgroup.procs && exec "$@"'


class Host:
    """One machine of the benchmark: all that was started on it, its log, its network."""

    def __init__(self, name: str, network: Namespaces, group: Group, log_path: str) -> None:
        self.name = name
        self.address = ADDRESSES[name]
        self.log_path = log_path
        self._network = network
        self._group = group
        self._log_offset = 0
        self._started: list[subprocess.Popen[bytes]] = []

    def inside(self) -> tuple[str, ...]:
        """The words before a command that make it run on this host."""
        return ("/bin/sh", "-c", _JOIN, self._group.folder, *self._network.inside(self.name))

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
        return self._group.processes()

    def cpu_ns(self) -> int:
        """The processor time of everything that ran here since the host was made."""
        lines = self._group.read("cpu.stat").splitlines()
        return 1000 * next(int(line.split()[1]) for line in lines if line.startswith("usage_"))

    def cut(self) -> None:
        """Pull this host's cable: nobody sees anything but silence."""
        self._network.cut(self.name)

    def heal(self) -> None:
        """Plug it in again."""
        self._network.heal(self.name)

    def strike_dead(self) -> None:
        """SIGKILL to everything here, in one system call."""
        self._group.kill()

    def clear(self) -> None:
        """The same, and return when nothing is left."""
        self._group.thaw()
        self.strike_dead()
        self._group.wait_until_empty(LIMIT_S)
        for process in self._started:
            process.wait()
        self._started.clear()

    def freeze(self) -> None:
        """Stop everything here, as a paused virtual machine; returns when all of it stands."""
        self._group.freeze(LIMIT_S)

    def thaw(self) -> None:
        """Let it go on."""
        self._group.thaw()

    def close(self) -> None:
        """End everything and remove the group."""
        self.clear()
        self._group.remove()


class Hosts:
    """Two members' hosts and the witness's. Raises GroupError where they cannot be made."""

    def __init__(self, network: Namespaces, folder: str) -> None:
        os.mkdir(folder)
        self._made: dict[str, Host] = {}
        try:
            for name in ADDRESSES:
                group = Group(f"hb-bench-{os.getpid()}-{name}")
                self._made[name] = Host(name, network, group, os.path.join(folder, f"{name}.log"))
        except GroupError:
            self.close()
            raise

    def __getitem__(self, name: str) -> Host:
        return self._made[name]

    def close(self) -> None:
        """End everything on all of them."""
        with processes.uninterrupted():
            for host in self._made.values():
                host.close()
