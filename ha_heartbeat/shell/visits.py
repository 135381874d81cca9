"""The connections of the peer's that carry many services: what was said on each so far.

Anybody may say which services it carries, so only a few are remembered who have not asked yet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

from ha_heartbeat.core.types import Answer, Ask
from ha_heartbeat.shell.side import Side
from ha_heartbeat.wire import many
from ha_heartbeat.wire.frames import WireError

MAX_STRANGERS: Final = 32
"""How many may say which services they carry before they ask; of more, the first are forgotten."""


class Visits:
    """By connection. `on_notice` gets a sentence when an answer cannot be said."""

    def __init__(self, on_notice: Callable[[str], None]) -> None:
        self._on_notice = on_notice
        self._sides: dict[int, Side] = {}
        self._strangers: list[int] = []  # of these, who has not asked yet, in their order

    def came(self, conn: int, message: many.Services) -> None:
        """Somebody carries these services."""
        side = self._sides.get(conn)
        if side is None:
            side = self._sides[conn] = Side()
            self._strangers.append(conn)
            if len(self._strangers) > MAX_STRANGERS:
                del self._sides[self._strangers.pop(0)]
        for name in message.names:
            side.add(name)

    def gone(self, conn: int) -> None:
        """The connection has ended."""
        self._sides.pop(conn, None)
        if conn in self._strangers:
            self._strangers.remove(conn)

    def asked(self, conn: int, ask: Ask) -> None:
        """A question has arrived in full; the next answer is one in full, too."""
        if conn in self._strangers:
            self._strangers.remove(conn)
        side = self._sides.get(conn)
        if side is not None and (number := side.names.get(ask.service)) is not None:
            side.asks.note(number, ask)
            side.answers.forget(number)

    def repeated(self, conn: int, message: many.Repeated) -> Iterator[Ask]:
        """The questions that these stand for. Raises WireError."""
        side = self._sides.get(conn)
        if side is None:
            raise WireError("it repeats a message that it never sent")
        for _, ask in side.asks.repeated(Ask, message.items):
            yield ask

    def answer(self, service: str, conn: int, answer: Answer) -> bool:
        """Queue an answer; false if many services are not spoken of on that connection."""
        side = self._sides.get(conn)
        number = side.names.get(service) if side is not None else None
        if side is None or number is None:
            return False
        try:
            side.say(side.answers.item(number, answer), answer)
        except WireError as error:
            self._on_notice(f"an answer could not be sent: {error}")
        return True

    def is_absent(self, conn: int, ask: Ask) -> bool:
        """Queue that this service is not carried; false if the asker would not understand that."""
        side = self._sides.get(conn)
        if side is None:
            return False
        number = side.names.get(ask.service)
        if number is not None:
            side.asks.note(number, ask)
        side.say_line(many.encode_absent(ask.service), answers=True)
        return True

    def leave(self, service: str, conns: Collection[int], line: bytes) -> None:
        """Queue that this service has ended, for those who asked about it."""
        for conn in conns:
            if side := self._sides.get(conn):
                side.say_line(line, answers=True)
                side.forget(service)

    def take(self) -> Iterator[tuple[int, bytes]]:
        """What is to be sent, by connection."""
        for conn, side in self._sides.items():
            if data := side.take(answers=True):
                yield conn, data
