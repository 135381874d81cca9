"""What a member says of itself to its operator: its state as plain data, and nothing decided.

Times of day are seconds since 1970, made from the member's own clock at the moment of asking; spans
are seconds. A name ends in `_at` or `_s` accordingly. What is not known is None.
"""

from __future__ import annotations

import os
import time
from typing import Any, TypeAlias

from ha_heartbeat import __version__
from ha_heartbeat.core import bounds, foresight, orders
from ha_heartbeat.core.state import FOREVER, HOLDING, NEVER, State
from ha_heartbeat.core.types import Hold, Phase, View
from ha_heartbeat.journal import Change

Plain: TypeAlias = dict[str, Any]


class Clocks:
    """One moment on the member's clock and the time of day, to turn one into the other."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s
        self.wall_s = time.time()

    def at(self, when_s: float) -> float | None:
        """The time of day of a moment on the member's clock; None for one that is none."""
        if when_s in (NEVER, FOREVER):
            return None
        return round(self.wall_s + when_s - self.now_s, 3)

    def ago(self, when_s: float) -> float | None:
        """How long ago it was."""
        return None if when_s in (NEVER, FOREVER) else round(self.now_s - when_s, 3)


def status(s: State, now_s: float, change: Change | None) -> Plain:
    """The state of the member and what it knows of its peer."""
    clocks = Clocks(now_s)
    cfg = s.settings
    return {
        "service": cfg.service,
        "member": cfg.member,
        "local": cfg.local,
        "remote": cfg.peer or None,
        "version": __version__,
        "pid": os.getpid(),
        "at": round(clocks.wall_s, 3),
        "role": s.phase.value,
        "since": clocks.at(s.phase_since),
        "epoch": _epoch(s),
        "paused": _hold(s.hold),
        "peer": _peer(s, clocks),
        "change": change._asdict() if change else None,
        "run": _run(s, clocks),
        "next_run_at": _next_run(s, clocks),
        "interval_commands_s": cfg.interval_commands_s,
        "stop_timeout_s": cfg.stop_timeout_s,
        "undo_timeout_s": cfg.hook_timeout_s if cfg.has_undo else 0.0,
        "lease_s": cfg.lease_s,
        "lease_until": clocks.at(s.lease_until) if s.phase in HOLDING else None,
        "witness": _witness(s, clocks),
        "switchover": {
            "pending": orders.switch_pending(s, now_s),
            "note": orders.switch_outcome(s) or None,
        },
        "hold_number": s.hold.number,
    }


def _epoch(s: State) -> int:
    """Of the worker: this member, or else its peer."""
    if s.phase in HOLDING:
        return s.epoch
    return s.peer.epoch if s.peer is not None and s.peer.holding else s.epoch_seen


def _hold(hold: Hold) -> Plain | None:
    return {"reason": hold.reason, "by": hold.by, "at": hold.at} if hold.on else None


def _peer(s: State, clocks: Clocks) -> Plain | None:
    if not s.settings.peer:
        return None
    peer = s.peer
    silent = s.unanswered > s.settings.check_count
    known = _view(peer, clocks.now_s - s.heard_at) if peer is not None else {}
    return {
        "member": s.settings.peer,
        "role": None,
        "heard_s_ago": clocks.ago(s.heard_at),
        "link": s.link_state.value,
        "reachable": bool(s.link_answered and not silent),
        **known,
    }


def _view(peer: View, age_s: float) -> Plain:
    return {
        "member": peer.member,
        "role": peer.phase.value,
        "epoch": peer.epoch,
        "worker_for_s": round(peer.worker_for_s + age_s, 3) if peer.holding else None,
        "interval_commands_s": peer.terms.interval_commands_s,
        "hold_number": peer.hold.number,
    }


def _run(s: State, clocks: Clocks) -> Plain | None:
    if not s.run and not s.leftovers:
        return None
    return {
        "run": s.run or None,
        "started": clocks.at(s.run_started_at) if s.run else None,
        "leftovers": s.leftovers,
        "ending": s.ending,
    }


def _next_run(s: State, clocks: Clocks) -> float | None:
    if s.phase is not Phase.WORKER or s.paused or (s.run and s.skip_said):
        return None
    return clocks.at(s.next_run_at)


def _witness(s: State, clocks: Clocks) -> Plain | None:
    if not s.settings.has_witness:
        return None
    return {
        "holder": s.record.holder if s.record is not None else None,
        "epoch": s.record.epoch if s.record is not None else None,
        "read_s_ago": clocks.ago(s.read_at),
        "answers": s.said.isdisjoint(("witness", "witness-write")),
    }


# -- explain ---------------------------------------------------------------------------------------


def explain(s: State, now_s: float, change: Change | None) -> Plain:
    """The status, what is promised, and what would follow if something died now."""
    cfg = s.settings
    return {
        **status(s, now_s, change),
        "guarantee": bounds.guarantee(cfg),
        "here": [_foreseen(s, now_s, loss) for loss in foresight.losses(s)],
        "there": [
            _outcome(s, failure)
            for failure in (bounds.Failure.PROCESS_KILLED, bounds.Failure.HOST_LOST)
        ]
        if s.phase in HOLDING
        else [],
        "cut": _outcome(s, bounds.Failure.CABLE_PULLED) if cfg.peer else None,
    }


def _foreseen(s: State, now_s: float, loss: foresight.Loss) -> Plain:
    seen = foresight.foresee(s, now_s, loss)
    return {
        "if": loss.value,
        "role": seen.phase.value,
        "after_s": round(seen.after_s, 3),
        "runs_after_s": _span(seen.runs_at_s),
        "ends_after_s": _span(seen.ends_at_s),
        "evidence": seen.evidence.value if seen.evidence else None,
        "log": [{"after_s": round(at, 3), "text": text} for at, text in seen.lines],
    }


def _outcome(s: State, failure: bounds.Failure) -> Plain:
    """What the settings amount to for the other member, which has the same ones."""
    out = bounds.outcome(s.settings, failure)
    return {
        "if": failure.value,
        "goes_on": out.goes_on,
        "takeover_s": _span(out.takeover_s),
        "overlap_s": _span(out.overlap_s),
        "for_ever": out.overlap_s == FOREVER,
    }


def _span(seconds: float) -> float | None:
    return None if seconds == FOREVER else round(seconds, 3)
