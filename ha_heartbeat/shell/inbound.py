"""The listening side of the link: who may ask, how many may wait, and what strangers are told.

A connection is a stranger's until its first valid question of the same service from another
incarnation than our own. Strangers are limited in number and time, so that scanners, forgotten
clients and floods cost neither memory nor the peer's place.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from ha_heartbeat.config import Address
from ha_heartbeat.core.types import Answer, Ask, Asked, Event, InboundClosed
from ha_heartbeat.shell.reach import os_words
from ha_heartbeat.shell.receiving import Received, room
from ha_heartbeat.shell.strangers import check_beginning, kind_and_reason
from ha_heartbeat.wire.codec import UnknownTypeError, decode, encode, encode_error
from ha_heartbeat.wire.frames import FrameReader, WireError

MAX_STRANGERS = 1000
MAX_ASKERS = 16
"""Connections that have asked a valid question: one from the peer, and half-open older ones."""

MAX_QUEUED_BYTES = 256 * 1024
"""How much may wait for a peer that does not read: several hundred messages."""

MAX_NOTICES = 256

QUEUED_BYTES_EACH = 4096


def most_queued_bytes(services: int) -> int:
    """How much may wait on a connection of so many services."""
    return MAX_QUEUED_BYTES + QUEUED_BYTES_EACH * max(0, services - 1)


OnOther: TypeAlias = Callable[[int, UnknownTypeError], None]
"""Gets a line on connection or link `int` that is no message of the core. May raise WireError."""


def ignore(conn: int, other: UnknownTypeError) -> None:
    """What is done with such a line where nobody wants it: a newer minor version may send it."""


OnUnknown: TypeAlias = Callable[[int, Ask], bool]
"""Gets a question about a service that is not carried; false if its asker is to be turned away."""


def turn_away(conn: int, ask: Ask) -> bool:
    """What is done where one service is all there is: its asker is somebody else's peer."""
    return False


_OTHER_FILES = 64  # descriptors left to the rest of the member: run, journal, control, witness
_LEAVE_S = 1.0
_NO_FILES_PAUSE_S = 0.1
_GRACE_S = 0.5
_ACCEPT_PAUSE_S = 0.05
_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Notices:
    """Says each thing once, however often it happens: at most `MAX_NOTICES` different ones."""

    def __init__(self, on_notice: Callable[[str], None]) -> None:
        self._on_notice = on_notice
        self._said: set[tuple[str, str]] = set()

    def once(self, who: str, kind: str, sentence: str) -> None:
        """Pass on `sentence`, unless something of this kind was said of `who` before."""
        if (who, kind) in self._said or len(self._said) > MAX_NOTICES:
            return
        self._said.add((who, kind))
        if len(self._said) > MAX_NOTICES:
            sentence = f"{MAX_NOTICES} troubles of strangers have been reported; no more will be"
        self._on_notice(sentence)

    def forget(self, who: str) -> None:
        """What was said of `who` is over; say it again when it returns."""
        self._said = {(whom, kind) for whom, kind in self._said if whom != who}


class Inbound:
    """Accepts connections, passes on valid questions, and sends answers.

    carried: the services that may be asked about, each with this member's incarnation of it.
    on_other, on_stranger: get lines that are no messages of the core, of askers and of strangers.
    `on_event` gets Asked and InboundClosed, always from the loop, never from within a call.
    """

    def __init__(
        self,
        *,
        local: Address,
        carried: Mapping[str, str],
        on_event: Callable[[Event], None],
        notices: Notices,
        max_strangers: int | None = None,
        stranger_s: float = 30.0,
        on_other: OnOther = ignore,
        on_stranger: OnOther = ignore,
        on_unknown: OnUnknown = turn_away,
        on_stranger_gone: Callable[[int], None] = lambda conn: None,
    ) -> None:
        self._on_stranger_gone = on_stranger_gone
        self._on_other = on_other
        self._on_stranger = on_stranger
        self._on_unknown = on_unknown
        self._local = local
        self._carried = carried  # service: our own incarnation
        self._on_event = on_event
        self._notices = notices
        self._max_strangers = most_strangers() if max_strangers is None else max_strangers
        self._stranger_s = stranger_s
        self._room = room()
        self._conns = itertools.count(1)
        self._accepting: list[asyncio.Task[None]] = []
        # Both in the order of their last merit: arrival for strangers, last question for askers.
        self._strangers: dict[int, Visitor] = {}
        self._askers: dict[int, Visitor] = {}
        self._leaving: dict[int, Visitor] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._silenced = False

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._strangers) + len(self._askers) + len(self._leaving)

    def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Start accepting on listening, non-blocking sockets, which stay the caller's."""
        for listener in sockets:
            self._accepting.append(asyncio.create_task(self._accept(listener)))

    def stop_accepting(self) -> None:
        """Leave new connections in the kernel's queue."""
        for task in self._accepting:
            task.cancel()
        self._accepting.clear()

    def send(self, conn: int, answer: Answer) -> None:
        """Queue an answer. Nothing happens if `conn` has ended. Raises WireError."""
        visitor = self._askers.get(conn)
        if visitor is None:
            return
        transport = visitor.transport
        transport.write(encode(answer))
        if transport.get_write_buffer_size() > MAX_QUEUED_BYTES:
            transport.abort()

    def send_line(self, conn: int, line: bytes) -> bool:
        """Queue a line that is no answer, unless much is queued already; whether it was."""
        visitor = self._askers.get(conn)
        if visitor is None or visitor.transport.get_write_buffer_size() > len(line):
            return False
        visitor.transport.write(line)
        return True

    def tell(self, conn: int, data: bytes) -> None:
        """Queue whole lines for an asker or a stranger. Nothing happens if `conn` has ended."""
        visitor = self._askers.get(conn) or self._strangers.get(conn)
        if visitor is None:
            return
        visitor.transport.write(data)
        if visitor.transport.get_write_buffer_size() > most_queued_bytes(len(self._carried)):
            visitor.transport.abort()

    def finish(self) -> None:
        """Report nothing any more, drop the strangers, and end the others after what is queued."""
        self._silenced = True
        self.stop_accepting()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for visitor in [*self._strangers.values()]:
            visitor.transport.abort()
        for visitor in [*self._askers.values()]:
            self._leave(visitor)

    def abort(self) -> None:
        """Drop every connection, whatever is queued."""
        for visitor in [*self._strangers.values(), *self._askers.values(), *self._leaving.values()]:
            visitor.transport.abort()

    # -- accepting ---------------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        """Accept for ever. One at a time, so that a flood of strangers leaves the loop to others.

        Not loop.create_server: that one handles EMFILE by itself, with a second of deafness and a
        log entry each time.
        """
        loop = asyncio.get_running_loop()
        while listener.fileno() != -1:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as error:
                await self._accept_failed(error)
                continue
            await self._welcome(sock, str(address[0]))

    async def _welcome(self, sock: socket.socket, host: str) -> None:
        visitor = Visitor(self, next(self._conns), host, self._room)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: visitor, sock)
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):  # it was gone before it was welcome
                raise

    async def _accept_failed(self, error: OSError) -> None:
        """Make room or wait; accept(2): errors of the new connection, too, are reported here.

        Linux reports EMFILE also when nobody is waiting to be accepted, so the last to be accepted
        must not be the one to make room: it may be the peer, about to ask.
        """
        if error.errno not in _NO_FILES:
            await asyncio.sleep(_ACCEPT_PAUSE_S)
            return
        self._notices.once(
            "",
            "files",
            f"no connection can be accepted at {self._local} ({os_words(error)}): the open ones"
            " live on; raise the limit of open files (ulimit -n)",
        )
        oldest = next(iter(self._strangers.values()), None)
        if oldest and oldest.came_at_s + _GRACE_S < asyncio.get_running_loop().time():
            self._drop(oldest)
        await asyncio.sleep(_NO_FILES_PAUSE_S)

    # -- what visitors report ----------------------------------------------------------------------

    def came(self, visitor: Visitor) -> None:
        """A connection was accepted: a stranger's, as all are at first."""
        if self._silenced:
            visitor.transport.abort()
            return
        if len(self._strangers) + len(self._leaving) >= self._max_strangers:
            oldest = next(iter((self._strangers or self._leaving).values()))
            self._drop(oldest)
        self._strangers[visitor.conn] = visitor
        if self._sweeper is None:
            self._sweep_at(visitor.came_at_s + self._stranger_s)

    def heard(self, visitor: Visitor, data: bytes) -> None:
        """Bytes arrived: pass on the questions in them, up to the first thing that is none."""
        if visitor.conn in self._leaving:
            return
        try:
            for line in visitor.lines.feed(data):
                self._read(visitor, line)
                if not self._is_open(visitor):
                    return
            if visitor.conn in self._strangers:
                check_beginning(visitor.lines.partial)
        except WireError as error:
            self._turn_away(visitor, *kind_and_reason(error))

    def gone(self, visitor: Visitor) -> None:
        """The connection has ended, whoever ended it."""
        self._forget(visitor)

    # -- deciding who is who -----------------------------------------------------------------------

    def _read(self, visitor: Visitor, line: bytes) -> None:
        try:
            message = decode(line)
        except UnknownTypeError as error:
            # A stranger stays a stranger.
            hear = self._on_other if visitor.conn in self._askers else self._on_stranger
            hear(visitor.conn, error)
            return
        if not isinstance(message, Ask):
            self._turn_away(visitor, "garbage", "an answer arrived where questions are expected")
        elif message.service not in self._carried:
            if not self._on_unknown(visitor.conn, message):
                self._turn_away(visitor, "service", self._not_carried(message.service))
        elif message.view.incarnation == self._carried[message.service]:
            self._turn_away(
                visitor,
                "self",
                f"this member is connected to itself: --remote must name the peer, not"
                f" {self._local}",
            )
        else:
            self._admit(visitor, message)

    def _not_carried(self, service: str) -> str:
        if len(self._carried) == 1:
            return (
                f"this member is of the service {next(iter(self._carried))!r}, not {service!r}:"
                " correct --remote, or give both members the same service"
            )
        return (
            f"this member carries {len(self._carried)} services, and {service!r} is none of them:"
            " correct --remote, or give both members the same services"
        )

    def _admit(self, visitor: Visitor, ask: Ask) -> None:
        self._strangers.pop(visitor.conn, None)
        self._askers.pop(visitor.conn, None)
        if len(self._askers) >= MAX_ASKERS:
            self._drop(next(iter(self._askers.values())))
        self._askers[visitor.conn] = visitor
        if not self._silenced:
            self._on_event(Asked(visitor.conn, ask))

    def _turn_away(self, visitor: Visitor, kind: str, reason: str) -> None:
        """Say why, in one line, and end the connection. A complaint is not answered by another."""
        self._notices.once(
            visitor.host, kind, f"a connection from {visitor.host} was turned away: {reason}"
        )
        if kind != "complaint":
            visitor.transport.write(encode_error(reason))
        self._leave(visitor)

    def _leave(self, visitor: Visitor) -> None:
        """End a connection after what is queued, reading on for a while.

        Closing a socket with unread data resets it, and the reset can overtake what was sent
        (RFC 2525, 2.17).
        """
        self._forget(visitor)
        self._leaving[visitor.conn] = visitor
        with contextlib.suppress(OSError):  # it has been reset meanwhile
            visitor.transport.write_eof()
        asyncio.get_running_loop().call_later(_LEAVE_S, visitor.transport.abort)

    def _drop(self, visitor: Visitor) -> None:
        self._forget(visitor)
        visitor.transport.abort()

    def _forget(self, visitor: Visitor) -> None:
        if self._strangers.pop(visitor.conn, None) is not None:
            self._on_stranger_gone(visitor.conn)
        self._leaving.pop(visitor.conn, None)
        if self._askers.pop(visitor.conn, None) is not None and not self._silenced:
            self._on_event(InboundClosed(visitor.conn))

    def _is_open(self, visitor: Visitor) -> bool:
        return visitor.conn in self._strangers or visitor.conn in self._askers

    # -- time limit --------------------------------------------------------------------------------

    def _sweep_at(self, when_s: float) -> None:
        self._sweeper = asyncio.get_running_loop().call_at(when_s, self._sweep)

    def _sweep(self) -> None:
        """Turn away strangers whose time is over; it is not prolonged by bytes in drops."""
        self._sweeper = None
        now_s = asyncio.get_running_loop().time()
        for visitor in [*self._strangers.values()]:
            if visitor.came_at_s + self._stranger_s > now_s:
                self._sweep_at(visitor.came_at_s + self._stranger_s)
                return
            reason = f"no question was asked within {self._stranger_s:g} s"
            self._turn_away(visitor, "silence", reason)


class Visitor(Received):
    """One accepted connection: carries what happens to the `Inbound` that knows what it means."""

    __slots__ = ("_house", "came_at_s", "conn", "host", "lines", "transport")

    transport: asyncio.Transport

    def __init__(self, house: Inbound, conn: int, host: str, room: bytearray) -> None:
        super().__init__(room)
        self._house = house
        self.conn = conn
        self.host = host
        self.lines = FrameReader()
        self.came_at_s = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is ready."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._house.came(self)

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        self._house.heard(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._house.gone(self)


def most_strangers() -> int:
    """How many strangers this process can afford: half the files that it may open, or fewer."""
    if sys.platform == "win32":
        return MAX_STRANGERS
    import resource  # not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_STRANGERS
    return max(4, min(MAX_STRANGERS, (soft - _OTHER_FILES) // 2))
