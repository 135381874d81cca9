"""A pulled cable, and a healed one, under `--takeover silence` with a check every 0.1 s.

The worker's port is taken off the bridge, so both sides meet nothing but silence. After the
takeover both run, as that policy says, until the port is put back; then one command must end, and
both members must write the overlap down.
"""

from __future__ import annotations

import json
import os
import random
import time
from typing import NamedTuple

from benchmarks.bench import Bench
from benchmarks.members import Member, Pair, running
from benchmarks.network import Namespaces
from benchmarks.recorder import Recorder, Run
from benchmarks.report import Absent, Fact, Result, Times
from benchmarks.takeovers import LONG_INTERVAL, SETTLE_S

OPTIONS = (*LONG_INTERVAL, "-t", "0.1", "--check-count", "3", "--takeover", "silence")
CUT_S = (0.2, 0.8)
"""How long both run before the cable is plugged in again: random, to meet every phase."""
SILENCE_TITLE = "cable pulled, -t 0.1 --check-count 3 --takeover silence"
HEALED_TITLE = "cable back, until one worker again"
RECORD_S = 2.0
"""What a member gets to write an overlap to its disk."""


def measure(bench: Bench) -> list[Result]:
    """Pull the worker's cable `bench.takeovers` times, and put it back."""
    if not isinstance(bench.network, Namespaces):
        return [Absent(SILENCE_TITLE, "the loopback has no cable")]
    recorder = bench.recorder()
    pair = Pair(bench.network, recorder, bench.folder(), OPTIONS, lasting=True)
    silences_ns, doubles_ns, recorded = [], [], []
    with running(pair):
        worker, supervisor = pair.start_both()
        for _ in range(bench.takeovers):
            time.sleep(random.uniform(*SETTLE_S))
            before = latest(recorder)
            cut_ns = time.monotonic_ns()
            bench.network.cut(worker.name)
            after = pair.wait_until(lambda: successor(recorder, before), "a takeover by silence")  # noqa: B023
            silences_ns.append(after.start_ns - cut_ns)
            time.sleep(random.uniform(*CUT_S))
            worker.forget_log()
            healed_ns = time.monotonic_ns()
            bench.network.heal(worker.name)
            ended_ns, worker, supervisor = _wait_for_one(pair, recorder, before, worker, supervisor)
            doubles_ns.append(ended_ns - healed_ns)
            recorded.append(_recorded(pair, before, after))
    return [
        Times(SILENCE_TITLE, silences_ns, "by policy"),
        Times(HEALED_TITLE, doubles_ns, "by policy"),
        Fact("overlaps written down by both members", _count(recorded)),
    ]


def _count(recorded: list[Recorded]) -> str:
    noted = sum(each.noted for each in recorded)
    right = sum(each.epochs_right for each in recorded)
    return f"{noted} of {len(recorded)}; with the epochs of both right: {right}"


def latest(recorder: Recorder) -> Run:
    """The life of the command that began last; there is one."""
    run = recorder.latest()
    assert run is not None
    return run


def successor(recorder: Recorder, before: Run) -> Run | None:
    """The life that began after that one, if there is one by now."""
    run = latest(recorder)
    return run if run.start_ns > before.start_ns else None


def _wait_for_one(
    pair: Pair, recorder: Recorder, before: Run, worker: Member, supervisor: Member
) -> tuple[int, Member, Member]:
    """When the earlier command ended, by its own record, and who is worker and supervisor now."""

    def ended() -> int:
        return next(run.end_ns for run in recorder.runs() if run.start_ns == before.start_ns)

    ended_ns = pair.wait_until(ended, f"the command of {worker.name} ends")
    pair.wait_until(lambda: worker.said("Supervising"), f"{worker.name} supervises")
    return ended_ns, supervisor, worker


class Recorded(NamedTuple):
    """What both state files say of one overlap: that it was, and between which two epochs."""

    noted: bool
    epochs_right: bool


def _recorded(pair: Pair, before: Run, after: Run) -> Recorded:
    """What both members have written down of this overlap within a short while."""
    told = Recorded(False, False)
    end_s = time.monotonic() + RECORD_S
    # One of the two may have had an overlap in the same epoch before: noted is not yet right.
    while time.monotonic() < end_s and not told.epochs_right:
        sides = [
            [peer for own, peer in _overlaps(pair, mine.member) if own == mine.epoch]
            for mine in (before, after)
        ]
        told = Recorded(all(sides), after.epoch in sides[0] and before.epoch in sides[1])
        time.sleep(0.02)
    return told


def _overlaps(pair: Pair, member: str) -> list[tuple[int, int]]:
    """The member's own and its peer's epoch of each overlap in its state file."""
    path = pair.state_path(member)
    if not os.path.exists(path):
        return []
    with open(path) as file:
        told = json.load(file)["overlaps"]
    return [(overlap["own_epoch"], overlap["peer_epoch"]) for overlap in told]
