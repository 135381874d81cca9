"""The guardian on any POSIX system: process groups, and what all POSIX variants share.

What it can miss: a process that leaves its group (setsid, setpgid: most daemons, and shells with
job control) is neither counted, stopped nor waited for; it still holds the port, if it did not
close what it inherited. Nothing here kills the run when the guardian itself is killed. The
number of leftovers is that of process groups. A deadline that passes in a suspend fires after it,
late by what the clock did not count.
"""

from __future__ import annotations

import os
import select
import sys

from ha_heartbeat.guardian.clock import now_ns
from ha_heartbeat.guardian.light import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ha_heartbeat.guardian.protocol import Run
    from ha_heartbeat.guardian.tree import Outcome

_CHUNK_BYTES = 65536

if sys.platform != "win32":
    from ha_heartbeat.guardian.launch import Launcher

    class Channel:
        """The guardian's end of the socket pair to its member; never blocks."""

        def __init__(self, fd: int) -> None:
            os.set_blocking(fd, False)
            os.set_inheritable(fd, False)
            self._fd = fd
            self._unsent = bytearray()
            self.closed = False

        @property
        def unsent(self) -> bool:
            return bool(self._unsent)

        def watch(self) -> Iterable[tuple[int, int]]:
            """What poll(2) is to wait for; nothing once the member has hung up."""
            if not self.closed:
                yield self._fd, select.POLLIN | (select.POLLOUT if self._unsent else 0)

        def receive(self) -> tuple[bytes, bool]:
            """All that can be read now, and whether the member has hung up."""
            self._flush()
            heard = bytearray()
            while not self.closed:
                try:
                    chunk = os.read(self._fd, _CHUNK_BYTES)
                except BlockingIOError:
                    break
                except OSError:  # reset: it died with something of ours unread
                    chunk = b""
                heard += chunk
                self.closed = not chunk
            return bytes(heard), self.closed

        def send(self, data: bytes) -> None:
            if not self.closed:
                self._unsent += data
                self._flush()

        def _flush(self) -> None:
            while self._unsent and not self.closed:
                try:
                    del self._unsent[: os.write(self._fd, self._unsent)]
                except BlockingIOError:
                    return
                except OSError:  # it has hung up, which reading will show
                    self._unsent.clear()

    class Alarm:
        """Makes poll(2) return when a signal comes, and keeps signals from ending the guardian."""

        # Caught and not ignored: what is ignored would be inherited by the command.
        SHRUGGED = (
            signal.SIGHUP,
            signal.SIGINT,
            signal.SIGQUIT,
            signal.SIGTERM,
            signal.SIGUSR1,
            signal.SIGUSR2,
            signal.SIGALRM,
            signal.SIGCHLD,
        )

        def __init__(self) -> None:
            self.fd, writer = os.pipe()
            os.set_blocking(self.fd, False)
            os.set_blocking(writer, False)
            for number in self.SHRUGGED:
                signal.signal(number, lambda _number, _frame: None)
            signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

        def drain(self) -> None:
            """Forget the signals so far; they only said: look."""
            try:
                while os.read(self.fd, _CHUNK_BYTES):
                    pass
            except BlockingIOError:
                pass

    def poll(watched: Iterable[tuple[int, int]], until_ns: int | None) -> None:
        """poll(2) on these descriptors until that time; rounded up, never early."""
        poller = select.poll()
        for fd, events in watched:
            poller.register(fd, events)
        if until_ns is None:
            poller.poll()
        else:
            pause_ms = -(-(until_ns - now_ns()) // 1_000_000)
            poller.poll(min(max(pause_ms, 0), 2**31 - 1))

    def signal_group(group: int, number: int) -> bool:
        """Send that signal to a process group; whether there is such a group."""
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return False
        except OSError:
            pass  # there is one, and it is not ours to signal (setuid)
        return True

    def kill_groups(groups: Iterable[int]) -> bool:
        """SIGKILL to each process group; whether any of them was there."""
        return sum(signal_group(group, signal.SIGKILL) for group in groups) > 0

    class PosixTree:
        """A Tree made of the process groups of the runs."""

        announces_end = False

        def __init__(self, control: int, listeners: Sequence[int]) -> None:
            self._channel = Channel(control)
            self._alarm = Alarm()
            for fd in listeners:
                os.set_inheritable(fd, False)
            self._launcher = Launcher(listeners, lambda: None)
            self._groups: set[int] = set()
            self.receive = self._channel.receive
            self.send = self._channel.send

        @property
        def unsent(self) -> bool:
            return self._channel.unsent

        def wait(self, until_ns: int | None) -> None:
            watched = [(self._alarm.fd, select.POLLIN), *self._channel.watch()]
            if self._launcher.status_fd != -1:
                watched.append((self._launcher.status_fd, select.POLLIN))
            poll(watched, until_ns)
            self._alarm.drain()

        def start(self, order: Run) -> None:
            self._launcher.start(order)
            self._groups.add(self._launcher.pid)

        def happened(self) -> list[Outcome]:
            told: list[Outcome] = []
            if self._launcher.status_fd != -1 and (word := self._launcher.launched()):
                told.append(word)
            if self._launcher.pid:
                pid, status = os.waitpid(self._launcher.pid, os.WNOHANG)
                if pid:
                    told += self._launcher.ended(status)
            self._groups = {
                group
                for group in self._groups
                if group == self._launcher.pid or signal_group(group, 0)
            }
            return told

        def empty(self) -> bool:
            return not self._groups

        def answer_for(self, until_ns: int, *, striking: bool) -> None:
            """Nobody stands behind this one."""

        def leftovers(self) -> int:
            return len(self._groups - {self._launcher.pid})

        def soft(self, again: bool) -> None:
            if again:
                return
            for group in self._groups:
                signal_group(group, signal.SIGTERM)
                signal_group(group, signal.SIGCONT)

        def hard(self) -> None:
            kill_groups(self._groups)

        def close(self) -> None:
            """Nothing was made outside this process."""
