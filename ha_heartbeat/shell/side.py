"""One connection that carries many services: their channels, and what waits to be sent on it."""

from __future__ import annotations

from ha_heartbeat.core.types import Answer, Ask
from ha_heartbeat.wire import many
from ha_heartbeat.wire.codec import encode


class Side:
    """What is known of one connection: channels by name, and what was last said on each."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.services: list[str] = []
        self.asks = many.Stream()
        self.answers = many.Stream()
        self.items: list[tuple[int, int, int, float]] = []
        self.lines: list[bytes] = []

    def add(self, name: str) -> None:
        """Give it a channel, unless it has one."""
        if name not in self.names and len(self.services) < many.MAX_SERVICES:
            self.names[name] = len(self.services)
            self.services.append(name)

    def say(self, item: tuple[int, int, int, float] | None, message: Ask | Answer) -> None:
        """Send a message, as a repetition if it is one. Raises WireError."""
        if item is not None:
            self.items.append(item)
            return
        self.close(answers=isinstance(message, Answer))
        self.lines.append(encode(message))

    def say_line(self, line: bytes, *, answers: bool) -> None:
        """Send what is neither question nor answer."""
        self.close(answers=answers)
        self.lines.append(line)

    def forget(self, service: str) -> None:
        """What is said next about this service is said in full."""
        channel = self.names.get(service)
        if channel is not None:
            self.asks.forget(channel)
            self.answers.forget(channel)

    def take(self, *, answers: bool) -> bytes:
        """All that is to be sent."""
        self.close(answers=answers)
        lines, self.lines = self.lines, []
        return b"".join(lines)

    def close(self, *, answers: bool) -> None:
        """What was repeated so far comes before what comes now."""
        if self.items:
            self.lines.append(many.encode_repeated(self.items, answers=answers))
            self.items = []
