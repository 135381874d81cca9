"""The keeper of many guardians on Linux: forks one for each service, and stands behind all.

Each guardian is the child subreaper of its own tree. So what becomes a child of the keeper without
being a guardian is of a tree whose guardian is gone: it is killed, and only when nothing of
the kind is left is the member told of the guardians that were lost. A guardian that lets its
deadline pass has its descendants killed, and no other's. The deadlines stand in shared memory.

The member asks in packets of words, with descriptors beside them; numbers are the member's:
`open NUMBER STOP_TIMEOUT_NS MARGIN_NS [ADDRESS...]` with control channel, standard output and
error, and the two descriptors that guardian and runs are to hold open, if there are any,
`kill NUMBER`, `ping N`. It is told `opened NUMBER PID`, `failed NUMBER REASON`,
`ended NUMBER EXIT_CODE` (negative: that signal) and `pong N`. When the member is gone, the keeper
ends after the last guardian.
"""

from __future__ import annotations

import os
import select
import sys

from ha_heartbeat.guardian.clock import NEVER_NS, now_ns
from ha_heartbeat.guardian.light import NamedTuple, signal, suppress
from ha_heartbeat.guardian.main import EXIT_BROKEN, EXIT_USAGE, complain, guard
from ha_heartbeat.guardian.protocol import VERSION
from ha_heartbeat.guardian.tree import make_addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ha_heartbeat.guardian.tree import Addresses

_AGAIN_NS = 50_000_000
_FIRST_PAUSE_NS = 1_000_000
_LAST_PAUSE_NS = 1_000_000_000
_PACKET_BYTES = 16_384
_WORD_BYTES = 4  # a descriptor in SCM_RIGHTS is a C int
_PASSED = (3, 5)
"""How many descriptors come with an order to fork: without any to hold open, and with them."""
_SLOTS = 4096
"""The most guardians of one keeper; memory is taken only for those that there are."""

if sys.platform == "linux":
    import _socket
    import mmap

    from ha_heartbeat.guardian import sweep
    from ha_heartbeat.guardian.keeper import STUCK_NS, Notes, clear
    from ha_heartbeat.guardian.linux import LinuxTree, Timer, become_subreaper, take_precedence
    from ha_heartbeat.guardian.posix import Alarm

    class _Ward(NamedTuple):
        number: int
        pid: int
        slot: int
        late_ns: int
        addresses: Addresses | None

    class Nursery:
        """The keeper: its guardians, and the channel on which the member asks for them."""

        def __init__(self, requests: int, listeners: Sequence[int]) -> None:
            become_subreaper()
            take_precedence()
            self._pid = os.getpid()
            self._requests = _socket.socket(fileno=requests)
            self._requests.setblocking(False)
            self._requests_fd = requests
            os.set_inheritable(requests, False)
            self._listeners = list(listeners)
            self._deadlines = memoryview(mmap.mmap(-1, _SLOTS * 8)).cast("q")
            self._free = list(range(_SLOTS - 1, -1, -1))
            self._bell, self._bell_writer = os.pipe()
            for fd in (self._bell, self._bell_writer):
                os.set_blocking(fd, False)
            self._alarm = Alarm()
            self._timer = Timer()
            self._wards: dict[int, _Ward] = {}
            self._lost: list[tuple[_Ward, int]] = []  # something of their trees may be left
            self._pause_ns = _FIRST_PAUSE_NS
            self._clear_at_ns = NEVER_NS
            self._unsaid: list[bytes] = []
            self._alone = False  # the member is gone

        def serve(self) -> None:
            """Return when the member is gone, and nothing of any tree is left."""
            while not (self._alone and not self._wards and not self._lost):
                self._wait()
                self._hear()
                self._reap()
                self._enforce()
                self._flush()
            for fd in self._listeners:
                os.close(fd)

        def _wait(self) -> None:
            due_ns = self._clear_at_ns
            now = now_ns()
            for ward in self._wards.values():
                until_ns = self._deadlines[ward.slot]
                if until_ns != NEVER_NS:
                    late_ns = until_ns + ward.late_ns
                    due_ns = min(due_ns, late_ns if late_ns > now else now + _AGAIN_NS)
            self._timer.set(None if due_ns == NEVER_NS else due_ns)
            poller = select.poll()
            for fd in (self._alarm.fd, self._timer.fd, self._bell):
                poller.register(fd, select.POLLIN)
            if not self._alone:
                out = select.POLLOUT if self._unsaid else 0
                poller.register(self._requests_fd, select.POLLIN | out)
            poller.poll()
            self._alarm.drain()
            self._timer.drain()
            with suppress(BlockingIOError):
                os.read(self._bell, 65536)

        def addresses(self) -> list[Addresses]:
            """The virtual addresses of all services that may have any now."""
            wards = [*self._wards.values(), *(ward for ward, _ in self._lost)]
            return [ward.addresses for ward in wards if ward.addresses is not None]

        # What the member says, one packet at a time: a deadline may come between two forks.

        def _hear(self) -> None:
            if self._alone:
                return
            try:
                room = _socket.CMSG_SPACE(max(_PASSED) * _WORD_BYTES)
                data, beside, _, _ = self._requests.recvmsg(_PACKET_BYTES, room)
            except BlockingIOError:
                return
            except OSError:
                data, beside = b"", []
            fds = [
                int.from_bytes(words[at : at + _WORD_BYTES], sys.byteorder)
                for _, _, words in beside
                for at in range(0, len(words) - _WORD_BYTES + 1, _WORD_BYTES)
            ]
            try:
                if data:
                    self._obey(data.decode(), fds)
                else:
                    self._alone = True
            finally:
                for fd in fds:
                    os.close(fd)

        def _obey(self, text: str, fds: list[int]) -> None:
            word, first, *rest = text.split()
            if word == "ping":
                self._say(f"pong {first}")
            elif word == "kill":
                for ward in self._wards.values():
                    if ward.number == int(first):
                        sweep.send(ward.pid, signal.SIGKILL)
            elif word == "open":
                timeout_ns, margin_ns = map(int, rest[:2])
                if not self._free or len(fds) not in _PASSED:
                    self._say(f"failed {first} there is no room for it")
                    return
                try:
                    addresses = make_addresses(rest[2:])
                    self._fork(int(first), timeout_ns, margin_ns, fds, addresses)
                except (OSError, ValueError) as problem:
                    why = problem.strerror if isinstance(problem, OSError) else problem
                    self._say(f"failed {first} {why}")

        def _fork(
            self,
            number: int,
            timeout_ns: int,
            margin_ns: int,
            fds: list[int],
            addresses: Addresses | None,
        ) -> None:
            slot = self._free[-1]
            self._deadlines[slot] = NEVER_NS
            pid = os.fork()
            if pid == 0:
                self._become(slot, timeout_ns, margin_ns, fds, addresses)
            self._free.pop()
            self._wards[pid] = _Ward(number, pid, slot, margin_ns // 3, addresses)
            self._say(f"opened {number} {pid}")

        def _become(
            self,
            slot: int,
            timeout_ns: int,
            margin_ns: int,
            fds: list[int],
            addresses: Addresses | None,
        ) -> None:
            """The guardian's side of the fork: never returns."""
            status = EXIT_BROKEN
            try:
                os.close(signal.set_wakeup_fd(-1))
                for fd in (self._alarm.fd, self._bell, self._requests_fd, self._timer.fd):
                    os.close(fd)
                control, stdout, stderr, *kept = fds
                for fd in kept:
                    os.set_inheritable(fd, True)
                for ours, standard in ((stdout, 1), (stderr, 2)):
                    os.dup2(ours, standard)
                    if ours > 2:
                        os.close(ours)
                deadline = self._deadlines[slot : slot + 1]
                notes = Notes(deadline, self._bell_writer, self._pid, margin_ns)
                if os.getppid() == self._pid:  # or that was somebody else's process id
                    # No control group: moving into one takes 10 ms, in which nobody can fork.
                    tree = LinuxTree(control, self._listeners, notes, use_cgroup=False)
                    status = guard(tree, timeout_ns, addresses)
            except OSError as problem:
                complain(f"it cannot start: {problem}")
                status = EXIT_USAGE
            finally:
                os._exit(status)

        # What became of the guardians.

        def _reap(self) -> None:
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if not pid:
                    break
                if ward := self._wards.pop(pid, None):
                    self._free.append(ward.slot)
                    code = os.waitstatus_to_exitcode(status)
                    if code == 0:  # it has seen to its tree itself
                        self._say(f"ended {ward.number} 0")
                    else:
                        self._lost.append((ward, code))
                        self._clear_at_ns, self._pause_ns = 0, _FIRST_PAUSE_NS
            if self._lost and now_ns() >= self._clear_at_ns:
                self._clear()

        def _clear(self) -> None:
            """Kill what lost guardians left; nothing left is told.

            The list of children is whole here: only this process, in its one thread, takes
            anything from it, by waitpid; orphans are added at its end.
            """
            for ward, _ in self._lost:
                if ward.addresses is not None:  # also while something cannot die
                    ward.addresses.remove()
            if self._orphans():
                sweep.strike(lambda: sweep.below(self._orphans(), sweep.lister()))
                self._clear_at_ns = now_ns() + self._pause_ns
                self._pause_ns = min(self._pause_ns * 2, _LAST_PAUSE_NS)
                return
            self._clear_at_ns = NEVER_NS
            for ward, code in self._lost:
                if ward.addresses is not None:  # again: a process of the tree may have added one
                    ward.addresses.remove()
                self._say(f"ended {ward.number} {code}")
            self._lost.clear()

        def _orphans(self) -> list[int]:
            return [pid for pid in sweep.lister()(self._pid) if pid not in self._wards]

        def _enforce(self) -> None:
            now = now_ns()
            for ward in self._wards.values():
                until_ns = self._deadlines[ward.slot]
                if until_ns == NEVER_NS or now < until_ns + ward.late_ns:
                    continue
                sweep.strike(lambda pid=ward.pid: _below(pid))  # type: ignore[misc]
                if ward.addresses is not None:
                    ward.addresses.lapse()
                if now_ns() >= until_ns + STUCK_NS:
                    sweep.send(ward.pid, signal.SIGKILL)

        # What the member is told.

        def _say(self, words: str) -> None:
            self._unsaid.append(words.encode())

        def _flush(self) -> None:
            while self._unsaid and not self._alone:
                try:
                    self._requests.send(self._unsaid[0])
                except BlockingIOError:
                    return
                except OSError:  # it is gone, which reading will show
                    self._unsaid.clear()
                    return
                del self._unsaid[0]

    def _below(guardian: int) -> list[int]:
        children = sweep.lister()
        return sweep.below(children(guardian), children)

    def main() -> None:
        """Keep until member and guardians are gone; does not return.

        Arguments: VERSION REQUESTS LISTENER[,LISTENER...]. Exit status as of `guardian.main`.
        """
        import gc

        try:
            version, requests, listeners = sys.argv[1:]
            if int(version) != VERSION:
                raise ValueError(f"its member speaks version {version}, this is {VERSION}")
            nursery = Nursery(int(requests), [int(fd) for fd in listeners.split(",") if fd])
        except (ValueError, OSError) as problem:
            complain(f"its keeper cannot start: {problem}")
            os._exit(EXIT_USAGE)
        gc.disable()  # a collection would write to, and so copy, all pages of a fork
        gc.freeze()
        try:
            nursery.serve()
        except Exception as problem:
            complain(f"an unexpected error, so all runs are killed: {problem!r}")
            with suppress(OSError):
                clear(nursery.addresses())
            os._exit(EXIT_BROKEN)
        os._exit(0)
