"""Messages survive the way over bytes, and other bytes are no messages."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_heartbeat.guardian.protocol import (
    LIMIT_BYTES,
    Decoder,
    End,
    Ended,
    Expired,
    Extend,
    Failed,
    Gone,
    Kill,
    Leftovers,
    Message,
    ProtocolError,
    Ready,
    Run,
    Started,
    Stop,
    encode,
)

numbers = st.integers(-(2**63) + 1, 2**63 - 1)
# What the file system decodes to: any text without NUL, and bytes that are no UTF-8 as surrogates.
texts = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.binary().map(lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")),
)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Run,
        run=numbers,
        term_at_ns=numbers,
        kill_at_ns=numbers,
        shell=st.booleans(),
        argv=st.lists(texts, min_size=1, max_size=5).map(tuple),
        env=st.lists(st.tuples(texts, texts), max_size=5).map(tuple),
    ),
    st.builds(Extend, numbers, numbers),
    st.builds(Stop, numbers),
    st.builds(Kill),
    st.builds(End),
    st.builds(Ready, numbers),
    st.builds(Started, numbers, numbers, numbers),
    st.builds(Failed, numbers, texts, numbers),
    st.builds(Ended, numbers, numbers, numbers, numbers, numbers),
    st.builds(Leftovers, numbers),
    st.builds(Expired, numbers, numbers),
    st.builds(Gone, numbers),
)


@given(st.lists(messages, max_size=8), st.integers(1, 40))
def test_what_is_sent_arrives_in_order_however_it_is_cut(sent: list[Message], step: int) -> None:
    stream = b"".join(map(encode, sent))
    decoder = Decoder()
    heard: list[Message] = []
    for start in range(0, len(stream), step):
        decoder.feed(stream[start : start + step])
        heard += decoder.messages()
    assert heard == sent
    assert [type(message) for message in heard] == [type(message) for message in sent]


@given(st.binary(max_size=200))
def test_garbage_is_an_error_or_incomplete(data: bytes) -> None:
    decoder = Decoder()
    decoder.feed(len(data).to_bytes(4, "big") + data)
    with contextlib.suppress(ProtocolError):
        list(decoder.messages())


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"nonsense",
        b"gone",
        b"gone\0one",
        b"gone\0" + b"9" * 30,
        b"gone\0-",
        b"gone\0" + "\u0663".encode(),
        b"gone\x001\x002",
        b"kill\0",
        b"run\x001\x002\x003",
        b"run\x001\x002\x003\x002\x001\0ls",
        b"run\x001\x002\x003\x001\x000",
        b"run\x001\x002\x003\x001\x002\0ls",
        b"run\x001\x002\x003\x001\x001\0ls\0NAME",
    ],
)
def test_malformed_payloads_are_refused(payload: bytes) -> None:
    decoder = Decoder()
    decoder.feed(len(payload).to_bytes(4, "big") + payload)
    with pytest.raises(ProtocolError):
        list(decoder.messages())


def test_what_came_before_the_garbage_is_heard() -> None:
    decoder = Decoder()
    decoder.feed(encode(Gone(7)) + b"\0\0\0\4what")
    stream = decoder.messages()
    assert next(stream) == Gone(7)
    with pytest.raises(ProtocolError, match="unknown message 'what'"):
        next(stream)


def test_a_frame_too_long_is_refused_by_its_head() -> None:
    decoder = Decoder()
    decoder.feed((LIMIT_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(ProtocolError, match="too long"):
        list(decoder.messages())


def test_what_cannot_be_sent_is_refused_by_the_sender() -> None:
    with pytest.raises(ProtocolError, match="NUL"):
        encode(Failed(1, "a\0b", 1))
    with pytest.raises(ProtocolError, match="surrogate"):
        encode(Failed(1, "\ud800", 1))
    with pytest.raises(ProtocolError, match="out of range"):
        encode(Gone(2**63))
    with pytest.raises(ProtocolError, match="more than"):
        encode(Failed(1, "x" * LIMIT_BYTES, 1))
