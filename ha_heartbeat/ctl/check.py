"""`hbctl check`: every mistake in a member's file, or what the file amounts to."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, Final

from ha_heartbeat.cli import one_line
from ha_heartbeat.config import Config, ConfigError
from ha_heartbeat.configfile import read_plan
from ha_heartbeat.core import bounds
from ha_heartbeat.core.state import FOREVER
from ha_heartbeat.ctl.parser import PROGRAM
from ha_heartbeat.ctl.show import Cell, Screen
from ha_heartbeat.options import with_keys
from ha_heartbeat.plan import Plan
from ha_heartbeat.shell.vip import objection

HEADS: Final = ("SERVICE", "MODE", "EVERY", "LEASE", "HOST LOST", "BOTH RUN", "COMMAND")
MAX_COMMAND_CHARS: Final = 40


def check(screen: Screen, path: str, as_json: bool) -> int:
    """Print it; exit status 1 if there is a mistake, or the member would not start like this."""
    try:
        plan = read_plan(path)
    except ConfigError as error:
        return _mistakes(error.sentences, as_json)
    objections: list[str] = []
    warnings: list[str] = []
    for config in plan.services:
        kind = objections if config.witness else warnings
        kind += [
            f"{path}, services.{config.service}: {with_keys(sentence)}"
            for sentence in bounds.objections(config.settings())
        ]
        if config.vip and (sentence := objection(config)):
            warnings.append(f"{path}, services.{config.service}, on this machine: {sentence}")
    if objections:
        return _mistakes(objections, as_json)
    if as_json:
        print(json.dumps(_told(plan, warnings), indent=2))
        return 0
    count = f"{len(plan.services)} service{'s' if len(plan.services) > 1 else ''}"
    peer = f"its peer is {plan.remote}" if plan.remote else "it has no peer"
    screen.line(f"{plan.member} listens on {plan.local}, {peer}; {count}.")
    screen.line("")
    screen.table(HEADS, [_row(config) for config in plan.services])
    for sentence in warnings:
        _complain(f"warning: {sentence}")
    return 0


def _mistakes(sentences: Sequence[str], as_json: bool) -> int:
    if as_json:
        print(json.dumps({"ok": False, "mistakes": list(sentences)}, indent=2))
    else:
        for sentence in sentences:
            _complain(sentence)
    return 1


def _complain(sentence: str) -> None:
    print(f"{PROGRAM}: {one_line(sentence)}", file=sys.stderr)


def _row(config: Config) -> tuple[str, ...]:
    told = _service(config)
    takeover_s, overlap = told["host_lost_s"], told["both_run"]
    command = one_line(config.command_text)
    return (
        config.service,
        Cell(told["mode"], told["mode"]),
        f"{config.interval_commands_s:g} s",
        f"{told['lease_s']:g} s",
        "nobody" if takeover_s is None else f"other after {takeover_s:.4g} s",
        Cell("if cut", "trouble") if overlap else "never",
        command if len(command) <= MAX_COMMAND_CHARS else command[:MAX_COMMAND_CHARS] + "...",
    )


def _service(config: Config) -> dict[str, Any]:
    """What a service amounts to; `host_lost_s` is when the other takes over, None for never."""
    settings = config.settings()
    takeover_s = bounds.outcome(settings, bounds.Failure.HOST_LOST).takeover_s
    return {
        "service": config.service,
        "command": list(config.command),
        "mode": config.mode.value,
        "interval_commands_s": config.interval_commands_s,
        "lease_s": settings.lease_s,
        "host_lost_s": None if takeover_s == FOREVER else takeover_s,
        "both_run": bounds.outcome(settings, bounds.Failure.CABLE_PULLED).overlap_s > 0,
        "witness": config.witness or None,
        "guarantee": bounds.guarantee(settings),
    }


def _told(plan: Plan, warnings: Sequence[str]) -> dict[str, Any]:
    return {
        "ok": True,
        "member": plan.member,
        "local": str(plan.local),
        "remote": str(plan.remote) if plan.remote else None,
        "services": [_service(config) for config in plan.services],
        "warnings": list(warnings),
    }
