"""A campaign: chapters of faults from one seed, each judged by what its command recorded."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from faults import cuts, lanes, orders, shortages, strikes
from faults.blows import GOES_ON, Blow, Fault
from faults.chapters import (
    HAND_OVER_S,
    STARTS_S,
    WAKES_S,
    Chapter,
    Judgement,
    draw,
    longest_times_s,
)
from faults.checker import Finding, Verdict, judge
from faults.history import History, Limits, Step
from faults.stage import Stage
from faults.summary import Tally

FAULTS = (*strikes.FAULTS, *cuts.FAULTS, *shortages.FAULTS, *orders.FAULTS)
CHAPTER_STEPS = 25
SEVERAL = (0.75, 0.2, 0.05)
"""How often a step is one fault, two or three at once."""
PATIENCE_S = 30.0
"""How much longer than allowed the pair is waited for before it is given up."""
SHOWN = 3
"""How many findings of a chapter are shown with their lanes."""


class Plan(NamedTuple):
    """What is asked for. `starts_s` is allowed for the start of processes and round trips."""

    seed: int
    faults: int
    only: tuple[str, ...] = ()
    judgement: Judgement | None = None
    command: str = ""
    starts_s: float = STARTS_S
    first_chapter: int = 1
    say: Callable[[str], None] = print


class Campaign:
    """Runs chapters on one stage until enough faults were struck."""

    def __init__(self, plan: Plan, stage: Stage) -> None:
        self.plan = plan
        self.stage = stage
        self.tally = Tally()
        self.menu = [
            fault
            for fault in FAULTS
            if not plan.only or any(word in (fault.name, fault.family) for word in plan.only)
        ]

    def run(self) -> bool:
        """Whether nothing was found in all chapters."""
        number = self.plan.first_chapter
        while self.tally.faults < self.plan.faults:
            dice = random.Random(f"{self.plan.seed}/{number}")
            chapter = draw(number, dice, self.plan.judgement, self.plan.command)
            self._chapter(chapter, dice)
            number += 1
        return not self.tally.findings

    def _chapter(self, chapter: Chapter, dice: random.Random) -> None:
        """Play one, judge it, and show what was found."""
        assert self.stage.witness is not None
        began_s = time.monotonic()
        times_s = longest_times_s(chapter, self.stage.witness.url)
        self.stage.logs.note("campaign", str(chapter))
        self.stage.open(chapter, times_s)
        recovers_s = max((t for t in times_s.values() if t != float("inf")), default=0.0)
        recovers_s = max(recovers_s, 1.01 * chapter.lease_s + chapter.interval_s)
        limits = Limits(
            lease_s=chapter.lease_s,
            recovers_s=recovers_s,
            starts_s=self.plan.starts_s,
            every_s=chapter.every_s,
            wakes_s=WAKES_S,
            hand_over_s=HAND_OVER_S + chapter.every_s,
        )
        steps: list[Step] = []
        patience_s = recovers_s + self.plan.starts_s + PATIENCE_S
        wanted = min(CHAPTER_STEPS, self.plan.faults - self.tally.faults)
        worker = self.stage.settle(patience_s)
        flaws = [] if worker else ["the pair did not settle at its start"]
        while worker and sum(len(step.families) for step in steps) < wanted:
            time.sleep(dice.uniform(0.0, 0.2))
            step, worker = self._step(dice, worker, patience_s)
            steps.append(step)
        ended_ns = time.monotonic_ns()
        strays = self.stage.end()
        recorder = self.stage.recorder
        history = History(
            recorder.lives(), self.stage.pauses, steps, self.stage.stalls(),
            strays, flaws + recorder.flaws, limits, ended_ns, self.stage.waits(),
        )  # fmt: skip
        self._note(chapter, history, judge(history), time.monotonic() - began_s)

    def _step(self, dice: random.Random, worker: str, patience_s: float) -> tuple[Step, str]:
        """Strike, wait, heal, and wait until all is well again."""
        began_ns = time.monotonic_ns()
        struck: list[tuple[Fault, Blow]] = []
        wanted = dice.choices((1, 2, 3), SEVERAL)[0]
        try:
            while len(struck) < wanted:
                fault = dice.choices(self.menu, [fault.weight for fault in self.menu])[0]
                if fault in [other for other, _blow in struck]:
                    wanted = len(struck)
                    break
                blow = fault.strike(self.stage, dice, worker)
                if blow is not None:
                    self.stage.logs.note("faults", blow.text)
                    struck.append((fault, blow))
            for _fault, blow in struck:
                blow.last()
        finally:
            with contextlib.ExitStack() as healing:
                for _fault, blow in struck:
                    healing.callback(blow.heal)
        healed_ns = time.monotonic_ns()
        self.stage.logs.note("faults", "healed")
        now_worker = self.stage.settle(patience_s)
        settled_ns = time.monotonic_ns() if now_worker else 0
        faults = [fault for fault, _blow in struck]
        apart = self.stage.chapter.judgement is Judgement.SILENCE and any(
            fault.parts_hosts for fault in faults
        )
        serves_s, keeps = self._promise(struck, apart=apart)
        step = Step(
            name=" + ".join(fault.name for fault in faults),
            families=tuple(fault.family for fault in faults),
            text=" + ".join(blow.text for _fault, blow in struck),
            began_ns=began_ns,
            healed_ns=healed_ns,
            settled_ns=settled_ns,
            serves_s=serves_s,
            keeps=keeps,
            apart=apart,
        )
        return step, now_worker

    def _promise(
        self, struck: Sequence[tuple[Fault, Blow]], *, apart: bool
    ) -> tuple[float | None, bool]:
        """For how long nobody may run during the step, and whether the same run has to go on."""
        if len(struck) != 1 or apart:
            return None, False
        serves = struck[0][1].serves
        if serves == GOES_ON:
            return 0.0, True
        seconds = self.stage.times_s.get(serves, float("inf"))
        return (None if seconds == float("inf") else seconds), False

    def _note(self, chapter: Chapter, history: History, verdict: Verdict, took_s: float) -> None:
        tally = self.tally
        tally.chapters += 1
        tally.findings += verdict.findings
        tally.recoveries += verdict.recoveries
        tally.wake_ups_ns += verdict.wake_ups_ns
        tally.apart_ns += verdict.apart_ns
        found = f"{len(verdict.findings)} FINDINGS" if verdict.findings else "good"
        self.plan.say(
            f"{chapter}: {len(history.steps)} steps in {took_s:.1f} s, {found} "
            f"({tally.faults} of {self.plan.faults} faults)"
        )
        for finding in verdict.findings[:SHOWN]:
            self._show(chapter, history, finding)
        needless = [r.step for r in verdict.recoveries if r.needless]
        for step in needless[:SHOWN]:
            told = Finding("no need", f"the worker changed: {step.text}", step.began_ns)
            self._show(chapter, history, told)
        for finding in verdict.findings[SHOWN:]:
            self.plan.say(f"{finding.kind.upper()}: {finding.text}")
        if not verdict.findings:
            shutil.rmtree(os.path.join(self.stage.folder, f"chapter-{chapter.number}"))
            for folder in (f"chapter-{chapter.number}", f"canary-{chapter.number}"):
                shutil.rmtree(os.path.join(self.stage.memory, folder), ignore_errors=True)

    def _show(self, chapter: Chapter, history: History, finding: Finding) -> None:
        """One finding with the time around it as lanes, and how to see it again."""
        span = lanes.window(history, finding)
        self.plan.say(f"\n{finding.kind.upper()}: {finding.text}")
        self.plan.say(f"SEED={self.plan.seed}, {chapter}")
        self.plan.say(lanes.draw(history, self.stage.logs.between(*span), span) + "\n")


@contextlib.contextmanager
def folders(*, keep: bool) -> Iterator[tuple[str, str]]:
    """One on disk for logs and state, one in memory for records; kept after a failure."""
    disk = tempfile.mkdtemp(prefix="ha-faults-")
    top = "/dev/shm" if os.path.isdir("/dev/shm") else None
    memory = tempfile.mkdtemp(prefix="ha-faults-", dir=top)
    yield disk, memory  # what went wrong leaves them where they are
    if keep:
        print(f"logs: {disk}; records: {memory}", file=sys.stderr)
        return
    for folder in (disk, memory):
        shutil.rmtree(folder, ignore_errors=True)
