"""What a connection attempt proves: refused, silent, broken (DESIGN 3 and 4)."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import subprocess
import sys

import pytest

from ha_heartbeat.config import Address
from ha_heartbeat.core.types import (
    Answered,
    Asked,
    Connected,
    Event,
    LinkBroken,
    Refused,
    Unreachable,
)
from ha_heartbeat.shell.reach import AllRefused, NoProof, judge, reach
from ha_heartbeat.wire.codec import encode
from tests.link.rig import (
    LOCALHOST,
    address,
    answer,
    ask,
    end,
    endpoint,
    free_port,
    has_ipv6,
    listener,
    until,
)

needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this host has no IPv6 loopback address")
needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="all of 127.0.0.0/8 is local on Linux only"
)


def reset(sock: socket.socket) -> None:
    """Close with a reset instead of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_ask_and_answer() -> None:
    async def main() -> None:
        with listener() as sock:
            async with (
                end(address(sock), incarnation="ours") as m1,
                end(Address(LOCALHOST, 1), incarnation="theirs") as m2,
            ):
                m2.link.serve([sock.dup()])
                m1.link.connect(1, False)
                await m1.only(Connected)
                for seq in range(1, 20):
                    m1.link.send_ask(1, ask(seq, incarnation="ours"))
                    asked = await m2.only(Asked)
                    assert asked.ask == ask(seq, incarnation="ours")
                    m2.link.send_answer(asked.conn, answer(seq))
                    assert await m1.only(Answered) == Answered(1, answer(seq))
                assert m1.notices == m2.notices == []

    asyncio.run(main())


def test_refused() -> None:
    async def main() -> None:
        async with end(Address(LOCALHOST, free_port())) as m1:
            for link, probe in enumerate((False, True, False)):
                m1.link.connect(link, probe)
                assert await m1.only(Refused) == Refused(link)

    asyncio.run(main())


def test_a_full_backlog_is_silence() -> None:
    async def main() -> None:
        with listener(backlog=0) as sock:
            fillers = []
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(sock.getsockname())
                fillers.append(filler)
            async with end(address(sock), connect_timeout_s=0.2) as m1:
                m1.link.connect(1, False)
                assert "no answer within 0.2 s" in (await m1.only(Unreachable)).reason
            for filler in fillers:
                filler.close()

    asyncio.run(main())


def test_a_listener_that_never_accepts_is_connected_and_silent() -> None:
    async def main() -> None:
        with listener() as sock:
            async with end(address(sock)) as m1:
                m1.link.connect(1, False)
                await m1.only(Connected)
                m1.link.send_ask(1, ask())
                sock.close()
                assert (await m1.only(LinkBroken)).reason == os.strerror(errno.ECONNRESET)
                m1.link.connect(2, True)
                assert await m1.only(Refused) == Refused(2)

    asyncio.run(main())


@pytest.mark.parametrize("how", [socket.socket.close, reset])
def test_accepted_and_ended_is_broken_never_refused(how) -> None:  # type: ignore[no-untyped-def]
    async def main() -> None:
        with listener() as sock:
            async with end(address(sock)) as m1:
                for link in range(5):
                    m1.link.connect(link, link > 0)
                    conn, _ = await asyncio.get_running_loop().sock_accept(sock)
                    how(conn)
                    await until(lambda: bool(m1.seen(LinkBroken) or m1.seen(Unreachable)))
                    assert m1.seen(Refused) == []
                    m1.events.clear()

    asyncio.run(main())


def test_nothing_is_reported_of_what_was_dropped() -> None:
    async def main() -> None:
        with listener() as sock:
            async with end(Address(LOCALHOST, free_port())) as m1, end(address(sock)) as m2:
                m1.link.connect(1, False)
                m1.link.disconnect(1)
                m1.link.connect(2, False)
                m1.link.connect(3, False)
                assert await m1.only(Refused) == Refused(3)
                m1.link.disconnect(3)
                m2.link.connect(4, False)
                await m2.only(Connected)
                m2.link.disconnect(99)
                m2.link.connect(5, False)
                assert await m2.only(Connected) == Connected(5)
                m2.link.send_ask(4, ask(4))
                m2.link.send_ask(5, ask(5))
                first, _ = await asyncio.get_running_loop().sock_accept(sock)
                second, _ = await asyncio.get_running_loop().sock_accept(sock)
                assert await asyncio.get_running_loop().sock_recv(first, 100) == b""
                second.setblocking(False)
                assert await asyncio.get_running_loop().sock_recv(second, 9999) == encode(ask(5))
                first.close()
                second.close()
                await m2.only(LinkBroken)
                assert m1.events == m2.events == []

    asyncio.run(main())


def test_nothing_more_is_reported_once_an_answer_led_to_dropping() -> None:
    async def main() -> None:
        with listener() as sock:
            async with end(address(sock)) as m1:
                m1.link.connect(1, False)
                await m1.only(Connected)
                conn, _ = await asyncio.get_running_loop().sock_accept(sock)

                def on_event(event: Event) -> None:
                    m1.events.append(event)
                    m1.link.disconnect(1)

                m1.link._on_event = on_event
                await asyncio.get_running_loop().sock_sendall(conn, encode(answer()) * 3)
                assert await asyncio.get_running_loop().sock_recv(conn, 1) == b""
                assert m1.events == [Answered(1, answer())]
                conn.close()

    asyncio.run(main())


def test_a_peer_that_never_reads_loses_the_connection() -> None:
    async def main() -> None:
        with listener() as sock:
            async with end(address(sock)) as m1:
                m1.link.connect(1, False)
                await m1.only(Connected)
                sent = 0
                while not m1.events and sent < 100_000:
                    m1.link.send_ask(1, ask(sent))
                    sent += 1
                    if sent % 100 == 0:
                        await asyncio.sleep(0)
                assert "stopped reading" in (await m1.only(LinkBroken)).reason

    asyncio.run(main())


# -- takeover: the port is held by another process -------------------------------------------------


@needs_linux
def test_the_port_held_by_another_process() -> None:
    """What a supervisor sees when a worker dies and its guardian still ends the command's tree."""

    async def main() -> None:
        with listener() as sock:
            child = subprocess.Popen(
                [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[sock.fileno()]
            )
            async with end(address(sock)) as m1:
                sock.close()
                m1.link.connect(1, False)
                await m1.only(Connected)
                m1.link.send_ask(1, ask())
                m1.link.connect(2, True)
                await m1.only(Connected)
                assert child.stdin
                child.stdin.close()
                await m1.only(LinkBroken)
                m1.link.connect(3, True)
                assert await m1.only(Refused) == Refused(3)
            child.wait()

    asyncio.run(main())


# -- several addresses -----------------------------------------------------------------------------


@needs_ipv6
@pytest.mark.parametrize("host", [LOCALHOST, "::1"])
def test_either_address_of_localhost_will_do(host: str) -> None:
    async def main() -> None:
        port = free_port(LOCALHOST, "::1")
        both = [endpoint("::1", port), endpoint(LOCALHOST, port)]
        async with end(Address("localhost", port), lookup=lambda *_: both) as m1:
            with listener(host, port):
                m1.link.connect(1, False)
                await m1.only(Connected)
            await m1.only(LinkBroken)
            for link, probe in ((2, True), (3, False)):
                m1.link.connect(link, probe)
                assert await m1.only(Refused) == Refused(link)

    asyncio.run(main())


def test_ipv6_literal() -> None:
    if not has_ipv6():
        pytest.skip("this host has no IPv6 loopback address")

    async def main() -> None:
        with listener("::1") as sock:
            async with end(address(sock)) as m1:
                m1.link.connect(1, False)
                await m1.only(Connected)

    asyncio.run(main())


A, B, C = (endpoint(host, 1) for host in ("192.0.2.1", "192.0.2.2", "2001:db8::1"))
REFUSED = OSError(errno.ECONNREFUSED, "")


@pytest.mark.parametrize("number", ["ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH"])
def test_only_a_refusal_is_a_refusal(number: str) -> None:
    code: int = getattr(errno, number)
    error = OSError(code, "")
    assert judge({A: REFUSED}) == AllRefused()
    assert judge({A: REFUSED, B: REFUSED}) == AllRefused()
    outcome = judge({A: error})
    assert isinstance(outcome, NoProof)
    assert outcome.reason == f"192.0.2.1:1: {os.strerror(code)}"


@pytest.mark.parametrize(
    ("number", "way", "proves"),
    [
        (errno.ENETUNREACH, False, True),
        (errno.EADDRNOTAVAIL, False, True),
        (errno.EAFNOSUPPORT, False, True),
        (errno.ENETUNREACH, True, False),
        (errno.EHOSTUNREACH, False, False),
        (errno.ETIMEDOUT, False, False),
    ],
)
def test_what_this_host_cannot_reach_is_left_out(
    number: int, way: bool, proves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoWay(socket.socket):
        def connect(self, _: object) -> None:
            if not way:
                raise OSError(number, "")

    monkeypatch.setattr(socket, "socket", NoWay)
    mixed = judge({A: REFUSED, B: OSError(number, "")})
    assert isinstance(mixed, AllRefused if proves else NoProof)
    strict = judge({A: REFUSED, B: OSError(number, "")}, each_counts=True)
    assert isinstance(strict, NoProof), "of several paths it may be the one that it listens on"
    assert isinstance(judge({B: OSError(number, "")}), NoProof)


def test_no_address_is_no_proof() -> None:
    assert isinstance(asyncio.run(reach([], 1.0)), NoProof)


def test_connected_to_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may choose the destination's port as the source: here it is made to."""
    port = free_port()
    original = socket.socket

    class FromThatPort(original):  # type: ignore[misc, valid-type]
        def __init__(self, *args: int, **kwargs: int) -> None:
            super().__init__(*args, **kwargs)
            if args == (socket.AF_INET, socket.SOCK_STREAM):
                self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self.bind((LOCALHOST, port))

    async def main() -> None:
        monkeypatch.setattr(socket, "socket", FromThatPort)
        outcome = await reach([endpoint(LOCALHOST, port)], 1.0)
        monkeypatch.undo()
        assert outcome == AllRefused()
        with listener(port=port):  # the port is free at once
            pass

    asyncio.run(main())


# -- the name moves --------------------------------------------------------------------------------


@needs_linux
def test_a_refusal_elsewhere_proves_nothing() -> None:
    async def main() -> None:
        port = free_port("127.0.0.2", "127.0.0.3")
        dns = ["127.0.0.2"]
        with listener("127.0.0.2", port) as old:
            async with end(
                Address("m2", port),
                lookup=lambda _, port: [endpoint(host, port) for host in dns],
                refresh_s=0.0,
                connect_timeout_s=0.3,
            ) as m1:
                m1.link.connect(1, False)
                await m1.only(Connected)
                dns[:] = ["127.0.0.3"]
                m1.link.send_ask(1, ask())
                await until(lambda: bool(m1.notices))
                assert m1.notices == ["m2 now resolves to 127.0.0.3, no longer 127.0.0.2"]
                # The old place is silent, the new one refuses: the peer may be at the old one.
                fillers = _fill(old)
                for link, probe in ((2, True), (3, False)):
                    m1.link.connect(link, probe)
                    reason = (await m1.only(Unreachable)).reason
                    assert "resolves elsewhere" in reason
                    assert f"127.0.0.2:{port}" in reason
                # The old one refuses as well: nobody is left.
                old.close()
                for filler in fillers:
                    filler.close()
                m1.link.connect(4, False)
                assert await m1.only(Refused) == Refused(4)
                # The peer answers at the new one, which counts from now on.
                with listener("127.0.0.3", port) as new:
                    m1.link.connect(5, False)
                    conn, _ = await asyncio.get_running_loop().sock_accept(new)
                    await m1.only(Connected)
                    await asyncio.get_running_loop().sock_sendall(conn, encode(answer()))
                    await m1.only(Answered)
                    conn.close()
                await m1.only(LinkBroken)
                with listener("127.0.0.2", port):
                    for link, probe in ((6, True), (7, False)):
                        m1.link.connect(link, probe)
                        assert await m1.only(Refused) == Refused(link)

    asyncio.run(main())


@needs_linux
def test_who_accepts_elsewhere_without_answering_does_not_stand_for_the_peer() -> None:
    async def main() -> None:
        port = free_port("127.0.0.2", "127.0.0.3")
        dns = ["127.0.0.2"]
        loop = asyncio.get_running_loop()
        async with end(
            Address("m2", port),
            lookup=lambda _, port: [endpoint(host, port) for host in dns],
            refresh_s=0.0,
            connect_timeout_s=0.3,
        ) as m1:
            with listener("127.0.0.2", port) as old:
                m1.link.connect(1, False)
                await m1.only(Connected)
                conn, _ = await loop.sock_accept(old)
                await loop.sock_sendall(conn, encode(answer()))
                await m1.only(Answered)
                dns[:] = ["127.0.0.3"]
                m1.link.send_ask(1, ask())
                await until(lambda: bool(m1.notices))
                fillers = _fill(old)
                with listener("127.0.0.3", port):
                    m1.link.connect(2, False)
                    await m1.only(Connected)
                await m1.only(LinkBroken)
                for link, probe in ((3, True), (4, False)):
                    m1.link.connect(link, probe)
                    assert f"127.0.0.2:{port}" in (await m1.only(Unreachable)).reason
                conn.close()
            for filler in fillers:
                filler.close()

    asyncio.run(main())


def _fill(sock: socket.socket) -> list[socket.socket]:
    """Fill the queue of a listener, so that it answers nobody any more."""
    sock.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(sock.getsockname())
        fillers.append(filler)
    return fillers


@needs_linux
def test_a_probe_does_not_wait_for_an_address_that_was_silent_before() -> None:
    async def main() -> None:
        port = free_port("127.0.0.2", "127.0.0.3")
        both = [endpoint(host, port) for host in ("127.0.0.2", "127.0.0.3")]
        with listener("127.0.0.3", port) as silent, listener("127.0.0.2", port) as live:
            fillers = _fill(silent)
            async with end(Address("m2", port), lookup=lambda *_: both, connect_timeout_s=9) as m1:
                m1.link.connect(1, False)
                await m1.only(Connected)
                live.close()
                await m1.only(LinkBroken)
                began_s = asyncio.get_running_loop().time()
                m1.link.connect(2, True)
                assert await m1.only(Refused) == Refused(2)
                assert asyncio.get_running_loop().time() - began_s < 5
            for filler in fillers:
                filler.close()

    asyncio.run(main())
