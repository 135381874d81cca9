"""Turns the cells into the tables of docs/comparison.md. Leaves nothing out."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import report
from benchmarks.peers.catalog import MEASURES, PROGRAMS
from benchmarks.peers.cost import ROLES, Memory, Processor
from benchmarks.peers.faults import Trial
from benchmarks.peers.peer import Program, Settings

Key = tuple[str, str, str]
"""Program, settings, measure."""
Told = Mapping[str, Any]
"""What a cell wrote."""
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
_TIMES_HEAD = ("program and settings", "n", "median", "p99", "worst", "both ran", "besides")
_PROGRAMS_HEAD = ("program", "version", "how the command is put under it")
Table = list[tuple[str, ...]]


def sections(cells: Mapping[Key, Told], absent: Mapping[str, str]) -> list[tuple[str, Table]]:
    """Heading and table for the programs and for each measure that has a cell."""
    found = [("Programs", _programs(absent, {key[0] for key in cells}))]
    for name, measure in MEASURES.items():
        rows = [
            (_title(program, settings), cells[program.key, settings.key, name])
            for program in PROGRAMS.values()
            for settings in program.settings
            if (program.key, settings.key, name) in cells
        ]
        if rows and name in _COSTS:
            found.append((measure.title, _costs(rows, _COSTS[name])))
        elif rows:
            found.append((measure.title, [_TIMES_HEAD, *(_times(*row) for row in rows)]))
    return found


def as_text(found: Sequence[tuple[str, Table]]) -> str:
    """For a terminal."""
    return "\n\n".join(f"{heading}\n{report.as_text(table)}" for heading, table in found)


def as_markdown(found: Sequence[tuple[str, Table]]) -> str:
    """For the document."""
    return "\n\n".join(f"### {heading}\n\n{report.as_markdown(table)}" for heading, table in found)


def _title(program: Program, settings: Settings) -> str:
    return f"{program.title}: {settings.text}"


def _programs(absent: Mapping[str, str], measured: set[str]) -> Table:
    rows: Table = [_PROGRAMS_HEAD]
    for program in PROGRAMS.values():
        if reason := absent.get(program.key):
            rows.append((program.title, "", f"not measured: {reason}"))
        elif program.key in measured:
            rows.append((program.title, program.version(), program.way))
    return rows


def _times(title: str, told: Told) -> tuple[str, ...]:
    if "failure" in told:
        return (title, "0", *3 * ("",), f"not measured: {told['failure'].splitlines()[0]}", "")
    trials = [Trial(*row) for row in told["rows"]]
    took_ns = [trial.took_ns for trial in trials if trial.took_ns is not None]
    lost = len(trials) - len(took_ns)
    numbers = ["none took over"] * 3
    if took_ns:
        values = (statistics.median(took_ns), report.percentile_ns(took_ns, 0.99), max(took_ns))
        numbers = [milliseconds(value) for value in values]
    both = _both(trials) + (f"; {lost} without a takeover" if lost else "")
    return (title, str(len(took_ns)), *numbers, both, _besides(told))


def _besides(told: Told) -> str:
    """What happened between the faults."""
    seen = []
    if told["moved"]:
        seen.append(f"moved or doubled unasked {told['moved']} times")
    if told["stranded"]:
        seen.append(f"ran nowhere afterwards {told['stranded']} times")
    return ", ".join(seen)


def _both(trials: Sequence[Trial]) -> str:
    """For how long both ran, and how often."""
    times_ns = [trial.both_ns for trial in trials if trial.both_ns]
    if not times_ns:
        return "never"
    median = milliseconds(statistics.median(times_ns))
    text = f"{len(times_ns)} of {len(trials)}: median {median}, worst {milliseconds(max(times_ns))}"
    lasting = sum(trial.lasts for trial in trials)
    return text + (f", {lasting} of them without an end" if lasting else "")


def milliseconds(value_ns: float) -> str:
    """With one decimal below a second, and none above."""
    return f"{value_ns / 1e6:.1f} ms" if abs(value_ns) < 1e9 else f"{value_ns / 1e6:.0f} ms"


def _memory(row: Sequence[Any]) -> str:
    cost = Memory(*row)
    pss, alone = cost.pss_kib / 1024, cost.alone_kib / 1024
    return f"{pss:.1f} MiB PSS, {alone:.1f} alone, {cost.processes}"


def _processor(row: Sequence[Any]) -> str:
    return f"{Processor(*row).percent:.3f} %"


_COSTS: dict[str, Callable[[Sequence[Any]], str]] = {"memory": _memory, "idle": _processor}


def _costs(rows: Sequence[tuple[str, Told]], say: Callable[[Sequence[Any]], str]) -> Table:
    table: Table = [("program and settings", *ROLES)]
    for title, told in rows:
        if "failure" in told:
            table.append((title, f"not measured: {told['failure'].splitlines()[0]}", "", ""))
            continue
        said = {row[0]: say(row) for row in told["rows"]}
        table.append((title, *(said.get(role, "none") for role in ROLES)))
    return table


def place(document: str, text: str) -> str:
    """The document with the text between its two marks. Raises ValueError without these."""
    before, begin, rest = document.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the document has no {BEGIN} and {END}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"
