"""Runs the application under uvicorn: sockets, limits, signals.

Needs the extra `witness`. What uvicorn lacks is added here: a time limit and a size limit for the
head of a request, so that nobody can hold connections or memory by sending slowly or for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import signal
import socket
import sys
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ha_heartbeat.config import Address
from ha_heartbeat.witness_server.app import App
from ha_heartbeat.witness_server.group import GroupCommit
from ha_heartbeat.witness_server.store import Store

HEAD_TIMEOUT_S = 10.0
MAX_HEAD_BYTES = 16_384
MAX_CONNECTIONS = 20_000
KEEP_ALIVE_S = 120  # above the clients' own limit: whoever writes closes, so no PUT meets a close
STOP_S = 5
BACKLOG = 1_024
OTHER_FILES = 64  # descriptors left to the store, the listeners and the interpreter


_TAKEN = {errno.EADDRINUSE, errno.EACCES}


class BindError(Exception):
    """The address cannot be listened on; the text is one sentence for the operator."""


def bind(address: Address) -> list[socket.socket]:
    """Listen on every address that the host has. Raises BindError."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise BindError(f"the host of {address} has no address: {error}") from error
    sockets: list[socket.socket] = []
    problem: OSError | None = None
    for family, kind, protocol, _name, where in dict.fromkeys(found):
        sock = socket.socket(family, kind, protocol)
        try:
            if sys.platform != "win32":  # there it would let two programs share the port
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(where)
            sock.listen(BACKLOG)
            sock.setblocking(False)
            sockets.append(sock)
        except OSError as error:
            sock.close()
            if problem is None or family == socket.AF_INET:
                problem = error  # many machines without IPv6 still resolve names to it
    if problem is not None and (not sockets or problem.errno in _TAKEN):
        for sock in sockets:
            sock.close()
        raise BindError(
            f"cannot listen on {address}: {problem.strerror or problem}; "
            "give an address of this machine and a free port with --listen"
        )
    return sockets


def run(sockets: list[socket.socket], store: Store, address: Address) -> int:
    """Answer until SIGTERM or SIGINT, then end what is under way. Returns the exit status."""
    # Uvicorn raises the signal again at its end, for a default that would end us with its number.
    stops = {signal.SIGTERM: 0, signal.SIGINT: 130}
    got: list[int] = []
    group = GroupCommit(store)
    server = uvicorn.Server(_config(App(store, group)))

    def note(number: int, _frame: FrameType | None) -> None:
        got.append(number)
        server.should_exit = True  # it may come before uvicorn listens for signals itself

    before = {number: signal.signal(number, note) for number in stops}
    try:
        _say(f"answers on {address}, and keeps {store.clusters} clusters in {store.path}")
        gc.collect()
        gc.freeze()  # what is there now stays; the collector need not look at it again and again
        server.run(sockets)
    finally:
        group.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    _say("has ended")
    return stops[signal.Signals(got[0])] if got else 0


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=LimitedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,  # RFC 9110, 6.6.1: for servers with a clock, and this one needs none
        limit_concurrency=_connections(),
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
    )


def _connections() -> int:
    """How many connections the system lets this process have, after asking for all it gives."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    limit = MAX_CONNECTIONS + OTHER_FILES if soft == resource.RLIM_INFINITY else soft
    return max(min(limit - OTHER_FILES, MAX_CONNECTIONS), 16)


class LimitedProtocol(HttpToolsProtocol):
    """Uvicorn's connection, which closes when the head of a request is too long or too slow."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._expect_head()
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._end_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """See httptools."""
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._too_slow)

    def _end_head(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._in_head:
            self.transport.abort()


def _say(what: str) -> None:
    sys.stderr.write(f"ha-heartbeat-witness: {what}\n")
    sys.stderr.flush()
