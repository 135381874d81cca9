"""Runs what a member was started with."""

from __future__ import annotations

from ha_heartbeat.plan import Plan
from ha_heartbeat.shell.member import run_member
from ha_heartbeat.shell.reload import Reread


def run_plan(plan: Plan, reread: Reread | None) -> int:
    """Run a member with these services until it is told to stop; returns its exit status.

    reread: reads the file of the plan again and raises ConfigError; None if it has none. Raises
    StartError when it cannot start, with a sentence for the operator.
    """
    return run_member(plan, reread)
