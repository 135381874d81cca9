"""How long nothing runs when the worker dies or is told to stop, by the payload's own records.

Each takeover: the worker is struck, the supervisor's command starts, the struck member is started
again and supervises, and the roles are swapped. The moment of the fault is read just before the
first kill(2), so that the kernel's work on it counts, too.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from benchmarks import processes
from benchmarks.bench import Bench
from benchmarks.members import Member, Pair, running
from benchmarks.recorder import Recorder, Run, count_overlaps
from benchmarks.report import Times

T = TypeVar("T")
LONG_INTERVAL = ("-i", "3600")
"""No second run of the command while a benchmark lasts, so that each run is a takeover."""
SETTLE_S = (0.1, 0.4)
"""A pause of random length between takeovers: no phase of anybody's timers is preferred."""

Strike = Callable[[Member, Run], int]
"""Strikes a worker; returns the moment from which on the takeover is timed, 0 for the old end."""


def kill_member(worker: Member, run: Run) -> int:
    """Kill -9 of the member alone; its guardian ends what runs."""
    struck_ns = time.monotonic_ns()
    worker.process.kill()
    return struck_ns


def kill_everything(worker: Member, run: Run) -> int:
    """Kill -9 of member, guardian and command, as close together as system calls can be."""
    below = processes.descendants(worker.pid)[1:]
    struck_ns = time.monotonic_ns()
    worker.process.kill()
    for pid in below:
        _kill(pid)
    return struck_ns


def ask_to_stop(worker: Member, run: Run) -> int:
    """SIGTERM to the member; timed from the SIGTERM."""
    struck_ns = time.monotonic_ns()
    worker.process.terminate()
    return struck_ns


def ask_to_stop_lasting(worker: Member, run: Run) -> int:
    """SIGTERM to the member; timed from the end of the command."""
    worker.process.terminate()
    return 0


def _kill(pid: int) -> None:
    """SIGKILL to a process that our own member started and that lived a moment ago."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def measure(bench: Bench, title: str, strike: Strike, *, lasting: bool) -> list[Times]:
    """Strike `bench.takeovers` times; the times, and for a lasting command those from its end."""
    recorder = bench.recorder()
    pair = Pair(bench.network, recorder, bench.folder(), LONG_INTERVAL, lasting=lasting)
    with running(pair):
        moments = list(take_over(pair, recorder, bench.takeovers, strike))
    runs = recorder.runs()
    return _results(title, moments, runs, lasting=lasting)


def take_over(
    pair: Pair, recorder: Recorder, number: int, strike: Callable[[Member, Run], T]
) -> Iterator[tuple[T, Run, Run]]:
    """Strike so many workers: what `strike` returned, with the runs before and after it."""
    worker, supervisor = pair.start_both()
    for _ in range(number):
        time.sleep(random.uniform(*SETTLE_S))
        before = recorder.latest()
        assert before is not None
        struck = strike(worker, before)
        after = wait_for_successor(pair, recorder, before, supervisor)
        worker, supervisor = supervisor, pair.start_supervisor(worker.name)
        yield struck, before, after


def wait_for_successor(pair: Pair, recorder: Recorder, before: Run, supervisor: Member) -> Run:
    """The run that the supervisor starts."""

    def successor() -> Run | None:
        latest = recorder.latest()
        return latest if latest is not None and latest.start_ns > before.start_ns else None

    run = pair.wait_until(successor, f"{supervisor.name} takes over")
    assert run.member == supervisor.name, run
    assert run.epoch > before.epoch, run
    return run


def _results(
    title: str, moments: list[tuple[int, Run, Run]], runs: list[Run], *, lasting: bool
) -> list[Times]:
    """From the strike to the first instruction, and from the old command's end if it lasted."""
    overlaps = str(count_overlaps(runs))
    results = []
    if moments[0][0]:
        took_ns = [after.start_ns - struck_ns for struck_ns, _before, after in moments]
        results.append(Times(title, took_ns, overlaps))
    if lasting:
        last_ns = {run.start_ns: run.last_ns for run in runs}
        gaps_ns = [after.start_ns - last_ns[before.start_ns] for _, before, after in moments]
        results.append(Times(f"{title}, from the old command's last tick", gaps_ns, overlaps))
    return results
