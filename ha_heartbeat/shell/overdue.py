"""Notices a guardian that stands still: no answer to a question, or a deadline that it let pass.

A guardian that was stopped (SIGSTOP) keeps its end of the channel open, so only its silence tells.
What follows is the handle's affair (`shell.guardian`); here is only noticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ha_heartbeat.guardian.clock import NEVER_NS, now_ns
from ha_heartbeat.guardian.protocol import Ping

PING_S = 10.0
"""How often a guardian is asked whether it is there; it has as long to answer."""
ANSWER_S = 2.0
"""What it has to answer when it was given an order that cannot wait."""
_OWN_DELAY_S = 0.5
"""A check that is made later than this says more about this process than about the guardian."""


class Overdue:
    """Watches one guardian, from its being ready to `close`.

    send: gets each question. give_up: is called at most once, with what is wrong, as the end of a
    sentence that begins "the guardian was killed". late_s: what it has to answer when its deadline
    has come, in seconds; the keeper acts before that, if it can.
    """

    def __init__(
        self, send: Callable[[Ping], object], give_up: Callable[[str], None], late_s: float
    ) -> None:
        self._late_s = late_s
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._give_up = give_up
        self._asked = self._answered = 0
        self._dead_by_ns = NEVER_NS
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ns = NEVER_NS
        self._closed = False
        self._round = self._loop.call_later(PING_S, self._ask_again)

    def close(self) -> None:
        """Notice nothing more."""
        self._closed = True
        self._round.cancel()
        self._set_alarm(NEVER_NS)

    def heard(self, number: int) -> None:
        """It answered that question, and so all before."""
        self._answered = max(self._answered, number)

    def expect_answer(self) -> None:
        """It was just given an order: it has ANSWER_S to show that it is there."""
        self._ask(ANSWER_S, "it does not answer")

    def tree_dead_by(self, until_ns: int) -> None:
        """The deadline of what it guards, on `now_ns`; NEVER_NS while nothing lives there."""
        self._dead_by_ns = until_ns
        if until_ns < self._alarm_ns:  # a later one is found when the earlier comes
            self._set_alarm(until_ns)

    def _ask_again(self) -> None:
        self._ask(PING_S, "it does not answer")
        self._round = self._loop.call_later(PING_S, self._ask_again)

    def _ask(self, limit_s: float, complaint: str) -> None:
        self._asked += 1
        self._send(Ping(self._asked))
        self._check_later(self._asked, limit_s, complaint)

    def _check_later(self, number: int, limit_s: float, complaint: str) -> None:
        due_s = self._loop.time() + limit_s
        self._loop.call_at(due_s, self._check, number, due_s, complaint)

    def _check(self, number: int, due_s: float, complaint: str) -> None:
        if self._closed or self._answered >= number:
            return
        if self._loop.time() - due_s > _OWN_DELAY_S:  # both may have been stopped, and woken up
            self._check_later(number, ANSWER_S, complaint)
            return
        self.close()
        self._give_up(complaint)

    def _set_alarm(self, at_ns: int) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_ns = None, at_ns
        if at_ns != NEVER_NS:
            delay_s = max(0.0, (at_ns - now_ns()) / 1e9)
            self._alarm = self._loop.call_later(delay_s, self._ring)

    def _ring(self) -> None:
        self._alarm, self._alarm_ns = None, NEVER_NS
        if self._dead_by_ns == NEVER_NS:
            return
        if now_ns() < self._dead_by_ns:
            self._set_alarm(self._dead_by_ns)
        else:
            self._dead_by_ns = NEVER_NS  # asked once; one that answers is at it
            self._ask(self._late_s, "it let the deadline of the command pass")
