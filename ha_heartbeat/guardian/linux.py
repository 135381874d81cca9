"""The guardian on Linux: nothing of the tree gets away, and no deadline waits for a suspend.

It is the child subreaper, so every process that the runs leave behind becomes its child, and it
has descendants exactly as long as it has children. The main process of a run dies with it
(PR_SET_PDEATHSIG(2const)).
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
import time

from ha_heartbeat.guardian import sweep
from ha_heartbeat.guardian.light import signal
from ha_heartbeat.guardian.tree import Stirred

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ha_heartbeat.guardian.protocol import Run
    from ha_heartbeat.guardian.tree import Outcome

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_TFD_TIMER_ABSTIME = 1
_TFD_NONBLOCK = 0o4000
_TFD_CLOEXEC = 0o2000000

if sys.platform == "linux":
    from ha_heartbeat.guardian import cgroup
    from ha_heartbeat.guardian.launch import Launcher
    from ha_heartbeat.guardian.posix import Alarm, Channel, poll, signal_group

    _libc = ctypes.CDLL(None, use_errno=True)

    def _checked(result: int, call: str) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{call}: {os.strerror(number)}")
        return result

    def prctl(option: int, value: int) -> None:
        """prctl(2) with one argument. Raises OSError."""
        none = ctypes.c_ulong(0)
        wide = ctypes.c_ulong(value)
        _checked(_libc.prctl(ctypes.c_int(option), wide, none, none, none), "prctl")

    def become_subreaper() -> None:
        """Let orphaned descendants become children of this process. Raises OSError."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)

    class _Timespec(ctypes.Structure):
        _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))

    class _Itimerspec(ctypes.Structure):
        _fields_ = (("interval", _Timespec), ("value", _Timespec))

    class Timer:
        """A timer on CLOCK_BOOTTIME (timerfd_create(2)): due at once after a suspend."""

        def __init__(self) -> None:
            flags = _TFD_NONBLOCK | _TFD_CLOEXEC
            made = _libc.timerfd_create(ctypes.c_int(time.CLOCK_BOOTTIME), ctypes.c_int(flags))
            self.fd = _checked(made, "timerfd_create")
            self._until_ns: int | None = None

        def set(self, until_ns: int | None) -> None:
            """Readable from that time on; never, for None. A time gone by is due at once."""
            if until_ns == self._until_ns:
                return
            self._until_ns = until_ns
            # All zero would disarm it, which is what None wants and the moment 0 does not.
            seconds, rest = divmod(0 if until_ns is None else max(until_ns, 1), 1_000_000_000)
            new = _Itimerspec(_Timespec(0, 0), _Timespec(seconds, rest))
            done = _libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, ctypes.byref(new), None)
            _checked(done, "timerfd_settime")

        def drain(self) -> None:
            """Make it unreadable again if it was due."""
            try:
                os.read(self.fd, 8)
            except OSError:
                return
            self._until_ns = None

    class LinuxTree:
        """A Tree made of all descendants of this process."""

        announces_end = True

        def __init__(self, control: int, listeners: Sequence[int], *, use_cgroup: bool) -> None:
            become_subreaper()
            self._channel = Channel(control)
            self._listeners = tuple(listeners)
            self._alarm = Alarm()
            self._timer = Timer()
            for fd in listeners:
                os.set_inheritable(fd, False)
            self._group = cgroup.Group.make() if use_cgroup else cgroup.Group("")
            self._own_pid = os.getpid()
            self._launcher = Launcher(listeners, self._enter)
            self._empty = True
            self._asked: set[int] = set()  # have had their SIGTERM
            self.receive = self._channel.receive
            self.send = self._channel.send

        def _enter(self) -> None:
            """In the child, before the exec."""
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self._own_pid:  # the guardian died before that took hold
                os._exit(1)

        @property
        def unsent(self) -> bool:
            return self._channel.unsent

        def wait(self, until_ns: int | None) -> None:
            self._timer.set(until_ns)
            watched = [(self._alarm.fd, select.POLLIN), (self._timer.fd, select.POLLIN)]
            if self._launcher.status_fd != -1:
                watched.append((self._launcher.status_fd, select.POLLIN))
            watched += self._channel.watch()
            poll(watched, None)
            self._alarm.drain()
            self._timer.drain()

        def start(self, order: Run) -> None:
            self._launcher.start(order)
            self._empty = False
            self._group.adopt(self._launcher.pid)

        def happened(self) -> list[Outcome]:
            told: list[Outcome] = []
            if self._launcher.status_fd != -1 and (word := self._launcher.launched()):
                told.append(word)
            stirred = False
            while not self._empty:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    self._empty = True
                    break
                if not pid:
                    break
                if pid == self._launcher.pid:
                    told += self._launcher.ended(status)
                else:
                    stirred = True
            if stirred:
                told.append(Stirred())
            return told

        def empty(self) -> bool:
            return self._empty

        def leftovers(self) -> int:
            if self._empty:
                return 0
            children = sweep.lister()
            roots = [pid for pid in children(self._own_pid) if pid != self._launcher.pid]
            return len(sweep.below(roots, children))

        def soft(self, again: bool) -> None:
            # Each process once: some take a second SIGTERM as a wish to end at once.
            children = sweep.lister()
            roots = children(self._own_pid)
            if again:
                roots = [pid for pid in roots if pid not in self._asked]
            else:
                self._asked.clear()
            seen = sweep.below(roots, children)
            main = self._launcher.pid
            if main and not again:  # its whole group at once, with what it forks meanwhile
                self._asked.update(pid for pid in seen if _in_group(pid, main))
                signal_group(main, signal.SIGTERM)
                signal_group(main, signal.SIGCONT)
            for pid in seen:
                if pid not in self._asked:
                    self._asked.add(pid)
                    sweep.send(pid, signal.SIGTERM)
                    sweep.send(pid, signal.SIGCONT)

        def hard(self) -> None:
            self._group.kill()
            if self._launcher.pid:
                signal_group(self._launcher.pid, signal.SIGKILL)
            sweep.strike(sweep.descendants)

        def close(self) -> None:
            # The port first, as nothing is left that holds it: the peer is waiting for that.
            for fd in self._listeners:
                os.close(fd)
            self._group.remove()

    def _in_group(pid: int, group: int) -> bool:
        try:
            return os.getpgid(pid) == group
        except OSError:
            return False
