"""A control group for each host: its processes can be killed, frozen, counted and slowed at once.

Killing and freezing are cgroup v2's (cgroups(7), Linux 5.14 and newer). The number of processes and
the processor's time are limited by controllers, which are found in v2 or in v1, wherever this
machine has them; where it has not, the faults that need them are left out.
"""

from __future__ import annotations

import contextlib
import os

from benchmarks import groups
from benchmarks.groups import GroupError

FROZEN_WITHIN_S = 2.0
GONE_WITHIN_S = 5.0
PERIOD_US = 100_000
REAL_TIME_US = 100_000
"""Of each second, for all real-time processes of a host together."""


def _controllers_of_v1() -> dict[str, str]:
    """Where each controller of v1 is mounted."""
    found: dict[str, str] = {}
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            kind, _source, options = rest.split()[:3]
            if kind == "cgroup":
                for controller in options.split(","):
                    found.setdefault(controller, fields.split()[4])
    return found


class Group:
    """The control groups of one host, all of the same name."""

    def __init__(self, name: str) -> None:
        """Raises GroupError when there is no cgroup v2 that kills and freezes."""
        self._main = groups.Group(name)
        self._folders = {"": self._main.folder}
        try:
            for controller in ("pids", "cpu"):
                self._find(controller, name)
            self._permit_real_time()
        except OSError as error:
            self.remove()
            raise GroupError(f"{error.filename}: {error.strerror}") from error

    def _find(self, controller: str, name: str) -> None:
        """Use the controller in v2 if it can be had there, else in v1, else not at all."""
        top, mounts = groups.mounted(), _controllers_of_v1()
        with open(os.path.join(top, "cgroup.controllers")) as file:
            available = file.read().split()
        if controller in available:
            with contextlib.suppress(OSError):
                _write(os.path.join(top, "cgroup.subtree_control"), f"+{controller}")
                self._folders[controller] = self._main.folder
        elif controller in mounts:
            folder = os.path.join(mounts[controller], name)
            with contextlib.suppress(OSError):
                os.mkdir(folder)
                self._folders[controller] = folder

    def _permit_real_time(self) -> None:
        """As on a kernel that does not divide real time among groups, which most do not.

        With CONFIG_RT_GROUP_SCHED a new group has none (Linux's sched-rt-group document).
        """
        path = os.path.join(self._folders.get("cpu", ""), "cpu.rt_runtime_us")
        if os.path.exists(path):
            _write(path, str(REAL_TIME_US))

    def has(self, controller: str) -> bool:
        """Whether this controller can be used."""
        return controller in self._folders

    @property
    def doors(self) -> list[str]:
        """The files to which a process writes its number to be inside."""
        return sorted({os.path.join(folder, "cgroup.procs") for folder in self._folders.values()})

    def processes(self) -> list[int]:
        """All that is inside now, also in groups that were made below."""
        return self._main.processes()

    def kill(self) -> None:
        """SIGKILL to all at once; returns when they are gone."""
        self._main.kill()
        self._main.wait_until_empty(GONE_WITHIN_S)

    def freeze(self) -> None:
        """Stop all; returns when they are stopped. Raises GroupError when they do not stop."""
        self._main.freeze(FROZEN_WITHIN_S)

    def thaw(self) -> None:
        """Let all go on."""
        self._main.thaw()

    def limit_processes(self, more: int | None) -> None:
        """Allow for that many more processes and threads than there are now; None: for any."""
        folder = self._folders["pids"]
        limit = "max"
        if more is not None:
            with open(os.path.join(folder, "pids.current")) as file:
                limit = str(int(file.read()) + more)
        _write(os.path.join(folder, "pids.max"), limit)

    def throttle(self, percent: float | None) -> None:
        """Leave this part of one processor to all of the host together; None: all it wants."""
        folder = self._folders["cpu"]
        quota = None if percent is None else int(PERIOD_US * percent / 100)
        if folder == self._main.folder:
            _write(os.path.join(folder, "cpu.max"), f"{quota or 'max'} {PERIOD_US}")
        else:
            _write(os.path.join(folder, "cpu.cfs_period_us"), str(PERIOD_US))
            _write(os.path.join(folder, "cpu.cfs_quota_us"), str(quota or -1))

    def waited_ns(self) -> int:
        """For how long, in all, a process of the host that could run had no processor; 0: unknown.

        This is "some" of the pressure stall information (Linux's Documentation/accounting/psi).
        """
        try:
            some = self._main.read("cpu.pressure").splitlines()[0]
            return int(some.rpartition("total=")[2]) * 1000
        except (OSError, IndexError, ValueError):
            return 0

    def remove(self) -> None:
        """Kill what is inside and remove the groups."""
        self._main.remove(GONE_WITHIN_S)
        for top in set(self._folders.values()) - {self._main.folder}:
            groups.remove_tree(top)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
