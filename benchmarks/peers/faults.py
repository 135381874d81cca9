"""What is done to a peer, and what came of it by the command's own records.

A trial: worker and standby are at rest for a random while, the worker is struck, the standby's
command starts, and it is watched whether the old command lives beside it. Then the struck host gets
a fresh standby, and the next trial goes the other way.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.network import MEMBERS
from benchmarks.peers.peer import Settings
from benchmarks.peers.stage import Stage
from benchmarks.recorder import Run

REST_S = (0.1, 0.4)
"""The least rest before a fault; a period of the peer's own timers is added to the longer one."""
WATCH_S = 2.0
"""How long an old command is watched that lives on; also how long a cable stays pulled then."""
HEALED_S = 15.0
"""How long at most two commands are watched after a partition or a pause is over."""
MISHAPS = 3
"""How many of them a trial may bring along before the rest is given up."""
MARGIN_S = 15.0
"""What is added to the time that a peer's own settings need, before it is said to fail."""


class Trial(NamedTuple):
    """One fault, and what came of it.

    `took_ns` is None when nobody took over. `lasts` says that both still ran at the end of the
    watch, so that `both_ns` is the least that it can have been.
    """

    took_ns: int | None
    both_ns: int
    lasts: bool


class Pause(NamedTuple):
    """When a host stood still, in ns."""

    host: str
    began_ns: int
    ended_ns: int


Strike = Callable[[Stage, str], int]
"""Strikes that worker; returns the moment just before."""


def kill_main(stage: Stage, worker: str) -> int:
    """SIGKILL to the agent's main process alone."""
    return _kill([stage.main_pid(worker)])


def kill_agents(stage: Stage, worker: str) -> int:
    """SIGKILL to every process of the agent, and not to the command."""
    return _kill(stage.agents(worker))


def kill_all(stage: Stage, worker: str) -> int:
    """SIGKILL to every process of the agent and to the command."""
    return _kill([*stage.agents(worker), *stage.commands(worker)])


def _kill(pids: Sequence[int]) -> int:
    struck_ns = time.monotonic_ns()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return struck_ns


def lose_host(stage: Stage, worker: str) -> int:
    """Power loss: the cable first, so that no dying word gets out, and everything is dead."""
    host = stage.host(worker)
    struck_ns = time.monotonic_ns()
    host.cut()
    host.strike_dead()
    return struck_ns


def cut(stage: Stage, worker: str) -> int:
    """The worker's cable is pulled, to its peer and to the third host alike."""
    struck_ns = time.monotonic_ns()
    stage.host(worker).cut()
    return struck_ns


def freeze(stage: Stage, worker: str) -> int:
    """Everything on the worker's host stands still; its kernel and its network do not."""
    struck_ns = time.monotonic_ns()
    stage.host(worker).freeze()
    return struck_ns


def stop(stage: Stage, worker: str) -> int:
    """The planned stop; what counts is the old command's own end, so no moment is returned."""
    stage.ask_to_stop(worker)
    return 0


class Outcome(NamedTuple):
    """All trials of one cell, and what else was seen between them.

    `moved` is how often the command moved, or ran on both hosts, though nothing had been done.
    `stranded` is how often it ran nowhere some time after a trial. Both agents were then started
    anew.
    """

    trials: list[Trial]
    moved: int
    stranded: int


def trials(stage: Stage, settings: Settings, strike: Strike, count: int, rest_s: float) -> Outcome:
    """Strike the worker so often; it is the one and the other in turn."""
    worker, standby = stage.start_both()
    done: list[Trial] = []
    moved = stranded = 0
    while len(done) < count and moved + stranded <= MISHAPS * count:
        time.sleep(random.uniform(REST_S[0], REST_S[1] + rest_s))
        now = stage.wait_for(stage.sole_worker, MARGIN_S + settings.silence_s)
        if now:
            moved += now != worker
            worker, standby = now, MEMBERS[1 - MEMBERS.index(now)]
            done.append(_trial(stage, settings, strike, worker, standby))
            if done[-1].took_ns is None:
                break  # it is not where it was; once is enough to say so
        if now and stage.replace(worker, standby):
            worker, standby = standby, worker
            continue
        if all(map(stage.commands, MEMBERS)):
            moved += 1
        else:
            stranded += 1
        worker, standby = stage.start_both()
    return Outcome(done, moved, stranded)


def _trial(stage: Stage, settings: Settings, strike: Strike, worker: str, standby: str) -> Trial:
    before = stage.latest()
    assert before is not None
    assert before.member == worker, before
    limit_s = 3 * settings.silence_s + MARGIN_S
    struck_ns = strike(stage, worker)
    after = stage.wait_for(lambda: _successor(stage, before), limit_s)
    if after is None:
        return Trial(None, 0, False)
    pauses = _let_go(stage, strike, worker, struck_ns)
    patience_s = WATCH_S
    if strike in (cut, freeze):
        patience_s = min(WATCH_S + settings.silence_s, HEALED_S)
    alone = stage.wait_for(lambda: not all(map(stage.commands, MEMBERS)), patience_s)
    runs = stage.runs()
    old = next(run for run in runs if run.start_ns == before.start_ns)
    since_ns = struck_ns or old.last_ns
    return Trial(after.start_ns - since_ns, both_ns(runs, before.start_ns, pauses), not alone)


def _successor(stage: Stage, before: Run) -> Run | None:
    latest = stage.latest()
    return latest if latest is not None and latest.member != before.member else None


def _let_go(stage: Stage, strike: Strike, worker: str, struck_ns: int) -> tuple[Pause, ...]:
    """End what the fault has to last for: pull the cable no longer, let the host go on."""
    if strike is cut:
        time.sleep(WATCH_S)
        stage.host(worker).heal()
    elif strike is freeze:
        time.sleep(random.uniform(*REST_S))
        thawed_ns = time.monotonic_ns()
        stage.host(worker).thaw()
        return (Pause(worker, struck_ns, thawed_ns),)
    return ()


def both_ns(runs: Sequence[Run], since_ns: int, pauses: Sequence[Pause] = ()) -> int:
    """For how long commands of both hosts gave signs of life, from the run that began then on.

    A host that stands still runs nothing, whatever its records span.
    """
    one, other = (
        [
            piece
            for run in runs
            if run.member == name and run.start_ns >= since_ns
            for piece in _awake(run, pauses)
        ]
        for name in MEMBERS
    )
    return sum(
        max(0, min(mine[1], yours[1]) - max(mine[0], yours[0])) for mine in one for yours in other
    )


def _awake(run: Run, pauses: Sequence[Pause]) -> list[tuple[int, int]]:
    """From when to when it ran: in one piece, or before and after a pause of its host."""
    pieces = [(run.start_ns, run.last_ns)]
    for pause in pauses:
        if pause.host == run.member and run.start_ns < pause.ended_ns:
            pieces = [
                (run.start_ns, min(run.last_ns, pause.began_ns)),
                (max(run.start_ns, pause.ended_ns), run.last_ns),
            ]
    return [(began, ended) for began, ended in pieces if ended > began]


def cold_start(stage: Stage) -> Trial:
    """Start both at once; from before the first to the first instruction."""
    began_ns = time.monotonic_ns()
    for name in MEMBERS:
        stage.start(name)
    first = stage.wait_until(stage.latest, "the first run begins", 120.0)
    first = min(stage.runs())
    time.sleep(WATCH_S)
    lasts = all(map(stage.commands, MEMBERS))
    return Trial(first.start_ns - began_ns, both_ns(stage.runs(), 0), lasts)
