"""Brings the journals of the two members level, beside the heartbeat and never in its way.

Each side asks on its own connection, once it was answered there, and asks again when it has got
something. So one question waits at the other side until there is news, and nothing is sent while
nothing happens. Pauses between two frames leave the line to the heartbeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ha_heartbeat.journal import Batch
from ha_heartbeat.shell.recorder import Recorder
from ha_heartbeat.wire import journal as wire
from ha_heartbeat.wire.codec import UnknownTypeError
from ha_heartbeat.wire.frames import WireError

NEWS_PAUSE_S: Final = 0.25
"""How long news is gathered before it is sent: a command that runs often makes no frame each."""

MORE_PAUSE_S: Final = 0.05
"""Between two frames when much is lacking: 20 frames of 16 KiB a second at most."""


class Exchange:
    """The journal's part of the link. `ask` and `answer` send a line, and say whether they can."""

    def __init__(
        self,
        recorder: Recorder,
        ask: Callable[[int, bytes], bool],
        answer: Callable[[int, bytes], bool],
    ) -> None:
        self._recorder = recorder
        self._ask = ask
        self._answer = answer
        self._asked_on = -1  # the link on which our question waits
        self._waiting: dict[int, dict[str, int]] = {}  # inbound connection: what its asker has
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        recorder.on_written(self._news)

    def close(self) -> None:
        """Send nothing any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    # -- asking ------------------------------------------------------------------------------------

    def answered(self, link: int) -> None:
        """The peer has answered on this link, so it may be asked for its journal there."""
        if link != self._asked_on and not self._closed:
            self._asked_on = link
            self._recorder.have(self._put_question)

    def _put_question(self, have: dict[str, int]) -> None:
        if not self._closed:
            self._ask(self._asked_on, wire.encode_have(have))

    def hear_answer(self, link: int, other: UnknownTypeError) -> None:
        """A line on our own connection. Raises WireError."""
        message = wire.read(other.kind, other.fields)
        if isinstance(message, wire.Rows) and link == self._asked_on and not self._closed:
            self._recorder.take(Batch(*message), self._ask_again)

    def _ask_again(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._closed:
            loop.call_later(MORE_PAUSE_S, self._recorder.have, self._put_question)

    # -- answering ---------------------------------------------------------------------------------

    def hear_question(self, conn: int, other: UnknownTypeError) -> None:
        """A line of the peer's on its connection. Raises WireError."""
        message = wire.read(other.kind, other.fields)
        if isinstance(message, wire.Have) and not self._closed:
            self._waiting.pop(conn, None)  # in the order of the last question, the oldest first
            self._waiting[conn] = dict(message.have)
            while len(self._waiting) > MAX_WAITING:
                del self._waiting[next(iter(self._waiting))]
            self._look(conn)

    def gone(self, conn: int) -> None:
        """The peer's connection has ended."""
        self._waiting.pop(conn, None)

    def _news(self) -> None:
        """Something is in the journal that those who wait may lack."""
        if self._waiting and self._timer is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(NEWS_PAUSE_S, self._look_for_all)

    def _look_for_all(self) -> None:
        self._timer = None
        for conn in tuple(self._waiting):
            self._look(conn)

    def _look(self, conn: int) -> None:
        have = self._waiting[conn]
        self._recorder.lacking(have, wire.ROWS_BYTES, lambda found: self._send(conn, have, found))

    def _send(self, conn: int, have: dict[str, int], found: Batch | None) -> None:
        if found is None or self._waiting.get(conn) is not have or self._closed:
            return
        try:
            line = wire.encode_rows(wire.Rows(*found))
        except WireError:
            # What cannot be said is passed over, so that what follows can.
            have[found.origin] = found.upto
            self._look(conn)
            return
        del self._waiting[conn]
        self._answer(conn, line)


MAX_WAITING: Final = 16
"""As many as there can be connections that ask."""
