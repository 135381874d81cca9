"""A pair to which nothing is done: how often does the worker change all the same?

On an idle machine, or on one whose processors are all busy with something else. The judge is the
same; every term after the first is a false takeover.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from typing import NamedTuple

from benchmarks import processes
from faults.chapters import (
    HAND_OVER_S,
    STARTS_S,
    WAKES_S,
    Chapter,
    Judgement,
    longest_times_s,
)
from faults.checker import judge
from faults.history import History, Limits, Step
from faults.recorder import Kind
from faults.stage import Stage

LOOK_S = 1.0
TELL_S = 300.0


class Watch(NamedTuple):
    """What to watch, for how long, and with how many busy processes beside it."""

    seconds: float
    interval_s: float
    check_count: int
    judgement: Judgement
    busy: int
    say: Callable[[str], None] = print


def watch(plan: Watch, stage: Stage) -> bool:
    """Whether the worker never changed, and its run was never ended."""
    assert stage.witness is not None
    chapter = Chapter(
        number=1,
        judgement=plan.judgement,
        interval_s=plan.interval_s,
        check_count=plan.check_count,
        stop_timeout_s=round(plan.interval_s / 2, 3),
        every_s=0.2,
        mode=("serve",),
        distrust=False,
        fallback=False,
        stdout_is_read=True,
    )
    stage.open(chapter, longest_times_s(chapter, stage.witness.url))
    if not stage.settle(60.0):
        plan.say("the pair did not settle at its start")
        return False
    began_ns = time.monotonic_ns()
    with processes.uninterrupted():
        load = _busy(stage.programs.command, plan) if plan.busy else None
    try:
        _wait(plan, stage)
    finally:
        if load is not None:
            os.killpg(load.pid, 9)
            load.wait()
    ended_ns = time.monotonic_ns()
    strays = stage.end()
    step = Step("nothing", ("none",), "nothing", began_ns, began_ns, began_ns, 0.0, True, False)
    limits = Limits(
        lease_s=chapter.lease_s,
        recovers_s=0.0,
        starts_s=STARTS_S,
        every_s=chapter.every_s,
        wakes_s=WAKES_S,
        hand_over_s=HAND_OVER_S + chapter.every_s,
    )
    history = History(
        stage.recorder.lives(),
        [],
        [step],
        stage.stalls(),
        strays,
        [],
        limits,
        ended_ns,
        stage.waits(),
    )
    verdict = judge(history)
    runs = [x for x in history.lives if x.kind is Kind.MAIN and x.start_ns < ended_ns]
    terms = {(life.host, life.epoch) for life in runs}
    stalls_ns = [end - start for start, end in history.stalls]
    plan.say(
        f"{plan.seconds:g} s, {plan.judgement.value}, lease {chapter.lease_s:g} s, {plan.busy} "
        f"busy processes: {len(terms) - 1} false takeovers, {len(runs) - len(terms)} runs ended "
        f"without one; an unrelated process stood still {len(stalls_ns)} times, at most for "
        f"{max(stalls_ns, default=0) / 1e6:.0f} ms"
    )
    for finding in verdict.findings:
        plan.say(f"{finding.kind.upper()}: {finding.text}")
    return not verdict.findings and len(runs) == 1


def _busy(program: str, plan: Watch) -> subprocess.Popen[bytes]:
    """Processes of ordinary priority that never sleep, in a group of their own."""
    words = (program, "busy", str(plan.busy), str(int((plan.seconds + 60) * 1000)))
    return subprocess.Popen(words, start_new_session=True)


def _wait(plan: Watch, stage: Stage) -> None:
    end_s, told_s = time.monotonic() + plan.seconds, time.monotonic()
    while (now_s := time.monotonic()) < end_s:
        time.sleep(min(LOOK_S, end_s - now_s))
        if now_s - told_s >= TELL_S:
            told_s = now_s
            terms = {(life.host, life.epoch) for life in stage.recorder.lives()}
            plan.say(f"{end_s - now_s:.0f} s to go, {len(terms) - 1} false takeovers so far")
