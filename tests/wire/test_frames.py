"""Lines are cut right, whatever the pieces are, and none is longer than allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_heartbeat.wire.frames import MAX_LINE_BYTES, FrameReader, LineTooLongError


@given(st.lists(st.binary(max_size=50).map(lambda b: b.replace(b"\n", b" "))), st.data())
def test_lines_do_not_depend_on_the_pieces(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines) + b"rest"
    reader = FrameReader()
    got = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += reader.feed(stream[:size])
        stream = stream[size:]
    assert got == lines
    assert reader.partial == b"rest"


def test_the_longest_line_passes_and_one_more_byte_does_not() -> None:
    longest = b"x" * (MAX_LINE_BYTES - 1)
    assert FrameReader().feed(longest + b"\n") == [longest]
    assert FrameReader().feed(longest) == []
    for stream in (longest + b"x", longest + b"x\n", b"short\n" + longest + b"x\nshort\n"):
        with pytest.raises(LineTooLongError, match="longer than the 16384 bytes"):
            FrameReader().feed(stream)


def test_drops_of_one_byte() -> None:
    reader = FrameReader()
    for _ in range(MAX_LINE_BYTES - 1):
        assert reader.feed(b"x") == []
    with pytest.raises(LineTooLongError):
        reader.feed(b"x")


def test_nothing_is_no_line() -> None:
    assert FrameReader().feed(b"") == []
    assert FrameReader().feed(b"\n\n") == [b"", b""]
