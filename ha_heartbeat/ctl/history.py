"""`hbctl history` and `logs`: what the journal of this machine knows of both members.

The file is read directly: it tells what ran where also when no member runs.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any, Final

from ha_heartbeat.ctl.find import ControlError, Place
from ha_heartbeat.ctl.show import Cell, Screen, clock, outcome
from ha_heartbeat.journal import Change, Entry, Journal, JournalError, Run

HEADS: Final = ("TIME", "MEMBER", "EPOCH", "WHAT", "RESULT")
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MAX_LIMIT: Final = 1_000_000


def history(screen: Screen, places: list[Place], args: Any) -> int:
    """Print it; exit status 1 if overlaps were asked for and there is one."""
    found: list[Entry] = []
    noted: list[dict[str, Any]] = []
    for place in places:
        for path in place.journals:
            found += _read(path, place.service, args)
        if args.overlaps:
            noted += [{"member": place.state().get("member"), **o} for o in _kept(place)]
    found = _latest_last(found, args.limit)
    if args.json:
        told = [{"type": type(e).__name__.lower(), **e._asdict()} for e in found]
        print(json.dumps({"entries": told, **({"kept": noted} if args.overlaps else {})}, indent=2))
    elif found:
        screen.table(HEADS, [_row(entry) for entry in found])
    elif noted:
        for overlap in noted:
            screen.line(
                f"{overlap['noted']} {overlap['member']}: {overlap['peer']} was worker, too, for "
                f"up to {overlap['seconds']:.3g} s",
                "trouble",
            )
    else:
        screen.line("No overlap was ever recorded." if args.overlaps else "Nothing is recorded.")
    return 1 if args.overlaps and (found or noted) else 0


def _kept(place: Place) -> list[dict[str, Any]]:
    """Overlaps in the state file, which outlast the journal's bounds."""
    overlaps = place.state().get("overlaps", [])
    return [o for o in overlaps if isinstance(o, dict)] if isinstance(overlaps, list) else []


def _read(path: str, service: str, args: Any) -> list[Entry]:
    try:
        journal = Journal.read(path)
    except JournalError as error:
        raise ControlError(str(error)) from None
    try:
        limit = max(1, min(args.limit, MAX_LIMIT))
        found: list[Entry] = []
        if not args.changes and not args.overlaps:
            found += journal.select("run", *_runs_wanted(service, args), "started DESC", limit)
        if not args.runs and not args.failed:
            found += journal.select("change", *_changes_wanted(service, args), "at DESC", limit)
        return found
    except JournalError as error:
        raise ControlError(str(error)) from None
    finally:
        journal.close()


def _runs_wanted(service: str, args: Any) -> tuple[str, tuple[Any, ...]]:
    where, values = _common(service, args, "started")
    if args.failed:
        where.append("(status <> 0 OR signal <> 0 OR note <> '')")
    if args.epoch is not None:  # a run's name begins with its epoch, and names have an index
        where.append("run >= ? AND run < ?")
        values += [f"{args.epoch}.", f"{args.epoch}/"]
    return " AND ".join(where) or "1", tuple(values)


def _changes_wanted(service: str, args: Any) -> tuple[str, tuple[Any, ...]]:
    where, values = _common(service, args, "at")
    if args.overlaps:
        where.append("kind = 'overlap'")
    if args.epoch is not None:
        where.append("epoch = ?")
        values.append(args.epoch)
    return " AND ".join(where) or "1", tuple(values)


def _common(service: str, args: Any, when: str) -> tuple[list[str], list[Any]]:
    where: list[str] = ["service = ?"]
    values: list[Any] = [service]
    if args.member:
        where.append("member = ?")
        values.append(args.member)
    if args.since:
        where.append(f"{when} >= ?")
        values.append(_since(args.since))
    return where, values


def _since(text: str) -> float:
    """The time of day that is meant. Raises ControlError."""
    span = re.fullmatch(r"(\d+(?:\.\d*)?)([smhd])", text)
    if span:
        return time.time() - float(span[1]) * UNITS[span[2]]
    for form in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"):
        try:
            return time.mktime(time.strptime(text, form))
        except ValueError:
            continue
    raise ControlError(
        f"--since: {text!r} is no time; give 90s, 15m, 2h, 7d, or a date as 2026-01-31 14:30", 2
    )


def _latest_last(entries: list[Entry], limit: int) -> list[Entry]:
    """In the order of time, each once: two members of this machine may know the same."""
    return sorted(set(entries), key=_time)[-limit:]


def _time(entry: Entry) -> float:
    return entry.started if isinstance(entry, Run) else entry.at


def _row(entry: Entry) -> tuple[str, ...]:
    if isinstance(entry, Run):
        took = f" after {entry.took_s:.3f} s" if entry.took_s is not None else ""
        how = outcome(entry._asdict())
        left = f", left {entry.leftovers} processes" if entry.leftovers else ""
        result = Cell(f"{how}{took}{left}", how.style)
        return (clock(entry.started), entry.member, str(entry.epoch), f"run {entry.run}", result)
    return (clock(entry.at), entry.member, str(entry.epoch or ""), _what(entry), _told(entry))


def _what(change: Change) -> Cell:
    if change.kind == "role":
        style = change.role if change.role in ("worker", "supervisor") else ""
        return Cell(change.role, style)
    return Cell(change.kind, "paused" if change.kind == "pause" else "trouble")


def _told(change: Change) -> str:
    why = f"{change.evidence}: " if change.evidence else ""
    how_long = f" For up to {change.seconds:.3g} s." if change.kind == "overlap" else ""
    return f"{why}{change.text}{how_long}"


# -- logs ------------------------------------------------------------------------------------------


def logs(screen: Screen, places: list[Place], name: str, as_json: bool) -> int:
    """One run. Raises ControlError if the journal does not know it."""
    found: list[Entry] = []
    for place in places:
        for path in place.journals:
            try:
                journal = Journal.read(path)
            except JournalError as error:
                raise ControlError(str(error)) from None
            found += journal.select("run", "run = ? AND +service = ?", (name, place.service))
            journal.close()
    runs = [entry for entry in _latest_last(found, MAX_LIMIT) if isinstance(entry, Run)]
    if not runs:
        raise ControlError(
            f"the journal knows no run {name}; hbctl history --runs names those it does"
        )
    if as_json:
        print(json.dumps({"runs": [run._asdict() for run in runs]}, indent=2))
        return 0
    for run in runs:
        _log(screen, run)
    return 0


def _log(screen: Screen, run: Run) -> None:
    how = outcome(run._asdict())
    took = f" after {run.took_s:.3f} s" if run.took_s is not None else ""
    screen.line(f"run {run.run} of {run.service} on {run.member}, epoch {run.epoch}", "worker")
    screen.line(f"started {clock(run.started)}")
    if run.ended is not None:
        screen.line(f"ended   {clock(run.ended)}: {how}{took}", how.style)
    if run.leftovers:
        screen.line(f"left {run.leftovers} processes behind")
    if run.output:
        screen.line("the last of its output:", "dim")
        print(run.output, end="" if run.output.endswith("\n") else "\n")
    elif run.ended is not None:
        screen.line("Its output is where the member's is; none is kept in the journal.", "dim")
