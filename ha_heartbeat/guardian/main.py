"""The guardian's loop: what it was told, what happened, and what time it is, in that order.

Started by the member as an interpreter of its own, with descriptors it inherits (`parse`).
"""

from __future__ import annotations

import os
import sys
import time

from ha_heartbeat.guardian.clock import NEVER_NS, now_ns
from ha_heartbeat.guardian.light import suppress
from ha_heartbeat.guardian.protocol import (
    VERSION,
    Cleared,
    Cut,
    Decoder,
    End,
    Ended,
    Expired,
    Extend,
    Failed,
    Gone,
    Kill,
    Leftovers,
    Ping,
    Pong,
    ProtocolError,
    Ready,
    Run,
    SetUp,
    Started,
    Stop,
    Undo,
    Undone,
    encode,
)
from ha_heartbeat.guardian.tree import (
    Exited,
    Launched,
    NotLaunched,
    StartError,
    default_variant,
    make,
    make_addresses,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ha_heartbeat.guardian.protocol import Message, Report
    from ha_heartbeat.guardian.tree import Addresses, Outcome, Tree

_FIRST_PAUSE_NS = 1_000_000
_LAST_PAUSE_NS = 1_000_000_000
"""Pauses between looks at processes that should be dead and are not."""
_STRIKE_NS = 100_000_000
"""What one round of killing may take before the keeper lends a hand."""
_LOOK_NS = 20_000_000
"""How often to look for the end of a tree that cannot announce it, while it is being stopped."""
_RECOUNT_NS = 100_000_000
"""The least pause between counts of leftovers, when orphan after orphan ends."""
_COUNT_NS = 1_000_000_000
_COUNT_MAX_NS = 32_000_000_000
"""Pauses between counts when nobody tells: doubled while nothing changes, none without any."""

UNDOING = -2
"""The number of the run that undoes what was set up; the member's are from 0."""

EXIT_BROKEN = 70  # sysexits.h: internal software error
EXIT_USAGE = 64


class Limits:
    """When the tree is to be asked to end, and when it is to be killed."""

    def __init__(self) -> None:
        self.term_at_ns = NEVER_NS
        self.kill_at_ns = NEVER_NS

    def set(self, term_at_ns: int, kill_at_ns: int) -> None:
        """These times, whatever was before."""
        self.term_at_ns, self.kill_at_ns = term_at_ns, kill_at_ns

    def tighten(self, term_at_ns: int, kill_at_ns: int) -> None:
        """These times, where they are earlier."""
        self.set(min(self.term_at_ns, term_at_ns), min(self.kill_at_ns, kill_at_ns))


class Guard:
    """One guardian: a tree, the limits on its life, and what the member is still to be told."""

    def __init__(
        self, tree: Tree, stop_timeout_ns: int, addresses: Addresses | None = None
    ) -> None:
        self._tree = tree
        self._addresses = addresses
        self._stop_timeout_ns = stop_timeout_ns
        self._decoder = Decoder()
        self._lease = Limits()
        self._order = Limits()
        self._run: int | None = None
        self._latest = -1
        self._leaving = False
        self._alone = False  # the member has hung up
        self._asked = False  # the tree was sent its SIGTERM
        self._condemned = False  # the killing has begun and is seen through
        self._strike_at_ns = 0
        self._pause_ns = _FIRST_PAUSE_NS
        self._owes_gone = False
        self._owes_cleared = False
        self._owes_expired = False
        self._undo: Undo | None = None
        self._needs_set_up = self._lacks_set_up = False
        self._undo_owed = False  # something was run, and is not undone
        self._left = 0
        self._stirred = False
        self._counted_ns = 0
        self._count_at_ns = NEVER_NS
        self._count_pause_ns = _COUNT_NS

    def serve(self) -> None:
        """Return when there is nothing left to guard and nobody to guard it for."""
        self._say(Ready(os.getpid()))
        while not (self._leaving and self._tree.empty()):
            self._tree.wait(self._due_ns())
            self._hear()
            self._look()
            self._enforce(now_ns())
            self._answer()

    def destroy(self) -> None:
        """Kill the whole tree, however long that takes; for when nothing else works any more."""
        pause_ns = _FIRST_PAUSE_NS
        while True:
            with suppress(Exception):
                self._tree.hard()
                self._tree.happened()
                if self._tree.empty():
                    return
            time.sleep(pause_ns / 1e9)
            pause_ns = min(pause_ns * 2, _LAST_PAUSE_NS)

    def _say(self, report: Report) -> None:
        self._tree.send(encode(report))

    # What the member says.

    def _hear(self) -> None:
        data, hung_up = self._tree.receive()  # in any case: what is not read wakes it again
        if self._alone:
            return
        self._decoder.feed(data)
        try:
            for message in self._decoder.messages():
                # Who sent it and died meanwhile wants nothing started any more.
                if not (hung_up and isinstance(message, Run)):
                    self._obey(message)
        except ProtocolError as problem:
            complain(f"what its member says is not understood: {problem}")
            hung_up = True
        if hung_up:
            self._alone = self._leaving = True
            if self._run != UNDOING:
                self._limit(self._stop_timeout_ns)

    def _obey(self, order: Message) -> None:
        if isinstance(order, Run):
            self._start(order)
        elif isinstance(order, Extend):
            self._set_lease(order.term_at_ns, order.kill_at_ns)
        elif isinstance(order, Undo):
            self._undo = order
            self._undo_owed |= order.owed
        elif isinstance(order, SetUp):
            self._needs_set_up = True
            self._lacks_set_up = not order.begun
        elif isinstance(order, Stop | Kill | Cut):
            self._owes_gone |= not isinstance(order, Cut)
            self._owes_cleared |= isinstance(order, Cut)
            if self._tree.empty():
                self._settle()  # at once: the next order may be a run
            elif self._run != UNDOING:  # that has its own limit
                self._limit(0 if isinstance(order, Kill) else order.grace_ns)
        elif isinstance(order, End):
            self._leaving = True
            if self._run != UNDOING:
                self._limit(0)
        elif isinstance(order, Ping):
            self._say(Pong(order.number))
        else:
            raise ProtocolError(f"{type(order).__name__} is not for a guardian")

    def _limit(self, grace_ns: int) -> None:
        now = now_ns()
        self._order.tighten(now, now + max(grace_ns, 0))

    def _set_lease(self, term_at_ns: int, kill_at_ns: int) -> None:
        self._lease.set(term_at_ns, kill_at_ns)
        if self._addresses is not None and (again := self._addresses.extend(kill_at_ns)):
            complain(f"somebody has taken {again} off this host: added again, as the lease lasts")
        if self._order.term_at_ns == NEVER_NS and not self._condemned:
            self._asked = self._owes_expired = False

    def _start(self, order: Run) -> None:
        now, tried = now_ns(), 0
        if self._leaving:
            problem = "the guardian is about to end"
        elif self._run is not None:
            problem = f"run {self._run} is in progress"
        elif self._condemned or self._order.term_at_ns != NEVER_NS:
            problem = "processes of an earlier run are still being stopped"
        elif self._lacks_set_up:
            problem = "what was set up for it is undone"
        elif now >= min(order.term_at_ns, order.kill_at_ns):
            problem = "the lease is already over"
        else:
            # Before there is anything to end: this process may be stopped at any moment.
            self._tree.answer_for(order.kill_at_ns, striking=False)
            try:
                self._tree.start(order)
            except StartError as reason:
                problem, tried = str(reason), 1
            else:
                self._run = self._latest = order.run
                self._undo_owed = True
                self._set_lease(order.term_at_ns, order.kill_at_ns)
                return
        self._say(Failed(order.run, problem, tried))

    # What happened to the tree.

    def _look(self) -> None:
        for outcome in self._tree.happened():
            self._report(outcome)
        if self._tree.empty():
            self._settle()
            return
        if self._asked and self._stirred and self._run != UNDOING:
            self._tree.soft(again=True)
        self._stirred = False
        if now_ns() >= self._count_at_ns:
            self._count()

    def _report(self, outcome: Outcome) -> None:
        run = -1 if self._run is None else self._run
        if run == UNDOING:
            self._report_undoing(outcome)
        elif isinstance(outcome, Launched):
            self._say(Started(run, outcome.pid, now_ns()))
        elif isinstance(outcome, NotLaunched):
            self._run = None
            self._say(Failed(run, outcome.reason, 1))
        elif isinstance(outcome, Exited):
            self._run = None
            left = self._tree.leftovers()
            self._say(Ended(run, outcome.status, outcome.signal, now_ns(), left))
            self._counted(left)
            self._stirred = True
        else:
            self._stirred = True
            self._count_at_ns = min(self._count_at_ns, self._counted_ns + _RECOUNT_NS)

    def _settle(self) -> None:
        """Nothing is left: undo what is to be, pay what is owed, be ready for the next run."""
        if self._left:
            self._say(Leftovers(0))
            self._left = 0
        if self._owes_expired or self._owes_gone or self._leaving:
            self.take_addresses_off()
            if self._undo_owed and self._undo is not None and self._begin_undoing(self._undo):
                return
            self._undo_owed = False
            self._lacks_set_up = self._needs_set_up
        if self._owes_expired:
            self._say(Expired(self._latest, now_ns()))
        if self._owes_cleared:
            self._say(Cleared(now_ns()))
        if self._owes_gone:
            self._say(Gone(now_ns()))
        self._owes_expired = self._owes_cleared = self._owes_gone = False
        self._asked = self._condemned = self._stirred = False
        self._order = Limits()
        self._pause_ns = _FIRST_PAUSE_NS
        self._counted(0)

    def take_addresses_off(self) -> None:
        """None is here without the right to run, and nothing that could add one lives."""
        if self._addresses is not None and (problem := self._addresses.remove()):
            complain(f"it cannot take a virtual address off ({problem}): see to it by hand")

    def _begin_undoing(self, undo: Undo) -> bool:
        """Whether it was begun: it is when there is time for it and something to run."""
        self._undo_owed = False
        now = now_ns()
        until_ns = min(now + undo.limit_ns, self._lease.kill_at_ns + undo.reserve_ns)
        if now < until_ns:
            order = Run(UNDOING, until_ns, until_ns, undo.shell, undo.argv, undo.env)
            with suppress(StartError):
                self._tree.start(order)
                self._run = UNDOING
                self._condemned = False
                self._asked = True  # no SIGTERM: it is to finish
                self._order = Limits()
                self._order.set(until_ns, until_ns)
                self._pause_ns = _FIRST_PAUSE_NS
                return True
        self._say(Undone(-1, 0))
        return False

    def _report_undoing(self, outcome: Outcome) -> None:
        if isinstance(outcome, NotLaunched):
            self._run = None
            self._say(Undone(-1, 0))
        elif isinstance(outcome, Exited):
            self._run = None
            self._say(Undone(outcome.status, outcome.signal))
            now = now_ns()
            self._order.set(now, now)  # what it left behind has no time more
            self._stirred = True

    def _count(self) -> None:
        left = self._tree.leftovers()
        if left == self._left:
            pause_ns = min(self._count_pause_ns * 2, _COUNT_MAX_NS)
        elif self._tree.unsent:
            pause_ns = _COUNT_NS  # it is behind already; tell it the number of then
            left = self._left
        else:
            pause_ns = _COUNT_NS
            self._say(Leftovers(left))
        self._counted(left, pause_ns)

    def _counted(self, left: int, pause_ns: int = _COUNT_NS) -> None:
        self._left = left
        self._count_pause_ns = pause_ns
        self._counted_ns = now_ns()
        self._count_at_ns = self._counted_ns + pause_ns if left else NEVER_NS

    # What time it is.

    def _stands(self) -> bool:
        """Whether something was set up that is to be undone, whether the tree is empty or not."""
        return self._undo_owed and (self._undo is not None or self._addresses is not None)

    def _enforce(self, now: int) -> None:
        if self._tree.empty():
            if self._stands() and now >= self._lease.kill_at_ns:
                self._owes_expired = True
                self._settle()
            return
        lease = self._lease_now()
        term_at_ns = min(lease.term_at_ns, self._order.term_at_ns)
        kill_at_ns = min(lease.kill_at_ns, self._order.kill_at_ns)
        if now >= kill_at_ns and not self._condemned:
            self._condemned = True
            self._strike_at_ns = now
            self._owes_expired |= now >= lease.kill_at_ns
        if self._condemned:
            if now >= self._strike_at_ns:
                self._answer()  # before a strike that may take its time
                self._tree.hard()
                if self._addresses is not None and self._run != UNDOING:
                    self._addresses.lapse()  # also while something cannot die
                self._strike_at_ns = now_ns() + self._pause_ns
                if self._addresses is not None and now < lease.kill_at_ns:
                    self._strike_at_ns = min(self._strike_at_ns, lease.kill_at_ns)
                self._pause_ns = min(self._pause_ns * 2, _LAST_PAUSE_NS)
        elif now >= term_at_ns and not self._asked:
            self._asked = True
            self._owes_expired |= now >= lease.term_at_ns
            self._tree.soft(again=False)

    def _lease_now(self) -> Limits:
        """The limits of the lease; what undoes has begun with its own, which lie beyond them."""
        return Limits() if self._run == UNDOING else self._lease

    def _answer(self) -> None:
        """Let it be known by when the tree is dead, or is struck again.

        Only the lease is of concern to others: whoever waits for an order holds the port meanwhile.
        """
        if self._tree.empty():
            until_ns = self._lease.kill_at_ns if self._stands() else NEVER_NS
        elif self._condemned:
            until_ns = self._strike_at_ns + _STRIKE_NS
        else:
            undoing = self._run == UNDOING
            until_ns = self._order.kill_at_ns if undoing else self._lease.kill_at_ns
        self._tree.answer_for(until_ns, striking=self._condemned)

    def _due_ns(self) -> int | None:
        """When to wake if nothing happens; None for not at all."""
        if self._tree.empty():
            due_ns = self._lease.kill_at_ns if self._stands() else NEVER_NS
            return None if due_ns == NEVER_NS else due_ns
        if self._condemned:
            due_ns = self._strike_at_ns
        else:
            lease_ns = self._lease_now().kill_at_ns
            due_ns = min(lease_ns, self._order.kill_at_ns, self._count_at_ns)
        if not (self._asked or self._condemned):
            due_ns = min(due_ns, self._lease.term_at_ns, self._order.term_at_ns)
        elif not self._tree.announces_end:
            due_ns = min(due_ns, now_ns() + _LOOK_NS)
        return None if due_ns == NEVER_NS else due_ns


def complain(sentence: str) -> None:
    """One line for a human on the standard error output, if there is one."""
    with suppress(OSError):
        os.write(2, f"ha-heartbeat guardian: {sentence}\n".encode(errors="replace"))


def parse(arguments: Sequence[str]) -> tuple[str, int, list[int], int, int, list[str]]:
    """The variant, the control descriptor, the listening ones, the stop timeout and the margin.

    Both in ns. Then the virtual addresses. Raises ValueError for anything else than
    VERSION TREE CONTROL LISTENER[,LISTENER...] TIMEOUT_NS MARGIN_NS [ADDRESS...].
    """
    version, variant, control, listeners, timeout_ns, margin_ns, *addresses = arguments
    if int(version) != VERSION:
        raise ValueError(f"its member speaks version {version}, this is version {VERSION}")
    fds = [int(fd) for fd in listeners.split(",") if fd]
    times_ns = int(timeout_ns), int(margin_ns)
    return variant or default_variant(), int(control), fds, *times_ns, addresses


def main() -> None:
    """Guard until there is nothing left to guard; does not return. On Linux this is two processes.

    Exit status: 0; 64 for wrong arguments; 70 after an unexpected error, with the tree killed.
    """
    try:
        variant, control, listeners, stop_timeout_ns, margin_ns, words = parse(sys.argv[1:])
        addresses = make_addresses(words)
        if sys.platform != "win32":
            with suppress(OSError):  # already leads a session
                os.setsid()
        tree = make(variant, control, listeners, margin_ns, addresses)
    except (ValueError, OSError) as problem:
        complain(f"it cannot start: {problem}")
        os._exit(EXIT_USAGE)
    os._exit(guard(tree, stop_timeout_ns, addresses))


def guard(tree: Tree, stop_timeout_ns: int, addresses: Addresses | None = None) -> int:
    """Serve the member; returns the exit status, with nothing of the tree left."""
    guardian = Guard(tree, stop_timeout_ns, addresses)
    status = 0
    try:
        guardian.serve()
    except BaseException as problem:  # whatever it is, the tree must not outlive its guardian
        complain(f"an unexpected error, so it kills its runs: {type(problem).__name__}: {problem}")
        status = EXIT_BROKEN
        guardian.destroy()
        guardian.take_addresses_off()
    tree.close()
    return status
