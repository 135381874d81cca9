"""Runs the application: sockets, signals, the limit of connections, an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

from ha_heartbeat.config import Address
from ha_heartbeat.shell.notify import Notifier, take
from ha_heartbeat.witness_server.app import App
from ha_heartbeat.witness_server.group import GroupCommit
from ha_heartbeat.witness_server.protocol import Connection
from ha_heartbeat.witness_server.store import Store

MAX_CONNECTIONS = 20_000
CHECK_S = 2.0
"""Between two looks at all connections for those whose time is up."""
STOP_S = 5.0
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
    group = GroupCommit(store)
    notifier = take(os.environ)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            server = _Server(App(store, group), group, _connections(), notifier)
            status = runner.run(server.serve(sockets, address, _told_of(store)))
    finally:
        notifier.close()
        group.close()
    _say("has ended")
    return status


def _told_of(store: Store) -> str:
    """Whether it is the store that was meant: an empty one has forgotten every vote."""
    if not store.found:
        return f"its store {store.path} has no record yet"
    return f"its store {store.path} has {store.found} record{'s' if store.found > 1 else ''}"


class _Server:
    """All connections, from the first to the last."""

    def __init__(
        self, app: App, group: GroupCommit, max_connections: int, notifier: Notifier
    ) -> None:
        self._app = app
        self._group = group
        self._notifier = notifier
        self._max_connections = max_connections
        self._connections: set[Connection] = set()
        self._none_left = asyncio.Event()

    async def serve(self, sockets: list[socket.socket], address: Address, told: str) -> int:
        """Answer until a signal; returns the exit status that it means. told: of the store."""
        loop = asyncio.get_running_loop()
        stopped: asyncio.Future[int] = loop.create_future()

        def stop(status: int) -> None:
            if not stopped.done():
                stopped.set_result(status)

        _on_signal(loop, stop)
        listeners = [
            await loop.create_server(self._connect, sock=sock, backlog=BACKLOG) for sock in sockets
        ]
        _say(f"answers on {address}; {told}")
        self._notifier.status(f"answers on {address}")
        self._notifier.ready(self._is_well)
        gc.collect()
        gc.freeze()  # what is there now stays; the collector need not look at it ever again
        while True:
            done, _pending = await asyncio.wait([stopped], timeout=CHECK_S)
            if done:
                break
            for connection in list(self._connections):
                connection.check(loop.time())
        self._notifier.stopping()
        for listener in listeners:
            listener.close()
        await self._end_connections()
        return stopped.result()

    def _is_well(self) -> bool:
        """Whether what is written gets to the disk: a witness that confirms no swap is none."""
        return self._group.writing_for_s < self._notifier.half_s

    def _connect(self) -> Connection:
        full = len(self._connections) >= self._max_connections
        now_s = asyncio.get_running_loop().time()
        return Connection(
            self._app, full=full, opened=self._connections.add, closed=self._forget, now_s=now_s
        )

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._none_left.set()

    async def _end_connections(self) -> None:
        for connection in list(self._connections):
            connection.end()
        if self._connections:
            self._none_left.clear()
            try:
                async with asyncio.timeout(STOP_S):
                    await self._none_left.wait()
            except TimeoutError:
                for connection in list(self._connections):
                    connection.abort()


def _on_signal(loop: asyncio.AbstractEventLoop, stop: Callable[[int], object]) -> None:
    for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        try:
            loop.add_signal_handler(number, stop, status)
        except NotImplementedError:  # Windows

            def handler(_number: int, _frame: FrameType | None, status: int = status) -> None:
                loop.call_soon_threadsafe(stop, status)

            signal.signal(number, handler)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop halves what a request costs, and does not exist everywhere."""
    if sys.platform == "win32":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


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


def _say(what: str) -> None:
    sys.stderr.write(f"ha-heartbeat-witness: {what}\n")
    sys.stderr.flush()
