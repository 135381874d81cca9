"""Turns a host and port into addresses to connect to or to listen at, without holding up the loop.

Look-ups run in threads of their own, not in the loop's pool: a name server that does not answer can
hold a look-up for half a minute, and the pool is waited for when a program ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from ha_heartbeat.config import Address
from ha_heartbeat.shell.errors import StartError

MAX_ENDPOINTS = 16
"""How many addresses of one name are used: more is a mistake, and each costs an attempt."""


class ResolveError(StartError):
    """A name has no address, or the name server gave no answer; the text is a sentence."""


class Endpoint(NamedTuple):
    """One address of a name: its family and what `socket.connect` takes for it."""

    family: int
    sockaddr: tuple[str | int, ...]

    def __str__(self) -> str:
        """The numeric address and port, brackets around IPv6, the zone given by its number."""
        host, port, *rest = self.sockaddr
        if self.family == socket.AF_INET:
            return f"{host}:{port}"
        zone = f"%{rest[1]}" if len(rest) > 1 and rest[1] else ""
        return f"[{host}{zone}]:{port}"


Lookup: TypeAlias = Callable[[str, int], Sequence[Endpoint]]
"""Finds the endpoints of a name; may block; raises OSError or UnicodeError."""


def look_up(host: str, port: int) -> list[Endpoint]:
    """Ask the system's resolver. Raises OSError, or UnicodeError for what cannot be a name.

    AI_ADDRCONFIG is not used: it hides ::1 on a host whose only IPv6 address that is.
    """
    return _endpoints(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def read_literal(host: str, port: int) -> list[Endpoint] | None:
    """The endpoint of an IP address (a zone is allowed: fe80::1%eth0), None if `host` is a name.

    Raises ResolveError if it is an address that this host cannot use, as one with a zone that
    names no interface. Cheap, and to be asked anew each time: the number of a zone can change.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError) as error:
        raise ResolveError(_sentence(host, error)) from None
    return _endpoints(found)


async def resolve_now(host: str, port: int, *, lookup: Lookup = look_up) -> list[Endpoint]:
    """The endpoints of `host`, at least one. Raises ResolveError."""
    literal = read_literal(host, port)
    return literal if literal is not None else await _in_thread(lookup, host, port)


class Resolver:
    """The peer's endpoints, as far as known; at most one look-up is under way at any time.

    The last good answer is used at once and renewed in the background when it is older than
    `refresh_s` seconds; a failed look-up changes nothing but the log, where each change (of the
    answer, of the failure) appears once.
    """

    def __init__(
        self,
        peer: Address,
        *,
        on_notice: Callable[[str], None],
        refresh_s: float,
        lookup: Lookup = look_up,
    ) -> None:
        self._peer = peer
        self._on_notice = on_notice
        self._refresh_s = refresh_s
        self._lookup = lookup
        self._known: list[Endpoint] = []
        self._failure = ""
        self._asked_at_s = 0.0
        self._asking: asyncio.Task[None] | None = None

    async def endpoints(self) -> list[Endpoint]:
        """The last good answer, at once if there is one; raises ResolveError if there is none."""
        literal = read_literal(*self._peer)
        if literal is not None:
            return literal
        self.refresh()
        if not self._known and self._asking is not None:
            await asyncio.wait({self._asking})  # not cancelled with the one who waits
        if not self._known:
            raise ResolveError(self._failure or _sentence(self._peer.host, OSError("no address")))
        return list(self._known)

    def refresh(self) -> None:
        """Start a look-up in the background, if the last one was long enough ago."""
        if self._asking is not None or _is_literal(self._peer):
            return
        now_s = asyncio.get_running_loop().time()
        if self._known and now_s < self._asked_at_s + self._refresh_s:
            return
        self._asked_at_s = now_s
        self._asking = asyncio.create_task(self._ask())

    def close(self) -> None:
        """Forget the look-up that is under way, if any; its thread ends by itself."""
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self) -> None:
        try:
            found = await _in_thread(self._lookup, *self._peer)
        except ResolveError as error:
            self._failed(str(error))
        else:
            self._succeeded(found)
        finally:
            self._asking = None

    def _failed(self, sentence: str) -> None:
        if sentence == self._failure:
            return
        self._failure = sentence
        still = "; still using " + _listed(self._known) if self._known else ""
        self._on_notice(sentence + still)

    def _succeeded(self, found: list[Endpoint]) -> None:
        before, self._known = self._known, found
        failed_before, self._failure = self._failure, ""
        if before and set(before) != set(found):  # name servers like to change the order
            self._on_notice(
                f"{self._peer.host} now resolves to {_listed(found)}, no longer {_listed(before)}"
            )
        elif failed_before:
            self._on_notice(f"{self._peer.host} resolves again, to {_listed(found)}")


def _is_literal(peer: Address) -> bool:
    """Whether the peer is given by an IP address, so that there is nothing to look up."""
    try:
        return read_literal(*peer) is not None
    except ResolveError:
        return True


async def _in_thread(lookup: Lookup, host: str, port: int) -> list[Endpoint]:
    """Call `lookup` in a daemon thread. Raises ResolveError; cancelling leaves the thread alone."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[list[Endpoint] | str] = loop.create_future()

    def deliver(result: list[Endpoint] | str) -> None:
        if not done.done():
            done.set_result(result)

    def work() -> None:
        result: list[Endpoint] | str
        try:
            result = list(lookup(host, port))[:MAX_ENDPOINTS]
            result = result or _sentence(host, OSError("it has no address"))
        except (OSError, ValueError, OverflowError) as error:  # UnicodeError is a ValueError
            result = _sentence(host, error)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(deliver, result)

    try:
        threading.Thread(target=work, name=f"resolve {host}", daemon=True).start()
    except RuntimeError as error:  # no more threads
        raise ResolveError(_sentence(host, error)) from None
    result = await done
    if isinstance(result, str):
        raise ResolveError(result)
    return result


def _endpoints(found: Sequence[tuple[object, ...]]) -> list[Endpoint]:
    """What getaddrinfo found, without families we do not speak and without duplicates."""
    inet = (socket.AF_INET, socket.AF_INET6)
    listed = [
        Endpoint(int(family), sockaddr)
        for family, _, _, _, sockaddr in found
        if family in inet and isinstance(family, int) and isinstance(sockaddr, tuple)
    ]
    return list(dict.fromkeys(listed))


def _listed(endpoints: Sequence[Endpoint]) -> str:
    return " and ".join(str(endpoint.sockaddr[0]) for endpoint in endpoints)


def _sentence(host: str, error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return f"{host!r} is not a host name"
    words = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return f"the host name {host!r} cannot be resolved ({words}): check its spelling and the DNS"
