"""Messages by which two members bring their journals level: what I have, and what you lack.

They travel on the connection of the questions, and members that do not know them ignore them:

    {"ha-heartbeat":1,"type":"journal-have","have":{"9a17c0ffee":41}}
    {"ha-heartbeat":1,"type":"journal-rows","origin":"9a17c0ffee","member":"m1","upto":43,
     "more":false,"rows":[["run",42,43,"web",...]]}

The asker says how far it goes for each origin. It is answered when there is something that it
lacks, at once or as soon as there is. Nothing in here is believed to be more than a record: it
decides nothing, and what is not a row of the right shape ends the connection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from ha_heartbeat.wire.codec import MAX_COUNT, MAX_NAME_CHARS, VERSION
from ha_heartbeat.wire.frames import MAX_LINE_BYTES, WireError

MAX_ORIGINS: Final = 100
MAX_ROWS: Final = 200
MAX_TEXT_CHARS: Final = 4096
ROWS_BYTES: Final = MAX_LINE_BYTES - 1024
"""What the rows of one message may weigh; the rest of the line needs less than the difference."""

_ORIGIN: Final = re.compile(r"[0-9a-f]{8,64}")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

SHAPES: Final = {"run": "sssifFFIIiss", "change": "sssfsissf"}
"""The fields of a row behind its key and number: s text, i count, f number; a capital: or null.

`ha_heartbeat.journal` has their names; a test compares the two.
"""


class Have(NamedTuple):
    """How far the sender's journal goes, for each origin that it knows."""

    have: tuple[tuple[str, int], ...]


class Rows(NamedTuple):
    """Entries of one origin, up to its number `upto`; `more` follow. See `journal.Batch`."""

    origin: str
    member: str
    upto: int
    more: bool
    rows: tuple[tuple[Any, ...], ...]


JournalMessage: TypeAlias = Have | Rows


def encode_have(have: Mapping[str, int]) -> bytes:
    """The line that asks for what is lacking; of very many origins the latest are named."""
    named = dict(list(have.items())[-MAX_ORIGINS:])
    return _line({"type": "journal-have", "have": named})


def encode_rows(rows: Rows) -> bytes:
    """The line with entries. Raises WireError if it is too long."""
    return _line(
        {
            "type": "journal-rows",
            "origin": rows.origin,
            "member": rows.member,
            "upto": rows.upto,
            "more": rows.more,
            "rows": [[_clean(value) for value in row] for row in rows.rows],
        }
    )


def read(kind: str, fields: Mapping[str, Any]) -> JournalMessage | None:
    """The message of this type with these fields, None if it is of another. Raises WireError."""
    if kind == "journal-have":
        return _read_have(fields.get("have"))
    if kind == "journal-rows":
        return _read_rows(fields)
    return None


def _line(fields: dict[str, Any]) -> bytes:
    told = {"ha-heartbeat": VERSION, **fields}
    text = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    line = text.encode() + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise WireError(f"a message of {len(line)} bytes is longer than {MAX_LINE_BYTES} bytes")
    return line


def _clean(value: Any) -> Any:
    return _SURROGATE.sub("?", value) if isinstance(value, str) else value


# -- reading ---------------------------------------------------------------------------------------


def _read_have(value: object) -> Have:
    if not isinstance(value, dict) or len(value) > MAX_ORIGINS:
        raise WireError('the field "have" must be an object with few fields')
    for origin, number in value.items():
        _check_origin(origin)
        _check_count(number)
    return Have(tuple(value.items()))


def _read_rows(fields: Mapping[str, Any]) -> Rows:
    origin, member, upto = (fields.get(name) for name in ("origin", "member", "upto"))
    rows = fields.get("rows")
    _check_origin(origin)
    _check_text(member, MAX_NAME_CHARS)
    _check_count(upto)
    if not isinstance(rows, list) or len(rows) > MAX_ROWS:
        raise WireError('the field "rows" must be a list of few rows')
    read = tuple(_read_row(row, upto) for row in rows)
    return Rows(str(origin), str(member), int(upto or 0), fields.get("more") is True, read)


def _read_row(row: object, upto: object) -> tuple[Any, ...]:
    if not isinstance(row, list) or not row or row[0] not in SHAPES:
        raise WireError("a row of a journal is of no known kind")
    shape = SHAPES[row[0]]
    if len(row) != 3 + len(shape):
        raise WireError("a row of a journal has the wrong number of fields")
    _check_count(row[1])
    _check_count(row[2])
    if not isinstance(upto, int) or row[2] > upto:
        raise WireError("a row of a journal lies beyond its message")
    for kind, value in zip(shape, row[3:], strict=True):
        _check(kind, value)
    return tuple(row)


def _check(kind: str, value: object) -> None:
    if value is None and kind.isupper():
        return
    if kind in "sS":
        _check_text(value, MAX_TEXT_CHARS)
    elif kind in "iI":
        if type(value) is not int or abs(value) > MAX_COUNT:
            raise WireError("a row of a journal has no whole number where one belongs")
    elif not isinstance(value, int | float) or isinstance(value, bool):
        raise WireError("a row of a journal has no number where one belongs")
    elif not abs(value) <= MAX_COUNT:  # NaN neither; and no number that SQLite does not take
        raise WireError("a row of a journal has a number out of range")


def _check_count(value: object) -> None:
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise WireError("a journal's number must be a count")


def _check_origin(value: object) -> None:
    if not isinstance(value, str) or not _ORIGIN.fullmatch(value):
        raise WireError("a journal's origin must be hexadecimal")


def _check_text(value: object, limit_chars: int) -> None:
    if not isinstance(value, str) or len(value) > limit_chars or _SURROGATE.search(value):
        raise WireError("a row of a journal has no text where one belongs, or one that is too long")
