"""What came of a campaign, as a table for a person and for docs/faults.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from faults.checker import Finding, Recovery

HEAD = (
    "fault",
    "n",
    "worker changed",
    "nobody ran: median",
    "worst",
    "of that counts: median",
    "worst",
    "closest to its bound",
    "beyond the bound",
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
        stalls_ns = [o.stalled_ns for r in self.recoveries for o in r.outages if o.stalled_ns]
        return [
            f"{self.faults} faults in {len(self.recoveries)} steps and {self.chapters} chapters: "
            f"{self.counts()}.",
            _spread("A whole host woke up beside its successor", self.wake_ups_ns),
            _spread("Both ran during a partition under `--takeover silence`", self.apart_ns),
            f"The worker changed without need {len(needless)} times"
            + (f" ({', '.join(sorted({r.step.name for r in needless}))})." if needless else "."),
            f"The machine stood still, or gave a host no processor, during {len(stalls_ns)} of the "
            "times in which nobody ran: "
            f"median {statistics.median(stalls_ns or [0]) / 1e6:.1f} ms, "
            f"worst {max(stalls_ns, default=0) / 1e6:.0f} ms; that does not count.",
            _beyond(self.recoveries),
        ]  # fmt: skip


def _beyond(recoveries: Sequence[Recovery]) -> str:
    """How much of the allowance for the start of processes was used."""
    outages = [outage for recovery in recoveries for outage in recovery.outages]
    late_ns = [o.counted_ns - o.bound_ns for o in outages if o.counted_ns > o.bound_ns]
    if not late_ns:
        return "No time in which nobody ran was beyond the bound that `--check-config` prints."
    return (
        f"{len(late_ns)} of {len(outages)} times in which nobody ran were beyond the bound that "
        f"`--check-config` prints, which is without the start of processes: median "
        f"{statistics.median(late_ns) / 1e6:.0f} ms, worst {max(late_ns) / 1e6:.0f} ms beyond."
    )


def _order(name: str) -> tuple[bool, str]:
    return (" + " in name, name)


def _cells(name: str, recoveries: Sequence[Recovery]) -> tuple[str, ...]:
    """One row. What counts is compared with the bound that the program prints, as it stands.

    Bounds differ from fault to fault, so the longest time need not be the one closest to its own.
    """
    longest = [recovery.longest_ns for recovery in recoveries if recovery.longest_ns]
    changed = sum(recovery.changed for recovery in recoveries)
    head = (name, str(len(recoveries)), str(changed))
    if not longest:
        return (*head, "never", "", "", "", "", "0")
    outages = [outage for recovery in recoveries for outage in recovery.outages]
    closest = max(outages, key=lambda outage: outage.counted_ns - outage.bound_ns)
    counted = [max(outage.counted_ns for outage in r.outages) for r in recoveries if r.outages]
    beyond = sum(outage.counted_ns > outage.bound_ns for outage in outages)
    times = (
        statistics.median(longest),
        max(longest),
        statistics.median(counted),
        max(counted),
    )
    most = f"{closest.counted_ns / 1e6:.0f} of {closest.bound_ns / 1e6:.0f} ms"
    return (*head, *(f"{time_ns / 1e6:.0f} ms" for time_ns in times), most, str(beyond))


def _spread(what: str, lengths_ns: Sequence[int]) -> str:
    if not lengths_ns:
        return f"{what}: never."
    middle, worst = statistics.median(lengths_ns) / 1e6, max(lengths_ns) / 1e6
    return f"{what} {len(lengths_ns)} times: median {middle:.1f} ms, worst {worst:.1f} ms."
