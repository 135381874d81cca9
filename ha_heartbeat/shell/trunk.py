"""One link for all services of a member: each core has a connection of its own, as far as it knows.

The link makes one connection, and each core asks for its own. What a core is told is true of what
it asked for:

- Connected: there is a connection, made for it or for others. That proves nothing.
- Refused: an attempt was refused that began after this core asked for one. A core that asks while
  an attempt is under way waits for the next, which begins when that one has ended.
- LinkBroken: the connection has ended, or the peer does not carry this service, or not any more.
  A peer that says so is alive; nothing is concluded from it.

A core that asks anew though there is a connection had no answer on it. If something else was heard
there since, the connection is good and serves on; otherwise all get a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Final

from ha_heartbeat.core.types import (
    Answer,
    Answered,
    Ask,
    Asked,
    Connected,
    Event,
    InboundClosed,
    LinkBroken,
    Refused,
    Unreachable,
)
from ha_heartbeat.shell.differences import Differences
from ha_heartbeat.shell.link import Link
from ha_heartbeat.shell.side import Side
from ha_heartbeat.shell.visits import Visits
from ha_heartbeat.wire import many
from ha_heartbeat.wire.codec import UnknownTypeError
from ha_heartbeat.wire.frames import WireError

YOUNG: Final = 0.5
"""An attempt is left alone for this part of the time that it may take, if others need it."""


class At(Enum):
    """How far a service's connection has come."""

    NOWHERE = "nowhere"
    WANTED = "wanted"  # asked for, and no attempt was begun since
    TRYING = "trying"  # by the attempt under way
    OPEN = "open"


class Channel:
    """One service's way to its peer. `on_event` is its core's, and so are the numbers."""

    def __init__(self, trunk: Trunk, service: str, incarnation: str, timeout_s: float) -> None:
        self._trunk = trunk
        self.service = service
        self.incarnation = incarnation
        self.timeout_s = timeout_s
        self.on_event: Callable[[Event], None] = lambda event: None
        self.at = At.NOWHERE
        self.link = 0
        self.probe = False
        self.asked = 0  # when it last asked on the connection, as the trunk counts; 0: not yet
        self.conns: set[int] = set()  # of the peer, on which it was asked

    def connect(self, link: int, probe: bool) -> None:
        """See `Link.connect`."""
        self._trunk.connect(self, link, probe)

    def disconnect(self, link: int) -> None:
        """Nothing of `link` is reported any more."""
        self._trunk.disconnect(self, link)

    def send_ask(self, link: int, ask: Ask) -> None:
        """Put a question, with those of the other services."""
        if self.at is At.OPEN and self.link == link:
            self._trunk.ask(self, ask)

    def send_answer(self, conn: int, answer: Answer) -> None:
        """Answer on the peer's connection."""
        self._trunk.answer(self, conn, answer)


class Trunk:
    """The channels of one member, over one link, which is set by `ride` before anything else.

    is_shared: this member says which services it carries, and what it says of many is sent
    together. Otherwise it has one, and speaks as it always did.
    on_live: is called with the number of our own connection when something was answered there;
    on_gone, with that of a connection of the peer's that has ended. on_other_question and
    on_other_answer get what is no affair of any service.
    """

    def __init__(
        self,
        peer: str,
        *,
        is_shared: bool,
        on_notice: Callable[[str], None],
        on_live: Callable[[int], None],
        on_gone: Callable[[int], None],
        on_other_question: Callable[[int, UnknownTypeError], None],
        on_other_answer: Callable[[int, UnknownTypeError], None],
    ) -> None:
        self._is_shared = is_shared
        self._on_notice = on_notice
        self._on_live = on_live
        self._on_gone = on_gone
        self._on_other_question = on_other_question
        self._on_other_answer = on_other_answer
        self._differences = Differences(peer, on_notice)
        self._channels: dict[str, Channel] = {}
        self._lives: dict[str, Channel] = {}  # by our own incarnation
        self._number = 0
        self._is_open = False
        self._trying_since: float | None = None
        self._count = 0  # orders what was asked and heard
        self._heard = 0
        self._own = Side()
        self._visits = Visits(on_notice)
        self._turn_due = False
        self._flush_due = False
        self._link: Link

    def ride(self, link: Link) -> None:
        """The link that carries all this."""
        self._link = link

    def open(self, service: str, incarnation: str, timeout_s: float) -> Channel:
        """A channel for a service. timeout_s: how long an attempt for it may take."""
        channel = Channel(self, service, incarnation, timeout_s)
        self._channels[service] = self._lives[incarnation] = channel
        self._link.carry(service, incarnation)
        self._differences.carried(service)
        if self._is_open and self._is_shared:
            self._announce([service])
        return channel

    def drop(self, channel: Channel) -> None:
        """This service has ended while the others go on: the peer is told."""
        self._link.drop(channel.service)
        del self._channels[channel.service], self._lives[channel.incarnation]
        self._differences.dropped(channel.service)
        line = many.encode_left(channel.service)
        if self._is_open:
            self._own.say_line(line, answers=False)
            self._own.forget(channel.service)
        self._visits.leave(channel.service, channel.conns, line)
        channel.at = At.NOWHERE
        self._flush_soon()

    def flush(self) -> None:
        """Send what waits for the end of this round of the loop, as before the end of all."""
        self._flush_due = False
        if data := self._own.take(answers=False):
            self._link.tell(self._number, data)
        for conn, data in self._visits.take():
            self._link.tell_asker(conn, data)

    # -- what the cores ask for --------------------------------------------------------------------

    def connect(self, channel: Channel, link: int, probe: bool) -> None:
        """A core wants a connection, whatever it had before."""
        channel.link, channel.probe = link, probe
        channel.at = At.WANTED
        if self._is_shared:
            self._turn_soon()
        else:
            self._begin()

    def disconnect(self, channel: Channel, link: int) -> None:
        """A core wants none any more. The connection stays as long as others use it."""
        if channel.link != link:
            return
        channel.at = At.NOWHERE
        if not self._is_shared:
            self._is_open, self._trying_since = False, None
            self._link.disconnect(self._number)

    def ask(self, channel: Channel, ask: Ask) -> None:
        """Put a question on our own connection."""
        self._count += 1
        channel.asked = self._count
        if not self._is_shared:
            self._link.send_ask(self._number, ask)
            return
        number = self._own.names.get(ask.service)
        item = self._own.asks.item(number, ask) if number is not None else None
        try:
            self._own.say(item, ask)
        except WireError as error:
            self._on_notice(f"a question could not be sent: {error}")
        self._flush_soon()

    def answer(self, channel: Channel, conn: int, answer: Answer) -> None:
        """Answer on a connection of the peer's."""
        if self._visits.answer(channel.service, conn, answer):
            self._flush_soon()
        else:
            self._link.send_answer(conn, answer)

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self.flush)

    # -- our own connection ------------------------------------------------------------------------

    def _turn_soon(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _those(self, *where: At) -> list[Channel]:
        return [channel for channel in self._channels.values() if channel.at in where]

    def _turn(self) -> None:
        """What all cores asked for in this round of the loop is done at once."""
        self._turn_due = False
        wanted = self._those(At.WANTED)
        if not wanted:
            return
        if self._is_open:
            if any(channel.asked > self._heard for channel in wanted):
                self._renew()
            else:
                for channel in wanted:
                    self._opened(channel)
        elif self._trying_since is None:
            self._begin()
        else:
            age_s = asyncio.get_running_loop().time() - self._trying_since
            patience_s = min(channel.timeout_s for channel in wanted) * YOUNG
            if age_s >= patience_s or not self._those(At.TRYING):
                self._begin()

    def _renew(self) -> None:
        """Nothing was heard on this connection since somebody asked: all get a new one."""
        self._is_open = False
        self._link.disconnect(self._number)
        for channel in self._those(At.OPEN):
            channel.at = At.NOWHERE
            self._tell(channel, LinkBroken(channel.link, "it was given up for want of answers"))
        self._begin()

    def _begin(self) -> None:
        """An attempt for all that want one, whenever they asked for it."""
        trying = self._those(At.WANTED, At.TRYING)
        for channel in trying:
            channel.at = At.TRYING
        self._is_open = False
        self._number += 1
        self._trying_since = asyncio.get_running_loop().time()
        self._link.connect(self._number, all(channel.probe for channel in trying))

    def _opened(self, channel: Channel) -> None:
        channel.at = At.OPEN
        channel.asked = 0
        number = self._own.names.get(channel.service)
        if number is not None:
            self._own.asks.forget(number)
        self._tell(channel, Connected(channel.link))

    def _announce(self, names: list[str]) -> None:
        for name in names:
            self._own.add(name)
        self._own.say_line(many.encode_services(names), answers=False)
        self._flush_soon()

    def _tell(self, channel: Channel, event: Event) -> None:
        channel.on_event(event)

    # -- what the link reports ---------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """An event of the link: for one core, or for all that it is true of."""
        if isinstance(event, Answered):
            self._answered(event.answer)
        elif isinstance(event, Asked):
            self._asked(event.conn, event.ask)
        elif isinstance(event, InboundClosed):
            self._inbound_closed(event.conn)
        elif isinstance(event, Connected):
            self._connected()
        elif isinstance(event, Refused | Unreachable):
            self._failed(event)
        elif isinstance(event, LinkBroken):
            self._broken(event)

    def _connected(self) -> None:
        self._is_open, self._trying_since = True, None
        self._own = Side()
        self._heard = self._count
        if self._is_shared:
            self._announce(list(self._channels))
        for channel in self._those(At.WANTED, At.TRYING):
            self._opened(channel)

    def _failed(self, event: Refused | Unreachable) -> None:
        """For those that had asked when the attempt began; for the others another one begins."""
        self._trying_since = None
        for channel in self._those(At.TRYING):
            channel.at = At.NOWHERE
            self._tell(channel, event._replace(link=channel.link))
        if self._those(At.WANTED):
            self._turn_soon()

    def _broken(self, event: LinkBroken) -> None:
        self._is_open = False
        for channel in self._those(At.OPEN):
            channel.at = At.NOWHERE
            self._tell(channel, event._replace(link=channel.link))
        if self._those(At.WANTED):
            self._turn_soon()

    def _answered(self, answer: Answer) -> None:
        channel = self._lives.get(answer.to)
        if channel is None:
            return  # to an earlier life of a service
        number = self._own.names.get(channel.service)
        if number is not None:
            self._own.answers.note(number, answer)
        self._deliver(channel, answer)
        self._on_live(self._number)

    def _deliver(self, channel: Channel, answer: Answer) -> None:
        self._heard = self._count
        self._differences.found(channel.service)
        if channel.at is At.OPEN:
            self._tell(channel, Answered(channel.link, answer))

    def hear_answer(self, link: int, other: UnknownTypeError) -> None:
        """A line on our own connection that is no answer. Raises WireError."""
        if link != self._number:
            return
        message = many.read(other.kind, other.fields)
        if message is None:
            self._on_other_answer(link, other)
        elif isinstance(message, many.Repeated):
            for number, answer in self._own.answers.repeated(Answer, message.items):
                channel = self._channels.get(self._own.services[number])
                if channel is not None and channel.incarnation == answer.to:
                    self._deliver(channel, answer)
        elif isinstance(message, many.Absent | many.Left):
            self._heard = self._count
            self._not_there(message)

    def _not_there(self, message: many.Absent | many.Left) -> None:
        channel = self._channels.get(message.service)
        if channel is None:
            return
        self._own.forget(message.service)
        self._differences.lacking(message.service)
        if channel.at is At.OPEN:
            channel.at = At.NOWHERE
            reason = f"it does not carry the service {message.service}"
            self._tell(channel, LinkBroken(channel.link, reason))

    # -- the peer's connections --------------------------------------------------------------------

    def _asked(self, conn: int, ask: Ask) -> None:
        """In full, of a service that is carried."""
        self._visits.asked(conn, ask)
        self._put(conn, ask)

    def _put(self, conn: int, ask: Ask) -> None:
        channel = self._channels.get(ask.service)
        if channel is None:
            self.unknown(conn, ask)
        else:
            channel.conns.add(conn)
            self._tell(channel, Asked(conn, ask))

    def _inbound_closed(self, conn: int) -> None:
        self._visits.gone(conn)
        for channel in list(self._channels.values()):
            self._asker_left(channel, conn)
        self._on_gone(conn)

    def _asker_left(self, channel: Channel, conn: int) -> None:
        if conn in channel.conns:
            channel.conns.discard(conn)
            self._tell(channel, InboundClosed(conn))

    def hear_stranger(self, conn: int, other: UnknownTypeError) -> None:
        """Somebody who has not asked yet says which services it carries. Raises WireError."""
        message = many.read(other.kind, other.fields)
        if isinstance(message, many.Services):
            self._visits.came(conn, message)

    def forget_stranger(self, conn: int) -> None:
        """Somebody who never asked has gone."""
        self._visits.gone(conn)

    def hear_question(self, conn: int, other: UnknownTypeError) -> None:
        """A line of the peer's that is no question. Raises WireError."""
        message = many.read(other.kind, other.fields)
        if message is None:
            self._on_other_question(conn, other)
        elif isinstance(message, many.Services):
            self._visits.came(conn, message)
        elif isinstance(message, many.Repeated):
            for ask in self._visits.repeated(conn, message):
                self._put(conn, ask)
        elif isinstance(message, many.Left) and message.service in self._channels:
            self._asker_left(self._channels[message.service], conn)

    def unknown(self, conn: int, ask: Ask) -> bool:
        """A question about a service that is not carried; whether its asker carries many."""
        if not self._visits.is_absent(conn, ask):
            return False
        self._differences.unknown(ask.service)
        self._flush_soon()
        return True

    def close(self) -> None:
        """Say nothing more."""
        self.flush()
        self._differences.close()
