"""Messages of a connection that carries many services, beside the questions and answers themselves.

Whoever carries several services says which on the connection that it opens, before it asks. The
place of a name in what was said so far on that connection is its channel:

    {"ha-heartbeat":1,"type":"services","names":["db","web"]}

Questions and answers are those of `codec`: a question names its service, an answer the incarnation
that asked. Most of them repeat the one before but for three numbers, and are sent as that, many to
a line: channel, seq, and the view's number and worker_for_s.

    {"ha-heartbeat":1,"type":"asks","of":[[0,17,41,0.0],[1,17,40,12.5]]}
    {"ha-heartbeat":1,"type":"answers","of":[[0,17,52,3.25]]}

What is asked for and not carried is `absent`; a service that ends before its connection `left`:

    {"ha-heartbeat":1,"type":"absent","service":"web"}
    {"ha-heartbeat":1,"type":"left","service":"web"}

Nothing here decides what follows from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from ha_heartbeat.core.types import Answer, Ask, View
from ha_heartbeat.wire.codec import MAX_COUNT, MAX_NAME_CHARS, MAX_SPAN_S, VERSION
from ha_heartbeat.wire.frames import MAX_LINE_BYTES, WireError

MAX_SERVICES: Final = 2000
"""How many names may be said on one connection."""

_BATCH: Final = 150
"""Items on one line; one has less than 90 bytes."""

_Item: TypeAlias = tuple[int, int, int, float]
_M = TypeVar("_M", Ask, Answer)
_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Services(NamedTuple):
    """The sender carries these, too."""

    names: tuple[str, ...]


class Absent(NamedTuple):
    """What was asked for is not carried here."""

    service: str


class Left(NamedTuple):
    """The service has ended at the sender's; it may begin again."""

    service: str


class Repeated(NamedTuple):
    """Each is the message before it on its channel, with these numbers."""

    answers: bool
    items: tuple[_Item, ...]


ManyMessage: TypeAlias = Services | Absent | Left | Repeated


def encode_services(names: Sequence[str]) -> bytes:
    """As many lines as are needed to say these names."""
    lines: list[bytes] = []
    part: list[str] = []
    for name in names:
        if sum(len(n.encode()) + 3 for n in (*part, name)) > MAX_LINE_BYTES - 200:
            lines.append(_line({"type": "services", "names": part}))
            part = []
        part.append(name)
    if part:
        lines.append(_line({"type": "services", "names": part}))
    return b"".join(lines)


def encode_absent(service: str) -> bytes:
    """The line."""
    return _line({"type": "absent", "service": service})


def encode_left(service: str) -> bytes:
    """The line."""
    return _line({"type": "left", "service": service})


def read(kind: str, fields: dict[str, Any]) -> ManyMessage | None:
    """The message of this type with these fields, None if it is of another. Raises WireError."""
    if kind in ("asks", "answers"):
        return Repeated(kind == "answers", tuple(_items(fields.get("of"))))
    if kind == "services":
        names = fields.get("names")
        if not isinstance(names, list) or len(names) > MAX_SERVICES:
            raise WireError('the field "names" must be a list of names')
        return Services(tuple(_name(name) for name in names))
    if kind == "absent":
        return Absent(_name(fields.get("service")))
    if kind == "left":
        return Left(_name(fields.get("service")))
    return None


class Stream:
    """What goes one way on one connection: the last message of each channel, on either side."""

    def __init__(self) -> None:
        self._last: dict[int, Ask | Answer] = {}

    def item(self, channel: int, message: Ask | Answer) -> _Item | None:
        """The message as a repetition; None if it is none, and has to be sent in full."""
        last = self._last.get(channel)
        self._last[channel] = message
        if last is None or not _repeats(message, last):
            return None
        return channel, message.seq, message.view.number, message.view.worker_for_s

    def note(self, channel: int, message: Ask | Answer) -> None:
        """A message was received in full."""
        self._last[channel] = message

    def forget(self, channel: int) -> None:
        """The next message of this channel is one in full."""
        self._last.pop(channel, None)

    def repeated(self, kind: type[_M], items: Iterable[_Item]) -> Iterator[tuple[int, _M]]:
        """The messages that these stand for, with their channels. Raises WireError."""
        for channel, seq, number, worker_for_s in items:
            last = self._last.get(channel)
            if not isinstance(last, kind):
                raise WireError("it repeats a message that it never sent")
            view = last.view._replace(number=number, worker_for_s=worker_for_s)
            message = last._replace(seq=seq, view=view)
            self._last[channel] = message
            yield channel, message


def encode_repeated(items: Sequence[_Item], *, answers: bool) -> bytes:
    """As many lines as are needed."""
    kind = "answers" if answers else "asks"
    return b"".join(
        _line({"type": kind, "of": items[at : at + _BATCH]}) for at in range(0, len(items), _BATCH)
    )


def _repeats(message: Ask | Answer, last: Ask | Answer) -> bool:
    if isinstance(message, Ask):
        if not isinstance(last, Ask) or message.wants is not last.wants:
            return False
        if message.lease_s != last.lease_s or message.service != last.service:
            return False
    elif not isinstance(last, Answer) or message[3:] != last[3:] or message.to != last.to:
        return False
    return _same_view(message.view, last.view)


def _same_view(one: View, other: View) -> bool:
    """Whether two views differ in nothing but number and worker_for_s."""
    return one[:2] == other[:2] and one[3:10] == other[3:10] and one[11:] == other[11:]


def _line(fields: dict[str, Any]) -> bytes:
    line = _to_json({"ha-heartbeat": VERSION, **fields}).encode() + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise WireError(f"a message of {len(line)} bytes is longer than {MAX_LINE_BYTES} bytes")
    return line


def _items(value: object) -> Iterator[_Item]:
    if not isinstance(value, list):
        raise WireError('the field "of" must be a list')
    for item in value:
        if not isinstance(item, list) or len(item) != 4:
            raise WireError("a repeated message must have four numbers")
        channel, seq, number, worker_for_s = item
        if type(channel) is not int or type(seq) is not int or type(number) is not int:
            raise WireError("a repeated message has no whole number where one belongs")
        if type(worker_for_s) is not float and type(worker_for_s) is not int:
            raise WireError("a repeated message has no number of seconds where one belongs")
        if not (
            0 <= channel < MAX_SERVICES
            and 0 <= seq <= MAX_COUNT
            and 0 <= number <= MAX_COUNT
            and 0 <= worker_for_s <= MAX_SPAN_S
        ):
            raise WireError("a repeated message has a number out of range")
        yield channel, seq, number, float(worker_for_s)


def _name(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME_CHARS:
        raise WireError("the name of a service must be a short text")
    if not value.isprintable():
        raise WireError("the name of a service has a character that cannot be shown")
    return value
