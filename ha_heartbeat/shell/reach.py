"""Connects to a set of endpoints and says what that proves. The evidence of DESIGN 3 starts here.

A refusal is the kernel of the peer's host saying that nobody holds the port (RFC 9293, 3.5.2: a
reset in answer to a SYN), so only ECONNREFUSED counts as one. A reset later on, a timeout or an
unreachable network say nothing about the peer.

Two things look like a refusal and cannot be told from one here. Linux reports an ICMP "port
unreachable" (what iptables' REJECT sends) as ECONNREFUSED, too. And Windows refuses when the queue
of a listener is full (see its documentation of listen), where other systems stay silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from ha_heartbeat.shell.resolve import Endpoint

_NO_WAY_FROM_HERE = (errno.ENETUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class Reached(NamedTuple):
    """Somebody listens at `endpoint`; `sock` is connected, non-blocking and the caller's."""

    sock: socket.socket
    endpoint: Endpoint


class AllRefused(NamedTuple):
    """Every endpoint that can be asked from here refused."""


class NoProof(NamedTuple):
    """Nobody was reached, and that proves nothing; `reason` names each endpoint and its error."""

    reason: str


Outcome: TypeAlias = Reached | AllRefused | NoProof


async def reach(
    endpoints: Sequence[Endpoint], timeout_s: float, *, each_counts: bool = False
) -> Outcome:
    """Try all endpoints at once; the first that accepts wins. Leaves no socket behind.

    each_counts: see `judge`.
    """
    tries = {asyncio.create_task(_connect(endpoint)): endpoint for endpoint in endpoints}
    winner: asyncio.Task[socket.socket] | None = None
    try:
        winner = await _first_success(set(tries), timeout_s)
    finally:
        for attempt in tries:
            if attempt is not winner:
                attempt.cancel()
                attempt.add_done_callback(_discard)
    if winner is not None:
        return Reached(winner.result(), tries[winner])
    failures = {endpoint: _failure(attempt, timeout_s) for attempt, endpoint in tries.items()}
    return judge(failures, each_counts=each_counts)


def judge(
    failures: Mapping[Endpoint, OSError], *, each_counts: bool = False
) -> AllRefused | NoProof:
    """What it proves that each endpoint failed as given.

    Endpoints to which this host has no route are left out, as long as another one refused: else no
    host without IPv6 could ever be told that nobody listens at localhost. Not if each_counts: where
    a peer has several paths, one without a route may be the only one on which it listens.
    """
    refused = [to for to, error in failures.items() if isinstance(error, ConnectionRefusedError)]
    doubtful = [
        to
        for to, error in failures.items()
        if to not in refused and (each_counts or not (refused and _no_way(to, error)))
    ]
    if refused and not doubtful:
        return AllRefused()
    said = [f"{to}: {os_words(error)}" for to, error in failures.items()]
    return NoProof("; ".join(said) or "there is no address to connect to")


def os_words(error: BaseException) -> str:
    """The operating system's words for an error, without the address that asyncio adds."""
    if isinstance(error, OSError) and error.errno and sys.platform != "win32":
        return os.strerror(error.errno)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


async def _first_success(
    pending: set[asyncio.Task[socket.socket]], timeout_s: float
) -> asyncio.Task[socket.socket] | None:
    """The first attempt to succeed, None if all have failed or the time is over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while pending:
        done, pending = await asyncio.wait(
            pending, timeout=end - loop.time(), return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            return None
        for attempt in done:
            if not attempt.cancelled() and attempt.exception() is None:
                return attempt
    return None


async def _connect(endpoint: Endpoint) -> socket.socket:
    """A connected, non-blocking socket. Raises OSError; closes the socket if it fails."""
    sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # Accepted and reset before anybody looked is still accepted: the port was held by a tree
        # that has just ended, and the connection's end, reported next, is worth another look.
        with contextlib.suppress(ConnectionResetError):
            await asyncio.get_running_loop().sock_connect(sock, endpoint.sockaddr)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _check_not_self(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def _check_not_self(sock: socket.socket) -> None:
    """Raise ConnectionRefusedError if the socket is connected to itself.

    On one host, the kernel may choose the very port that is being connected to as the source port;
    TCP then opens the connection "simultaneously" with itself (RFC 9293, 3.5). It chooses no port
    that is held, so nobody listens there. The socket is reset, to free the port at once.
    """
    try:
        if sock.getsockname() != sock.getpeername():
            return
    except OSError as error:
        if error.errno == errno.ENOTCONN:  # reset meanwhile
            return
        raise
    linger_onoff_s = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_onoff_s)
    raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


def _no_way(endpoint: Endpoint, error: OSError) -> bool:
    """Whether this host itself has no way to the endpoint, rather than a router having none.

    Connecting a datagram socket sends nothing and fails at once exactly in that case.
    """
    if error.errno not in _NO_WAY_FROM_HERE:
        return False
    try:
        with socket.socket(endpoint.family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(endpoint.sockaddr)
    except OSError as again:
        return again.errno in _NO_WAY_FROM_HERE
    return False


def _failure(attempt: asyncio.Task[socket.socket], timeout_s: float) -> OSError:
    """Why a finished attempt failed; one that is not finished was too slow."""
    error = None if not attempt.done() or attempt.cancelled() else attempt.exception()
    if error is None:
        return TimeoutError(f"no answer within {timeout_s:g} s")
    return error if isinstance(error, OSError) else OSError(f"{type(error).__name__}: {error}")


def _discard(attempt: asyncio.Task[socket.socket]) -> None:
    """Close what an attempt that is not wanted any more may have achieved."""
    if attempt.cancelled() or attempt.exception() is not None:
        return
    with contextlib.suppress(OSError):
        attempt.result().close()
