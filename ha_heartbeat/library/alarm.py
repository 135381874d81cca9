"""Wakes an event loop at a time on the member's clock, and may have the kernel see to it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from ha_heartbeat.guardian.clock import NEVER_NS, now_ns

if sys.platform == "linux":
    from ha_heartbeat.guardian.linux import Fuse, Timer


class Alarm:
    """Calls `ring` in the running loop; on Linux also at once after a suspend (timerfd)."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        if sys.platform == "linux":
            self._timer = Timer()
            self._loop.add_reader(self._timer.fd, self._due)

    def set(self, at_ns: int) -> None:
        """Ring then, and not before; NEVER_NS: not at all."""
        if sys.platform == "linux":
            self._timer.set(None if at_ns == NEVER_NS else at_ns)
            return
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None
        if at_ns != NEVER_NS:
            delay_s = max(0.0, (at_ns - now_ns()) / 1e9)
            self._handle = self._loop.call_later(delay_s, self._ring)

    def close(self) -> None:
        """Ring no more."""
        if sys.platform == "linux":
            self._loop.remove_reader(self._timer.fd)
            self._timer.close()
        else:
            self.set(NEVER_NS)

    def _due(self) -> None:
        if sys.platform == "linux":
            self._timer.drain()
        self._ring()


class Killer:
    """Has the kernel kill this process `late_ns` after a time, whatever the process is doing then.

    On Linux only; elsewhere this does nothing, and the thread of the member has to see to it.
    """

    def __init__(self, late_ns: int) -> None:
        self._late_ns = late_ns
        if sys.platform == "linux":
            self._fuse = Fuse()

    def set(self, at_ns: int) -> None:
        """Be killed that long after this time; NEVER_NS: not at all."""
        if sys.platform == "linux":
            self._fuse.set(None if at_ns == NEVER_NS else at_ns + self._late_ns)

    def close(self) -> None:
        """Not at all."""
        if sys.platform == "linux":
            self._fuse.close()
