"""A control group of version 2: all processes in it can be killed, frozen and listed at once.

`cgroup.kill` (Linux 5.14) ends everything in it in one system call, `cgroup.freeze` stops it
(Linux's Documentation/admin-guide/cgroup-v2).
"""

from __future__ import annotations

import contextlib
import os
import time

GONE_WITHIN_S = 5.0
LOOK_S = 0.001


class GroupError(Exception):
    """A control group cannot be made or used; the text says why."""


def mounted() -> str:
    """Where version 2 is mounted. Raises GroupError."""
    with open("/proc/mounts") as file:
        for line in file:
            _device, point, kind = line.split()[:3]
            if kind == "cgroup2" and "\\" not in point:
                return point
    raise GroupError("control groups of version 2 are not mounted")


class Group:
    """One group, made at the top and empty at first."""

    def __init__(self, name: str) -> None:
        """Raises GroupError where none can be made, or none that kills and freezes."""
        self.folder = os.path.join(mounted(), name)
        try:
            os.mkdir(self.folder)
        except OSError as error:
            raise GroupError(f"{error.filename}: {error.strerror}") from error
        for file in ("cgroup.kill", "cgroup.freeze"):
            if not os.path.exists(os.path.join(self.folder, file)):
                os.rmdir(self.folder)
                raise GroupError(f"this kernel has no {file} (Linux 5.14 and newer have it)")

    def read(self, name: str) -> str:
        """One of its files, whole."""
        with open(os.path.join(self.folder, name)) as file:
            return file.read()

    def write(self, name: str, text: str) -> None:
        """Into one of its files."""
        with open(os.path.join(self.folder, name), "w") as file:
            file.write(text)

    def processes(self) -> list[int]:
        """All that is inside now, also in groups that were made below."""
        found: list[int] = []
        for folder, _below, _files in os.walk(self.folder):
            with contextlib.suppress(OSError), open(os.path.join(folder, "cgroup.procs")) as file:
                found += [int(pid) for pid in file.read().split()]
        return found

    def kill(self) -> None:
        """SIGKILL to all at once."""
        self.write("cgroup.kill", "1")

    def freeze(self, limit_s: float) -> None:
        """Stop all; returns when they are stopped. Raises GroupError when they are not in time."""
        self.write("cgroup.freeze", "1")
        self._wait_for("frozen 1", limit_s)

    def thaw(self) -> None:
        """Let all go on."""
        self.write("cgroup.freeze", "0")

    def wait_until_empty(self, limit_s: float) -> None:
        """Return when nothing is inside. Raises GroupError when that is not so in time."""
        self._wait_for("populated 0", limit_s)

    def _wait_for(self, words: str, limit_s: float) -> None:
        end_s = time.monotonic() + limit_s
        while words not in self.read("cgroup.events"):
            if time.monotonic() > end_s:
                raise GroupError(f"{self.folder} is not {words!r} after {limit_s:g} s")
            time.sleep(LOOK_S)

    def remove(self, limit_s: float = GONE_WITHIN_S) -> None:
        """Kill what is inside, and remove it with all that was made below."""
        if os.path.isdir(self.folder):
            self.thaw()
            self.kill()
            self.wait_until_empty(limit_s)
            remove_tree(self.folder)


def remove_tree(top: str) -> None:
    """Remove an empty group and those below. Raises OSError when one is still in use."""
    for folder, _below, _files in os.walk(top, topdown=False):
        _remove(folder)


def _remove(folder: str) -> None:
    """A group can be removed when the last process in it has been reaped."""
    end_s = time.monotonic() + GONE_WITHIN_S
    while os.path.isdir(folder):
        try:
            os.rmdir(folder)
        except OSError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.005)
