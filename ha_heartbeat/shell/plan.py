"""Runs what a member was started with."""

from __future__ import annotations

from collections.abc import Callable

from ha_heartbeat.plan import Plan
from ha_heartbeat.shell.errors import StartError
from ha_heartbeat.shell.member import run_member


def run_plan(plan: Plan, reread: Callable[[], Plan] | None) -> int:
    """Run a member with these services until it is told to stop; returns its exit status.

    reread: reads the file of the plan again and raises ConfigError; None if it has none. Raises
    StartError when it cannot start, with a sentence for the operator.
    """
    if len(plan.services) > 1:
        names = ", ".join(config.service for config in plan.services[:3])
        raise StartError(
            f"a member carries one service, and the file has {len(plan.services)} ({names}"
            f"{', ...' if len(plan.services) > 3 else ''}); start a member with a file for each"
        )
    return run_member(plan.services[0])
