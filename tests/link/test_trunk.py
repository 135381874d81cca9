"""Many cores on one link: what each is told of it, and what travels."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ha_heartbeat.config import Address
from ha_heartbeat.core.types import (
    Answer,
    Answered,
    Asked,
    Connected,
    Event,
    InboundClosed,
    LinkBroken,
    Refused,
    Unreachable,
)
from ha_heartbeat.shell import differences
from ha_heartbeat.shell.link import Link
from ha_heartbeat.shell.trunk import Channel, Trunk
from tests.link.rig import LOCALHOST, address, answer, ask, free_port, listener, until, view


class FakeLink:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.attempts: list[tuple[int, bool]] = []
        self.dropped: list[int] = []

    def connect(self, link: int, probe: bool) -> None:
        self.attempts.append((link, probe))

    def disconnect(self, link: int) -> None:
        self.dropped.append(link)

    def carry(self, service: str, incarnation: str) -> None: ...
    def drop(self, service: str) -> None: ...
    def tell(self, link: int, data: bytes) -> None: ...
    def tell_asker(self, conn: int, data: bytes) -> None: ...


class Scene:
    """A trunk with services a, b and c."""

    def __init__(self, *, timeout_s: float = 1000.0) -> None:
        self.link = FakeLink()
        self.trunk = _trunk()
        link: Any = self.link
        self.trunk.ride(link)
        self.heard: list[tuple[str, Event]] = []
        self.a, self.b, self.c = (self._channel(name, timeout_s) for name in "abc")

    def _channel(self, name: str, timeout_s: float) -> Channel:
        channel = self.trunk.open(name, f"life-{name}", timeout_s)
        channel.on_event = lambda event: self.heard.append((name, event))
        return channel

    async def connect_both(self) -> None:
        """Both services have asked for a connection, and have it."""
        for channel in (self.a, self.b):
            channel.connect(1, False)
        await self.turn()
        self.tell(Connected)
        await self.turn()

    async def turn(self) -> list[tuple[str, Event]]:
        """What was heard once all that is due was done."""
        for _ in range(3):
            await asyncio.sleep(0)
        heard, self.heard[:] = [*self.heard], []
        return heard

    def tell(self, kind: type[Any], *values: object) -> None:
        self.trunk.hear(kind(self.link.attempts[-1][0], *values))


def _trunk(notices: Callable[[str], None] = lambda text: None, **options: Any) -> Trunk:
    return Trunk(
        "m2:22222",
        **{
            "is_shared": True,
            "on_notice": notices,
            "on_live": lambda link: None,
            "on_gone": lambda conn: None,
            "on_other_question": lambda conn, other: None,
            "on_other_answer": lambda link, other: None,
            **options,
        },
    )


def played(scene: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scene()

    asyncio.run(main())


def test_one_attempt_for_all_that_ask_in_one_moment() -> None:
    async def scene() -> None:
        s = Scene()
        s.a.connect(7, True)
        s.b.connect(3, False)
        assert s.link.attempts == []
        assert await s.turn() == []
        assert s.link.attempts == [(1, False)], "as thorough as any of them asked for"
        s.tell(Refused)
        assert await s.turn() == [("a", Refused(7)), ("b", Refused(3))]

    played(scene)


def test_a_refusal_answers_only_what_was_asked_before() -> None:
    async def scene() -> None:
        s = Scene()
        s.a.connect(1, False)
        await s.turn()
        s.b.connect(1, False)
        await s.turn()
        assert len(s.link.attempts) == 1, "the one under way goes on"
        s.tell(Refused)
        assert await s.turn() == [("a", Refused(1))]
        assert len(s.link.attempts) == 2, "and another begins for the one that asked later"
        s.tell(Refused)
        assert await s.turn() == [("b", Refused(1))]

    played(scene)


def test_who_asks_again_is_not_answered_by_the_attempt_before() -> None:
    async def scene() -> None:
        s = Scene()
        s.a.connect(1, False)
        s.b.connect(1, False)
        await s.turn()
        s.a.connect(2, False)
        await s.turn()
        s.tell(Unreachable, "why")
        assert await s.turn() == [("b", Unreachable(1, "why"))]
        s.tell(Refused)
        assert await s.turn() == [("a", Refused(2))]

    played(scene)


def test_all_that_are_part_of_an_attempt_can_begin_it_anew() -> None:
    async def scene() -> None:
        s = Scene()
        s.a.connect(1, False)
        s.b.connect(1, False)
        await s.turn()
        s.a.connect(2, False)
        s.b.connect(2, False)
        await s.turn()
        assert len(s.link.attempts) == 2

    played(scene)


def test_an_old_attempt_is_given_up_for_who_asks_now() -> None:
    async def scene() -> None:
        s = Scene(timeout_s=0.01)
        s.a.connect(1, False)
        await s.turn()
        await asyncio.sleep(0.02)
        s.b.connect(1, False)
        await s.turn()
        assert len(s.link.attempts) == 2
        s.tell(Refused)
        assert await s.turn() == [("a", Refused(1)), ("b", Refused(1))]

    played(scene)


def test_a_connection_that_is_there_is_given_to_who_asks() -> None:
    async def scene() -> None:
        s = Scene()
        s.a.connect(1, False)
        await s.turn()
        s.tell(Connected)
        assert await s.turn() == [("a", Connected(1))]
        s.b.connect(5, True)
        assert await s.turn() == [("b", Connected(5))]
        assert len(s.link.attempts) == 1

    played(scene)


def test_unanswered_on_a_connection_that_answers_others() -> None:
    """One service without an answer is no reason to take the connection from the others."""

    async def scene() -> None:
        s = Scene()
        await s.connect_both()
        s.a.send_ask(1, ask(service="a"))
        s.b.send_ask(1, ask(service="b"))
        s.tell(Answered, Answer(1, "life-a", view(), False, False, ""))
        assert [name for name, _ in await s.turn()] == ["a"]
        s.b.connect(2, False)
        assert await s.turn() == [("b", Connected(2))]
        assert len(s.link.attempts) == 1

    played(scene)


def test_nothing_heard_since_somebody_asked_is_a_new_connection_for_all() -> None:
    async def scene() -> None:
        s = Scene()
        await s.connect_both()
        s.a.send_ask(1, ask(service="a"))
        s.a.connect(2, False)
        heard = await s.turn()
        assert [(name, type(event)) for name, event in heard] == [("b", LinkBroken)]
        assert s.link.dropped == [1]
        assert len(s.link.attempts) == 2
        s.tell(Refused)
        assert await s.turn() == [("a", Refused(2))], "b has not asked since"

    played(scene)


def test_the_end_of_the_connection_is_told_to_all_on_it() -> None:
    async def scene() -> None:
        s = Scene()
        await s.connect_both()
        s.tell(LinkBroken, "why")
        assert await s.turn() == [("a", LinkBroken(1, "why")), ("b", LinkBroken(1, "why"))]
        s.a.connect(2, True)
        s.b.connect(2, True)
        await s.turn()
        assert s.link.attempts[1:] == [(2, True)]

    played(scene)


def test_an_answer_to_an_earlier_life_or_link_is_nobodys() -> None:
    async def scene() -> None:
        s = Scene()
        s.a.connect(1, False)
        await s.turn()
        s.tell(Connected)
        await s.turn()
        s.tell(Answered, answer())
        s.a.disconnect(1)
        s.tell(Answered, Answer(1, "life-a", view(), False, False, ""))
        assert await s.turn() == []

    played(scene)


# -- two trunks, and real links between them -------------------------------------------------------


class End:
    """One member's end, with some services; `events` by service."""

    def __init__(self, number: int, peer: Address, services: str) -> None:
        self.events: dict[str, list[Event]] = {}
        self.notices: list[str] = []
        self.trunk = trunk = _trunk(self.notices.append)
        self.link = Link(
            local=Address(LOCALHOST, number),
            peer=peer,
            on_event=trunk.hear,
            on_notice=self.notices.append,
            connect_timeout_s=5.0,
            on_other_question=trunk.hear_question,
            on_other_answer=trunk.hear_answer,
            on_stranger=trunk.hear_stranger,
            on_unknown=trunk.unknown,
            on_stranger_gone=trunk.forget_stranger,
        )
        trunk.ride(self.link)
        self.number = number
        self.channels = {name: self.add(name) for name in services}

    def add(self, name: str) -> Channel:
        channel = self.trunk.open(name, f"{name}{self.number}", 5.0)
        self.events[name] = []
        channel.on_event = self.events[name].append
        return channel

    async def next(self, name: str, kind: type[Any]) -> Any:
        await until(lambda: bool(self.events[name]), lambda: f"{kind} for {name}")
        event = self.events[name].pop(0)
        assert isinstance(event, kind), event
        return event

    async def close(self) -> None:
        self.trunk.close()
        await self.link.close()
        self.link.close_listeners()


def test_questions_and_answers_find_their_way() -> None:
    async def scene() -> None:
        with listener() as sock:
            m1 = End(1, address(sock), "abc")
            m2 = End(2, Address(LOCALHOST, free_port()), "bcd")
            m2.link.serve([sock.dup()])
            for channel in m1.channels.values():
                channel.connect(1, False)
            for name in "abc":
                await m1.next(name, Connected)
            for seq in range(1, 4):
                for name, channel in m1.channels.items():
                    told = ask(seq, service=name, incarnation=f"{name}1")
                    told = told._replace(view=told.view._replace(number=seq, worker_for_s=seq / 3))
                    channel.send_ask(1, told)
                    if name == "a":
                        continue
                    asked = await m2.next(name, Asked)
                    assert asked.ask == told
                    said = Answer(seq, f"{name}1", view()._replace(number=seq), True, False, "")
                    m2.channels[name].send_answer(asked.conn, said)
                    assert (await m1.next(name, Answered)).answer == said
            broken = await m1.next("a", LinkBroken)
            assert "does not carry the service a" in broken.reason
            assert m1.events["a"] == m2.events["d"] == []
            await m1.close()
            for name in "bc":
                await m2.next(name, InboundClosed)
            await m2.close()

    played(scene)


def test_a_service_that_ends_and_begins_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(differences, "SAY_S", 0.01)

    async def scene() -> None:
        with listener() as sock:
            m1 = End(1, address(sock), "ab")
            m2 = End(2, Address(LOCALHOST, free_port()), "ab")
            m2.link.serve([sock.dup()])
            for name, channel in m1.channels.items():
                channel.connect(1, False)
                await m1.next(name, Connected)
                channel.send_ask(1, ask(1, service=name, incarnation=f"{name}1"))
                await m2.next(name, Asked)
            m2.trunk.drop(m2.channels["a"])
            assert "does not carry" in (await m1.next("a", LinkBroken)).reason
            await until(lambda: len(m1.notices) == 1)
            assert "does not carry the service a" in m1.notices[0]
            m2.add("a")
            m1.channels["a"].connect(2, False)
            await m1.next("a", Connected)
            m1.channels["a"].send_ask(2, ask(2, service="a", incarnation="a1"))
            asked = await m2.next("a", Asked)
            m2.trunk._channels["a"].send_answer(asked.conn, answer(2)._replace(to="a1"))
            await m1.next("a", Answered)
            await until(lambda: len(m1.notices) == 2)
            assert "the same services" in m1.notices[1]
            m1.trunk.drop(m1.channels["b"])
            await m2.next("b", InboundClosed)
            assert m1.events["b"] == []
            await m1.close()
            await m2.close()

    played(scene)
