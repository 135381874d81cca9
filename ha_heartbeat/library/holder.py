"""Takes the guardian's place: the run is a term, and the work is the application's own.

The member's orders mean here: begin the term, move its deadline, ask the application to end. That
it has ended is the application's word, given by leaving its block; nothing here can end it. With
`on_overrun="exit"` the process ends itself when the deadline passes and the word was not given,
and where the platform can, the kernel does so if the process cannot.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final, Literal

from ha_heartbeat.guardian.clock import NEVER_NS, now_ns
from ha_heartbeat.guardian.protocol import Failed, Gone, Run, Started
from ha_heartbeat.library.alarm import Alarm, Killer
from ha_heartbeat.library.term import LOGGER, Term
from ha_heartbeat.shell.guardian import Event

OnOverrun = Literal["log", "exit"]
EXIT_OVERRUN: Final = 70
"""Exit status of a process that worked on beyond its deadline (sysexits.h: EX_SOFTWARE)."""


class Holder:
    """A Runner whose one run is the application's term. Used in the member's loop.

    on_event: gets what the member wants to know. on_term: is called when the term begins.
    margin_ns: from the deadline to the end of the lease; the kernel acts within it.
    """

    def __init__(
        self,
        on_event: Callable[[Event], None],
        on_term: Callable[[Term], None],
        on_overrun: OnOverrun,
        margin_ns: int,
    ) -> None:
        self._on_event = on_event
        self._on_term = on_term
        self._exits = on_overrun == "exit"
        self._margin_ns = margin_ns
        self._term: Term | None = None
        self._ended = False  # the application has given its word
        self._left = asyncio.Event()
        self._owes_gone = False
        self._term_at_ns = NEVER_NS
        self._lease_ns = NEVER_NS
        self._order_ns = NEVER_NS
        self._overrun_said = False

    async def start(self) -> None:
        """Be ready for the term."""
        self._alarm = Alarm(self._enforce)
        self._killer = Killer(self._margin_ns // 2) if self._exits else None

    def run(self, order: Run) -> None:
        """Begin the term."""
        if self._term is not None or self._ended:
            self._soon(Failed(order.run, "the application has left its term", 0))
        elif now_ns() >= min(order.term_at_ns, order.kill_at_ns):
            self._soon(Failed(order.run, "the lease is already over", 0))
        else:
            self._term = Term(dict(order.env), order.kill_at_ns)
            self.extend(order.term_at_ns, order.kill_at_ns)
            self._soon(Started(order.run, os.getpid(), now_ns()))
            self._on_term(self._term)

    def extend(self, term_at_ns: int, kill_at_ns: int) -> None:
        """The lease as it now stands."""
        self._term_at_ns, self._lease_ns = term_at_ns, kill_at_ns
        self._plan()

    def stop(self, grace_s: float) -> None:
        """The role is given away, or another has it: the application has the grace to end."""
        self._order("another member is to have the role", round(grace_s * 1e9))

    def kill(self) -> None:
        """The lease is over: the deadline is now."""
        self._order("its lease was over", 0)

    def hand_over(self) -> None:
        """The role is going to the member that is preferred: the work may end in good order."""
        self._lose("the role is handed over to the preferred member")

    async def end(self) -> None:
        """Return when the application has given its word, or never had a term."""
        if self._term is not None and not self._ended:
            self._lose("the member has ended")
            await self._left.wait()
        self._plan()
        self._alarm.close()
        if self._killer is not None:
            self._killer.close()

    def leave(self) -> None:
        """The application's word: nothing of its work goes on. To be followed by `settle`."""
        self._ended = True
        self._plan()

    def settle(self) -> None:
        """Tell the member, if it wants to know, that nothing is left."""
        self._left.set()
        if self._owes_gone:
            self._owes_gone = False
            self._on_event(Gone(now_ns()))

    # -- the deadline ------------------------------------------------------------------------------

    def _order(self, reason: str, grace_ns: int) -> None:
        self._owes_gone = True
        self._order_ns = min(self._order_ns, now_ns() + grace_ns)
        self._lose(reason)
        self._plan()
        if self._term is None or self._ended:
            asyncio.get_running_loop().call_soon(self.settle)

    def _lose(self, reason: str) -> None:
        if self._term is not None and not self._ended:
            self._term.lose(reason)

    def _deadline_ns(self) -> int:
        return min(self._lease_ns, self._order_ns)

    def _plan(self) -> None:
        """Set the clocks for what is due next."""
        term = self._term
        if term is None or self._ended:
            due_ns = deadline_ns = NEVER_NS
        else:
            deadline_ns = self._deadline_ns()
            term.move_deadline(deadline_ns)
            due_ns = deadline_ns
            if not term.lost.is_set():
                due_ns = min(due_ns, self._term_at_ns)
            elif self._overrun_said:
                due_ns = NEVER_NS
        self._alarm.set(due_ns)
        if self._killer is not None:
            self._killer.set(deadline_ns)

    def _enforce(self) -> None:
        """See what the time is, and act on it."""
        if self._term is None or self._ended:
            return
        now = now_ns()
        if now >= min(self._term_at_ns, self._deadline_ns()):
            self._lose("its lease was not renewed in time")
        if now >= self._deadline_ns() and not self._overrun_said:
            self._overrun()
        self._plan()

    def _overrun(self) -> None:
        """The application works on without a right to: the one thing that must not be."""
        self._overrun_said = True
        term = self._term
        assert term is not None
        text = (
            f"ha-heartbeat: {term.member} has not ended its term of epoch {term.epoch} by its "
            f"deadline ({term.reason})"
        )
        if self._exits:
            # Not through logging: a lock that is held elsewhere must not hold this up.
            try:
                os.write(2, f"{text}: this process ends.\n".encode())
            finally:
                os._exit(EXIT_OVERRUN)
        LOGGER.error("%s: another member may be working, too", text)

    def _soon(self, event: Event) -> None:
        asyncio.get_running_loop().call_soon(self._on_event, event)
