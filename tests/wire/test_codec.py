"""Messages survive the wire; whatever is no message ends in a WireError that names the field."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

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
from ha_heartbeat.wire.codec import (
    ComplaintError,
    UnknownTypeError,
    VersionError,
    decode,
    encode,
    encode_error,
    sayable,
)
from ha_heartbeat.wire.frames import MAX_LINE_BYTES, WireError

VIEW = View(
    member="m1",
    incarnation="0f3a",
    number=4,
    phase=Phase.WORKER,
    holding=True,
    epoch=12,
    epoch_seen=13,
    mode=Mode.SUPERVISOR,
    fallback=False,
    rank=1,
    worker_for_s=12.5,
    overlap_s=0.0,
    overlap_epoch=0,
    fit=False,
    terms=Terms(10.0, 3, 30.0, "silence", "ls -l"),
)
ASK = Ask("backup", 7, VIEW, Wants.VOTE, 30.0)
REBORN = ASK._replace(view=VIEW._replace(former="0f39", ran_ago_s=1.5))
PAUSED = ASK._replace(view=VIEW._replace(hold=Hold(3, True, "maintenance", "m1", 1.5)))
ANSWER = Answer(7, "aa11", VIEW, True, False, "because")

counts = st.integers(0, 2**53)
spans = st.floats(0, 1e12) | st.integers(0, 10**12).map(float)
positive = st.floats(0, 1e12, exclude_min=True)
characters = st.characters(codec="utf-8")


def texts(limit: int) -> st.SearchStrategy[str]:
    plain = st.characters(codec="utf-8", exclude_categories=("C", "Z"))
    return st.text(plain, min_size=1, max_size=limit)


terms = st.builds(
    Terms,
    positive,
    st.integers(1, 2**31),
    spans,
    texts(64),
    st.text(characters, max_size=1000),
)
views = st.builds(
    View,
    member=texts(255),
    incarnation=texts(64),
    former=st.just("") | texts(64),
    ran_ago_s=st.none() | spans,
    number=counts,
    phase=st.sampled_from(Phase),
    holding=st.booleans(),
    epoch=counts,
    epoch_seen=counts,
    mode=st.sampled_from(Mode),
    fallback=st.booleans(),
    fit=st.booleans(),
    rank=st.integers(0, 1),
    worker_for_s=spans,
    overlap_s=spans,
    overlap_epoch=counts,
    terms=terms,
    hold=st.just(NO_HOLD)
    | st.builds(
        Hold,
        st.integers(1, 2**53),
        st.booleans(),
        st.text(characters, max_size=500).map(lambda text: sayable(text, 500)),
        texts(255),
        spans,
    ),
)
asks = st.builds(Ask, texts(255), counts, views, st.sampled_from(Wants), positive)
answers = st.builds(
    Answer,
    counts,
    texts(64),
    views,
    st.booleans(),
    st.booleans(),
    st.text(characters, max_size=500).map(lambda text: sayable(text, 500)),
)
messages: st.SearchStrategy[Message] = asks | answers


@given(messages)
def test_every_message_survives(message: Message) -> None:
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert len(line) <= MAX_LINE_BYTES
    assert decode(line) == decode(line[:-1]) == message


def test_the_largest_message_fits() -> None:
    widest = "\U0001f600"
    view = VIEW._replace(
        member=widest * 255,
        incarnation=widest * 64,
        terms=VIEW.terms._replace(takeover=widest * 64, command="\x01" * 1000),
    )
    answer = Answer(2**53, widest * 64, view, True, True, widest * 500)
    assert decode(encode(answer)) == answer
    ask = Ask(widest * 255, 2**53, view, Wants.NOTHING, 1e12)
    assert decode(encode(ask)) == ask


def test_a_line_is_readable() -> None:
    assert encode(ASK).startswith(b'{"ha-heartbeat":1,"type":"ask","service":"backup","seq":7,')


# -- other versions --------------------------------------------------------------------------------


def changed(message: Message, path: str, value: Any) -> bytes:
    """The line of a message with one field set to `value`, or removed if it is `...`."""
    raw = json.loads(encode(message))
    *parents, name = path.split("/")
    place = raw
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[name]
    else:
        place[name] = value
    return json.dumps(raw).encode()


@pytest.mark.parametrize("path", ["more", "view/more", "view/terms/more"])
def test_unknown_fields_are_ignored(path: str) -> None:
    assert decode(changed(ASK, path, {"a": [1, None]})) == ASK


def test_another_major_version_names_both() -> None:
    with pytest.raises(VersionError, match=r"version 2 of .* this member version 1"):
        decode(b'{"ha-heartbeat": 2, "type": "whatever", "anything": null}')


def test_an_unknown_wish_is_no_wish() -> None:
    assert decode(changed(ASK, "wants", "the moon")) == ASK._replace(wants=Wants.NOTHING)


def test_an_unknown_type_may_be_ignored() -> None:
    with pytest.raises(UnknownTypeError, match="'gossip'"):
        decode(b'{"ha-heartbeat": 1, "type": "gossip"}')


@pytest.mark.parametrize("version", [1, 2])
def test_a_complaint_is_understood_whatever_the_version(version: int) -> None:
    line = encode_error("go\naway\x1b[31m").replace(b":1,", b":%d," % version)
    with pytest.raises(ComplaintError) as caught:
        decode(line)
    assert caught.value.reason == "go away?[31m"


# -- what is no message ----------------------------------------------------------------------------

COUNT_FIELDS = ["seq", "view/epoch", "view/number"]
SPAN_FIELDS = [
    "lease_s",
    "view/worker_for_s",
    "view/overlap_s",
    "view/overlap_epoch",
    "view/epoch_seen",
    "view/terms/interval_test_s",
    "view/terms/interval_commands_s",
]
TEXT_FIELDS = [
    ("service", 255),
    ("view/member", 255),
    ("view/incarnation", 64),
    ("view/terms/takeover", 64),
]
ODD_COUNTS: list[Any] = [True, 1.0, -1, 2**53 + 1, 10**400, "1", None]
ODD_SPANS: list[Any] = [True, -0.001, 1e13, 10**400, "1", None, []]
ODD_TEXTS: list[Any] = ["", 7, None, "\ud800", "a\nb", "\x1b[1m"]
ODD_BOOLEANS: list[Any] = [0, 1, "true", None]
ODD_CHOICES: list[Any] = ["dancing", 7, None, {}]
ODD_OBJECTS: list[Any] = [[], "x", 1, None]
CASES: list[tuple[Message, str, Any]] = [
    *((ASK, path, ...) for path in ["service", "seq", "wants", "lease_s", "view", "view/terms"]),
    *(
        (ASK, "view/" + name, ...)
        for name in VIEW._fields
        if name not in ("hold", "fit", "former", "ran_ago_s")
    ),
    *((REBORN, "view/former", v) for v in ODD_TEXTS),
    *((REBORN, "view/ran_ago_s", v) for v in ODD_SPANS),
    *((PAUSED, "view/hold/" + name, ...) for name in Hold._fields),
    *((PAUSED, "view/hold", v) for v in ODD_OBJECTS),
    *((PAUSED, "view/hold/on", v) for v in ODD_BOOLEANS),
    *((PAUSED, "view/hold/number", v) for v in (-1, True, 2.5, None)),
    *((ASK, "view/terms/" + name, ...) for name in VIEW.terms._fields),
    *((ANSWER, name, ...) for name in ANSWER._fields),
    *((ASK, p, v) for p in COUNT_FIELDS for v in ODD_COUNTS),
    *((ASK, p, v) for p in SPAN_FIELDS for v in ODD_SPANS),
    *((ASK, path, 0) for path in ["lease_s", "view/terms/interval_test_s"]),
    *((ASK, path, "x" * (limit + 1)) for path, limit in TEXT_FIELDS),
    *((ASK, p, v) for p, _ in TEXT_FIELDS for v in ODD_TEXTS),
    *((ASK, p, v) for p in ("view/holding", "view/fallback", "view/fit") for v in ODD_BOOLEANS),
    *((ANSWER, p, v) for p in ("vote", "released") for v in ODD_BOOLEANS),
    *((ASK, p, v) for p in ("view/phase", "view/mode") for v in ODD_CHOICES),
    *((ASK, "view/rank", v) for v in (-1, 2, True, None)),
    *((ASK, "view/terms/check_count", v) for v in (0, -1, 2**31 + 1, True, 3.0)),
    *((ASK, "view/terms/command", v) for v in ("x" * 1001, 7, "\udfff")),
    *((ANSWER, "reason", v) for v in ("x" * 501, 7, None, "\ud800")),
    *((ANSWER, "to", v) for v in ("x" * 65, "", 7)),
    *((ASK, path, v) for path in ("view", "view/terms") for v in ODD_OBJECTS),
    *((ASK, "wants", v) for v in (7, "", "x" * 65)),
    *((ASK, "type", v) for v in (..., 7, None)),
    *((ASK, "ha-heartbeat", v) for v in (..., "1", True, -1, 10**30)),
]


@pytest.mark.parametrize(("message", "path", "value"), CASES)
def test_the_field_is_named(message: Message, path: str, value: Any) -> None:
    with pytest.raises(WireError, match=re.escape(f'"{path.replace("/", ".")}"')) as caught:
        decode(changed(message, path, value))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_that_are_none(number: str) -> None:
    line = encode(ASK).replace(b'"lease_s":30.0', b'"lease_s":' + number.encode())
    with pytest.raises(WireError, match="number"):
        decode(line)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "not JSON"),
        (b"\r", "not JSON"),
        (b"null", "not an object"),
        (b"[]", "not an object"),
        (b"{}", '"ha-heartbeat" is missing'),
        (b"\xff\xfe", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"ha-heartbeat":1', "not JSON"),
        (b"[" * 16000, "nested too deeply"),
        (b'{"a":' * 3000, "it sent"),  # how deep is too deep depends on the Python
        (b"9" * 10000, "too many digits"),
        (b"x" * (MAX_LINE_BYTES + 1), "longer than"),
        (b'{"ha-heartbeat":1,"type":"ask","type":"ask"}', "'type' twice"),
        (b'{"ha-heartbeat":1,"x":{"\\ud800":1,"\\ud800":2}}', r"'\ud800' twice"),
        (b"GET / HTTP/1.1\r", "not JSON"),
    ],
)
def test_lines_that_are_no_message(line: bytes, words: str) -> None:
    with pytest.raises(WireError, match=re.escape(words)) as caught:
        decode(line)
    assert str(caught.value).isprintable()


@given(st.binary(max_size=300))
@example(b"{" * 1000)
def test_random_bytes(line: bytes) -> None:
    with pytest.raises(WireError):
        decode(line)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, st.sampled_from(["", "view", "view/terms"]), st.data())
def test_fields_replaced_at_random(value: Any, parent: str, data: st.DataObject) -> None:
    fields = {"": ("ha-heartbeat", "type", *ASK._fields), "view": VIEW._fields}
    name = data.draw(st.sampled_from(fields.get(parent, VIEW.terms._fields)))
    with_value = changed(ASK, f"{parent}/{name}".lstrip("/"), value)
    _decodes_or_wire_error(with_value)


@given(messages, st.data())
def test_mutated_lines(message: Message, data: st.DataObject) -> None:
    line = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(line) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "delete"]))
        if kind == "flip":
            line[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            line = line[: at + 1]
        elif kind == "insert":
            line[at:at] = data.draw(st.binary(max_size=4))
        else:
            line[at : at + 1] = b" "
    _decodes_or_wire_error(bytes(line))


def _decodes_or_wire_error(line: bytes) -> None:
    """What is read can be said again: nothing invalid came in."""
    try:
        message = decode(line)
    except WireError:
        return
    assert decode(encode(message)) == message


# -- what must not be sent -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (ASK._replace(seq=-1), "seq"),
        (ASK._replace(lease_s=float("nan")), "lease_s"),
        (ASK._replace(service="x" * 256), "service"),
        (ASK._replace(view=VIEW._replace(member="a\udc80")), "view.member"),
        (ASK._replace(view=VIEW._replace(epoch=2**53 + 1)), "view.epoch"),
    ],
)
def test_nothing_invalid_is_sent(message: Message, field: str) -> None:
    with pytest.raises(WireError, match=re.escape(f'"{field}"')):
        encode(message)


def test_a_reason_is_made_sayable() -> None:
    sent = encode(ANSWER._replace(reason="no\nway\x1b \udc80" + "x" * 600))
    answer = decode(sent)
    assert isinstance(answer, Answer)
    assert answer.reason.startswith("no way? ?xxx")
    assert len(answer.reason) == 500


def test_a_member_that_says_nothing_of_it_is_fit() -> None:
    """Older ones do not know of hold-downs."""
    told = decode(changed(ASK, "view/fit", ...))
    assert isinstance(told, Ask)
    assert told.view.fit
