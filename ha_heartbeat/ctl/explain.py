"""`hbctl explain`: who runs, why, and what the member's own rules say would follow from a loss."""

from __future__ import annotations

import json
from typing import Any

from ha_heartbeat.ctl.find import Conversation
from ha_heartbeat.ctl.show import Screen, ago, span


def explain(screen: Screen, talk: Conversation, as_json: bool) -> int:
    """Print it."""
    told = talk.ask("explain")
    if as_json:
        print(json.dumps(told, indent=2))
        return 0
    _who(screen, told)
    _promise(screen, told)
    for loss in told["here"]:
        _loss(screen, told, loss)
    for loss in told["there"]:
        _other_side(screen, told, loss)
    return 0


def _who(screen: Screen, told: dict[str, Any]) -> None:
    name, peer = told["member"], told["peer"]
    screen.line(f"{told['service']}: {_roles(name, told['role'], peer)}", "worker")
    change = told["change"]
    if change:
        evidence = f"evidence: {change['evidence']}; " if change["evidence"] else ""
        screen.line(f"Why: {change['text']} ({evidence}{ago(change['at'])})")
    if vips := told.get("virtual_addresses"):  # a member of before this version says nothing
        where = f"on {name}" if told["has_virtual_addresses"] else f"not on {name}"
        screen.line(f"Virtual address {', '.join(vips)}: {where}.")
    if told["paused"]:
        hold = told["paused"]
        screen.line(
            f"Paused by {hold['by']}, {ago(hold['at'])}: {hold['reason']}. No run is started and "
            f"nobody takes over until it is resumed.",
            "paused",
        )


def _roles(name: str, role: str, peer: dict[str, Any] | None) -> str:
    here = f"{name} is {role}"
    if peer is None:
        return f"{here}; it has no peer."
    if not peer["reachable"]:
        return f"{here}; {peer['member']} is not heard."
    return f"{here}; {peer['member']} is {peer['role']}."


def _promise(screen: Screen, told: dict[str, Any]) -> None:
    screen.line(f"Promised: {told['guarantee']}")
    screen.line("")


def _loss(screen: Screen, told: dict[str, Any], loss: dict[str, Any]) -> None:
    """What this member would do, in the words of its log."""
    name, was = told["member"], told["role"]
    if loss["runs_after_s"] is not None and was != "worker":
        what = f"{name} becomes worker after {_span(loss['runs_after_s'])} ({loss['evidence']})."
    elif loss["ends_after_s"] is not None:
        what = f"{name} ends its command after {_span(loss['ends_after_s'])}, for want of a lease."
    elif was == "worker":
        what = f"{name} goes on as worker."
    else:
        what = f"{name} does not become worker."
    screen.line(f"If {loss['if']}: {what}")
    for line in loss["log"]:
        screen.line(f"  +{line['after_s']:.2f} s  {line['text']}", "dim")
    cut = told["cut"]
    peer_acts = told["peer"] and told["peer"]["reachable"] and not told["paused"]
    if "link" in loss["if"] and cut and cut["for_ever"] and peer_acts:
        screen.line(f"  Both run from {_span(cut['takeover_s'])} on, while it lasts.", "trouble")


def _other_side(screen: Screen, told: dict[str, Any], loss: dict[str, Any]) -> None:
    """What the peer would do if this worker died, by the settings that both have."""
    name, peer = told["member"], told["peer"]
    other = peer["member"] if peer else "another member"
    if told["paused"]:
        what = "nobody takes over until it is resumed."
    elif peer is not None and not peer["reachable"]:
        what = f"nobody takes over until {other} is heard again."
    elif loss["takeover_s"] is None:
        what = f"{other} does not take over while it lasts."
    else:
        what = f"{other} is worker after {_span(loss['takeover_s'])} at most."
    which = "this member is killed" if "process" in loss["if"] else "this machine is lost"
    screen.line(f"If {which} ({name}): {what}")


def _span(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 120 else span(seconds)
