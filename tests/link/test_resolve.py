"""Names: never on the loop, the last good answer at once, each change said once."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from ha_heartbeat.config import Address
from ha_heartbeat.core.types import Connected, Unreachable
from ha_heartbeat.shell.resolve import (
    Endpoint,
    ResolveError,
    Resolver,
    read_literal,
    resolve_now,
)
from tests.link.rig import LOCALHOST, address, end, endpoint, listener, until


def no_lookup(host: str, port: int) -> list[Endpoint]:
    raise AssertionError(f"{host} was looked up")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "2001:db8::7", "fe80::1%nosuch0"])
def test_literals_ask_no_name_server(host: str) -> None:
    try:
        found = asyncio.run(resolve_now(host, 22221, lookup=no_lookup))
    except ResolveError:
        assert "%" in host
    else:
        assert [one.sockaddr[:2] for one in found] == [(host, 22221)]


def test_a_zone_becomes_a_number() -> None:
    index, name = socket.if_nameindex()[0]
    found = read_literal(f"fe80::1%{name}", 1)
    assert found is not None
    assert found[0].sockaddr == ("fe80::1", 1, 0, index)
    assert str(found[0]) == f"[fe80::1%{index}]:1"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".invalid", "a\0b"])
def test_a_name_that_does_not_resolve(host: str) -> None:
    with pytest.raises(ResolveError, match="host name"):
        asyncio.run(resolve_now(host, 1))


def test_a_connect_without_an_answer_waits_for_it_in_time() -> None:
    release = threading.Event()

    def lookup(host: str, port: int) -> list[Endpoint]:
        release.wait()
        return [endpoint(LOCALHOST, port)]

    async def main() -> None:
        with listener() as sock:
            peer = Address("m2", address(sock).port)
            async with end(peer, lookup=lookup, connect_timeout_s=0.05) as m1:
                m1.link.connect(1, False)
                assert "not resolved in time" in (await m1.only(Unreachable)).reason
                release.set()
                await until(lambda: threading.active_count() == 1)
                m1.link.connect(2, False)
                await m1.only(Connected)

    asyncio.run(main())


def test_at_most_one_look_up_and_the_old_answer_at_once() -> None:
    calls: list[threading.Event] = []

    def lookup(host: str, port: int) -> list[Endpoint]:
        gate = threading.Event()
        calls.append(gate)
        if len(calls) > 1:
            gate.wait()
        return [endpoint(f"127.0.0.{len(calls)}", port)]

    async def main() -> None:
        notices: list[str] = []
        resolver = Resolver(
            Address("m2", 7), on_notice=notices.append, refresh_s=0.0, lookup=lookup
        )
        assert await resolver.endpoints() == [endpoint("127.0.0.1", 7)]
        for _ in range(5):
            assert await resolver.endpoints() == [endpoint("127.0.0.1", 7)]
            await asyncio.sleep(0)
        await until(lambda: len(calls) == 2)
        calls[1].set()
        await until(lambda: bool(notices))
        assert notices == ["m2 now resolves to 127.0.0.2, no longer 127.0.0.1"]
        resolver.close()

    asyncio.run(main())


def test_not_before_the_period_is_over() -> None:
    calls: list[str] = []

    def lookup(host: str, port: int) -> list[Endpoint]:
        calls.append(host)
        return [endpoint(LOCALHOST, port)]

    async def main() -> None:
        resolver = Resolver(Address("m2", 7), on_notice=print, refresh_s=3600, lookup=lookup)
        for _ in range(5):
            await resolver.endpoints()
        assert calls == ["m2"]

    asyncio.run(main())


def test_a_failure_keeps_the_answer_and_is_said_once() -> None:
    failing = threading.Event()
    calls: list[str] = []

    def lookup(host: str, port: int) -> list[Endpoint]:
        calls.append(host)
        if failing.is_set():
            raise socket.gaierror(-2, "Name or service not known")
        return [endpoint(LOCALHOST, port)]

    async def main() -> None:
        notices: list[str] = []
        resolver = Resolver(Address("m2", 7), on_notice=notices.append, refresh_s=0, lookup=lookup)
        for fails in (False, True, True, True, False, False):
            (failing.set if fails else failing.clear)()
            before = len(calls)
            assert await resolver.endpoints() == [endpoint(LOCALHOST, 7)]
            while len(calls) == before or resolver._asking is not None:
                await asyncio.sleep(0.001)
        assert len(notices) == 2
        assert "'m2' cannot be resolved (Name or service not known)" in notices[0]
        assert "still using 127.0.0.1" in notices[0]
        assert notices[1] == "m2 resolves again, to 127.0.0.1"

    asyncio.run(main())
