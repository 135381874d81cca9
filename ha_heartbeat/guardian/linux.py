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
from ha_heartbeat.guardian.clock import NEVER_NS
from ha_heartbeat.guardian.light import signal, suppress
from ha_heartbeat.guardian.tree import Stirred

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ha_heartbeat.guardian.protocol import Run
    from ha_heartbeat.guardian.tree import Outcome

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_SIGEV_SIGNAL = 0
_TFD_TIMER_ABSTIME = 1
_TFD_NONBLOCK = 0o4000
_TFD_CLOEXEC = 0o2000000

if sys.platform == "linux":
    from ha_heartbeat.guardian import cgroup
    from ha_heartbeat.guardian.launch import Launcher
    from ha_heartbeat.guardian.posix import Alarm, Channel, poll, signal_group

    if TYPE_CHECKING:
        from ha_heartbeat.guardian.keeper import Notes

    _libc = ctypes.CDLL(None, use_errno=True)
    # In a library of their own before glibc 2.34.
    _timers = _libc if hasattr(_libc, "timer_create") else ctypes.CDLL("librt.so.1", use_errno=True)

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

    def take_precedence() -> None:
        """Go before whatever the command does with the processors, where that is permitted.

        The lowest real-time priority goes before every ordinary process, and no quota of a control
        group holds it up (sched(7)), so SIGKILL is sent in time to a command that takes all there
        is; a process that has it pending does nothing more of its own. What is forked is ordinary
        again. A member that was given another policy, or a better priority, is left with it, since
        its command has to inherit that.
        """
        with suppress(OSError):
            if os.sched_getscheduler(0) != os.SCHED_OTHER or os.getpriority(os.PRIO_PROCESS, 0) < 0:
                return
            policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
            os.sched_setscheduler(0, policy, os.sched_param(1))

    class _Timespec(ctypes.Structure):
        _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))

    class _Itimerspec(ctypes.Structure):
        _fields_ = (("interval", _Timespec), ("value", _Timespec))

    def _once_at(until_ns: int | None) -> _Itimerspec:
        """What arms a timer for that moment, once; None disarms it."""
        # All zero would disarm it, which is what None wants and the moment 0 does not.
        seconds, rest = divmod(0 if until_ns is None else max(until_ns, 1), 1_000_000_000)
        return _Itimerspec(_Timespec(0, 0), _Timespec(seconds, rest))

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
            new = _once_at(until_ns)
            done = _libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, ctypes.byref(new), None)
            _checked(done, "timerfd_settime")

        def drain(self) -> None:
            """Make it unreadable again if it was due."""
            try:
                os.read(self.fd, 8)
            except OSError:
                return
            self._until_ns = None

        def close(self) -> None:
            """Give it back."""
            os.close(self.fd)

    class Fuse:
        """Has the kernel kill this process at a time, also when it is stopped (timer_create(2)).

        SIGKILL is the one signal that a stopped process takes; its run dies with it.
        """

        def __init__(self) -> None:
            event = (ctypes.c_int * 16)()  # struct sigevent: 64 bytes
            event[2], event[3] = signal.SIGKILL, _SIGEV_SIGNAL
            self._timer = ctypes.c_void_p()
            self._until_ns: int | None = None
            made = _timers.timer_create(
                ctypes.c_int(time.CLOCK_BOOTTIME), event, ctypes.byref(self._timer)
            )
            _checked(made, "timer_create")

        def set(self, until_ns: int | None) -> None:
            """Be killed then; None: not at all."""
            if until_ns == self._until_ns:
                return
            self._until_ns = until_ns
            new = _once_at(until_ns)
            done = _timers.timer_settime(self._timer, _TFD_TIMER_ABSTIME, ctypes.byref(new), None)
            _checked(done, "timer_settime")

        def close(self) -> None:
            """Not at all, and give the timer back."""
            _checked(_timers.timer_delete(self._timer), "timer_delete")

    class LinuxTree:
        """A Tree made of all descendants of this process."""

        announces_end = True

        def __init__(
            self, control: int, listeners: Sequence[int], notes: Notes, *, use_cgroup: bool
        ) -> None:
            become_subreaper()
            take_precedence()
            self._notes = notes
            self._forsaken = False  # the keeper is gone
            self._fuse = Fuse()
            self._channel = Channel(control)
            self._listeners = tuple(listeners)
            self._alarm = Alarm()
            self._timer = Timer()
            for fd in listeners:
                os.set_inheritable(fd, False)
            self._group = cgroup.Group.make(notes.keeper) if use_cgroup else cgroup.Group("")
            self._own_pid = os.getpid()
            self._launcher = Launcher(listeners, self._enter)
            self._empty = True
            self._asked: set[int] = set()  # have had their SIGTERM
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
            if not self._forsaken:
                watched.append((self._notes.keeper_fd, select.POLLIN))
            poll(watched, None)
            self._alarm.drain()
            self._timer.drain()

        def receive(self) -> tuple[bytes, bool]:
            if not self._forsaken and select.select([self._notes.keeper_fd], [], [], 0)[0]:
                self._forsaken = True
            if self._forsaken:  # the member takes it for the guardian, and starts another
                self._channel.closed = True
                return b"", True
            return self._channel.receive()

        def answer_for(self, until_ns: int, *, striking: bool) -> None:
            self._notes.tree_dead_by(until_ns)
            # After two thirds of the margin: the keeper comes before that.
            late_ns = 2 * self._notes.margin_ns // 3
            self._fuse.set(None if striking or until_ns == NEVER_NS else until_ns + late_ns)

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
            self._notes.let_go()
            for fd in self._listeners:
                os.close(fd)
            self._group.remove()

    def _in_group(pid: int, group: int) -> bool:
        try:
            return os.getpgid(pid) == group
        except OSError:
            return False
