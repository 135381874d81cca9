"""Several paths to one peer: it is alive while one of them works, and a lost one is said."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator

import pytest

from ha_heartbeat.config import Address
from ha_heartbeat.core.types import Connected, LinkBroken, Refused, Unreachable
from tests.link.rig import LOCALHOST, end, free_port, listener, until

OTHER = "127.0.0.3"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="all of 127.0.0.0/8 is local on Linux only"
)


def both(port: int) -> tuple[Address, dict[str, tuple[Address, ...]]]:
    """The peer's address, and the option that names the other one."""
    return Address(LOCALHOST, port), {"links": (Address(OTHER, port),)}


@contextlib.contextmanager
def silent(host: str, port: int) -> Iterator[None]:
    """A listener whose queue is full: as silent as a path that is cut."""
    with listener(host, port, backlog=0) as full, socket.socket() as first:
        first.setblocking(False)
        first.connect_ex(full.getsockname())
        yield


@pytest.mark.parametrize("host", [LOCALHOST, OTHER])
def test_one_path_is_enough(host: str) -> None:
    async def main() -> None:
        port = free_port(LOCALHOST, OTHER)
        peer, links = both(port)
        with listener(host, port):
            async with end(peer, **links) as m1:
                m1.link.connect(1, False)
                assert await m1.only(Connected) == Connected(1)

    asyncio.run(main())


def test_refused_on_all_of_them() -> None:
    async def main() -> None:
        peer, links = both(free_port(LOCALHOST, OTHER))
        async with end(peer, **links) as m1:
            m1.link.connect(1, False)
            assert await m1.only(Refused) == Refused(1)

    asyncio.run(main())


def test_one_that_is_silent_may_lead_to_a_peer_that_is_alive() -> None:
    async def main() -> None:
        port = free_port(LOCALHOST, OTHER)
        peer, links = both(port)
        with silent(OTHER, port):
            async with end(peer, connect_timeout_s=0.3, **links) as m1:
                m1.link.connect(1, False)
                assert (await m1.only(Unreachable)).link == 1

    asyncio.run(main())


def test_the_path_in_use_is_asked_alone_after_its_connection_broke() -> None:
    """So a crash is proved at once though another path is cut."""

    async def main() -> None:
        port = free_port(LOCALHOST, OTHER)
        peer, links = both(port)
        with silent(OTHER, port):
            async with end(peer, **links) as m1:
                with listener(LOCALHOST, port) as sock:
                    m1.link.connect(1, False)
                    await m1.only(Connected)
                    accepted, _ = sock.accept()
                accepted.close()
                await m1.only(LinkBroken)
                m1.link.connect(2, True)
                assert await m1.only(Refused) == Refused(2)

    asyncio.run(main())


def test_a_path_that_is_lost_is_said_once_and_so_is_its_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ha_heartbeat.shell.paths.WATCH_S", 0.01)

    async def main() -> None:
        port = free_port(LOCALHOST, OTHER)
        peer, links = both(port)
        with listener(LOCALHOST, port):
            async with end(peer, connect_timeout_s=0.05, **links) as m1:
                m1.link.serve([])
                m1.link.connect(1, False)
                await m1.only(Connected)
                await until(lambda: len(m1.notices) == 1)
                assert f"the path to {OTHER}:{port} is lost (it is refused)" in m1.notices[0]
                await asyncio.sleep(0.3)
                assert len(m1.notices) == 1
                with listener(OTHER, port):
                    await until(lambda: len(m1.notices) == 2)
                    assert m1.notices[1] == f"the path to {OTHER}:{port} works again"

    asyncio.run(main())


def test_a_peer_that_is_down_has_lost_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ha_heartbeat.shell.paths.WATCH_S", 0.01)

    async def main() -> None:
        peer, links = both(free_port(LOCALHOST, OTHER))
        async with end(peer, connect_timeout_s=0.05, **links) as m1:
            m1.link.serve([])
            m1.link.connect(1, False)
            await m1.only(Refused)
            await asyncio.sleep(0.3)
            assert m1.notices == []

    asyncio.run(main())
