"""What one connection of many services carries beside questions and answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_heartbeat.core.types import Answer, Ask, Mode, Phase, Terms, View, Wants
from ha_heartbeat.wire import many
from ha_heartbeat.wire.codec import UnknownTypeError, decode
from ha_heartbeat.wire.frames import MAX_LINE_BYTES, WireError

VIEW = View(
    *("m1", "life", 1, Phase.WORKER, True, 2, 2, Mode.WORKER, False, 0, 1.5, 0.0, 0, True),
    Terms(10.0, 3, 30.0, "silence", "true"),
)
ASK = Ask("web", 1, VIEW, Wants.RENEWAL, 30.0)
ANSWER = Answer(1, "other", VIEW, True, False, "")


def heard(data: bytes) -> list[many.ManyMessage | None]:
    """The messages in some lines, as a member comes by them."""
    found = []
    for line in data.splitlines():
        assert len(line) < MAX_LINE_BYTES
        with pytest.raises(UnknownTypeError) as caught:
            decode(line)
        found.append(many.read(caught.value.kind, caught.value.fields))
    return found


def test_there_and_back() -> None:
    assert heard(many.encode_absent("web")) == [many.Absent("web")]
    assert heard(many.encode_left("web")) == [many.Left("web")]
    assert heard(many.encode_services(["web", "db"])) == [many.Services(("web", "db"))]
    items = ((0, 1, 2, 0.25), (7, 2**53, 3, 1e12))
    assert heard(many.encode_repeated(items, answers=False)) == [many.Repeated(False, items)]
    assert heard(many.encode_repeated(items, answers=True)) == [many.Repeated(True, items)]
    assert many.read("journal-have", {}) is None


def test_a_thousand_services_fit_in_lines() -> None:
    names = [f"service-{'x' * 200}-{number}" for number in range(1000)]
    told = heard(many.encode_services(names))
    assert [
        name for part in told if isinstance(part, many.Services) for name in part.names
    ] == names
    items = [(number, 2**53, 2**53, 123456.123456789) for number in range(1000)]
    parts = heard(many.encode_repeated(items, answers=True))
    assert [i for part in parts if isinstance(part, many.Repeated) for i in part.items] == items


@pytest.mark.parametrize("first", [ASK, ANSWER], ids=["ask", "answer"])
def test_only_three_numbers_may_differ(first: Any) -> None:
    sender, reader = many.Stream(), many.Stream()
    assert sender.item(0, first) is None
    reader.note(0, first)
    again = first._replace(seq=9, view=VIEW._replace(number=8, worker_for_s=2.5))
    item = sender.item(0, again)
    assert item == (0, 9, 8, 2.5)
    assert list(reader.repeated(type(first), [item])) == [(0, again)]
    for field in View._fields:
        if field in ("number", "worker_for_s"):
            continue
        other = many.Stream()
        other.item(0, first)
        changed = first._replace(view=VIEW._replace(**{field: "another"}))
        assert other.item(0, changed) is None, field
    for field in first._fields:
        if field in ("seq", "view"):
            continue
        other = many.Stream()
        other.item(0, first)
        assert other.item(0, first._replace(**{field: "another"})) is None, field


def test_what_was_forgotten_is_said_in_full() -> None:
    stream = many.Stream()
    stream.item(0, ASK)
    stream.forget(0)
    assert stream.item(0, ASK) is None
    with pytest.raises(WireError, match="never sent"):
        list(many.Stream().repeated(Ask, [(0, 1, 1, 0.0)]))
    with pytest.raises(WireError, match="never sent"):
        list(stream.repeated(Answer, [(0, 1, 1, 0.0)]))


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@given(
    kind=st.sampled_from(["asks", "answers", "services", "absent", "left"]),
    value=json_values,
)
def test_whatever_arrives_is_a_message_or_an_error(kind: str, value: Any) -> None:
    fields = {"of": value, "names": value, "service": value}
    problem = ""
    try:
        message = many.read(kind, fields)
    except WireError as error:
        problem = str(error)
    else:
        json.dumps(message)
    assert problem.isprintable()
