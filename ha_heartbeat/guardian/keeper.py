"""The guardian's keeper on Linux: what is left when the guardian is killed or stands still.

The process that the member starts forks once. The child is the guardian proper and does the work;
the parent, the keeper, waits for one of two things and ends the tree when either comes:

- The guardian is gone. What it left becomes the keeper's, a child subreaper, too.
- The guardian let a deadline pass: it was stopped, or gets no processor. The tree is killed then,
  and the guardian as well if it does not wake up.

So of member, guardian and keeper any one that is left ends the command, and takes the service's
virtual addresses off. The keeper reads no
message and holds no channel: the guardian leaves the next deadline in a page that both share, and
wakes it only to have that read.
"""

from __future__ import annotations

import os
import select
import sys
import time

from ha_heartbeat.guardian.light import signal, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ha_heartbeat.guardian.tree import Addresses

STUCK_NS = 1_000_000_000
"""How late it may be before it is killed itself: it did not even notice that the tree is gone."""
_AGAIN_NS = 50_000_000
_FIRST_PAUSE_S = 0.001
_LAST_PAUSE_S = 1.0
_PAGE_BYTES = 4096
_LOOK, _LET_GO = b"l", b"g"

if sys.platform == "linux":
    import mmap

    from ha_heartbeat.guardian import sweep
    from ha_heartbeat.guardian.clock import NEVER_NS, now_ns
    from ha_heartbeat.guardian.linux import Timer, become_subreaper, take_precedence
    from ha_heartbeat.guardian.posix import Alarm

    class Notes:
        """The guardian's side: what it lets its keeper know.

        `keeper_fd` becomes readable when the keeper is gone.
        """

        def __init__(self, deadline: memoryview, bell: int, keeper: int, margin_ns: int) -> None:
            self.keeper = keeper
            self.margin_ns = margin_ns
            self.keeper_fd = os.pidfd_open(keeper)
            self._deadline = deadline
            self._bell = bell

        def tree_dead_by(self, until_ns: int) -> None:
            """The time by which the guardian will have acted, NEVER_NS while nothing lives.

            A later time than the one before is found when that one comes; only an earlier one has
            to be said.
            """
            before = self._deadline[0]
            self._deadline[0] = until_ns
            if until_ns < before:
                self._ring(_LOOK)

        def let_go(self) -> None:
            """Nothing is left to guard: the port may be free. One that is stopped is woken up."""
            self._ring(_LET_GO)
            with suppress(OSError):
                signal.pidfd_send_signal(self.keeper_fd, signal.SIGCONT)

        def _ring(self, word: bytes) -> None:
            with suppress(OSError):  # it is gone, or was rung for before and not yet looked
                os.write(self._bell, word)

    def split(
        control: int, listeners: Sequence[int], margin_ns: int, addresses: Addresses | None
    ) -> Notes:
        """Become two processes: returns in the guardian; the keeper ends as the guardian does.

        The keeper acts when the guardian is late by a third of the margin. Raises OSError when
        there cannot be two.
        """
        become_subreaper()
        page = mmap.mmap(-1, _PAGE_BYTES)
        deadline = memoryview(page).cast("q")
        deadline[0] = NEVER_NS
        reader, writer = os.pipe()
        for fd in (reader, writer):
            os.set_blocking(fd, False)
        keeper = os.getpid()
        guardian = os.fork()
        if guardian == 0:
            os.close(reader)
            return Notes(deadline, writer, keeper, margin_ns)
        os.close(writer)
        os.close(control)
        _Keeper(guardian, deadline, reader, listeners, margin_ns // 3, addresses).serve()
        raise AssertionError("a keeper does not return")

    class _Keeper:
        def __init__(
            self,
            guardian: int,
            deadline: memoryview,
            bell: int,
            listeners: Sequence[int],
            late_ns: int,
            addresses: Addresses | None,
        ) -> None:
            take_precedence()
            self._guardian = guardian
            self._addresses = addresses
            self._late_ns = late_ns
            self._guardian_fd = os.pidfd_open(guardian)
            self._deadline = deadline
            self._bell = bell
            self._listeners = list(listeners)
            self._timer = Timer()
            for number in Alarm.SHRUGGED:
                if number != signal.SIGCHLD:  # ignored, it would reap the guardian
                    signal.signal(number, signal.SIG_IGN)

        def serve(self) -> None:
            """Watch the guardian to its end, see that nothing is left, and end as it did."""
            with suppress(Exception):  # whatever that may be: the guardian's end is waited for
                self._watch()
            _, status = os.waitpid(self._guardian, 0)
            clear([] if self._addresses is None else [self._addresses])
            _end_like(os.waitstatus_to_exitcode(status))

        def _watch(self) -> None:
            poller = select.poll()
            for fd in (self._guardian_fd, self._bell, self._timer.fd):
                poller.register(fd, select.POLLIN)
            while True:
                due_ns = self._next_look_ns()
                self._timer.set(None if due_ns == NEVER_NS else due_ns)
                ready = [fd for fd, _ in poller.poll()]
                if self._bell in ready and not self._answer_bell():
                    poller.unregister(self._bell)  # the guardian ends, which takes its time
                if self._guardian_fd in ready:
                    return
                self._timer.drain()
                self._enforce()

        def _answer_bell(self) -> bool:
            """Do what was asked for; whether anybody can ring again."""
            said = os.read(self._bell, _PAGE_BYTES)
            if _LET_GO in said:
                while self._listeners:
                    os.close(self._listeners.pop())
            return bool(said)

        def _next_look_ns(self) -> int:
            due_ns = self._deadline[0]
            if due_ns == NEVER_NS:
                return NEVER_NS
            return max(due_ns + self._late_ns, now_ns() + _AGAIN_NS if self._is_late() else 0)

        def _is_late(self) -> bool:
            return now_ns() >= self._deadline[0] + self._late_ns

        def _enforce(self) -> None:
            if not self._is_late():
                return
            sweep.strike(lambda: [p for p in sweep.descendants() if p != self._guardian])
            if self._addresses is not None:
                self._addresses.lapse()
            if now_ns() >= self._deadline[0] + STUCK_NS:
                signal.pidfd_send_signal(self._guardian_fd, signal.SIGKILL)

    def clear(addresses: Sequence[Addresses]) -> None:
        """Kill and reap all that guardians left, and take off, however long that takes."""
        pause_s = _FIRST_PAUSE_S
        while True:
            is_empty = False
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                is_empty = True
            if not is_empty:
                sweep.strike(sweep.descendants)
            for some in addresses:  # also while something cannot die
                some.remove()
            if is_empty:
                return
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _LAST_PAUSE_S)

    def _end_like(code: int) -> None:
        """Exit with the guardian's exit status, or by the signal that ended it (negative)."""
        if code < 0:
            with suppress(OSError):  # SIGKILL and SIGSTOP have no handler
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        os._exit(code if code >= 0 else 128 - code)
