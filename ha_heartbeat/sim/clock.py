"""Virtual time: a queue of things to do, and clocks that run a little fast or slow."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

MOST_STEPS: Final = 100_000
"""More steps than any stretch of a run takes: beyond it two things chase each other for ever."""


class EndlessError(Exception):
    """Virtual time does not get on."""


class Timeline:
    """Calls functions at virtual times, in order; ties in the order of asking."""

    __slots__ = ("_heap", "_serial", "now", "steps")

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0

    def at(self, when: float, call: Callable[..., None], *args: Any) -> None:
        """Call `call(*args)` at `when` (seconds), or now if that has passed."""
        self._serial += 1
        heappush(self._heap, (when if when > self.now else self.now, self._serial, call, args))

    def run_until(self, end: float, done: Callable[[], bool] | None = None) -> bool:
        """Go on until `end`, or until `done()`; true if that ended it."""
        heap = self._heap
        most = self.steps + MOST_STEPS
        while heap and heap[0][0] <= end:
            if done is not None and done():
                return True
            self.now, _, call, args = heappop(heap)
            self.steps += 1
            call(*args)
            if self.steps > most:
                raise EndlessError(f"{MOST_STEPS} steps, and only {self.now:.6f} s reached")
        self.now = end
        return done is not None and done()


class LocalClock:
    """A host's monotonic clock: `rate` seconds of it pass in one second of the world."""

    __slots__ = ("offset", "rate")

    def __init__(self, rate: float, offset: float) -> None:
        self.rate = rate
        self.offset = offset

    def local(self, world_s: float) -> float:
        """What the clock shows at a time of the world."""
        return self.offset + world_s * self.rate

    def world(self, local_s: float) -> float:
        """The time of the world at which the clock shows this."""
        return (local_s - self.offset) / self.rate
