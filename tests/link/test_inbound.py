"""Who is listened to, who is turned away and how, and what strangers cannot do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ha_heartbeat.config import Address
from ha_heartbeat.core.types import Answered, Asked, Connected, InboundClosed, LinkBroken
from ha_heartbeat.shell.inbound import MAX_ASKERS, MAX_NOTICES, Notices, most_strangers
from ha_heartbeat.wire.codec import decode, encode, encode_error
from tests.link.rig import LOCALHOST, End, address, answer, ask, dial, end, listener, until

NOBODY = Address(LOCALHOST, 1)


@contextlib.asynccontextmanager
async def member(**options: Any) -> AsyncIterator[tuple[End, Address]]:
    """A listening member that nobody but the test talks to, and its address."""
    with listener(backlog=512) as sock:
        async with end(NOBODY, **options) as it:
            it.link.serve([sock.dup()])
            yield it, address(sock)


async def complaint(reader: asyncio.StreamReader) -> str:
    """The one line with which a stranger is turned away; the end of the connection follows."""
    line, rest = (await reader.read()).split(b"\n", 1)
    assert rest == b""
    raw = json.loads(line)
    assert (raw["ha-heartbeat"], raw["type"]) == (1, "error")
    return str(raw["reason"])


STRANGERS: list[tuple[bytes, str]] = [
    (b"GET / HTTP/1.1\r\nHost: m1\r\n\r\n", "not JSON"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "but TLS"),
    (b"SSH-2.0-x", "but another protocol"),
    (b"\x00" * 40, "another protocol"),
    (b"{" + b" " * 20_000, "longer than the 16384 bytes"),
    (b"{}\n", '"ha-heartbeat" is missing'),
    (encode(answer()), "an answer arrived where questions are expected"),
    (encode(ask(service="other")), "the service 's', not 'other'"),
    (encode(ask(incarnation="ours")), "connected to itself"),
    (encode(ask()).replace(b'"ha-heartbeat":1', b'"ha-heartbeat":2'), "speaks version 2"),
]


@pytest.mark.parametrize(("data", "words"), STRANGERS)
def test_turned_away_with_one_line(data: bytes, words: str) -> None:
    async def main() -> None:
        async with member() as (m1, at):
            for _ in range(3):
                reader, writer = await dial(at)
                writer.write(data)
                assert words in await complaint(reader)
                writer.close()
            assert m1.events == []
            assert len(m1.notices) == 1
            assert m1.notices[0].startswith("a connection from 127.0.0.1 was turned away: ")
            assert words in m1.notices[0]

    asyncio.run(main())


def test_a_complaint_is_not_answered_with_another() -> None:
    async def main() -> None:
        async with member() as (_, at):
            reader, writer = await dial(at)
            writer.write(encode_error("you are wrong"))
            assert await reader.read() == b""
            writer.close()

    asyncio.run(main())


def test_an_unknown_type_is_ignored() -> None:
    async def main() -> None:
        async with member() as (m1, at):
            _, writer = await dial(at)
            writer.write(b'{"ha-heartbeat":1,"type":"gossip"}\n' + encode(ask(5)))
            assert (await m1.only(Asked)).ask.seq == 5
            writer.close()

    asyncio.run(main())


def test_garbage_on_a_good_connection_ends_that_one_only() -> None:
    async def main() -> None:
        async with member() as (m1, at):
            good, bad = await dial(at), await dial(at)
            for seq, (_, writer) in enumerate((good, bad)):
                writer.write(encode(ask(seq)))
                await m1.next(Asked, seq + 1)
            first, second = (asked.conn for asked in m1.seen(Asked))
            bad[1].write(b"what?\n" + encode(ask(9)))
            await m1.next(InboundClosed)
            m1.link.send_answer(second, answer(9))  # nobody is there any more
            assert "not JSON" in await complaint(bad[0])
            m1.link.send_answer(first, answer(0))
            assert decode(await good[0].readline()) == answer(0)
            assert m1.seen(InboundClosed) == [InboundClosed(second)]
            assert len(m1.seen(Asked)) == 2
            for _, writer in (good, bad):
                writer.close()

    asyncio.run(main())


def test_silence_and_drops_are_turned_away_in_time() -> None:
    async def main() -> None:
        async with member(stranger_s=0.2) as (m1, at):
            (silent, w1), (slow, w2), (good, w3) = [await dial(at) for _ in range(3)]
            w3.write(encode(ask(1)))
            drops = asyncio.create_task(_drip(w2))
            for reader in (silent, slow):
                assert "no question was asked within 0.2 s" in await complaint(reader)
            drops.cancel()
            await m1.only(Asked)
            w3.write(encode(ask(2)))  # who has asked may be silent for any time
            assert (await m1.only(Asked)).ask.seq == 2
            assert not good.at_eof()
            assert len(m1.notices) == 1
            for writer in (w1, w2, w3):
                writer.close()

    asyncio.run(main())


async def _drip(writer: asyncio.StreamWriter) -> None:
    for byte in encode(ask()):
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)


def test_who_asks_in_drops_but_in_time_is_heard() -> None:
    async def main() -> None:
        async with member() as (m1, at):
            _, writer = await dial(at)
            for byte in encode(ask(3)):
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert (await m1.only(Asked)).ask == ask(3)
            writer.close()

    asyncio.run(main())


def test_thousands_of_strangers_do_not_keep_the_peer_out() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 5000:
        pytest.skip(f"needs 5,000 open files, {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 5000), hard))

    async def main() -> None:
        with listener(backlog=512) as sock:
            async with (
                end(NOBODY, max_strangers=1000) as m2,
                end(address(sock), incarnation="theirs") as m1,
            ):
                m2.link.serve([sock.dup()])
                m1.link.connect(1, False)
                await m1.only(Connected)
                idle = []
                for seq in range(20):
                    idle += [await _idle(address(sock)) for _ in range(100)]
                    m1.link.send_ask(1, ask(seq))
                    asked = await m2.only(Asked)
                    m2.link.send_answer(asked.conn, answer(seq))
                    assert await m1.only(Answered) == Answered(1, answer(seq))
                assert m2.link.inbound_connections == 1001
                for one in idle:
                    one.close()
                await until(lambda: m2.link.inbound_connections == 1)
                assert m1.events == m2.events == []

    try:
        asyncio.run(main())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _idle(at: Address) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, at)
    return sock


def test_valid_connections_are_limited_too() -> None:
    async def main() -> None:
        async with member() as (m1, at):
            writers = []
            for seq in range(MAX_ASKERS + 3):
                _, writer = await dial(at)
                writer.write(encode(ask(seq)))
                writers.append(writer)
                await m1.next(Asked, seq + 1)
            first = [asked.conn for asked in m1.seen(Asked)][:3]
            assert [closed.conn for closed in m1.seen(InboundClosed)] == first
            for writer in writers:
                writer.close()
            await m1.next(InboundClosed, MAX_ASKERS + 3)

    asyncio.run(main())


def test_who_asks_and_never_reads_loses_the_connection() -> None:
    async def main() -> None:
        async with member() as (m1, at):
            sock = await _idle(at)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await asyncio.get_running_loop().sock_sendall(sock, encode(ask()))
            conn = (await m1.only(Asked)).conn
            for seq in range(100_000):
                m1.link.send_answer(conn, answer(seq, reason="x" * 500))
                if seq % 100 == 0:
                    await asyncio.sleep(0)
                if m1.events:
                    break
            assert m1.events == [InboundClosed(conn)]
            sock.close()

    asyncio.run(main())


def test_what_was_queued_is_sent_before_the_end() -> None:
    async def main() -> None:
        async with member() as (m1, at):
            reader, writer = await dial(at)
            writer.write(encode(ask()))
            conn = (await m1.only(Asked)).conn
            writer.write(b'{"unread')
            for seq in range(300):
                m1.link.send_answer(conn, answer(seq))
            closing = asyncio.create_task(m1.link.close())
            lines = (await reader.read()).splitlines()
            assert [decode(line) for line in lines] == [answer(seq) for seq in range(300)]
            writer.close()
            await closing
            assert m1.events == []

    asyncio.run(main())


def test_closing_does_not_wait_for_ever() -> None:
    async def main() -> None:
        async with member() as (m1, at):
            sock = await _idle(at)
            await asyncio.get_running_loop().sock_sendall(sock, encode(ask()))
            conn = (await m1.only(Asked)).conn
            for seq in range(300):
                m1.link.send_answer(conn, answer(seq))
            began_s = asyncio.get_running_loop().time()
            await m1.link.close(flush_s=0.1)
            assert asyncio.get_running_loop().time() - began_s < 2
            assert m1.link.inbound_connections == 0
            sock.close()

    asyncio.run(main())


# -- both ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"service": "other"}, "turned us away: this member is of the service 'other', not 's'"),
        ({"incarnation": "ours"}, "turned us away: this member is connected to itself"),
    ],
)
def test_the_asking_side_is_told(options: dict[str, str], words: str) -> None:
    async def main() -> None:
        async with member(**options) as (_, at), end(at, incarnation="ours") as m1:
            for link in range(3):
                m1.link.connect(link, link > 0)
                await m1.only(Connected)
                m1.link.send_ask(link, ask(incarnation="ours"))
                broken = await m1.only(LinkBroken)
                assert broken.link == link
                assert words in broken.reason
            assert m1.notices == [broken.reason]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"220 mail ESMTP\r\n", "does not speak ha-heartbeat: it sent a line that is not JSON"),
        (b"x" * 20_000, "does not speak ha-heartbeat: a line is longer"),
        (encode(ask()), "does not speak ha-heartbeat: it sent a question"),
        (encode(answer()).replace(b":1", b":3", 1), "version 3 of the ha-heartbeat protocol"),
    ],
)
def test_the_peer_is_something_else(said: bytes, words: str) -> None:
    async def main() -> None:
        with listener() as sock:
            async with end(address(sock)) as m1:
                for link in range(3):
                    m1.link.connect(link, False)
                    conn, _ = await asyncio.get_running_loop().sock_accept(sock)
                    await asyncio.get_running_loop().sock_sendall(conn, said)
                    await m1.only(Connected)
                    assert words in (await m1.only(LinkBroken)).reason
                    conn.close()
                assert len(m1.notices) == 1

    asyncio.run(main())


def test_an_unsayable_question_is_no_end_of_the_world() -> None:
    async def main() -> None:
        async with member() as (m2, at), end(at) as m1:
            m1.link.connect(1, False)
            await m1.only(Connected)
            m1.link.send_ask(1, ask(-1))
            m1.link.send_ask(1, ask(1))
            assert (await m2.only(Asked)).ask.seq == 1
            assert m1.notices == [
                'a question could not be sent: the field "seq" must be an integer from 0 to'
                " 9007199254740992, not -1"
            ]

    asyncio.run(main())


# -- limits of the process -------------------------------------------------------------------------

OUT_OF_FILES = """
import asyncio, resource, socket
from ha_heartbeat.core.types import Asked
from tests.link.rig import LOCALHOST, End, Address, address, answer, ask, listener, until
from ha_heartbeat.wire.codec import decode, encode

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    with listener() as sock:
        m1 = End(Address(LOCALHOST, 1))
        m1.link.serve([sock.dup()])
        reader, writer = await asyncio.open_connection(*address(sock))
        writer.write(encode(ask(1)))
        conn = (await m1.only(Asked)).conn
        late = socket.socket()
        late.setblocking(False)
        taken = []
        while True:
            try:
                taken.append(open("/dev/null"))
            except OSError:
                break
        await asyncio.get_running_loop().sock_connect(late, address(sock))
        await until(lambda: bool(m1.notices))
        for seq in range(2, 5):
            writer.write(encode(ask(seq)))
            await m1.only(Asked)
            m1.link.send_answer(conn, answer(seq))
            assert decode(await reader.readline()) == answer(seq)
            await asyncio.sleep(0.2)
        for file in taken:
            file.close()
        await asyncio.get_running_loop().sock_sendall(late, encode(ask(9)))
        assert (await m1.only(Asked)).ask.seq == 9
        assert len(m1.notices) == 1 and "Too many open files" in m1.notices[0], m1.notices
        writer.close()
        late.close()
        await m1.link.close()
        m1.link.close_listeners()

asyncio.run(main())
"""


@pytest.mark.parametrize("debug", [False, True])
def test_out_of_files(debug: bool) -> None:
    flags = ["-X", "dev"] if debug else []
    done = subprocess.run(
        [sys.executable, *flags, "-c", OUT_OF_FILES], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")


STRANGER_MAKES_ROOM = """
import asyncio, resource, socket
from ha_heartbeat.core.types import Asked
from tests.link.rig import LOCALHOST, End, Address, address, ask, listener, until
from ha_heartbeat.wire.codec import encode

async def main():
    loop = asyncio.get_running_loop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    with listener() as sock:
        m1 = End(Address(LOCALHOST, 1))
        m1.link.serve([sock.dup()])
        stranger, peer = socket.socket(), socket.socket()
        for one in (stranger, peer):
            one.setblocking(False)
        await loop.sock_connect(stranger, address(sock))
        await until(lambda: m1.link.inbound_connections == 1)
        taken = []
        while True:
            try:
                taken.append(open("/dev/null"))
            except OSError:
                break
        await loop.sock_connect(peer, address(sock))
        await loop.sock_sendall(peer, encode(ask(7)))
        assert (await m1.only(Asked)).ask.seq == 7
        for file in taken:
            file.close()
        stranger.close()
        peer.close()
        await m1.link.close()
        m1.link.close_listeners()

asyncio.run(main())
"""


def test_out_of_files_a_stranger_makes_room() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STRANGER_MAKES_ROOM], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("files", "most"),
    [(20, 4), (256, 96), (1024, 480), (65536, 1000), (resource.RLIM_INFINITY, 1000)],
)
def test_strangers_take_no_more_than_half_the_files(
    files: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most_strangers() == most


def test_notices_are_limited() -> None:
    said: list[str] = []
    notices = Notices(said.append)
    for number in range(2 * MAX_NOTICES):
        for _ in range(2):
            notices.once(f"host{number}", "garbage", f"host{number}")
    assert said[:MAX_NOTICES] == [f"host{number}" for number in range(MAX_NOTICES)]
    assert len(said) == MAX_NOTICES + 1
    assert "no more will be" in said[-1]
