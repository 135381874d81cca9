"""Periodic jobs of an application that run on one of two machines."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar, Unpack

from ha_heartbeat.config import MAX_SPAN_S, MIN_SPAN_S
from ha_heartbeat.library.election import Elected, Options, elected
from ha_heartbeat.library.holder import OnOverrun
from ha_heartbeat.library.term import LOGGER, Term, TermLostError

_Job = TypeVar("_Job", bound=Callable[[Term], Any])


class _Periodic(NamedTuple):
    every_s: float
    call: Callable[[Term], Any]
    name: str


class PeriodicJobs:
    """Jobs that share one election; `every` adds one, `run` runs them whenever this is the worker.

    The arguments are those of `ha_heartbeat.elected`. Raises ConfigError.
    """

    def __init__(
        self,
        *,
        on_lost: Callable[[Term], object] | None = None,
        on_overrun: OnOverrun = "log",
        **options: Unpack[Options],
    ) -> None:
        self._on_lost = on_lost
        self._on_overrun: OnOverrun = on_overrun
        self._options: Options = options
        self._jobs: list[_Periodic] = []
        self._elect()  # what is wrong with the options is said now, and not when they are used

    def _elect(self) -> Elected:
        return elected(on_lost=self._on_lost, on_overrun=self._on_overrun, **self._options)

    def every(self, seconds: float) -> Callable[[_Job], _Job]:
        """Decorate a function of the term, to be called every `seconds` while this is the worker.

        From start to start, and at once in a new term; never overlapping: what falls due during a
        run is skipped. `async def` is cancelled when the term is lost. A plain function runs in a
        thread and cannot be interrupted, so the role is kept until it returns: it should look at
        `term.lost`. What a job raises is logged, and it runs again when it is due.

        The function itself is returned. Raises ValueError for seconds out of 0.001 to a year.
        """
        if not MIN_SPAN_S <= seconds <= MAX_SPAN_S:
            raise ValueError(f"{seconds!r} is out of range; give seconds from 0.001 to a year")

        def add(job: _Job) -> _Job:
            self._jobs.append(_Periodic(seconds, job, getattr(job, "__qualname__", repr(job))))
            return job

        return add

    async def run(self) -> None:
        """Compete, and run the jobs in each term, until cancelled. Raises StartError."""
        with ThreadPoolExecutor(max(1, len(self._jobs)), "ha-heartbeat-job") as threads:
            while True:
                try:
                    async with self._elect() as term, asyncio.TaskGroup() as group:
                        for job in self._jobs:
                            group.create_task(_repeat(job, term, threads))
                        group.create_task(asyncio.Event().wait())
                except TermLostError:
                    continue  # it was logged when it was lost

    def run_blocking(self) -> None:
        """The same for a program without an event loop; ends with KeyboardInterrupt on Ctrl-C."""
        asyncio.run(self.run())


async def _repeat(job: _Periodic, term: Term, threads: ThreadPoolExecutor) -> None:
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    while True:
        try:
            await _call(job.call, term, threads)
        except Exception:
            LOGGER.exception("%s: the job %s failed", term.member, job.name)
        late_s = loop.time() - due_s
        due_s += job.every_s * max(1, math.ceil(late_s / job.every_s))
        await asyncio.sleep(due_s - loop.time())


async def _call(call: Callable[[Term], Any], term: Term, threads: ThreadPoolExecutor) -> None:
    if inspect.iscoroutinefunction(call):
        await call(term)
        return
    running = asyncio.get_running_loop().run_in_executor(threads, call, term)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error  # the thread goes on: so does the term
    problem = running.exception()
    if cancelled is not None:
        raise cancelled
    if problem is not None:
        raise problem
