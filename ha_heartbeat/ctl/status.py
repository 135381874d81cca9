"""`hbctl status` and `watch`: a row for each member of this machine, alive or not."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Final

from ha_heartbeat.ctl.find import EXIT_NOBODY, ControlError, Conversation, Place, find
from ha_heartbeat.ctl.show import Cell, Screen, ago, clock, outcome, span

HEADS: Final = ("SERVICE", "HERE", "THERE", "SINCE", "EPOCH", "LAST RUN", "NEXT RUN")
STYLES: Final = {"worker": "worker", "supervisor": "supervisor"}


def gather(places: list[Place]) -> list[dict[str, Any]]:
    """What each member says of itself; of one that does not run, what it has left behind.

    A member that carries many services is asked once. What it carries no more is left out.
    """
    carried: dict[str, dict[str, dict[str, Any]]] = {}
    for home, local in {place.home: place.local for place in places if place.home}.items():
        told = _carried(Place(home, "", local))
        if told is not None:
            carried[home] = told
    found = []
    for place in places:
        if place.home not in carried:
            found.append(_ask(place))
        elif place.service in carried[place.home]:
            found.append(carried[place.home][place.service])
    return found


def _carried(home: Place) -> dict[str, dict[str, Any]] | None:
    """What a member with many services says of each; None if it does not run."""
    try:
        talk = Conversation(home)
        try:
            members = talk.ask("status").get("members", [])
        finally:
            talk.close()
    except ControlError:
        return None
    return {member["service"]: member for member in members}


def _ask(place: Place) -> dict[str, Any]:
    try:
        talk = Conversation(place)
        try:
            return talk.ask("status")
        finally:
            talk.close()
    except ControlError as error:
        return _left_behind(place, error)


def _left_behind(place: Place, error: ControlError) -> dict[str, Any]:
    state = place.state()
    hold = state.get("hold") or {}
    told: dict[str, Any] = {
        "ok": False,
        "error": str(error),
        "not_running": error.status == EXIT_NOBODY,
        "service": place.service,
        "local": place.local,
        "member": state.get("member", place.local),
        "role": None,
        "epoch": state.get("epoch_seen"),
        "paused": hold if hold.get("on") else None,
    }
    from ha_heartbeat.journal import Journal, JournalError

    try:
        journal = Journal.read(place.journal)
        change = journal.last_change(told["member"], place.service)
        run = journal.last_run(told["member"], place.service)
        journal.close()
    except JournalError:
        return told
    told["change"] = change._asdict() if change else None
    told["last_run"] = run._asdict() if run else None
    return told


def show(screen: Screen, members: list[dict[str, Any]]) -> None:
    """The table, and under it a line or two for each member."""
    screen.table(HEADS, [_row(member) for member in members])
    for member in members:
        for text, style in _notes(member):
            screen.line(f"  {text}", style)


def _row(m: dict[str, Any]) -> tuple[str, ...]:
    if not m["ok"]:
        what = "not running" if m["not_running"] else "cannot be asked"
        here = Cell(f"{m['member']} {what}", "trouble")
        run = _run(m.get("last_run"))
        return (m["service"], here, Cell("?", "dim"), "", str(m["epoch"] or ""), run, "")
    here = Cell(f"{m['member']} {m['role']}", STYLES.get(m["role"], "paused"))
    return (
        m["service"],
        here,
        _there(m["peer"]),
        _since(m),
        str(m["epoch"] or ""),
        _run(_latest(m)),
        _next(m),
    )


def _there(peer: dict[str, Any] | None) -> Cell:
    if peer is None:
        return Cell("no peer", "dim")
    if not peer["reachable"]:
        heard = peer["heard_s_ago"]
        how = f"not heard for {span(heard)}" if heard is not None else "not heard"
        return Cell(f"{peer['member']} {how}", "trouble")
    return Cell(f"{peer['member']} {peer['role']}", STYLES.get(peer["role"], "paused"))


def _since(m: dict[str, Any]) -> str:
    """For how long there has been this worker, as far as is known here."""
    peer = m["peer"] or {}
    if peer.get("worker_for_s") is not None and m["role"] != "worker":
        return f"{span(peer['worker_for_s'])}"
    return span(m["at"] - m["since"]) if m["since"] else ""


def _latest(m: dict[str, Any]) -> dict[str, Any] | None:
    """Of the last runs here and there the later one."""
    runs = [run for run in (m["last_run"], m["peer_last_run"]) if run]
    return max(runs, key=lambda run: float(run["started"]), default=None)


def _run(run: dict[str, Any] | None) -> Cell:
    if run is None:
        return Cell("none known", "dim")
    how = outcome(run)
    if run["ended"] is None:
        return Cell(f"{run['run']} running for {span(time.time() - run['started'])}", how.style)
    return Cell(f"{run['run']} {how}, {ago(run['ended'])}", how.style)


def _next(m: dict[str, Any]) -> str:
    if m["paused"]:
        return Cell("paused", "paused")
    if m["next_run_at"] is not None:
        return f"in {span(max(0.0, m['next_run_at'] - m['at']))}"
    if m["run"] and m["run"]["run"]:
        return Cell("when it ends", "dim")
    peer, last = m["peer"] or {}, m["peer_last_run"]
    if peer.get("role") == "worker" and peer["reachable"] and last and last["ended"]:
        left_s = last["started"] + peer["interval_commands_s"] - m["at"]
        return f"in {span(left_s)}, there" if left_s > 0 else Cell("due, there", "dim")
    return ""


def _notes(m: dict[str, Any]) -> list[tuple[str, str]]:
    notes = []
    if m["paused"]:
        hold = m["paused"]
        notes.append((f"paused by {hold['by']}, {ago(hold['at'])}: {hold['reason']}", "paused"))
    if not m["ok"]:
        notes.append((f"{m['member']}: {m['error']}.", "trouble"))
    change = m.get("change")
    if change:
        why = f" ({change['evidence']})" if change["evidence"] else ""
        notes.append((f"{clock(change['at'])} {m['member']}{why}: {change['text']}", "dim"))
    if m["ok"]:
        notes += _troubles(m)
    return notes


def _troubles(m: dict[str, Any]) -> list[tuple[str, str]]:
    notes = []
    if m.get("has_virtual_addresses"):
        notes.append((f"{m['member']} has {', '.join(m['virtual_addresses'])}", "dim"))
    if m["run"] and m["run"]["leftovers"]:
        notes.append((f"{m['run']['leftovers']} processes outlive their run", "dim"))
    if m["witness"] and not m["witness"]["answers"]:
        notes.append(("the witness does not answer", "trouble"))
    if m["journal"]["failing"]:
        notes.append((f"{m['journal']['failing']}", "trouble"))
    return notes


def status(screen: Screen, places: list[Place], as_json: bool) -> int:
    """Print it once; exit status 3 if none of them runs, 1 if none answers and some may run."""
    members = gather(places)
    if as_json:
        print(json.dumps({"members": members}, indent=2))
    else:
        show(screen, members)
    if any(member["ok"] for member in members):
        return 0
    return EXIT_NOBODY if all(member["not_running"] for member in members) else 1


# -- watch -----------------------------------------------------------------------------------------


def watch(screen: Screen, args: Any) -> int:
    """Print it again and again: in place on a terminal, in a pipe when something has changed."""
    before = None
    while True:
        members = gather(find(args.state_dir, args.service, args.local))
        if args.json:
            print(json.dumps({"members": members}), flush=True)
        elif screen.is_terminal:
            sys.stdout.write("\x1b[H\x1b[2J")  # to the top, and clear (ECMA-48)
            screen.line(f"{clock(time.time())}  every {args.interval:g} s, Ctrl-C ends", "dim")
            show(screen, members)
            sys.stdout.flush()
        elif (essence := [_essence(member) for member in members]) != before:
            before = essence
            show(screen, members)
            sys.stdout.flush()
        time.sleep(args.interval)


def _essence(m: dict[str, Any]) -> tuple[object, ...]:
    """What makes a new block in a pipe: roles, runs, pauses, but no times."""
    peer = m.get("peer") or {}
    latest = _latest(m) if m["ok"] else m.get("last_run")
    run = (latest["run"], latest["ended"] is None) if latest else None
    paused = (m["paused"] or {}).get("reason")
    return m["ok"], m["role"], m["epoch"], peer.get("role"), peer.get("reachable"), run, paused
