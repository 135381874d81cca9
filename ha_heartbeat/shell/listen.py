"""Binds the member's port, which is its lock (DESIGN 4), and waits for it where waiting helps."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Sequence

from ha_heartbeat.config import Address
from ha_heartbeat.shell.errors import StartError
from ha_heartbeat.shell.reach import os_words
from ha_heartbeat.shell.resolve import Endpoint, Lookup, look_up, resolve_now

BACKLOG = 512
"""Connections the kernel holds for a member that is stopped; more are not answered."""

_RETRY_S = 0.1
_PARTIAL_S = 3.0
"""How long all addresses of a name are waited for once one of them could be bound: longer than
IPv6 takes to find out that a new address is unique (RFC 4862, 5.4)."""

_WSAEACCES = 10013  # Windows, for a port that another socket holds exclusively


class BindError(StartError):
    """The local address cannot be bound; the text is a sentence."""


async def bind(
    local: Address,
    *,
    wait_s: float,
    on_waiting: Callable[[str], None],
    lookup: Lookup = look_up,
) -> list[socket.socket]:
    """Listen at every address that the local host name has.

    Waits up to `wait_s` seconds (>= 0) while a port is in use or no address is there yet, and calls
    `on_waiting` once with a sentence when it begins to. Addresses that this host does not have are
    left out if another one of the same name could be bound: at once if it has no such family (::1
    of localhost without IPv6), else after a few seconds.

    Returns sockets that listen, do not block, and are not inherited. Raises BindError and
    ResolveError.
    """
    endpoints = await resolve_now(*local, lookup=lookup)
    loop = asyncio.get_running_loop()
    began = loop.time()
    waiting = False
    while True:
        waited_s = loop.time() - began
        sockets, failures = _bind_all(endpoints)
        if sockets and not _must_wait(failures, waited_s, wait_s):
            # Only now, so that nobody is accepted by a member that has to go on waiting.
            failures = _listen(sockets)
            if not failures:
                return sockets
        _close(sockets)
        error = _worst(failures)
        if not _may_pass(error) or waited_s >= wait_s:
            raise BindError(_failed(local, error, wait_s))
        if not waiting:
            waiting = True
            on_waiting(_waiting(local, error, wait_s))
        await asyncio.sleep(min(_RETRY_S, max(wait_s - waited_s, 0.001)))


def explain_loopback(local: Address, sockets: Sequence[socket.socket], peer: str) -> str:
    """A sentence if only this host can reach the sockets while `peer` is elsewhere, "" otherwise.

    `peer` is a numeric address of the peer. Debian and Ubuntu give a host's own name the address
    127.0.1.1 in /etc/hosts. A member that listens there is refused to its peer while it runs, and
    the peer must take that for proof of its death: so no member may start like this.
    """
    own = [str(sock.getsockname()[0]) for sock in sockets]
    if not own or not all(map(_is_loopback, own)) or _is_loopback(peer):
        return ""
    return (
        f"the local name {local.host!r} means only {' and '.join(own)} here, where the peer"
        f" at {peer} cannot connect: give --local the address that the peer uses, or correct"
        " /etc/hosts"
    )


def _bind_all(
    endpoints: Sequence[Endpoint],
) -> tuple[list[socket.socket], dict[Endpoint, OSError]]:
    """Bound sockets for the endpoints where that succeeds, errors for the others."""
    sockets: list[socket.socket] = []
    failures: dict[Endpoint, OSError] = {}
    for endpoint in endpoints:
        try:
            sockets.append(_bind_one(endpoint))
        except OSError as error:
            failures[endpoint] = error
    return sockets, failures


def _bind_one(endpoint: Endpoint) -> socket.socket:
    """A bound socket that does not listen yet. Raises OSError.

    On POSIX, SO_REUSEADDR allows to bind while connections of an earlier life linger in TIME_WAIT;
    two sockets can bind one port with it, but only one can listen (socket(7)). On Windows the same
    option would let anybody share the port, and there is one for the opposite.
    """
    sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if endpoint.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(endpoint.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen(sockets: Sequence[socket.socket]) -> dict[Endpoint, OSError]:
    """Listen on all sockets; this, not bind(), takes the lock. Returns the errors."""
    failures: dict[Endpoint, OSError] = {}
    for sock in sockets:
        try:
            sock.listen(BACKLOG)
        except OSError as error:
            failures[Endpoint(sock.family, sock.getsockname())] = error
            break
    return failures


def _must_wait(failures: dict[Endpoint, OSError], waited_s: float, wait_s: float) -> bool:
    """Whether the endpoints that were bound are not enough (yet, or at all)."""
    for endpoint, error in failures.items():
        if _is_absent(error):
            for_good = error.errno == errno.EAFNOSUPPORT or _is_loopback(endpoint.sockaddr[0])
            if not for_good and waited_s < min(_PARTIAL_S, wait_s):
                return True
        else:
            return True
    return False


def _worst(failures: dict[Endpoint, OSError]) -> OSError:
    """The error to report: one that waiting does not cure, else a held port, else any."""

    def weight(error: OSError) -> int:
        return 0 if _is_absent(error) else 1 if _is_held(error) else 2

    return max(failures.values(), key=weight)


def _is_held(error: OSError) -> bool:
    return error.errno == errno.EADDRINUSE or getattr(error, "winerror", 0) == _WSAEACCES


def _is_absent(error: OSError) -> bool:
    return error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def _may_pass(error: OSError) -> bool:
    return _is_held(error) or error.errno == errno.EADDRNOTAVAIL


def _is_loopback(host: object) -> bool:
    return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback


def _waiting(local: Address, error: OSError, wait_s: float) -> str:
    if _is_held(error):
        return (
            f"the port {local} is held by another process, perhaps by what is left of this member's"
            f" earlier command; waiting up to {wait_s:g} s for it"
        )
    return f"this host does not have the address {local} yet; waiting up to {wait_s:g} s for it"


def _failed(local: Address, error: OSError, wait_s: float) -> str:
    if _is_held(error):
        held = f"was held by another process for {wait_s:g} s" if wait_s else "is held"
        return (
            f"the port {local} {held}: find out by whom (ss -ltnp,"
            " netstat -ano), or choose another port with --local and the peer's --remote"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"this host did not have the address {local} for {wait_s:g} s: give --local an address"
            " of this host"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"there is no permission to listen at {local}: choose a port above 1023, or allow it"
            " (CAP_NET_BIND_SERVICE)"
        )
    code = errno.errorcode.get(error.errno or 0, "unknown error")
    words = os.strerror(error.errno) if error.errno else os_words(error)
    return f"the member cannot listen at {local}: {words} ({code})"


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
