"""The safety rules of the core, and how each is taken away: patches that are put on from outside.

A function of this module is a mutant: its docstring is the rule, and what it returns is the patch
that removes it. `REDUNDANT` holds those whose removal changes nothing, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from ha_heartbeat.core import actions, evidence, machine, schedule, table, votes, watch, witness
from ha_heartbeat.core.state import NEVER, Op, State
from ha_heartbeat.core.types import (
    Ask,
    Asked,
    Event,
    Expired,
    GuardianLost,
    Started,
    Tick,
    TreeGone,
    View,
    Wants,
    WitnessFailed,
    WitnessSwapped,
)
from ha_heartbeat.sim.host import Host
from ha_heartbeat.sim.witness import Witness

Patch: TypeAlias = dict[tuple[Any, Any], Any]
"""(module, class or dictionary; name or key) -> what stands there instead."""

Mutant: TypeAlias = Callable[[], Patch]


@contextmanager
def removed(mutant: Mutant) -> Iterator[None]:
    """The core without one of its rules, until the block ends."""
    patch = mutant()
    before = {
        (id(owner), name): owner[name] if isinstance(owner, dict) else vars(owner)[name]
        for owner, name in ((Owner(o), n) for o, n in patch)
    }
    yield
