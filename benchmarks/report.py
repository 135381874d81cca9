"""Turns measurements into rows, and rows into an aligned table or Markdown. Drops nothing."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Times(NamedTuple):
    """One scenario's measured times. `overlaps` is text: what was counted, or why it was not."""

    title: str
    took_ns: Sequence[int]
    overlaps: str = ""


class Fact(NamedTuple):
    """Something measured that is no distribution."""

    title: str
    value: str


class Absent(NamedTuple):
    """A scenario that cannot be measured here."""

    title: str
    reason: str


Result = Times | Fact | Absent
TIMES_HEAD = ("takeover", "n", "median", "p99", "worst", "overlaps")
FACTS_HEAD = ("cost", "value")


def environment(network: str) -> str:
    """What the figures depend on, in one line."""
    try:
        with open("/proc/cpuinfo") as file:
            model = next((line for line in file if line.startswith("model name")), ": unknown CPU")
    except OSError:
        model = ": unknown CPU"
    return (
        f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} CPUs "
        f"({model.partition(':')[2].strip()}), Python {platform.python_version()} (-S -E), "
        f"{network}"
    )


def load() -> str:
    """How many tasks wanted the CPUs: the figures of a machine that is busy elsewhere are worse."""
    return " ".join(f"{average:.2f}" for average in os.getloadavg())


def percentile_ns(values_ns: Sequence[int], part: float) -> int:
    """The nearest rank: the least value with at least that part of all at or below it."""
    ordered = sorted(values_ns)
    return ordered[max(math.ceil(part * len(ordered)) - 1, 0)]


def _cells(times: Times) -> tuple[str, ...]:
    values = times.took_ns
    numbers = (statistics.median(values), percentile_ns(values, 0.99), max(values))
    return (
        times.title,
        str(len(values)),
        *(f"{number / 1e6:.{1 if number >= 1_000_000 else 2}f} ms" for number in numbers),
        times.overlaps,
    )


def tables(results: Sequence[Result]) -> list[list[tuple[str, ...]]]:
    """Each table as rows of cells, the head first; only those that have rows."""
    times = [_cells(result) for result in results if isinstance(result, Times)]
    facts = [tuple(result) for result in results if isinstance(result, Fact)]
    absent = [
        (result.title, f"not measured: {result.reason}")
        for result in results
        if isinstance(result, Absent)
    ]
    found = ((TIMES_HEAD, times), (FACTS_HEAD, facts + absent))
    return [[head, *rows] for head, rows in found if rows]


def as_text(table: Sequence[Sequence[str]]) -> str:
    """Columns aligned with spaces; numbers to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    right = set(range(1, 5)) if len(widths) == len(TIMES_HEAD) else set()
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def as_markdown(table: Sequence[Sequence[str]]) -> str:
    """A Markdown table, aligned in the source, too."""
    widths = [max(3, *(len(row[i]) for row in table)) for i in range(len(table[0]))]
    right = set(range(1, 5)) if len(widths) == len(TIMES_HEAD) else set()
    rule = [
        ("-" * (width - 1) + ":") if i in right else "-" * width for i, width in enumerate(widths)
    ]
    rows = [table[0], rule, *table[1:]]
    padded = (
        [
            cell.rjust(w) if i in right else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)
