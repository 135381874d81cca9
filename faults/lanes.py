"""A history as lanes: a line for each host, one for what was done to them, and what was said."""

from __future__ import annotations

from collections.abc import Sequence

from faults.checker import Finding, running
from faults.history import History, Step
from faults.logs import Line
from faults.recorder import Kind

COLUMNS = 100
BEFORE_NS = 300_000_000
AFTER_NS = 1_500_000_000
LEAST_NS = 500_000_000
MAX_LINES = 120
MAX_TEXT = 160
MAX_CHILDREN = 20


def window(history: History, finding: Finding) -> tuple[int, int]:
    """The time to show: the step in which it happened, and what surrounds it."""
    steps = [step for step in history.steps if step.began_ns <= finding.at_ns]
    began_ns = steps[-1].began_ns if steps else finding.at_ns
    healed_ns = steps[-1].healed_ns if steps else finding.at_ns
    start = min(began_ns, finding.at_ns) - BEFORE_NS
    end = max(healed_ns, finding.at_ns) + AFTER_NS
    return start, max(end, start + LEAST_NS)


def draw(history: History, lines: Sequence[Line], span: tuple[int, int]) -> str:
    """The lanes of that time, and the runs, faults and log lines in it, in order."""
    start, end = span
    scale = (end - start) / COLUMNS
    hosts = sorted({life.host for life in history.lives})
    picture = [f"one column is {scale / 1e6:.1f} ms; # main process, = child, - daemon, z paused"]
    picture += [f"{host:8}|{_lane(history, host, start, scale)}|" for host in hosts]
    picture.append(f"{'faults':8}|{_faults(history.steps, start, scale)}|")
    picture.append(f"{'':9}! struck, ~ lasts, + healed, . settling")
    told = _events(history, span) + [
        (line.at_ns, f"{line.host}: {line.role} {line.epoch or ''} {line.text[:MAX_TEXT]}")
        for line in lines
    ]
    told.sort()
    if len(told) > MAX_LINES:
        picture.append(f"the first {MAX_LINES} of {len(told)} events:")
    picture += [f"{(at - start) / 1e6:9.1f} ms  {text}" for at, text in told[:MAX_LINES]]
    return "\n".join(picture)


def _lane(history: History, host: str, start: int, scale: float) -> str:
    cells = [" "] * COLUMNS
    for pause in history.pauses:
        if pause.host == host:
            _fill(cells, pause.from_ns, pause.to_ns, start, scale, "z")
    for kind, mark in ((Kind.DAEMON, "-"), (Kind.CHILD, "="), (Kind.MAIN, "#")):
        for life in history.lives:
            if life.host == host and life.kind is kind:
                for a, b in running(life, history.pauses):
                    _fill(cells, a, b, start, scale, mark)
    return "".join(cells)


def _faults(steps: Sequence[Step], start: int, scale: float) -> str:
    cells = [" "] * COLUMNS
    for step in steps:
        settled_ns = step.settled_ns or step.healed_ns
        _fill(cells, step.healed_ns, settled_ns, start, scale, ".")
        _fill(cells, step.began_ns, step.healed_ns, start, scale, "~")
        _fill(cells, step.began_ns, step.began_ns, start, scale, "!")
        _fill(cells, step.healed_ns, step.healed_ns, start, scale, "+")
    return "".join(cells)


def _fill(cells: list[str], a: int, b: int, start: int, scale: float, mark: str) -> None:
    first, last = int((a - start) // scale), int((b - start) // scale)
    for index in range(max(first, 0), min(last, COLUMNS - 1) + 1):
        cells[index] = mark


def _events(history: History, span: tuple[int, int]) -> list[tuple[int, str]]:
    told = []
    for step in history.steps:
        told.append((step.began_ns, f"FAULT {step.text}"))
        told.append((step.healed_ns, f"HEALED {step.name}"))
        if step.settled_ns:
            told.append((step.settled_ns, "settled"))
    for pause in history.pauses:
        what = "everything" if pause.everything else f"{sorted(pause.pids)}"
        told.append((pause.from_ns, f"{pause.host}: paused {what}"))
        told.append((pause.to_ns, f"{pause.host}: let go on"))
    crowded = sum(life.kind is Kind.CHILD for life in history.lives) > MAX_CHILDREN
    for life in history.lives:
        if crowded and life.kind is Kind.CHILD:  # the lanes show them
            continue
        name = f"{life.host}: {life.kind.name.lower()} {life.pid} of run {life.epoch}.{life.run}"
        seen = f", which saw {life.foreign} of another host" if life.foreign else ""
        told.append((life.start_ns, f"{name} begins{seen}"))
        told.append(
            (life.last_ns, f"{name} {'ends' if life.end_ns else 'ticks for the last time'}")
        )
    return [(at, text) for at, text in told if span[0] <= at <= span[1]]
