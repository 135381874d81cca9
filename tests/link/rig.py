"""What the tests of the link share: a member's end with its events, raw sockets, waiting."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from ha_heartbeat.config import Address
from ha_heartbeat.core.types import Answer, Ask, Event, Mode, Phase, Terms, View, Wants
from ha_heartbeat.shell.link import Link
from ha_heartbeat.shell.resolve import Endpoint

PATIENCE_S = 10.0
LOCALHOST = "127.0.0.1"

_E = TypeVar("_E")


def view(incarnation: str = "theirs") -> View:
    return View(
        member="m",
        incarnation=incarnation,
        number=1,
        phase=Phase.SUPERVISOR,
        holding=False,
        epoch=1,
        epoch_seen=1,
        mode=Mode.SUPERVISOR,
        fallback=False,
        rank=0,
        worker_for_s=0.0,
        overlap_s=0.0,
        overlap_epoch=0,
        fit=True,
        terms=Terms(10.0, 3, 30.0, "silence", "true"),
    )


def ask(seq: int = 1, *, service: str = "s", incarnation: str = "theirs") -> Ask:
    return Ask(service, seq, view(incarnation), Wants.NOTHING, 30.0)


def answer(seq: int = 1, *, reason: str = "") -> Answer:
    return Answer(seq, "ours", view(), False, False, reason)


class End:
    """A member's end of the link, with all that it reported."""

    def __init__(self, peer: Address, *, incarnation: str = "ours", **options: Any) -> None:
        self.events: list[Event] = []
        self.notices: list[str] = []
        self.link = Link(
            **{
                "local": Address(LOCALHOST, 22221),
                "peer": peer,
                "service": "s",
                "incarnation": incarnation,
                "on_event": self.events.append,
                "on_notice": self.notices.append,
                "connect_timeout_s": 5.0,
                **options,
            }
        )

    def seen(self, kind: type[_E]) -> list[_E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def next(self, kind: type[_E], count: int = 1) -> _E:
        """The event number `count` of its kind, waited for."""
        await until(lambda: len(self.seen(kind)) >= count, lambda: f"{kind} in {self.events}")
        return self.seen(kind)[count - 1]

    async def only(self, kind: type[_E]) -> _E:
        """The first event, which must be of this kind; `events` is empty afterwards."""
        await until(lambda: bool(self.events), lambda: f"{kind}, but there was no event")
        first, *rest = self.events
        assert isinstance(first, kind), self.events
        self.events[:] = rest
        return first


@contextlib.asynccontextmanager
async def end(peer: Address, **options: Any) -> AsyncIterator[End]:
    it = End(peer, **options)
    try:
        yield it
    finally:
        await it.link.close()
        it.link.close_listeners()


async def until(condition: Callable[[], bool], what: Callable[[], str] = lambda: "") -> None:
    """Wait for a condition; fail when it takes longer than any machine should need."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > give_up_s:
            raise AssertionError(f"not within {PATIENCE_S:g} s: {what()}")
        await asyncio.sleep(0.002)


@contextlib.contextmanager
def listener(host: str = LOCALHOST, port: int = 0, backlog: int = 100) -> Iterator[socket.socket]:
    """A listening socket that nobody accepts from unless the test does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(backlog)
        sock.setblocking(False)
        yield sock


def address(sock: socket.socket) -> Address:
    host, port = sock.getsockname()[:2]
    return Address(host, port)


def free_port(*hosts: str) -> int:
    """A port that is free on all `hosts`, and that is no usual source port.

    Chosen at random, so that suites that run at the same time do not meet.
    """
    for port in random.sample(range(12_000, 32_000), 1000):
        try:
            with contextlib.ExitStack() as stack:
                for host in hosts or (LOCALHOST,):
                    stack.enter_context(listener(host, port))
            return port
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise AssertionError("no free port")


def endpoint(host: str, port: int) -> Endpoint:
    if ":" in host:
        return Endpoint(socket.AF_INET6, (host, port, 0, 0))
    return Endpoint(socket.AF_INET, (host, port))


async def dial(to: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*to)


def has_ipv6() -> bool:
    try:
        with listener("::1"):
            return True
    except OSError:
        return False
