"""The judge: it knows what the command recorded and what was done to the hosts, and no more.

What it holds against a history:

- overlap: processes of the command run on two hosts at once. A process runs from its start to its
  last tick, but not while it was paused; one that another host's run saw alive at its own start
  runs until then, whatever its ticks say.
- gap: nobody runs, longer than the limits allow.
- epoch: the epochs of the runs, in the order of their starts, go back, or two hosts used one, or
  two runs have the same number in one.
- stray: what is left of an earlier term, or of a member that was stopped.
- lost run: a run that ended without a word while nobody had touched anything for a lease, and the
  machine itself had not stood still. Votes that a fault kept from being renewed run out within one.
- unknown: anything that was not recorded or did not settle. It is never a pass.

A host that was paused as a whole wakes up with a command that may have been replaced. Nothing on it
can act before it wakes, so for a moment both run; docs/guarantees.md says so. Each such moment is
measured and told, and one that is longer than the limit is an overlap like any other.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from faults.history import History, Pause, Step
from faults.recorder import HOLE_NS, MAX_HOLES, Kind, Life

Span = tuple[int, int]
S_TO_NS = 1_000_000_000
LONG_STALL_NS = 100_000_000
SETTLED = "after all was settled"


class Finding(NamedTuple):
    """Something that must not be: what, in a sentence, and when it was at its worst."""

    kind: str
    text: str
    at_ns: int


class Outage(NamedTuple):
    """A time in which nobody ran.

    It counts from `counts_from_ns`, its own start or the end of the fault, and may last `bound_ns`
    from there. For `stalled_ns` of it the machine stood still or gave a host no processor, for
    `later_ns` since it counts.
    """

    start_ns: int
    end_ns: int
    counts_from_ns: int
    bound_ns: int
    stalled_ns: int
    later_ns: int

    @property
    def length_ns(self) -> int:
        return self.end_ns - self.start_ns

    @property
    def counted_ns(self) -> int:
        """How much of it is held against the bound."""
        return max(0, self.end_ns - self.counts_from_ns - self.later_ns)


class Recovery(NamedTuple):
    """What one step cost: when nobody ran, and whether the worker changed, also without need."""

    step: Step
    outages: tuple[Outage, ...]
    changed: bool
    needless: bool

    @property
    def longest_ns(self) -> int:
        """The longest time that nobody ran; 0 when somebody did all the time."""
        return max((outage.length_ns for outage in self.outages), default=0)


class Verdict(NamedTuple):
    """`wake_ups_ns` are the lengths of the overlaps of hosts that woke up, within the limit."""

    findings: list[Finding]
    recoveries: list[Recovery]
    wake_ups_ns: list[int]
    apart_ns: list[int]


def judge(history: History) -> Verdict:
    """Everything that is wrong with a history, and what is to be told of a good one."""
    overlaps, wake_ups_ns, apart_ns = _overlaps(history)
    gaps, recoveries = _gaps(history)
    findings = [
        *overlaps,
        *gaps,
        *_epochs(history),
        *_strays(history),
        *_lost_runs(history),
        *_unknown(history),
    ]
    return Verdict(
        sorted(findings, key=lambda found: found.at_ns), recoveries, wake_ups_ns, apart_ns
    )


# -- spans of time ---------------------------------------------------------------------------------


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same time in as few spans as it takes, in order."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], end))
        else:
            result.append((start, end))
    return result


def common(one: Span, two: Span) -> Span | None:
    """The time in both, if there is any; a common instant counts."""
    start, end = max(one[0], two[0]), min(one[1], two[1])
    return (start, end) if start <= end else None


def running(life: Life, pauses: Sequence[Pause], seen_ns: int = 0) -> list[Span]:
    """When a process could do something: its life, less the pauses that it was in.

    A pause counts only where the process's own ticks are missing: one that was not in it, or was
    killed and came back in another's number, goes on ticking.
    """
    spans = [(life.start_ns, max(life.last_ns, seen_ns))]
    for pause in pauses:
        if pause.host != life.host or life.pid not in pause.pids:
            continue
        if not _stood_still(life, pause):
            continue
        spans = [part for span in spans for part in _without(span, pause)]
    return spans


def _stood_still(life: Life, pause: Pause) -> bool:
    """Whether the ticks agree that this process was paused then."""
    if life.last_ns <= pause.from_ns + HOLE_NS:  # it never ticked again
        return True
    if pause.to_ns - pause.from_ns <= HOLE_NS:  # too short to be seen
        return False
    return any(
        hole[0] <= pause.from_ns + HOLE_NS and hole[1] >= pause.to_ns - HOLE_NS
        for hole in life.holes
    )


def _without(span: Span, pause: Pause) -> list[Span]:
    parts = [(span[0], min(span[1], pause.from_ns)), (max(span[0], pause.to_ns), span[1])]
    return [part for part in parts if part[0] < part[1]]


def _ms(span_ns: float) -> str:
    return f"{span_ns / 1e6:.1f} ms"


def _name(life: Life) -> str:
    return f"{life.host}'s {life.kind.name.lower()} {life.pid} of run {life.epoch}.{life.run}"


# -- overlaps --------------------------------------------------------------------------------------


def _overlaps(history: History) -> tuple[list[Finding], list[int], list[int]]:
    """For each pair of hosts the times at which both ran, each either wrong, or told."""
    found: list[Finding] = []
    wake_ups_ns: list[int] = []
    apart_ns: list[int] = []
    seen = _seen_alive(history.lives)
    spans = [
        (span, life)
        for life in history.lives
        for span in running(life, history.pauses, seen.get((life.host, life.pid), 0))
    ]
    spans.sort(key=lambda pair: pair[0])
    open_spans: list[tuple[Span, Life]] = []
    worst: dict[tuple[str, int, str, int], tuple[Span, Life, Life]] = {}
    for span, life in spans:
        open_spans = [pair for pair in open_spans if pair[0][1] >= span[0]]
        for other_span, other in open_spans:
            both = common(span, other_span)
            if other.host != life.host and both:
                key = (other.host, other.epoch, life.host, life.epoch)
                before = worst.get(key)
                if before is None or both[1] - both[0] > before[0][1] - before[0][0]:
                    worst[key] = (both, other, life)
        open_spans.append((span, life))
    for both, old, new in worst.values():
        length_ns = both[1] - both[0]
        if _is_waking(both, history):
            wake_ups_ns.append(length_ns)
        elif any(_may_be_apart(both, step, history) for step in history.steps):
            apart_ns.append(length_ns)
        else:
            text = f"{_name(old)} and {_name(new)} both ran for {_ms(length_ns)}"
            found.append(Finding("overlap", text, both[0]))
    return found, wake_ups_ns, apart_ns


def _seen_alive(lives: Sequence[Life]) -> dict[tuple[str, int], int]:
    """Until when a process was seen by a run of another host, by (host, pid)."""
    seen: dict[tuple[str, int], int] = {}
    for life in lives:
        if life.foreign is None:
            continue
        pid = life.foreign[0]
        owners = [x for x in lives if x.pid == pid and x.host != life.host]
        for owner in owners:
            if owner.start_ns <= life.start_ns:
                seen[owner.host, pid] = max(seen.get((owner.host, pid), 0), life.start_ns)
    return seen


def _is_waking(both: Span, history: History) -> bool:
    """Whether all of an overlap lies in the moment after a whole host woke up."""
    limit_ns = history.limits.wakes_s * S_TO_NS
    return any(
        pause.everything and pause.to_ns <= both[0] and both[1] <= pause.to_ns + limit_ns
        for pause in history.pauses
    )


def _may_be_apart(both: Span, step: Step, history: History) -> bool:
    """Whether two may have run then: while they were parted, and until they have met again."""
    limits = history.limits
    met_ns = step.healed_ns + int((limits.recovers_s + limits.starts_s) * S_TO_NS)
    return step.apart and step.began_ns <= both[0] and both[1] <= met_ns


# -- gaps ------------------------------------------------------------------------------------------


def _served(history: History) -> list[Span]:
    """When the service was there: a run, and the wait for the next where runs end by themselves.

    The next is not missed before it is HOLE_NS late. What a run has left behind is no service.
    """
    every_s = history.limits.every_s
    every_ns = int(every_s * S_TO_NS) + HOLE_NS if every_s else 0
    spans = []
    for life in history.lives:
        if life.kind is not Kind.MAIN:
            continue
        for start, end in running(life, history.pauses):
            after = life.end_ns == end and every_ns
            spans.append((start, max(end, life.start_ns + every_ns) if after else end))
    return merged(spans)


def _gaps(history: History) -> tuple[list[Finding], list[Recovery]]:
    found, recoveries = [], []
    served = _served(history)
    for index, step in enumerate(history.steps):
        until_ns = history.ended_ns
        if index + 1 < len(history.steps):
            until_ns = history.steps[index + 1].began_ns
        changed = _worker_at(history.lives, step.began_ns) != _worker_at(history.lives, until_ns)
        stood_still = bool(_overlap_ns(history.stalls, (step.began_ns, until_ns)))
        needless = changed and step.keeps and not stood_still
        outages = []
        for start, end in _unserved(served, (step.began_ns, until_ns)):
            from_ns, bound_ns, why = _bound(step, start, history)
            outage = _outage((start, end), from_ns, bound_ns, history)
            outages.append(outage)
            starts_s = 0.0 if why == SETTLED else history.limits.starts_s
            late_ns = outage.counted_ns - bound_ns - int(starts_s * S_TO_NS)
            if late_ns > 0:
                text = (
                    f"nobody ran for {_ms(end - start)} {why}, {_ms(late_ns)} too long "
                    f"({step.name})"
                )
                found.append(Finding("gap", text, end - late_ns))
        recoveries.append(Recovery(step, tuple(outages), changed, needless))
    return found, recoveries


def _outage(span: Span, from_ns: int, bound_ns: int, history: History) -> Outage:
    """What counts of a time in which nobody ran, on a machine that stood still or was busy.

    A stall of a check's length stops everybody's, so the bound counts from its end. Shorter ones
    are taken off, or the time that one of the hosts waited for a processor, if that is longer.
    """
    stalls = history.stalls
    stalled_ns = max(_overlap_ns(stalls, span), _waited_ns(history.waits, span))
    long = [stall[1] for stall in stalls if stall[1] - stall[0] >= LONG_STALL_NS]
    from_ns = max([from_ns, *(end for end in long if span[0] < end < span[1])])
    later = (from_ns, max(from_ns, span[1]))
    later_ns = max(_overlap_ns(stalls, later), _waited_ns(history.waits, later))
    return Outage(*span, from_ns, bound_ns, stalled_ns, later_ns)


def _waited_ns(waits: Mapping[str, Sequence[Span]], span: Span) -> int:
    """The longest that one of the hosts waited for a processor in that time."""
    return max((_total_at(s, span[1]) - _total_at(s, span[0]) for s in waits.values()), default=0)


def _total_at(samples: Sequence[Span], at_ns: int) -> int:
    """What had been waited in all by then, evenly between two looks."""
    index = bisect.bisect_left(samples, (at_ns, 0))
    if index == 0 or index == len(samples):
        return samples[min(index, len(samples) - 1)][1] if samples else 0
    (a_ns, a), (b_ns, b) = samples[index - 1 : index + 1]
    return a + (b - a) * (at_ns - a_ns) // (b_ns - a_ns)


def _bound(step: Step, start_ns: int, history: History) -> tuple[int, int, str]:
    """From when a time without a worker counts, and how long it may last from there.

    What is promised for the fault counts at once, all else when it is healed. When all has settled
    only a hand-over that nobody struck may follow.
    """
    limits = history.limits
    if step.settled_ns and start_ns >= step.settled_ns:
        return start_ns, int(limits.hand_over_s * S_TO_NS), SETTLED
    if step.serves_s is not None and start_ns < step.healed_ns:
        return start_ns, int(step.serves_s * S_TO_NS), "during the fault"
    bound_ns = int(limits.recovers_s * S_TO_NS)
    return max(step.healed_ns, start_ns), bound_ns, "after the fault"


def _unserved(served: Sequence[Span], window: Span) -> list[Span]:
    """The parts of the window in which nobody ran."""
    gaps, at = [], window[0]
    for start, end in served:
        if end <= at:
            continue
        if start >= window[1]:
            break
        if start > at:
            gaps.append((at, start))
        at = max(at, end)
    if at < window[1]:
        gaps.append((at, window[1]))
    return gaps


def _overlap_ns(spans: Sequence[Span], window: Span) -> int:
    both = (common(span, window) for span in spans)
    return sum(part[1] - part[0] for part in both if part)


def _worker_at(lives: Sequence[Life], at_ns: int) -> tuple[str, int]:
    """Host and epoch of the run that began last before that time."""
    mains = [life for life in lives if life.kind is Kind.MAIN and life.start_ns <= at_ns]
    last = max(mains, key=lambda life: life.start_ns, default=None)
    return (last.host, last.epoch) if last else ("", 0)


# -- epochs, strays, runs, the unknown -------------------------------------------------------------


def _epochs(history: History) -> list[Finding]:
    found = []
    owner: dict[int, str] = {}
    highest: Life | None = None
    mains = [life for life in history.lives if life.kind is Kind.MAIN]
    used: set[tuple[int, int]] = set()
    for life in mains:
        if (life.epoch, life.run) in used:
            text = f"run {life.epoch}.{life.run} began twice"
            found.append(Finding("epoch", text, life.start_ns))
        used.add((life.epoch, life.run))
        if owner.setdefault(life.epoch, life.host) != life.host:
            text = f"epoch {life.epoch} was used by {owner[life.epoch]} and by {life.host}"
            found.append(Finding("epoch", text, life.start_ns))
        if life.epoch < 1:
            found.append(Finding("epoch", f"{_name(life)} has no epoch", life.start_ns))
        if highest is not None and life.epoch < highest.epoch:
            apart = any(
                step.apart and step.began_ns <= life.start_ns <= (step.settled_ns or life.start_ns)
                for step in history.steps
            )
            if not apart:
                text = f"{_name(life)} began after {_name(highest)}: its epoch is lower"
                found.append(Finding("epoch", text, life.start_ns))
        elif highest is None or life.epoch > highest.epoch:
            highest = life
    return found


def _strays(history: History) -> list[Finding]:
    """Of one host: nothing of a term is alive when the next begins, and no main when one begins."""
    found = [Finding("stray", text, history.ended_ns) for text in history.strays]
    mains: dict[str, list[Life]] = {}
    for life in history.lives:
        if life.kind is Kind.MAIN:
            mains.setdefault(life.host, []).append(life)
    for life in history.lives:
        spans = running(life, history.pauses)
        for later in mains.get(life.host, ()):
            if later.start_ns <= life.start_ns or later is life or later.start_ns > life.last_ns:
                continue
            same_run = (later.epoch, later.run) == (life.epoch, life.run)
            left_over = later.epoch == life.epoch and life.kind is not Kind.MAIN
            if same_run or left_over or not any(a <= later.start_ns < b for a, b in spans):
                continue
            text = f"{_name(life)} lived {_ms(life.last_ns - later.start_ns)} beside {_name(later)}"
            found.append(Finding("stray", text, later.start_ns))
            break
    return found


def _lost_runs(history: History) -> list[Finding]:
    """Runs that were ended, by nobody that the history knows, while all was settled."""
    found = []
    lease_ns = round(history.limits.lease_s * S_TO_NS)
    for life in history.lives:
        if life.kind is not Kind.MAIN or life.end_ns:
            continue
        quiet = any(
            step.settled_ns
            and max(step.settled_ns, step.healed_ns + lease_ns) < life.last_ns < until_ns - HOLE_NS
            for step, until_ns in _quiet_times(history)
        )
        end = (life.last_ns - HOLE_NS, life.last_ns + HOLE_NS)
        if quiet and not any(common(stall, end) for stall in history.stalls):
            text = f"{_name(life)} was killed while nothing had been touched"
            found.append(Finding("lost run", text, life.last_ns))
    return found


def _quiet_times(history: History) -> list[tuple[Step, int]]:
    nexts = [step.began_ns for step in history.steps[1:]] + [history.ended_ns]
    return list(zip(history.steps, nexts, strict=True))


def _unknown(history: History) -> list[Finding]:
    found = [Finding("unknown", flaw, history.ended_ns) for flaw in history.flaws]
    if not history.lives:
        found.append(Finding("unknown", "no run was recorded at all", history.ended_ns))
    for step in history.steps:
        if not step.settled_ns:
            text = f"{step.name} did not settle"
            found.append(Finding("unknown", text, step.healed_ns))
    for life in history.lives:
        if len(life.holes) >= MAX_HOLES:
            found.append(Finding("unknown", f"{_name(life)} stood still too often", life.last_ns))
    return found
