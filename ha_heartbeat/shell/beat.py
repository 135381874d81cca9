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
from ha_heartbeat.guardian.clock import now_s

SLOT_S: Final = 0.01
"""What is due within so long of each other is done at once."""

SLIDE: Final = 0.1
"""By how much of its period a check may be put off, to come into step."""

ON_BEAT_S: Final = 0.001


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
        self._origins: dict[float, float] = {}  # by period: a moment that is on the beat

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
        if due_s < self._timer_s or not self._in_step:
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
        state = core.state
        if due_s == state.next_check_at and state.phase is not Phase.LOOKING:
            period_s = state.settings.check_period_s
            origin_s = self._origins.setdefault(period_s, due_s)
            off_s = (due_s - origin_s) % period_s
            if ON_BEAT_S < off_s < period_s - ON_BEAT_S:
                return due_s + min(period_s - off_s, period_s * SLIDE)
            return due_s
        return math.ceil(due_s / SLOT_S) * SLOT_S

    def _follow(self, sleeper: Sleeper, checked_s: float, now: float) -> None:
        """A check that was on the beat carries the beat on: it drifts with the wake-ups."""
        period_s = sleeper.core.state.settings.check_period_s
        origin_s = self._origins.get(period_s)
        if origin_s is None or checked_s > now:
            return
        off_s = (checked_s - origin_s) % period_s
        if min(off_s, period_s - off_s) <= ON_BEAT_S and sleeper.core.state.next_check_at > now:
            self._origins[period_s] = now

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
        for one in due:
            checked_s = one.core.state.next_check_at
            one.tick(now)
            if self._in_step:
                self._follow(one, checked_s, now)
        earliest = min((one.planned_s for one in self._sleepers), default=math.inf)
        if earliest < self._timer_s or self._timer is None:
            self._set(earliest)
