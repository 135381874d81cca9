"""What two journals say to each other survives the wire, and nothing else gets through."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_heartbeat.wire import journal
from ha_heartbeat.wire.codec import MAX_COUNT, UnknownTypeError, decode
from ha_heartbeat.wire.frames import MAX_LINE_BYTES, WireError
from ha_heartbeat.wire.journal import Have, Rows, encode_have, encode_rows

ROW = ("run", 4, 7, "web", "m1", "2.3", 2, 1.5, None, None, None, 9, 0, "", "")
ROWS = Rows("0f3a9c11", "m1", 7, False, (ROW,))

texts = st.text(st.characters(codec="utf-8"), max_size=50)
counts = st.integers(0, 2**53)
values = {
    "s": texts,
    "i": st.integers(-(2**53), 2**53),
    "I": st.none() | counts,
    "f": st.floats(-MAX_COUNT, MAX_COUNT),
    "F": st.none() | st.floats(-MAX_COUNT, MAX_COUNT),
}
rows = st.one_of(
    *(
        st.tuples(st.just(kind), counts, st.just(5), *(values[v] for v in shape))
        for kind, shape in journal.SHAPES.items()
    )
)


def received(line: bytes) -> Any:
    """As a member takes it in: it is no message of the core."""
    with pytest.raises(UnknownTypeError) as other:
        decode(line)
    return journal.read(other.value.kind, other.value.fields)


@given(st.lists(rows, max_size=5), st.booleans())
def test_rows_survive(told: list[tuple[Any, ...]], more: bool) -> None:
    sent = Rows("0f3a9c11", "m1", 5, more, tuple(told))
    line = encode_rows(sent)
    assert len(line) <= MAX_LINE_BYTES
    assert received(line) == sent


def test_have_survives() -> None:
    assert received(encode_have({"0f3a9c11": 7})) == Have((("0f3a9c11", 7),))
    many = {f"{n:016x}": n for n in range(200)}
    assert len(received(encode_have(many)).have) == journal.MAX_ORIGINS


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "../../etc"},
        {"origin": 5},
        {"member": "x" * 300},
        {"upto": -1},
        {"upto": True},
        {"upto": 6},  # below the number of its row
        {"rows": {}},
        {"rows": [list(ROW)] * 201},
        {"rows": [[]]},
        {"rows": [["table", *ROW[1:]]]},
        {"rows": [list(ROW[:-1])]},
        {"rows": [[*ROW[:3], 5, *ROW[4:]]]},
        {"rows": [[*ROW[:6], 2.5, *ROW[7:]]]},
        {"rows": [[*ROW[:7], "x", *ROW[8:]]]},
        {"rows": [[*ROW[:7], True, *ROW[8:]]]},
        {"rows": [[*ROW[:7], 10**400, *ROW[8:]]]},
        {"rows": [[*ROW[:7], 2**63, *ROW[8:]]]},
        {"rows": [[*ROW[:7], float("nan"), *ROW[8:]]]},
        {"rows": [[*ROW[:-1], "x" * 5000]]},
        {"rows": [[*ROW[:-1], "\ud800"]]},
    ],
)
def test_what_is_not_right_is_refused(change: dict[str, Any]) -> None:
    fields = {**json.loads(encode_rows(ROWS)), **change}
    with pytest.raises(WireError):
        journal.read("journal-rows", fields)


@given(st.recursive(st.none() | st.booleans() | counts | texts, st.lists, max_leaves=10))
def test_garbage_ends_in_an_error(value: object) -> None:
    for fields in ({"have": value}, {"origin": value, "rows": value}):
        for kind in ("journal-have", "journal-rows"):
            with pytest.raises(WireError):
                journal.read(kind, fields)


def test_other_types_are_somebody_elses() -> None:
    assert journal.read("something-new", {}) is None


def test_too_long_a_line_is_not_sent() -> None:
    long = (*ROW[:-1], "x" * 4096)
    with pytest.raises(WireError, match="longer"):
        encode_rows(Rows("0f3a9c11", "m1", 7, False, (long,) * 5))
