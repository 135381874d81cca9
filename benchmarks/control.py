"""What an operator waits for: a switchover's gap, by the payload's own records, and a status."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

from benchmarks.bench import Bench
from benchmarks.members import Member, Pair, running
from benchmarks.recorder import Run, count_overlaps
from benchmarks.report import Result, Times
from benchmarks.takeovers import LONG_INTERVAL, SETTLE_S, wait_for_successor

HBCTL = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "hbctl")
STATUSES = 20
OPTIONS = (*LONG_INTERVAL, "--stop-timeout", "1")
"""A lasting command does not end by itself, so each hand-over waits for all of the stop timeout."""


def measure(bench: Bench) -> list[Result]:
    """As many switchovers as takeovers, asked for on either machine; then some statuses."""
    recorder = bench.recorder()
    pair = Pair(bench.network, recorder, bench.folder(), OPTIONS, lasting=True)
    moments: list[tuple[Run, Run]] = []
    results: list[Result] = []
    with running(pair):
        worker, supervisor = pair.start_both()
        for number in range(bench.takeovers):
            time.sleep(random.uniform(*SETTLE_S))
            before = recorder.latest()
            assert before is not None
            hbctl(pair, (worker, supervisor)[number % 2], "switchover")
            moments.append((before, wait_for_successor(pair, recorder, before, supervisor)))
            worker, supervisor = supervisor, worker
        results.append(statuses(pair, supervisor, "hbctl status"))
        worker.finish()
        pair.wait_until(lambda: supervisor.said("Becoming worker"), "the other takes over")
        results.append(statuses(pair, supervisor, "hbctl status, the peer is dead"))
    runs = recorder.runs()
    last_ns = {run.start_ns: run.last_ns for run in runs}
    gaps_ns = [after.start_ns - last_ns[before.start_ns] for before, after in moments]
    title = "hbctl switchover, from the old command's last tick"
    return [Times(title, gaps_ns, str(count_overlaps(runs))), *results]


def statuses(pair: Pair, member: Member, title: str) -> Times:
    """From the start of hbctl to its end."""
    took_ns = []
    for _ in range(STATUSES):
        began_ns = time.monotonic_ns()
        hbctl(pair, member, "status")
        took_ns.append(time.monotonic_ns() - began_ns)
    return Times(title, took_ns, "")


def hbctl(pair: Pair, member: Member, command: str) -> None:
    """A command, in a pipe as a script would have it. Raises CalledProcessError."""
    where = os.path.dirname(os.path.dirname(pair.state_path(member.name)))
    words = [sys.executable, HBCTL, command, "--state-dir", where]
    subprocess.run(words, check=True, capture_output=True)
