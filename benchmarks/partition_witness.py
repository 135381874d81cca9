"""The worker is cut off from its peer and from the witness, with a check every 0.1 s.

The worker's port is taken off the bridge. Its guardian has to end the command before the lease
does, and the supervisor may start its own only with the witness's vote. What is counted is whether
the old command was dead, by its own record, when the new one began.
"""

from __future__ import annotations

import os
import random
import time

from benchmarks.bench import Bench
from benchmarks.members import Pair, running
from benchmarks.network import WITNESS, Namespaces
from benchmarks.partition import latest, successor
from benchmarks.recorder import Recorder, Run, count_overlaps
from benchmarks.report import Absent, Fact, Result, Times
from benchmarks.takeovers import LONG_INTERVAL, SETTLE_S
from benchmarks.witness import Witness

TAKEOVERS = 200
OPTIONS = (*LONG_INTERVAL, "-t", "0.1", "--check-count", "3", "--stop-timeout", "0.05")
TITLE = "worker cut from peer and witness, -t 0.1 --check-count 3"
GAP_TITLE = f"{TITLE}, from the old command's last tick"
TARGET_MS = 450
HEALED_S = (0.0, 0.5)
"""How long the cut lasts after the takeover: random, to meet every phase."""


def measure(bench: Bench) -> list[Result]:
    """Cut the worker off `bench.takeovers` times, and put it back."""
    if not isinstance(bench.network, Namespaces):
        return [Absent(TITLE, "the loopback has no cable")]
    recorder = bench.recorder()
    witness = Witness(bench.network.inside(WITNESS), bench.folder())
    try:
        witness.wait_until_it_answers()
        pair = Pair(
            bench.network,
            recorder,
            bench.folder(),
            (*OPTIONS, "--witness", witness.url),
            lasting=True,
        )
        cuts, ended_ns = _cut_and_heal(bench, bench.network, recorder, pair)
    finally:
        witness.close()
    # Being stopped one after the other, the two may hand over a last time.
    runs = [run for run in recorder.runs() if run.start_ns < ended_ns]
    return _results(cuts, runs, witness.description)


def _cut_and_heal(
    bench: Bench, network: Namespaces, recorder: Recorder, pair: Pair
) -> tuple[list[tuple[int, Run, Run]], int]:
    """The moment of each cut, with the runs before and after it; and the end of it all."""
    cuts = []
    with running(pair):
        worker, supervisor = pair.start_both()
        for _ in range(bench.takeovers):
            time.sleep(random.uniform(*SETTLE_S))
            before = latest(recorder)
            if before.member != worker.name:  # a switch that nobody asked for
                worker, supervisor = supervisor, worker
            cut_ns = time.monotonic_ns()
            network.cut(worker.name)
            after = pair.wait_until(
                lambda: successor(recorder, before),  # noqa: B023
                "a takeover by the witness's vote",
            )
            cuts.append((cut_ns, before, after))
            time.sleep(random.uniform(*HEALED_S))
            worker.forget_log()
            network.heal(worker.name)
            is_replaced = f"{supervisor.name} is worker, epoch {after.epoch}"
            pair.wait_until(lambda: worker.said(is_replaced), f"{worker.name} supervises")  # noqa: B023
            worker, supervisor = supervisor, worker
        return cuts, time.monotonic_ns()


def _results(cuts: list[tuple[int, Run, Run]], runs: list[Run], witness: str) -> list[Result]:
    """The times, and how often the promise was kept."""
    final = {run.start_ns: run for run in runs}
    overlaps = str(count_overlaps(runs))
    took_ns = [after.start_ns - cut_ns for cut_ns, _, after in cuts]
    gaps_ns = [after.start_ns - final[before.start_ns].last_ns for _, before, after in cuts]
    dead = sum(_was_dead(final[before.start_ns], after) for _, before, after in cuts)
    in_time = sum(took <= TARGET_MS * 1_000_000 for took in took_ns)
    unasked = len(runs) - 1 - len(cuts)
    return [
        Times(TITLE, took_ns, overlaps),
        Times(GAP_TITLE, gaps_ns, overlaps),
        Fact(
            "cut from peer and witness",
            f"old command dead before the new one began: {dead} of {len(cuts)}; "
            f"taken over within {TARGET_MS} ms: {in_time}; runs that no cut asked for: {unasked}; "
            f"witness: {witness}",
        ),
    ]


def _was_dead(old: Run, new: Run) -> bool:
    """By its own record; one that was killed has no end there, and was seen to be gone."""
    if old.end_ns:
        return old.end_ns <= new.start_ns
    return old.last_ns < new.start_ns and not os.path.exists(f"/proc/{old.pid}")
