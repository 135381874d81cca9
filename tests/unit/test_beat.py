"""When cores are woken: none too early, and many in the same moment."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import Any

from ha_heartbeat.core.types import Phase
from ha_heartbeat.guardian.clock import now_s
from ha_heartbeat.shell.beat import Beat

PERIOD_S = 0.05


class Sleeper:
    """Wants a check each PERIOD_S, the first after `first_s`."""

    def __init__(self, beat: Beat, first_s: float) -> None:
        self.beat = beat
        self.planned_s = math.inf
        settings = SimpleNamespace(check_period_s=PERIOD_S, lease_s=3 * PERIOD_S)
        self.state = SimpleNamespace(
            phase=Phase.SUPERVISOR,
            next_check_at=now_s() + first_s,
            settings=settings,
            peer_lease_least_s=math.inf,
        )
        self.core: Any = SimpleNamespace(state=self.state, wake_at=self.wake_at)
        self.ticks: list[float] = []
        self.early = 0
        self.most_late_s = 0.0
        beat.plan(self)

    def wake_at(self) -> float:
        return float(self.state.next_check_at)

    def limit_s(self) -> float:
        return math.inf

    def tick(self, now: float) -> None:
        self.early += now < self.state.next_check_at
        self.ticks.append(now)
        self.state.next_check_at = now + PERIOD_S
        self.beat.plan(self)


def test_checks_fall_into_step_and_none_is_early() -> None:
    async def scene() -> list[Sleeper]:
        beat = Beat(lambda: 1.0, in_step=True)
        sleepers = [Sleeper(beat, 0.01 + index * PERIOD_S / 7) for index in range(7)]
        for _ in range(2000):
            await asyncio.sleep(0.01)
            if all(one.ticks for one in sleepers) and len({one.ticks[-1] for one in sleepers}) == 1:
                break
        for one in sleepers:
            beat.forget(one)
        return sleepers

    sleepers = asyncio.run(scene())
    assert len({one.ticks[-1] for one in sleepers}) == 1
    assert not any(one.early for one in sleepers)


def test_one_alone_is_woken_to_the_point() -> None:
    async def scene() -> Sleeper:
        beat = Beat(lambda: 1.0, in_step=False)
        one = Sleeper(beat, 0.013)
        assert one.planned_s == one.state.next_check_at
        while len(one.ticks) < 3:
            await asyncio.sleep(0.01)
        beat.forget(one)
        assert beat.is_well()
        count = len(one.ticks)
        await asyncio.sleep(3 * PERIOD_S)
        assert len(one.ticks) == count, "nobody is woken any more"
        return one

    assert asyncio.run(scene()).early == 0


def test_what_is_due_sooner_than_before_is_done_sooner() -> None:
    async def scene() -> None:
        beat = Beat(lambda: 1.0, in_step=True)
        one = Sleeper(beat, 1000.0)
        one.state.next_check_at = now_s()
        beat.plan(one)
        for _ in range(1000):
            await asyncio.sleep(0.01)
            if one.ticks:
                return
        raise AssertionError("it was not woken")

    asyncio.run(scene())
