"""Where the time of a takeover goes: from the worker's kill -9 to the command's first instruction.

The moments are those at which calls begin and return, seen from outside (tracing.py). Each step
ends where the next one begins, so they add up to the takeover.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from benchmarks import processes
from benchmarks.bench import Bench
from benchmarks.members import Member, Pair, running
from benchmarks.recorder import Run, count_overlaps
from benchmarks.report import Absent, Result, Times
from benchmarks.takeovers import LONG_INTERVAL, kill_member, take_over
from benchmarks.tracing import Call, Seen, Trace, TraceError

STEPS = (
    "kill(2) to the dead member's guardian awake",
    "guardian: ends the command, closes the port",
    "supervisor: hears of it, connects once more",
    "supervisor: is refused",
    "supervisor: decides, orders the run",
    "own guardian awake",
    "guardian: reads the order, forks",
    "fork(2) to the child's first step",
    "child: death signal, signals, execve(2)",
    "execve(2) to the command's first instruction",
)
TITLE = "profile, kill -9 of the member"
LIMIT_MS = 1000


class Takeover(NamedTuple):
    """One takeover: the moment of the kill, who was on the dead member's side, the new run."""

    killed_ns: int
    dead_side: frozenset[int]
    after: Run


def _kill(worker: Member, run: Run) -> tuple[int, frozenset[int]]:
    """Kill -9 of the member: when, and what was below it."""
    dead_side = frozenset(processes.descendants(worker.pid))
    return kill_member(worker, run), dead_side


def measure(bench: Bench, *, lasting: bool) -> list[Result]:
    """Kill the worker `bench.takeovers` times; one row for each step and one for all."""
    title = f"{TITLE}, {'lasting' if lasting else 'idle'} command"
    recorder = bench.recorder()
    try:
        trace = Trace(bench.folder(), bench.trace_path())
    except TraceError as problem:
        return [Absent(title, str(problem))]
    with trace.on():
        pair = Pair(bench.network, recorder, bench.folder(), LONG_INTERVAL, lasting=lasting)
        with running(pair):
            takeovers = [
                Takeover(killed_ns, dead_side, after)
                for (killed_ns, dead_side), _, after in take_over(
                    pair, recorder, bench.takeovers, _kill
                )
            ]
    calls = trace.seen()
    overlaps = str(count_overlaps(recorder.runs()))
    moments = [_moments(takeover, calls) for takeover in takeovers]
    rows: list[Result] = [
        Times(f"{title}: {step}", [each[i + 1] - each[i] for each in moments])
        for i, step in enumerate(STEPS)
    ]
    rows.append(Times(f"{title}: all", [each[-1] - each[0] for each in moments], overlaps))
    return rows


def _moments(takeover: Takeover, calls: list[Seen]) -> tuple[int, ...]:
    """The beginning of each step, and the end of the last one, from the last one backwards."""
    killed_ns, dead_side, after = takeover
    window = [
        each for each in calls if killed_ns < each.ended_ns <= after.start_ns + LIMIT_MS * 1_000_000
    ]
    born = _first(window, lambda each: each.call == Call.FORK and each.pid == after.pid)
    forked = _first(window, lambda each: each.call == Call.FORK and each.result == after.pid)
    executed = _first(window, lambda each: each.call == Call.EXECVE and each.pid == after.pid)
    early = [each for each in window if each.ended_ns <= forked.began_ns]
    awake = _last(early, lambda each: each.call == Call.POLL and each.pid == forked.pid)
    refused_connect = _last(
        early, lambda each: each.call == Call.CONNECT and each.pid not in dead_side
    )
    supervisor = refused_connect.pid
    refused = _first(
        early,
        lambda each: (
            each.call == Call.EPOLL_WAIT
            and each.pid == supervisor
            and each.result > 0
            and each.began_ns > refused_connect.ended_ns
        ),
    )
    orders = _first(
        early,
        lambda each: (
            each.call == Call.SEND and each.pid == supervisor and each.began_ns > refused.ended_ns
        ),
    )
    ordered = _last(
        early,
        lambda each: each.call == Call.SEND and each.pid == supervisor and each.fd == orders.fd,
    )
    waking = _first(window, lambda each: each.call == Call.POLL and each.pid in dead_side)
    closed = _last(
        window,
        lambda each: (
            each.call in (Call.CLOSE, Call.EXIT)
            and each.pid in dead_side
            and each.began_ns < refused.ended_ns
        ),
    )
    return (
        killed_ns,
        waking.ended_ns,
        min(closed.ended_ns, refused_connect.began_ns),  # it may return late, on the other CPU
        refused_connect.began_ns,
        refused.ended_ns,
        ordered.ended_ns,
        max(awake.ended_ns, ordered.ended_ns),
        forked.began_ns,
        born.ended_ns,
        executed.ended_ns,
        after.start_ns,
    )


def _first(calls: Iterable[Seen], fits: Callable[[Seen], bool]) -> Seen:
    return next(each for each in calls if fits(each))


def _last(calls: list[Seen], fits: Callable[[Seen], bool]) -> Seen:
    return next(each for each in reversed(calls) if fits(each))
