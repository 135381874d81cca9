"""Turns messages into lines of JSON and back, and lets nothing invalid pass in either direction.

A line looks like this, so that it can be read with nc:

    {"ha-heartbeat":1,"type":"ask","service":"m","seq":7,"wants":"nothing","lease_s":30.0,"view":...}

What other versions may do. The number is the protocol's major version: another one is not
understood at all. Within a major version fields and types of message may be added, and are ignored
by those who do not know them. An unknown value of `wants` is read as "nothing": the asker is
answered and given nothing, which is always safe. A missing `hold` means that nobody ever paused, a
missing `former` that nothing is known of a life before, a missing `ran_ago_s` the same of runs.
`terms.takeover` is only compared, so any word will do. An unknown `phase` or `mode` is an error,
because a rule that both members must apply alike depends on it; a new one of these needs a new
major version.
"""

from __future__ import annotations

import json
import re
from enum import Enum
from typing import NoReturn, TypeVar

from ha_heartbeat.core.types import (
    NO_HOLD,
    Answer,
    Ask,
    Hold,
    Message,
    Mode,
    Phase,
    Terms,
    View,
    Wants,
)
from ha_heartbeat.wire.frames import MAX_LINE_BYTES, WireError

VERSION = 1
"""The protocol's major version."""

MAX_NAME_CHARS = 255
MAX_INCARNATION_CHARS = 64
MAX_WORD_CHARS = 64
MAX_REASON_CHARS = 500
MAX_COMMAND_CHARS = 1000
MAX_COUNT = 2**53
"""The largest seq and epoch: every integer up to it survives JSON readers that use doubles
(RFC 8259, section 6)."""
MAX_CHECK_COUNT = 2**31
MAX_SPAN_S = 1e12

_KEY = "ha-heartbeat"
_SHOWN_CHARS = 80
_SURROGATE = re.compile("[\ud800-\udfff]")
# Control characters, line separators, marks that turn the direction of writing, lone surrogates:
# what could forge a line of a log or disturb a terminal.
_UNSAYABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BREAKS = re.compile("[\t-\r]+")

_EnumT = TypeVar("_EnumT", bound=Enum)


class VersionError(WireError):
    """The sender speaks another major version of the protocol."""

    def __init__(self, theirs: int) -> None:
        super().__init__(
            f"it speaks version {theirs} of the ha-heartbeat protocol and this member version"
            f" {VERSION}: run the same major version on both"
        )


class UnknownTypeError(WireError):
    """A well-formed line of a type that is no message of the core: another's, or safe to ignore.

    `kind` is the type, `fields` the whole object.
    """

    def __init__(self, kind: str, fields: dict[str, object]) -> None:
        super().__init__(f"it sent a message of the unknown type {_shown(kind)}")
        self.kind = kind
        self.fields = fields


class ComplaintError(WireError):
    """The line is the peer's word on why it turns us away; `reason` is that word, safe to show."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"it answered: {reason}")
        self.reason = reason


# -- writing ---------------------------------------------------------------------------------------

_to_json = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode


def encode(message: Message) -> bytes:
    """The line for `message`, newline included, at most `MAX_LINE_BYTES`.

    `reason` is for people: it is shortened and cleaned (see `sayable`) rather than rejected.
    Raises WireError for anything else that `decode` would reject; the text names the field.
    """
    fields = _ask_fields(message) if isinstance(message, Ask) else _answer_fields(message)
    _read_message(fields)  # what is said is held to the same rules as what is heard
    return _line(fields)


def encode_error(reason: str) -> bytes:
    """The line that tells a stranger why its connection is being closed."""
    return _line({_KEY: VERSION, "type": "error", "reason": sayable(reason, MAX_REASON_CHARS)})


def sayable(text: str, limit_chars: int) -> str:
    """`text` on one line, with "?" for what could disturb a terminal, cut to `limit_chars`.

    Made once, it stays as it is: the peer reads exactly what was sent.
    """
    text = _UNSAYABLE.sub("?", _BREAKS.sub(" ", text))
    return text if len(text) <= limit_chars else text[: limit_chars - 3] + "..."


def _line(fields: dict[str, object]) -> bytes:
    line = _to_json(fields).encode() + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise WireError(f"a message of {len(line)} bytes is longer than {MAX_LINE_BYTES} bytes")
    return line


def _ask_fields(ask: Ask) -> dict[str, object]:
    return {
        _KEY: VERSION,
        "type": "ask",
        "service": ask.service,
        "seq": ask.seq,
        "wants": ask.wants.value,
        "lease_s": ask.lease_s,
        "view": _view_fields(ask.view),
    }


def _answer_fields(answer: Answer) -> dict[str, object]:
    return {
        _KEY: VERSION,
        "type": "answer",
        "seq": answer.seq,
        "to": answer.to,
        "vote": answer.vote,
        "released": answer.released,
        "reason": sayable(answer.reason, MAX_REASON_CHARS),
        "view": _view_fields(answer.view),
    }


def _view_fields(view: View) -> dict[str, object]:
    # Left out as long as nobody has ever paused: most never do.
    hold = {"hold": _hold_fields(view.hold)} if view.hold.number else {}
    former = {"former": view.former} if view.former else {}
    ran = {} if view.ran_ago_s is None else {"ran_ago_s": view.ran_ago_s}
    return {
        "member": view.member,
        "incarnation": view.incarnation,
        "number": view.number,
        "phase": view.phase.value,
        "holding": view.holding,
        "epoch": view.epoch,
        "epoch_seen": view.epoch_seen,
        "mode": view.mode.value,
        "fallback": view.fallback,
        "rank": view.rank,
        "worker_for_s": view.worker_for_s,
        "overlap_s": view.overlap_s,
        "overlap_epoch": view.overlap_epoch,
        "fit": view.fit,
        "terms": view.terms._asdict(),
        **hold,
        **former,
        **ran,
    }


def _hold_fields(hold: Hold) -> dict[str, object]:
    return {**hold._asdict(), "reason": sayable(hold.reason, MAX_REASON_CHARS)}


# -- reading ---------------------------------------------------------------------------------------


def decode(line: bytes) -> Message:
    """The message that `line` (with or without its newline) stands for.

    Raises WireError with a sentence, and nothing else, whatever the bytes are: VersionError for
    another major version, UnknownTypeError for what may be ignored, ComplaintError if the peer
    turns us away.
    """
    if len(line) > MAX_LINE_BYTES:
        raise WireError(f"a line is longer than the {MAX_LINE_BYTES} bytes that are allowed")
    return _read_message(_parse(line))


def _parse(line: bytes) -> dict[str, object]:
    try:
        value = _from_json(line.decode())
    except UnicodeDecodeError as error:
        raise WireError(f"it sent bytes that are not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise WireError(f"it sent a line that is not JSON ({error.msg}, at {error.pos})") from None
    except ValueError:  # int() of more digits than sys.get_int_max_str_digits()
        raise WireError("it sent a number with too many digits") from None
    except RecursionError:
        raise WireError("it sent JSON that is nested too deeply") from None
    if not isinstance(value, dict):
        raise WireError("it sent JSON that is not an object")
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; a key given twice could mean one thing to us and another to others."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise WireError(f"it gave the field {_shown(twice)} twice")
    return fields


def _constant(name: str) -> NoReturn:
    """NaN, Infinity and -Infinity: Python reads them, JSON does not have them."""
    raise WireError(f"it sent {name}, which is not a JSON number")


_from_json = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant).decode


def _read_message(raw: dict[str, object]) -> Message:
    if _KEY not in raw:
        raise WireError('the field "ha-heartbeat" is missing')
    fields = _Fields(raw, "")
    version = fields.integer(_KEY, 0, MAX_COUNT)
    kind = fields.text("type", MAX_WORD_CHARS)
    if kind == "error":  # whatever the version: it may be about nothing else
        raise ComplaintError(sayable(fields.string("reason"), MAX_REASON_CHARS))
    if version != VERSION:
        raise VersionError(version)
    if kind == "ask":
        return _read_ask(fields)
    if kind == "answer":
        return _read_answer(fields)
    raise UnknownTypeError(kind, raw)


def _read_ask(fields: _Fields) -> Ask:
    return Ask(
        service=fields.text("service", MAX_NAME_CHARS),
        seq=fields.integer("seq", 0, MAX_COUNT),
        view=_read_view(fields.nested("view")),
        wants=_read_wants(fields.text("wants", MAX_WORD_CHARS)),
        lease_s=fields.span("lease_s", zero=False),
    )


def _read_answer(fields: _Fields) -> Answer:
    reason = _read_reason(fields)
    return Answer(
        seq=fields.integer("seq", 0, MAX_COUNT),
        to=fields.text("to", MAX_INCARNATION_CHARS),
        view=_read_view(fields.nested("view")),
        vote=fields.boolean("vote"),
        released=fields.boolean("released"),
        reason=reason,
    )


def _read_view(fields: _Fields) -> View:
    return View(
        member=fields.text("member", MAX_NAME_CHARS),
        incarnation=fields.text("incarnation", MAX_INCARNATION_CHARS),
        number=fields.integer("number", 0, MAX_COUNT),
        phase=fields.choice("phase", Phase),
        holding=fields.boolean("holding"),
        epoch=fields.integer("epoch", 0, MAX_COUNT),
        epoch_seen=fields.integer("epoch_seen", 0, MAX_COUNT),
        mode=fields.choice("mode", Mode),
        fallback=fields.boolean("fallback"),
        rank=fields.integer("rank", 0, 1),
        worker_for_s=fields.span("worker_for_s", zero=True),
        overlap_s=fields.span("overlap_s", zero=True),
        overlap_epoch=fields.integer("overlap_epoch", 0, MAX_COUNT),
        fit=fields.boolean("fit", absent=True),
        terms=_read_terms(fields.nested("terms")),
        hold=_read_hold(fields.nested("hold")) if fields.has("hold") else NO_HOLD,
        former=fields.text("former", MAX_INCARNATION_CHARS) if fields.has("former") else "",
        ran_ago_s=fields.span("ran_ago_s", zero=True) if fields.has("ran_ago_s") else None,
    )


def _read_reason(fields: _Fields) -> str:
    reason = fields.string("reason")
    if len(reason) > MAX_REASON_CHARS:
        fields.fail("reason", f"is longer than {MAX_REASON_CHARS} characters")
    return sayable(reason, MAX_REASON_CHARS)


def _read_hold(fields: _Fields) -> Hold:
    reason = _read_reason(fields)
    return Hold(
        number=fields.integer("number", 0, MAX_COUNT),
        on=fields.boolean("on"),
        reason=reason,
        by=fields.text("by", MAX_NAME_CHARS),
        at=fields.span("at", zero=True),
    )


def _read_terms(fields: _Fields) -> Terms:
    command = fields.string("command")  # may have several lines: only ever compared
    if len(command) > MAX_COMMAND_CHARS:
        fields.fail("command", f"is longer than {MAX_COMMAND_CHARS} characters")
    return Terms(
        interval_test_s=fields.span("interval_test_s", zero=False),
        check_count=fields.integer("check_count", 1, MAX_CHECK_COUNT),
        interval_commands_s=fields.span("interval_commands_s", zero=True),
        takeover=fields.text("takeover", MAX_WORD_CHARS),
        command=command,
    )


def _read_wants(word: str) -> Wants:
    """An unknown wish is no wish: nothing is given that was not understood."""
    try:
        return Wants(word)
    except ValueError:
        return Wants.NOTHING


class _Fields:
    """The fields of one JSON object, each read with its type and range; errors name the field."""

    __slots__ = ("_path", "_raw")

    def __init__(self, raw: dict[str, object], path: str) -> None:
        self._raw = raw
        self._path = path

    def fail(self, name: str, what: str) -> NoReturn:
        raise WireError(f'the field "{self._path}{name}" {what}')

    def has(self, name: str) -> bool:
        return name in self._raw

    def value(self, name: str) -> object:
        try:
            return self._raw[name]
        except KeyError:
            self.fail(name, "is missing")

    def nested(self, name: str) -> _Fields:
        value = self.value(name)
        if not isinstance(value, dict):
            self.fail(name, f"must be an object, not {_shown(value)}")
        return _Fields(value, f"{self._path}{name}.")

    def string(self, name: str) -> str:
        """Any string that can be written as UTF-8."""
        value = self.value(name)
        if not isinstance(value, str):
            self.fail(name, f"must be a string, not {_shown(value)}")
        if not value.isascii() and _SURROGATE.search(value):
            self.fail(name, "contains half of a surrogate pair")
        return value

    def text(self, name: str, limit_chars: int) -> str:
        """A name or a word: 1 to `limit_chars` characters, none of which disturbs a terminal."""
        value = self.string(name)
        if not 1 <= len(value) <= limit_chars:
            self.fail(name, f"must have 1 to {limit_chars} characters, not {len(value)}")
        if _UNSAYABLE.search(value):
            self.fail(name, f"contains a control character: {_shown(value)}")
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        value = self.value(name)
        if type(value) is not int or not low <= value <= high:
            self.fail(name, f"must be an integer from {low} to {high}, not {_shown(value)}")
        return value

    def span(self, name: str, *, zero: bool) -> float:
        """Seconds, finite, >= 0, or > 0 unless `zero` is allowed."""
        value = self.value(name)
        if type(value) is not float and type(value) is not int:
            self.fail(name, f"must be a number of seconds, not {_shown(value)}")
        if not 0 <= value <= MAX_SPAN_S or (value == 0 and not zero):
            self.fail(name, f"must be a number of seconds in range, not {_shown(value)}")
        return float(value)

    def boolean(self, name: str, *, absent: bool | None = None) -> bool:
        """True or false; `absent` is what it means that an older member does not say it."""
        if absent is not None and name not in self._raw:
            return absent
        value = self.value(name)
        if not isinstance(value, bool):
            self.fail(name, f"must be true or false, not {_shown(value)}")
        return value

    def choice(self, name: str, kind: type[_EnumT]) -> _EnumT:
        word = self.text(name, MAX_WORD_CHARS)
        try:
            return kind(word)
        except ValueError:
            self.fail(name, f"has the unknown value {_shown(word)}")


def _shown(value: object) -> str:
    """What was received, short and harmless, for a sentence."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**20:
        return "a huge number"
    text = ascii(value[:_SHOWN_CHARS] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
