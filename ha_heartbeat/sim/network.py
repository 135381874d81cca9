"""The network between two hosts: connections that break, messages that are lost, late or doubled.

It is ruder than TCP: a connection may lose a message and go on, deliver one twice, or late, after
the cut that held it up. Whatever the core survives here, it survives there.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from ha_heartbeat.core.types import (
    Answered,
    Asked,
    Connected,
    InboundClosed,
    LinkBroken,
    Message,
    Refused,
)
from ha_heartbeat.sim.clock import Timeline

if TYPE_CHECKING:
    from ha_heartbeat.sim.host import Host


class Connection:
    """One connection: from attempt `link` of `client` in its life, to `server` in its life."""

    __slots__ = (
        "client",
        "client_life",
        "conn",
        "latest",
        "link",
        "open",
        "server",
        "server_life",
    )

    def __init__(self, client: Host, link: int, server: Host, conn: int) -> None:
        self.client = client
        self.client_life = client.life
        self.link = link
        self.server = server
        self.server_life = server.life
        self.conn = conn
        self.open = True
        self.latest = [0.0, 0.0]  # when the last thing to host 0 and to host 1 arrives


class Network:
    """Carries what two hosts say to each other; each direction can be cut on its own."""

    def __init__(self, timeline: Timeline, rng: Random, hosts: int = 2) -> None:
        self.timeline = timeline
        self.rng = rng
        self.hosts = hosts
        self.mend()
        self.delay_s = 0.0005
        self.loss = 0.0
        self.doubling = 0.0
        self.lateness = 0.0
        self.in_order = True  # as TCP has it; without, what is late is overtaken
        self._conns = 0

    def mend(self) -> None:
        """No way is cut."""
        self.cut = [[False] * self.hosts for _ in range(self.hosts)]

    def heal(self) -> None:
        """Everything flows again."""
        self.mend()
        self.loss = self.doubling = self.lateness = 0.0

    def _flight_s(self) -> float:
        random = self.rng.random
        delay_s = self.delay_s * (0.5 + random())
        if self.lateness and random() < self.lateness:
            delay_s *= 1000 * random()
        return delay_s

    def _carry(self, a: Host, b: Host, call: Any, *args: Any) -> None:
        """Have something happen at `b` that `a` caused, if the way is open."""
        if self.cut[a.index][b.index]:
            return
        if self.loss and self.rng.random() < self.loss:
            return
        self.timeline.at(self.timeline.now + self._flight_s(), call, *args)

    def _carry_on(self, connection: Connection, a: Host, b: Host, call: Any, *args: Any) -> None:
        """The same on a connection, behind what was sent on it before."""
        if self.cut[a.index][b.index]:
            return
        if self.loss and self.rng.random() < self.loss:
            return
        arrives = self.timeline.now + self._flight_s()
        if self.in_order:
            latest = connection.latest
            if arrives <= latest[b.index]:
                arrives = latest[b.index] + 1e-7
            latest[b.index] = arrives
        self.timeline.at(arrives, call, *args)

    # -- connecting --------------------------------------------------------------------------------

    def connect(self, client: Host, link: int) -> None:
        """Attempt `link` sets out."""
        self._carry(client, client.peer, self._arrive, client, client.life, link)

    def _arrive(self, client: Host, life: int, link: int) -> None:
        server = client.peer
        if not server.powered:
            return
        if not server.port_held:
            self._carry(server, client, self._tell, client, life, Refused(link))
            return
        self._conns += 1
        connection = Connection(client, link, server, self._conns)
        server.accept(connection)
        self._carry(server, client, self._connected, connection, life)

    def _connected(self, connection: Connection, life: int) -> None:
        client = connection.client
        if client.life == life and client.links.get("out") is None:
            if client.wanted_link == connection.link:
                client.links["out"] = connection
                client.tell(Connected(connection.link))
            else:
                self.close(connection, client)

    def _tell(self, host: Host, life: int, event: Any) -> None:
        if host.life == life:
            host.tell(event)

    # -- talking -----------------------------------------------------------------------------------

    def send(self, connection: Connection, sender: Host, message: Message) -> None:
        """Send on an open connection; what is sent into a dead one breaks it."""
        receiver = sender.peer
        if self.doubling and self.rng.random() < self.doubling:
            self._carry_on(connection, sender, receiver, self._deliver, connection, sender, message)
        if self.cut[sender.index][receiver.index] and self.rng.random() < 0.3:
            # Retransmitted when the cut is over, if the connection lives until then.
            late_s = self.rng.random() * 40 * sender.settings.interval_test_s
            self.timeline.at(
                self.timeline.now + late_s, self._redeliver, connection, sender, message
            )
            return
        self._carry_on(connection, sender, receiver, self._deliver, connection, sender, message)

    def _redeliver(self, connection: Connection, sender: Host, message: Message) -> None:
        if connection.open and not self.cut[sender.index][sender.peer.index]:
            self._deliver(connection, sender, message)

    def _deliver(self, connection: Connection, sender: Host, message: Message) -> None:
        receiver = sender.peer
        if not receiver.powered:
            return
        if sender is connection.client:
            if receiver.life != connection.server_life:
                self._carry(receiver, sender, self._break, connection, sender)
            elif connection.conn in receiver.inbound:
                receiver.tell(Asked(connection.conn, message))  # type: ignore[arg-type]
        elif receiver.life == connection.client_life:
            if receiver.links.get("out") is connection:
                receiver.tell(Answered(connection.link, message))  # type: ignore[arg-type]
        else:
            self._carry(receiver, sender, self._break, connection, sender)

    # -- ending ------------------------------------------------------------------------------------

    def close(self, connection: Connection, closer: Host) -> None:
        """One end closes; the other notices if the way is open."""
        if connection.open:
            connection.open = False
            self._carry_on(connection, closer, closer.peer, self._break, connection, closer.peer)

    def _break(self, connection: Connection, host: Host) -> None:
        """`host` notices that a connection of its has ended."""
        connection.open = False
        if not host.powered:
            return
        if host is connection.client:
            if host.life == connection.client_life and host.links.get("out") is connection:
                host.links.pop("out")
                host.tell(LinkBroken(connection.link, "reset"))
        elif host.life == connection.server_life and connection.conn in host.inbound:
            del host.inbound[connection.conn]
            host.tell(InboundClosed(connection.conn))
