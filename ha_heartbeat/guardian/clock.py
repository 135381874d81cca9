"""The one clock of a member: it never jumps, and where the system can, it counts suspend.

A lease is over after its time even when the machine slept through it, so on Linux the clock is
CLOCK_BOOTTIME (clock_gettime(2)). Elsewhere it is the monotonic clock of Python, which counts
suspend on Windows and may not on other systems.
"""

import sys
import time

NEVER_NS = 2**63 - 1
"""A time after every other."""

if sys.platform == "linux":

    def now_ns() -> int:
        """Nanoseconds since the machine started, suspend included."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

else:

    def now_ns() -> int:
        """Nanoseconds since some fixed moment; comparable within one boot of one machine."""
        return time.monotonic_ns()


def now_s() -> float:
    """The same clock in seconds; exact to below a microsecond for a year of uptime."""
    return now_ns() / 1e9
