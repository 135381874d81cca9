"""The link between two members: one outgoing connection for our questions, inbound ones for theirs.

It does what the core asks for, reports what happened, and decides nothing but what a refusal is
worth: see `Link.connect`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence

from ha_heartbeat.config import Address
from ha_heartbeat.core.types import (
    Answer,
    Answered,
    Ask,
    Connected,
    Event,
    LinkBroken,
    Refused,
    Unreachable,
)
from ha_heartbeat.shell.inbound import (
    Inbound,
    Notices,
    OnOther,
    OnUnknown,
    ignore,
    most_queued_bytes,
    turn_away,
)
from ha_heartbeat.shell.paths import Paths
from ha_heartbeat.shell.reach import AllRefused, NoProof, Reached, os_words, reach
from ha_heartbeat.shell.receiving import Received, room
from ha_heartbeat.shell.resolve import Endpoint, Lookup, ResolveError, look_up
from ha_heartbeat.wire.codec import ComplaintError, UnknownTypeError, decode, encode
from ha_heartbeat.wire.frames import FrameReader, WireError

REFRESH_S = 60.0
"""How old the answer of a name server may be before it is asked again."""


class Link:
    """Connects, sends, and tells `on_event` what came of it, always from the loop.

    links: other addresses of the peer (see `Paths`); it is reached if it is at one of them.
    service, incarnation: the one service that is carried from the start, "" for none; see `carry`.
    `on_notice` gets sentences for the log, each at most once: strangers, garbage, changes of the
    DNS. Everything must be called on one running loop.
    """

    def __init__(
        self,
        *,
        local: Address,
        peer: Address,
        links: Sequence[Address] = (),
        service: str = "",
        incarnation: str = "",
        on_event: Callable[[Event], None],
        on_notice: Callable[[str], None],
        connect_timeout_s: float,
        refresh_s: float = REFRESH_S,
        lookup: Lookup = look_up,
        max_strangers: int | None = None,
        stranger_s: float = 30.0,
        on_other_question: OnOther = ignore,
        on_other_answer: OnOther = ignore,
        on_stranger: OnOther = ignore,
        on_unknown: OnUnknown = turn_away,
        on_stranger_gone: Callable[[int], None] = lambda conn: None,
    ) -> None:
        self._carried = {service: incarnation} if service else {}
        self._on_other_answer = on_other_answer
        self._peer = peer
        self._on_event = on_event
        self._connect_timeout_s = connect_timeout_s
        self._notices = Notices(on_notice)
        self._paths = Paths((peer, *links), on_notice=on_notice, refresh_s=refresh_s, lookup=lookup)
        self._inbound = Inbound(
            local=local,
            carried=self._carried,
            on_event=on_event,
            notices=self._notices,
            max_strangers=max_strangers,
            stranger_s=stranger_s,
            on_other=on_other_question,
            on_stranger=on_stranger,
            on_unknown=on_unknown,
            on_stranger_gone=on_stranger_gone,
        )
        self._room = room()
        self._listeners: list[socket.socket] = []
        self._out: _Outgoing | None = None
        self._reached: Endpoint | None = None
        self._answered: Endpoint | None = None

    @property
    def inbound_connections(self) -> int:
        """How many inbound connections are open, strangers included."""
        return self._inbound.connections

    def carry(self, service: str, incarnation: str) -> None:
        """Questions about this service are for us; we are this incarnation of it."""
        self._carried[service] = incarnation

    def drop(self, service: str) -> None:
        """They are no more."""
        del self._carried[service]

    # -- the listening side ------------------------------------------------------------------------

    def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Start accepting on listening, non-blocking sockets (see `listen.bind`)."""
        self._listeners.extend(sockets)
        self._inbound.serve(sockets)
        self._paths.watch(self._endpoint_in_use, self._connect_timeout_s)

    def _endpoint_in_use(self) -> Endpoint | None:
        out = self._out
        return out.endpoint if out is not None and out.transport is not None else None

    def close_listeners(self) -> None:
        """Stop accepting and close this process's listening sockets: the last thing of all."""
        self._inbound.stop_accepting()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def send_answer(self, conn: int, answer: Answer) -> None:
        """Queue an answer; nothing happens if `conn` has ended or the answer cannot be said."""
        try:
            self._inbound.send(conn, answer)
        except WireError as error:
            self._notices.once("", "unsayable", f"an answer could not be sent: {error}")

    # -- the asking side ---------------------------------------------------------------------------

    def connect(self, link: int, probe: bool) -> None:
        """Try to reach the peer, dropping whatever went before.

        Reports Connected, Refused or Unreachable of `link`, once.

        A refusal speaks only for the endpoint that was asked, so the peer counts as refused only
        if every endpoint refuses at which it may be: the current ones of its name, and those at
        which it was last connected and last answered. If the name has moved on, that means both
        the new and the old: as long as nobody listens at the new one and the old one is silent,
        it is Unreachable, since the peer may be alive behind it. This ends when the peer answers
        at a new endpoint, which takes the place of the old one, or when the old one refuses, too.

        With `probe`, the current endpoints are left out if the last ones are still among them:
        nothing is learnt from one that was silent before, and it would only hold up the news.
        """
        self._drop()
        out = _Outgoing(self, link, self._room)
        self._out = out
        out.task = asyncio.create_task(self._attempt(out, probe))

    def disconnect(self, link: int) -> None:
        """Drop the connection or attempt `link`; nothing of it is reported any more."""
        if self._out is not None and self._out.link == link:
            self._drop()

    def send_ask(self, link: int, ask: Ask) -> None:
        """Queue a question; nothing happens if `link` is not connected or it cannot be said.

        A peer that reads nothing for so long that too much is queued loses the connection.
        """
        out = self._out
        if out is None or out.link != link or out.transport is None:
            return
        self._paths.refresh()  # to know where the name leads on the day the link breaks
        try:
            out.transport.write(encode(ask))
        except WireError as error:
            self._notices.once("", "unsayable", f"a question could not be sent: {error}")
            return
        self._check_queue(out)

    def _check_queue(self, out: _Outgoing) -> None:
        most_bytes = most_queued_bytes(len(self._carried))
        if out.transport is None or out.transport.get_write_buffer_size() <= most_bytes:
            return
        out.ending = "the peer has stopped reading what it is sent"
        out.transport.abort()

    def tell(self, link: int, data: bytes) -> None:
        """Queue whole lines; nothing happens if `link` is not connected. As for `send_ask`."""
        out = self._out
        if out is None or out.link != link or out.transport is None:
            return
        self._paths.refresh()
        out.transport.write(data)
        self._check_queue(out)

    def tell_asker(self, conn: int, data: bytes) -> None:
        """Queue whole lines on inbound connection `conn`, whoever is at its end."""
        self._inbound.tell(conn, data)

    def send_line(self, link: int, line: bytes) -> bool:
        """Queue a line that is no question on our own connection; whether there was one for it."""
        out = self._out
        if out is None or out.link != link or out.transport is None:
            return False
        if out.transport.get_write_buffer_size() > len(line):
            return False
        out.transport.write(line)
        return True

    def answer_line(self, conn: int, line: bytes) -> bool:
        """Queue a line that is no answer on inbound connection `conn`; whether it is open."""
        return self._inbound.send_line(conn, line)

    async def close(self, flush_s: float = 0.5) -> None:
        """End all connections after what is queued, within `flush_s` seconds; no more events.

        New connections stay in the kernel's queue until the listening sockets are closed, here
        (`close_listeners`) and in the guardian.
        """
        self._paths.close()
        out, self._out = self._out, None
        self._inbound.finish()
        if out is not None:
            out.finish()
        loop = asyncio.get_running_loop()
        end_s = loop.time() + flush_s
        while loop.time() < end_s and (self._inbound.connections or (out and out.is_sending)):
            await asyncio.sleep(0.002)
        self._inbound.abort()
        if out is not None:
            out.drop()
        await asyncio.sleep(0)  # the sockets are closed in the next round of the loop

    # -- the outgoing connection -------------------------------------------------------------------

    def _drop(self) -> None:
        out, self._out = self._out, None
        if out is not None:
            out.drop()

    async def _attempt(self, out: _Outgoing, probe: bool) -> None:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                current = await self._paths.endpoints()
        except ResolveError as error:
            self._ended(out, Unreachable(out.link, str(error)))
            return
        except TimeoutError:
            reason = f"the host name {self._peer.host!r} was not resolved in time"
            self._ended(out, Unreachable(out.link, reason))
            return
        targets = self._targets(current, probe)
        outcome = await reach(targets, self._connect_timeout_s, each_counts=self._paths.are_many)
        if isinstance(outcome, Reached):
            await self._adopt(out, outcome)
        elif isinstance(outcome, AllRefused):
            self._ended(out, Refused(out.link))
        else:
            self._ended(out, Unreachable(out.link, _reason(outcome, current, targets)))

    def _targets(self, current: Sequence[Endpoint], probe: bool) -> list[Endpoint]:
        """Where to look for the peer: see `connect`."""
        last = [seen for seen in (self._reached, self._answered) if seen is not None]
        if probe and last and all(seen in current for seen in last):
            return list(dict.fromkeys(last))
        return list(dict.fromkeys([*current, *last]))

    async def _adopt(self, out: _Outgoing, reached: Reached) -> None:
        """Give the connected socket a transport; `connection_made` reports it."""
        out.endpoint = reached.endpoint
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: out, sock=reached.sock)
        except BaseException as error:
            reached.sock.close()
            if not isinstance(error, OSError):
                raise
            self._ended(out, Unreachable(out.link, f"{reached.endpoint}: {os_words(error)}"))

    def _ended(self, out: _Outgoing, event: Event) -> None:
        """Report the end of an attempt or connection, unless it was dropped before."""
        if self._out is out:
            self._drop()
            self._on_event(event)

    # -- what the outgoing connection reports ------------------------------------------------------

    def made(self, out: _Outgoing) -> None:
        """The connection is ready for questions."""
        if self._out is not out:
            out.drop()
            return
        self._reached = out.endpoint
        self._on_event(Connected(out.link))

    def heard(self, out: _Outgoing, data: bytes) -> None:
        """Bytes arrived: pass on the answers in them, up to the first thing that is none."""
        try:
            for line in out.lines.feed(data):
                if self._out is not out:
                    return
                self._read(out, line)
        except ComplaintError as error:
            self._not_understood(out, "complaint", f"{self._peer} turned us away: {error.reason}")
        except WireError as error:
            self._not_understood(
                out, "garbage", f"{self._peer} does not speak ha-heartbeat: {error}"
            )

    def lost(self, out: _Outgoing, error: Exception | None) -> None:
        """The connection has ended."""
        words = "the peer has closed the connection" if error is None else os_words(error)
        self._ended(out, LinkBroken(out.link, out.ending or words))

    def _read(self, out: _Outgoing, line: bytes) -> None:
        try:
            message = decode(line)
        except UnknownTypeError as error:
            self._on_other_answer(out.link, error)
            return
        if not isinstance(message, Answer):
            raise WireError("it sent a question where answers are expected")
        self._answered = out.endpoint
        self._notices.forget(str(self._peer))
        self._on_event(Answered(out.link, message))

    def _not_understood(self, out: _Outgoing, kind: str, sentence: str) -> None:
        self._notices.once(str(self._peer), kind, sentence)
        self._ended(out, LinkBroken(out.link, sentence))


class _Outgoing(Received):
    """One attempt to reach the peer and the connection that comes of it."""

    def __init__(self, house: Link, link: int, room: bytearray) -> None:
        super().__init__(room)
        self._house = house
        self.link = link
        self.lines = FrameReader()
        self.task: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.endpoint: Endpoint | None = None
        self.ending = ""

    @property
    def is_sending(self) -> bool:
        """Whether there is a connection on which something is still queued."""
        return self.transport is not None and self.transport.get_write_buffer_size() > 0

    def drop(self) -> None:
        """End the attempt or the connection at once."""
        if self.task is not None and self.task is not _current_task():
            self.task.cancel()
        if self.transport is not None:
            self.transport.abort()

    def finish(self) -> None:
        """End the attempt, or the connection after what is queued."""
        if self.transport is None:
            self.drop()
            return
        with contextlib.suppress(OSError):
            self.transport.write_eof()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is ready."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._house.made(self)

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        self._house.heard(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self.transport = None
        self._house.lost(self, exc)


def _current_task() -> asyncio.Task[object] | None:
    """The task that runs this code, None in a callback of the loop."""
    return asyncio.current_task()


def _reason(outcome: NoProof, current: Sequence[Endpoint], targets: Sequence[Endpoint]) -> str:
    """The sentence of an Unreachable, which names the rule if an earlier endpoint was decisive."""
    earlier = [str(target) for target in targets if target not in current]
    if not earlier:
        return outcome.reason
    return (
        f"its name now resolves elsewhere, but it was last connected at {' and '.join(earlier)}"
        f" and may still be there ({outcome.reason})"
    )
