"""What came of a campaign, as a table for a person and for docs/faults.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.report import percentile_ns
from faults.checker import Finding, Recovery

HEAD = (
    "fault",
    "n",
    "worker changed",
    "nobody ran: median",
    "p99",
    "worst",
    "its limit",
    "over it",
)
MARKS = {"overlap": "overlaps", "stray": "stray processes", "gap": "gaps beyond the bound",
         "epoch": "epochs out of order", "lost run": "lost runs", "unknown": "unknown"}  # fmt: skip


class Tally:
    """Everything that the judge said of all chapters."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.recoveries: list[Recovery] = []
        self.wake_ups_ns: list[int] = []
        self.apart_ns: list[int] = []
        self.chapters = 0

    @property
    def faults(self) -> int:
        """How many blows were struck; a step may have been several at once."""
        return sum(len(recovery.step.families) for recovery in self.recoveries)

    def counts(self) -> str:
        """One line about what was found."""
        found = {kind: sum(f.kind == kind for f in self.findings) for kind in MARKS}
        return ", ".join(f"{count} {MARKS[kind]}" for kind, count in found.items())

    def table(self) -> list[tuple[str, ...]]:
        """A row for each kind of fault, those that were struck alone first."""
        names = sorted({recovery.step.name for recovery in self.recoveries}, key=_order)
        rows = [self._row(name) for name in names if " + " not in name]
        several = [r for r in self.recoveries if " + " in r.step.name]
        if several:
            rows.append(_cells("several at once", several))
        rows.append(_cells("all", self.recoveries))
        return [HEAD, *rows]

    def _row(self, name: str) -> tuple[str, ...]:
        return _cells(name, [r for r in self.recoveries if r.step.name == name])

    def notes(self) -> list[str]:
        """What the table does not say."""
        needless = [r for r in self.recoveries if r.needless]
        stalled = [r for r in self.recoveries if r.stalled_ns]
        return [
            f"{self.faults} faults in {len(self.recoveries)} steps and {self.chapters} chapters: "
            f"{self.counts()}.",
            _spread("A whole host woke up beside its successor", self.wake_ups_ns),
            _spread("Both ran during a partition under `--takeover silence`", self.apart_ns),
            f"The worker changed without need {len(needless)} times"
            + (f" ({', '.join(sorted({r.step.name for r in needless}))})." if needless else "."),
            f"The machine itself stood still during {len(stalled)} of the outages"
            + (f", at most for {max(r.stalled_ns for r in stalled) / 1e6:.0f} ms; "
               "that time is added to their limits." if stalled else "."),
        ]  # fmt: skip


def _order(name: str) -> tuple[bool, str]:
    return (" + " in name, name)


def _cells(name: str, recoveries: Sequence[Recovery]) -> tuple[str, ...]:
    outages = [recovery.outage_ns for recovery in recoveries if recovery.outage_ns]
    changed = sum(recovery.changed for recovery in recoveries)
    head = (name, str(len(recoveries)), str(changed))
    if not outages:
        return (*head, "never", "", "", "", "0")
    worst = max((r for r in recoveries if r.outage_ns), key=lambda r: r.outage_ns)
    over = sum(r.outage_ns > r.allowed_ns + r.stalled_ns for r in recoveries)
    values = (statistics.median(outages), percentile_ns(outages, 0.99), worst.outage_ns)
    times = tuple(f"{value / 1e6:.0f} ms" for value in (*values, worst.allowed_ns))
    return (*head, *times, str(over))


def _spread(what: str, lengths_ns: Sequence[int]) -> str:
    if not lengths_ns:
        return f"{what}: never."
    middle, worst = statistics.median(lengths_ns) / 1e6, max(lengths_ns) / 1e6
    return f"{what} {len(lengths_ns)} times: median {middle:.1f} ms, worst {worst:.1f} ms."
