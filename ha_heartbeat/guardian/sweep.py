"""Finding and killing all descendants of a process on Linux.

Whatever a process starts stays below it, however it daemonises, while that process is the child
subreaper (PR_SET_CHILD_SUBREAPER(2const)): an orphan gets it as its new parent. So no children
means no descendants, and killing what can be seen, again and again, comes to an end: everything
seen is first stopped, until a look finds nothing new, so that nothing goes on forking meanwhile.

A process id could be reused between the look and the signal only if the whole range of ids were
used up in that time; that is accepted.
"""

from __future__ import annotations

import os
import sys

from ha_heartbeat.guardian.light import signal, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_ROUNDS = 100
_CHUNK_BYTES = 65536

if sys.platform != "win32":

    def read(path: str) -> bytes:
        """A small file of /proc or of cgroupfs, whole. Raises OSError."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = b""
            while chunk := os.read(fd, _CHUNK_BYTES):
                text += chunk
            return text
        finally:
            os.close(fd)

    def has_children_files() -> bool:
        """Whether the kernel lists children (CONFIG_PROC_CHILDREN, proc_pid_task(5))."""
        return os.path.exists(f"/proc/self/task/{os.getpid()}/children")

    def listed_children(pid: int) -> list[int]:
        """Children by /proc/PID/task/*/children.

        May miss some while siblings exit (proc_tid_children(5)), so nothing rests on one look.
        """
        found: list[int] = []
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                found += map(int, read(f"/proc/{pid}/task/{task}/children").split())
        except OSError:
            pass  # it has ended, and its children are somebody else's
        return found

    def parents() -> dict[int, list[int]]:
        """All children of all processes, by /proc/PID/stat (proc_pid_stat(5))."""
        found: dict[int, list[int]] = {}
        for name in os.listdir("/proc"):
            if name.isdecimal():
                try:
                    stat = read(f"/proc/{name}/stat")
                except OSError:
                    continue
                # The name in parentheses may itself hold parentheses; state and parent follow.
                parent = int(stat[stat.rindex(b")") + 2 :].split(None, 2)[1])
                found.setdefault(parent, []).append(int(name))
        return found

    def lister() -> Callable[[int], list[int]]:
        """How to find children now; of one look only, as the slow way is a snapshot."""
        if has_children_files():
            return listed_children
        snapshot = parents()
        return lambda pid: snapshot.get(pid, [])

    def below(roots: Collection[int], children: Callable[[int], list[int]]) -> list[int]:
        """The roots and all their descendants, parents before children."""
        found = list(roots)
        seen = set(found)
        for pid in found:  # grows as it is walked
            for child in children(pid):
                if child not in seen:
                    seen.add(child)
                    found.append(child)
        return found

    def descendants() -> list[int]:
        """All descendants of this process, zombies included."""
        children = lister()
        return below(children(os.getpid()), children)

    def send(pid: int, number: int) -> None:
        """Signal a process that may have ended, or may not be ours to signal (setuid)."""
        with suppress(OSError):
            os.kill(pid, number)

    def strike(look: Callable[[], list[int]]) -> None:
        """Kill all that `look` finds, even if it forks as fast as it can."""
        stopped: set[int] = set()
        for _ in range(_ROUNDS):
            fresh = [pid for pid in look() if pid not in stopped]
            if not fresh:
                break
            for pid in fresh:
                send(pid, signal.SIGSTOP)
            stopped.update(fresh)
        for pid in stopped:
            send(pid, signal.SIGKILL)

    def orphans(spared: Collection[int]) -> list[int]:
        """Children of this process that it did not start itself, for all that can be known.

        Nobody can join a session (setsid(2)), and the guardian leads one of its own. So a child
        in this process's session is no orphan of the guardian; any other is, unless spared.
        """
        own = os.getsid(0)
        found = []
        for pid in lister()(os.getpid()):
            try:
                foreign = os.getsid(pid) != own
            except OSError:
                continue
            if foreign and pid not in spared:
                found.append(pid)
        return found

    def strike_orphans(spared: Collection[int]) -> bool:
        """Kill and reap what a lost guardian left to this process; whether any may be left."""

        def look() -> list[int]:
            return below(orphans(spared), lister())

        strike(look)
        left = orphans(spared)
        _reap(left)
        return bool(left)

    def reap_orphans(spared: Collection[int]) -> None:
        """Reap those that have ended; nothing is looked for while no child has."""
        with suppress(ChildProcessError):  # there are no children
            if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                _reap(orphans(spared))

    def _reap(pids: Collection[int]) -> None:
        for pid in pids:
            with suppress(ChildProcessError):  # reaped by somebody who knew it
                os.waitpid(pid, os.WNOHANG)
