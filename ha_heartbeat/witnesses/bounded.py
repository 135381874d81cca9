"""Time limits for calls that cannot be interrupted, such as those to a hung file share.

Such a call runs in a daemon thread. At the time limit it is left behind: nobody waits for it any
more, not even the interpreter at its end, and until it has ended no other one is started.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class BusyError(Exception):
    """The call was not started: an earlier one had not ended within the time limit."""


class OverdueError(Exception):
    """The call was started and had not ended at the time limit; it may still do its work."""


class Bounded:
    """Runs calls one at a time, each until a deadline on time.monotonic()."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._free = threading.Semaphore(1)  # not a Lock: another thread gives it back

    def run(self, call: Callable[[], _T], deadline_s: float) -> _T:
        """Return what `call` returns or raise what it raises. Raises BusyError, OverdueError."""
        if not self._free.acquire(timeout=max(deadline_s - time.monotonic(), 0.0)):
            raise BusyError
        job = _Job(call, self._free)
        try:
            threading.Thread(target=job.run, name=self._name, daemon=True).start()
        except BaseException:  # no thread to be had: nobody else would give it back
            self._free.release()
            raise
        return job.result(deadline_s)


class _Job(Generic[_T]):
    def __init__(self, call: Callable[[], _T], free: threading.Semaphore) -> None:
        self._call = call
        self._free = free
        self._ended = threading.Event()
        self._value: list[_T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._value.append(self._call())
        except BaseException as error:
            self._error = error
        finally:
            self._free.release()
            self._ended.set()

    def result(self, deadline_s: float) -> _T:
        if not self._ended.wait(max(deadline_s - time.monotonic(), 0.0)):
            raise OverdueError
        if self._error is not None:
            raise self._error
        return self._value[0]
