"""A reload holds nothing up, and whatever goes wrong in it is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from ha_heartbeat.config import Address, Config
from ha_heartbeat.plan import Plan
from ha_heartbeat.shell import reload as reloads
from ha_heartbeat.shell.member import Member
from ha_heartbeat.shell.reload import Reload

WEB = Config(
    command=("true",), local=Address("m1", 22221), remote=Address("m2", 22222), member="m1",
    service="web",
)  # fmt: skip


class Nobody:
    """A member that carries nothing, and cannot make anything."""

    def __init__(self) -> None:
        self.services: dict[str, object] = {}
        self.plan = Plan((WEB,))
        self.is_ending = False
        self.said: list[str] = []
        self.notice = self.say = self.said.append

    def make(self, *_: object) -> object:
        raise RuntimeError("can't start new thread")


async def reload(member: Nobody, reread: Callable[[], Plan]) -> dict[str, Any]:
    """The answer that an operator gets."""
    told: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    Reload(cast(Member, member), reread).on_request(told.set_result)
    return await asyncio.wait_for(told, 60)


def test_the_loop_goes_on_while_a_disk_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The services that go on have leases to renew."""
    waited = []

    def slow(loop: asyncio.AbstractEventLoop) -> bool:
        turned = threading.Event()
        loop.call_soon_threadsafe(turned.set)
        return turned.wait(10)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(reloads, "open_state", lambda config: waited.append(slow(loop)))

        def reread() -> Plan:
            waited.append(slow(loop))
            return Plan((WEB,))

        await reload(Nobody(), reread)

    asyncio.run(main())
    assert waited == [True, True]


def test_what_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloads, "open_state", lambda config: None)
    member = Nobody()
    told = asyncio.run(reload(member, lambda: Plan((WEB,))))
    assert not told["ok"]
    assert told["error"] == (
        "the service web was not started: RuntimeError: can't start new thread"
    )
    assert told["error"] in member.said


def test_what_is_not_begun_since_the_member_ends_is_told() -> None:
    member = Nobody()

    def reread() -> Plan:
        member.is_ending = True
        return Plan((WEB,))

    told = asyncio.run(reload(member, reread))
    assert not told["ok"]
    assert told["error"] == "the service web was not started: the member is ending"


def test_a_file_that_cannot_be_read_again_at_all_is_told() -> None:
    def reread() -> Plan:
        raise MemoryError("no room")

    member = Nobody()
    told = asyncio.run(reload(member, reread))
    text = "the reload could not be completed: MemoryError: no room; try again"
    assert told == {"ok": False, "error": text}
    assert member.said == [text]
