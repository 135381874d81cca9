"""When the cores of a member are woken: one timer for all, and their checks in the same moment.

Each core says when it wants its next tick. Those of many services are brought into step, so that
one wake-up serves all of them and what they have to say goes out in one write. A tick may come a
little late and never early: a check that is out of step is put off by a tenth of its period at
most, until it falls on the beat.

All services that are due get the same moment as `now`. Nothing is received while they are served,
so that moment is not before anything that a core was told: a promise made in it holds long enough.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final, Protocol

from ha_heartbeat.core.machine import Core
from ha_heartbeat.core.types import Phase
from ha_heartbeat.core.votes import CHECK_SLIDE, check_period_s
from ha_heartbeat.guardian.clock import now_s

SLOT_S: Final = 0.01
"""What is due within so long of each other is done at once."""


class Sleeper(Protocol):
    """Somebody who has a core that must be woken, and may have to be woken earlier."""

    core: Core
    planned_s: float

    def limit_s(self) -> float:
        """In how many seconds it must be woken at the latest, whatever its core says."""

    def tick(self, now_s: float) -> None:
        """It is time."""


class Beat:
    """Wakes sleepers. in_step: their checks are brought into step; else each is woken to the point.

    half_s: says how late a wake-up may be before this member is not well.
    """

    def __init__(self, half_s: Callable[[], float], *, in_step: bool) -> None:
        self._half_s = half_s
        self._in_step = in_step
        self._sleepers: list[Sleeper] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = math.inf  # on the core's clock
        self._beats: dict[float, float] = {}  # by period: when the next beat is

    def plan(self, sleeper: Sleeper) -> None:
        """See anew when this one is to be woken: its core has just made a step."""
        if sleeper.planned_s == math.inf and sleeper not in self._sleepers:
            self._sleepers.append(sleeper)
        due_s = sleeper.core.wake_at()
        if self._in_step and due_s != math.inf:
            due_s = self._put_off(sleeper.core, due_s)
        if (limit_s := sleeper.limit_s()) != math.inf:
            due_s = min(due_s, now_s() + limit_s)
        sleeper.planned_s = due_s
        if due_s < self._timer_s or (due_s > self._timer_s and not self._in_step):
            self._set(due_s)

    def forget(self, sleeper: Sleeper) -> None:
        """Wake this one no more."""
        if sleeper in self._sleepers:
            self._sleepers.remove(sleeper)
        self._set(min((one.planned_s for one in self._sleepers), default=math.inf))

    def is_well(self) -> bool:
        """Whether the cores are woken when they ask to; a loop that does not turn asks nobody."""
        if self._timer is None:
            return all(one.core.wake_at() == math.inf for one in self._sleepers)
        late_s = asyncio.get_running_loop().time() - self._timer.when()
        return late_s < self._half_s()

    # -- in step -----------------------------------------------------------------------------------

    def _put_off(self, core: Core, due_s: float) -> float:
        """When to wake for what is due then: on the beat, or nearer to it, or with its slot."""
        if not _is_check(core, due_s):
            return math.ceil(due_s / SLOT_S) * SLOT_S
        period_s = check_period_s(core.state)
        beat_s = self._beats.get(period_s, -math.inf)
        if beat_s < due_s - 1.5 * period_s:  # nobody keeps it any more
            self._beats[period_s] = beat_s = due_s
        if 0 <= beat_s - due_s <= period_s * CHECK_SLIDE:
            return beat_s
        return due_s + period_s * CHECK_SLIDE

    def _move_on(self, due: list[Sleeper], now: float) -> None:
        """Those that are on the beat are about to make their check, which makes the next beat."""
        for one in due:
            period_s = check_period_s(one.core.state)
            if one.planned_s == self._beats.get(period_s):
                self._beats[period_s] = now + period_s

    def _gather(self, before: dict[float, float]) -> None:
        """Those that would come a little before the new beat wait for it."""
        moved = {period_s for period_s, at_s in self._beats.items() if before.get(period_s) != at_s}
        for one in self._sleepers if moved else ():
            if check_period_s(one.core.state) in moved:
                self.plan(one)

    # -- the timer ---------------------------------------------------------------------------------

    def _set(self, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_s = None, due_s
        if due_s != math.inf:
            delay_s = max(0.0, due_s - now_s())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._ring)

    def _ring(self) -> None:
        self._timer, self._timer_s = None, math.inf
        now = now_s()
        due = [one for one in self._sleepers if one.planned_s <= now]
        before = dict(self._beats)
        self._move_on(due, now)
        for one in due:
            one.tick(now)
        if self._in_step:
            self._gather(before)
        earliest = min((one.planned_s for one in self._sleepers), default=math.inf)
        if earliest < self._timer_s or self._timer is None:
            self._set(earliest)


def _is_check(core: Core, due_s: float) -> bool:
    """Whether it is a check at its regular interval; while looking, the intervals are random."""
    return due_s == core.state.next_check_at and core.state.phase is not Phase.LOOKING
