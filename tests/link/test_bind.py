"""The port is the lock: taken whole, waited for, given up with a sentence."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from ha_heartbeat.config import Address
from ha_heartbeat.shell import listen
from ha_heartbeat.shell.listen import BindError, bind, explain_loopback
from ha_heartbeat.shell.resolve import Endpoint, Lookup, ResolveError, look_up
from tests.link.rig import LOCALHOST, endpoint, free_port, has_ipv6, listener

ABSENT = "192.0.2.77"  # RFC 5737: nobody's


async def bound(
    host: str, port: int, wait_s: float = 0.0, lookup: Lookup = look_up
) -> list[socket.socket]:
    return await bind(Address(host, port), wait_s=wait_s, on_waiting=print, lookup=lookup)


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def test_the_sockets_listen_and_stay_here() -> None:
    async def main() -> None:
        (sock,) = await bound(LOCALHOST, free_port())
        assert not sock.get_inheritable()
        assert not sock.getblocking()
        with socket.create_connection(sock.getsockname()):
            pass
        sock.close()

    asyncio.run(main())


def test_all_addresses_of_a_name() -> None:
    if not has_ipv6():
        pytest.skip("this host has no IPv6 loopback address")
    port = free_port(LOCALHOST, "::1")
    both = [endpoint(LOCALHOST, port), endpoint("::1", port)]

    async def main() -> None:
        sockets = await bound("m1", port, lookup=lambda *_: both)
        assert [sock.getsockname()[0] for sock in sockets] == [LOCALHOST, "::1"]
        with pytest.raises(BindError, match="is held"):
            await bound("::1", port)
        close(sockets)
        with listener("::1", port), pytest.raises(BindError, match="is held"):
            await bound("m1", port, lookup=lambda *_: both)
        close(await bound("m1", port, lookup=lambda *_: both))  # nothing was left open

    asyncio.run(main())


def test_waiting_until_the_port_is_free() -> None:
    said: list[str] = []

    async def main() -> None:
        port = free_port()
        with listener(port=port) as other:
            task = asyncio.create_task(
                bind(Address(LOCALHOST, port), wait_s=60, on_waiting=said.append)
            )
            while not said:
                await asyncio.sleep(0.01)
            assert not task.done()
            client = socket.create_connection(other.getsockname())
            other.accept()[0].close()  # leaves TIME_WAIT behind
        client.close()
        close(await task)
        assert len(said) == 1
        assert f"the port 127.0.0.1:{port} is held by another process" in said[0]

    asyncio.run(main())


def test_the_time_is_over() -> None:
    async def main() -> None:
        words = r"was held by another process for 0\.15 s: find"
        with listener() as other, pytest.raises(BindError, match=words):
            await bound(LOCALHOST, other.getsockname()[1], wait_s=0.15)

    asyncio.run(main())


def test_two_that_start_at_once_do_not_share() -> None:
    async def main() -> None:
        port = free_port()
        results = await asyncio.gather(
            *(bound(LOCALHOST, port) for _ in range(8)), return_exceptions=True
        )
        won = [result for result in results if isinstance(result, list)]
        assert len(won) == 1
        close(won[0])

    asyncio.run(main())


def test_a_port_that_was_bound_but_does_not_listen_is_no_lock() -> None:
    async def main() -> None:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind((LOCALHOST, free_port()))
            sockets = await bound(*other.getsockname())
            with pytest.raises(OSError, match="in use"):
                other.listen()
            close(sockets)

    asyncio.run(main())


def test_an_address_that_is_not_there() -> None:
    said: list[str] = []

    async def main() -> None:
        with pytest.raises(BindError, match=r"did not have the address 192\.0\.2\.77:"):
            await bind(Address(ABSENT, free_port()), wait_s=0.15, on_waiting=said.append)
        assert len(said) == 1
        assert "does not have the address" in said[0]

    asyncio.run(main())


def test_one_address_that_is_not_there_is_left_out_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listen, "_PARTIAL_S", 0.3)
    port = free_port()
    both = [endpoint(ABSENT, port), endpoint(LOCALHOST, port)]

    async def main() -> None:
        began_s = asyncio.get_running_loop().time()
        sockets = await bound("m1", port, wait_s=60, lookup=lambda *_: both)
        assert asyncio.get_running_loop().time() - began_s >= 0.3
        assert [sock.getsockname()[0] for sock in sockets] == [LOCALHOST]
        close(sockets)

    asyncio.run(main())


def test_a_host_without_ipv6_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    original = listen._bind_one

    def without_ipv6(to: Endpoint) -> socket.socket:
        if to.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "")
        return original(to)

    monkeypatch.setattr(listen, "_bind_one", without_ipv6)
    port = free_port()
    both = [endpoint("::1", port), endpoint(LOCALHOST, port)]
    said: list[str] = []

    async def main() -> None:
        close(
            await bind(
                Address("localhost", port),
                wait_s=60,
                on_waiting=said.append,
                lookup=lambda *_: both,
            )
        )
        assert said == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, "no permission to listen at"), (errno.ENOMEM, "ENOMEM")],
)
def test_what_waiting_does_not_cure(
    number: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> socket.socket:
        raise OSError(number, "")

    monkeypatch.setattr(listen, "_bind_one", fails)
    with pytest.raises(BindError, match=words):
        asyncio.run(bound(LOCALHOST, 80, wait_s=60))


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(ResolveError, match=r"'no-such-host\.invalid' cannot be resolved"):
        asyncio.run(bound("no-such-host.invalid", 22221, wait_s=60))


def test_a_name_that_only_this_host_can_reach() -> None:
    with listener() as loopback, listener("0.0.0.0") as everywhere:
        sentence = explain_loopback(Address("m1", 22221), [loopback], "192.0.2.1")
        assert "'m1' means only 127.0.0.1 here" in sentence
        assert explain_loopback(Address("m1", 1), [loopback], "127.0.0.1") == ""
        assert explain_loopback(Address("m1", 1), [loopback, everywhere], "192.0.2.1") == ""
