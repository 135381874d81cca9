"""`hbctl switchover`, `pause`, `resume`, `run now`, `drill`: an order, and the wait for its end."""

from __future__ import annotations

import json
import time
from typing import Any, Final, NamedTuple

from ha_heartbeat.ctl.find import ControlError, Conversation, Place
from ha_heartbeat.ctl.show import Screen, span
from ha_heartbeat.journal import Change, Entry, Journal, JournalError, Run

LOOK_S: Final = 0.02
SPREAD_S: Final = 3.0
"""How long a pause is waited for to be known by the peer."""

EXTRA_S: Final = 10.0
RECORD_S: Final = 10.0
"""How long the journals of both are waited for, after a drill."""


class Moved(NamedTuple):
    """A switchover that was done: from whom, to whom, both epochs, and how long it took."""

    source: str
    target: str
    epoch_before: int
    epoch: int
    took_s: float


def switchover(screen: Screen, talk: Conversation, to: str, as_json: bool) -> int:
    """Move the role and wait. Raises ControlError if it is refused or undone."""
    moved = move(screen, talk, to, quiet=as_json)
    if as_json:
        print(json.dumps(moved._asdict()))
    else:
        screen.line(
            f"{moved.target} is worker, epoch {moved.epoch}, after {moved.took_s:.2f} s.", "worker"
        )
    return 0


def move(screen: Screen, talk: Conversation, to: str, *, quiet: bool) -> Moved:
    """Give the order and follow it to its end."""
    before = talk.ask("status")
    began = time.monotonic()
    said = talk.order("switchover", to=to)
    if not quiet:
        screen.line(f"{before['member']}: {said}")
    source, target = _sides(before)
    limit_s = before["lease_s"] + 2 * before["stop_timeout_s"] + EXTRA_S
    limit_s += before.get("undo_timeout_s", 0.0)
    seen = ""
    while time.monotonic() - began < limit_s:
        now = talk.ask("status")
        roles = {now["member"]: now["role"], (now["peer"] or {}).get("member"): _role_there(now)}
        if roles.get(target) == "worker":
            took_s = time.monotonic() - began
            return Moved(source, target, before["epoch"], now["epoch"], took_s)
        _undone(now, before, roles, source, seen)
        if roles.get(source) == "handing-over" and seen != "handing-over":
            seen = "handing-over"
            if not quiet:
                screen.line(
                    f"{source}: handing over; its run has the stop timeout "
                    f"({span(before['stop_timeout_s'])}) to end"
                )
        time.sleep(LOOK_S)
    raise ControlError(
        f"it is not done after {span(limit_s)}: look at hbctl status on both machines"
    )


def _sides(told: dict[str, Any]) -> tuple[str, str]:
    peer = (told["peer"] or {}).get("member", "")
    here = told["member"]
    return (here, peer) if told["role"] == "worker" else (peer, here)


def _role_there(told: dict[str, Any]) -> str | None:
    peer = told["peer"] or {}
    return peer.get("role") if peer.get("reachable") else None


def _undone(
    now: dict[str, Any], before: dict[str, Any], roles: dict[str, Any], source: str, seen: str
) -> None:
    """Raise ControlError if it has come to nothing."""
    note = now["switchover"]["note"]
    if note and not now["switchover"]["pending"]:
        raise ControlError(str(note).rstrip("."))
    if seen and roles.get(source) == "worker" and now["epoch"] == before["epoch"]:
        raise ControlError(f"{source} has undone it and stays worker, epoch {now['epoch']}")
    if roles.get(source) == "worker" and now["epoch"] > before["epoch"]:
        raise ControlError(f"{source} is worker again, epoch {now['epoch']}: it was not taken over")


# -- pause -----------------------------------------------------------------------------------------


def pause(screen: Screen, talk: Conversation, reason: str, as_json: bool) -> int:
    """Pause or, without a reason, resume, and say whether the peer knows."""
    said = talk.order("pause", reason=reason) if reason else talk.order("resume")
    number = talk.ask("status")["hold_number"]
    told = _spread(talk, number)
    peer = told["peer"]
    knows = peer is None or peer.get("hold_number", 0) >= number
    if as_json:
        print(json.dumps({"ok": True, "peer_knows": knows if peer else None}))
        return 0
    screen.line(f"{told['member']}: {said}", "paused" if reason else "worker")
    if peer is None:
        screen.line("It has no peer; other members of the service are not told.", "dim")
    elif knows:
        screen.line(f"{peer['member']} knows it, too.")
    else:
        screen.line(f"{peer['member']} is not heard: it will know as soon as it is.", "trouble")
    return 0


def _spread(talk: Conversation, number: int) -> dict[str, Any]:
    """The status once the peer knows of this order, or does not in time."""
    end = time.monotonic() + SPREAD_S
    while True:
        told = talk.ask("status")
        peer = told["peer"]
        if peer is None or peer.get("hold_number", 0) >= number or time.monotonic() > end:
            return told
        time.sleep(LOOK_S)


def run_now(screen: Screen, talk: Conversation, as_json: bool) -> int:
    """Start a run. Raises ControlError if it is refused."""
    said = talk.order("run")
    if as_json:
        print(json.dumps({"ok": True, "text": said}))
    else:
        screen.line(said, "worker")
    return 0


# -- drill -----------------------------------------------------------------------------------------


def drill(screen: Screen, talk: Conversation, stay_s: float, as_json: bool) -> int:
    """There and back, and for how long nothing ran, as the journals of both tell."""
    first = move(screen, talk, "", quiet=as_json)
    if not as_json:
        screen.line(f"{first.target} is worker, epoch {first.epoch}.", "worker")
    time.sleep(stay_s)
    back = move(screen, talk, first.source, quiet=as_json)
    if not as_json:
        screen.line(f"{back.target} is worker, epoch {back.epoch}.", "worker")
    gaps = [_gap(talk.place, moved) for moved in (first, back)]
    if as_json:
        told = [{**m._asdict(), "gap_s": gap} for m, gap in zip((first, back), gaps, strict=True)]
        print(json.dumps({"switchovers": told}))
        return 0
    for moved, gap in zip((first, back), gaps, strict=True):
        how = f"{1000 * gap:.1f} ms" if gap is not None else "not known: the journals do not tell"
        screen.line(f"From {moved.source} to {moved.target}: nothing ran for {how}.")
    if None not in gaps:
        both = 1000 * sum(gap for gap in gaps if gap is not None)
        screen.line(
            f"Together {both:.1f} ms, in which the clocks of two machines cancel out.", "dim"
        )
    return 0


def _gap(place: Place, moved: Moved) -> float | None:
    """From the moment the role was given away to the first run of the new worker."""
    end = time.monotonic() + RECORD_S
    while time.monotonic() < end:
        gave, began = _ends(place, moved)
        if gave is not None and began is not None:
            return began - gave
        time.sleep(0.1)
    return None


def _ends(place: Place, moved: Moved) -> tuple[float | None, float | None]:
    try:
        journal = Journal.read(place.journal)
    except JournalError:
        return None, None
    try:
        runs = journal.select(
            "run", "run = ? AND +service = ?", (f"{moved.epoch}.1", place.service), limit=1
        )
        sql = "kind = 'role' AND service = ? AND member = ? AND role = 'supervisor' AND epoch = ?"
        wanted = (place.service, moved.source, moved.epoch_before)
        gave = journal.select("change", sql, wanted, limit=1)
    except JournalError:
        return None, None
    finally:
        journal.close()
    return _at(gave), _at(runs)


def _at(entries: list[Entry]) -> float | None:
    for entry in entries:
        if isinstance(entry, Run):
            return entry.started
        if isinstance(entry, Change):
            return entry.at
    return None
