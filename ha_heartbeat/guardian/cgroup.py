"""A control group of its own for the tree, where that is allowed: one write kills all of it.

cgroups(7): writing 1 to cgroup.kill (Linux 5.14) kills every process below, also one that forks
while it happens. It only speeds up the sweep, which is done in any case and which alone says when
nothing is left; so every failure here means: do without, and say nothing.
"""

from __future__ import annotations

import os
import sys

from ha_heartbeat.guardian.light import suppress

_PREFIX = "ha-heartbeat-"
_SYSTEMD = "/run/systemd/system"

if sys.platform == "linux":
    from ha_heartbeat.guardian.sweep import read

    def own_folder() -> str:
        """The cgroup v2 folder that this process is in, or "" when there is none to be seen."""
        try:
            groups = os.fsdecode(read("/proc/self/cgroup")).splitlines()
            mounts = os.fsdecode(read("/proc/self/mountinfo")).splitlines()
        except OSError:
            return ""
        path = next((line[3:] for line in groups if line.startswith("0::")), "")
        if not path or ".." in path:  # outside what this namespace shows
            return ""
        for line in mounts:
            fields, _, kind = line.partition(" - ")
            root, point = fields.split(" ")[3:5]
            inside = root == "/" or path == root or path.startswith(root + "/")
            if kind.startswith("cgroup2 ") and inside and "\\" not in point:
                return (point + path.removeprefix(root.rstrip("/"))).rstrip("/")
        return ""

    def is_ours(folder: str, systemd: str = _SYSTEMD) -> bool:
        """Whether groups may be made there: delegated by systemd, or no systemd on this machine.

        systemd marks what it delegates with an extended attribute (systemd's
        CGROUP_DELEGATION document), and manages everything else by itself.
        """
        for name in ("user.delegate", "trusted.delegate"):
            try:
                if os.getxattr(folder, name) == b"1":
                    return True
            except OSError:
                continue
        return not os.path.exists(systemd)

    def folder_for(pid: int) -> str:
        """The folder of the keeper with that pid, or "" where there can be none."""
        own = own_folder()
        return f"{own}/{_PREFIX}{pid}" if own else ""

    def remove_stale(own: str) -> None:
        """Remove the empty groups of keepers that were killed together with their members."""
        with suppress(OSError):
            for name in os.listdir(own):
                pid = name.removeprefix(_PREFIX)
                if pid != name and pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
                    with suppress(OSError):  # something is in it: it stays
                        os.rmdir(f"{own}/{name}")

    class Group:
        """The group of one guardian's tree, or nothing at all."""

        def __init__(self, folder: str) -> None:
            self._folder = folder
            self._procs = -1

        @classmethod
        def make(cls, keeper: int) -> Group:
            """The group of that keeper's tree; an empty one where none may be made."""
            group = cls("")
            own = own_folder()
            if own and is_ours(own):
                remove_stale(own)
                group = cls(folder_for(keeper))
                group._open()
            return group

        def _open(self) -> None:
            try:
                with suppress(FileExistsError):  # of an earlier process with this pid
                    os.mkdir(self._folder, 0o755)
                if os.path.exists(self._folder + "/cgroup.kill"):
                    path = self._folder + "/cgroup.procs"
                    self._procs = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            except OSError:
                pass
            if self._procs == -1:
                self.remove()

        def adopt(self, pid: int) -> None:
            """Move a process in; whatever it starts from then on is born there.

            Takes some 10 ms, in which the kernel waits for all processors (cgroup_attach_task), so
            it is done beside a new run and not before its first instruction. What the run starts
            sooner stays outside, and is found by the sweep like everything else.
            """
            if self._procs != -1:
                with suppress(OSError):
                    os.write(self._procs, str(pid).encode())

        def kill(self) -> None:
            """SIGKILL to all that is in it."""
            if self._folder:
                with suppress(OSError):
                    fd = os.open(self._folder + "/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
                    try:
                        os.write(fd, b"1")
                    finally:
                        os.close(fd)

        def remove(self) -> None:
            """Remove it; stays when something is in it."""
            if self._folder:
                with suppress(OSError):
                    os.rmdir(self._folder)
            self._folder = ""
