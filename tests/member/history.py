"""What a shared file of `work.py` says happened: runs, overlaps, gaps, epochs.

It judges members by what their commands did and knows nothing of how they decide. A run counts as
alive from its first line to its last one, so that an overlap found here is one for certain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ENDINGS = ("end", "terminated")


class Run(NamedTuple):
    """One run as it showed itself; times are CLOCK_MONOTONIC, in seconds."""

    epoch: int
    member: str
    run: str
    pid: int
    first_s: float
    last_s: float
    words: tuple[str, ...]

    @property
    def ending(self) -> str:
        """How it ended: "end", "terminated", or "" if it was killed or is still going."""
        return self.words[-1] if self.words[-1] in ENDINGS else ""


def read(path: Path) -> list[Run]:
    """All runs in the order of their first line. Raises ValueError for one without a start."""
    found: dict[tuple[str, int], Run] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        what, epoch, member, run, pid, now_ns = line.split()
        now_s = int(now_ns) / 1e9
        known = found.get((run, int(pid)))
        if known is None:
            if what != "start":
                raise ValueError(f"a run without a start: {line}")
            known = Run(int(epoch), member, run, int(pid), now_s, now_s, ())
        words = known.words if known.words[-1:] == (what,) else (*known.words, what)
        found[run, int(pid)] = known._replace(last_s=now_s, words=words)
    return sorted(found.values(), key=lambda run: run.first_s)


def overlaps(runs: Iterable[Run]) -> list[tuple[Run, Run, float]]:
    """Each two runs that were alive at once, and for how many seconds at least."""
    ordered = sorted(runs, key=lambda run: run.first_s)
    found = []
    for index, one in enumerate(ordered):
        for other in ordered[index + 1 :]:
            if other.first_s < one.last_s:
                found.append((one, other, min(one.last_s, other.last_s) - other.first_s))
    return found


def gaps(runs: Sequence[Run]) -> list[tuple[Run, Run, float]]:
    """Each two runs of different members that follow each other, and the seconds in between."""
    ordered = sorted(runs, key=lambda run: run.first_s)
    return [
        (one, other, other.first_s - one.last_s)
        for one, other in pairwise(ordered)
        if one.member != other.member
    ]


def faults(runs: Sequence[Run]) -> list[str]:
    """Everything that must never be: overlaps, an epoch used twice, or one that does not grow."""
    found = [f"for {s:.3f} s at once: {one} and {other}" for one, other, s in overlaps(runs)]
    owners: dict[int, str] = {}
    used: dict[str, int] = {}
    for run in runs:
        if owners.setdefault(run.epoch, run.member) != run.member:
            found.append(f"epoch {run.epoch} of {owners[run.epoch]}, too: {run}")
        if used.setdefault(run.run, run.pid) != run.pid:
            found.append(f"the name of run {run.run} was used before: {run}")
    found += [
        f"the epoch fell from {one.epoch} to {other.epoch}: {other}"
        for one, other in pairwise(runs)
        if other.epoch < one.epoch
    ]
    return found
