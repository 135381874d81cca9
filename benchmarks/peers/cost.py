"""What a peer costs on each host while nothing happens."""

from __future__ import annotations

import time
from typing import NamedTuple

from benchmarks import processes
from benchmarks.network import WITNESS
from benchmarks.peers.stage import Stage

SETTLE_S = 5.0
"""A pause after the start, so that what is done once is not counted as idling."""
ROLES = ("worker", "standby", "third host")


class Memory(NamedTuple):
    """Of all processes of one host but the command; see processes.Memory."""

    role: str
    processes: int
    pss_kib: int
    alone_kib: int


class Processor(NamedTuple):
    """Of everything on one host."""

    role: str
    percent: float


def memory(stage: Stage) -> list[Memory]:
    """Memory after the start. Nothing else should run that shares its files."""
    hosts = _settled(stage, SETTLE_S)
    agents = {role: stage.agents(name) for role, name in hosts.items()}
    return [Memory(role, len(pids), *processes.memory(pids)) for role, pids in agents.items()]


def processor(stage: Stage, idle_s: float) -> list[Processor]:
    """Processor time over `idle_s`.

    It is that of the host's control group, which has also what short-lived helpers used. The
    command is part of it, and sleeps.
    """
    hosts = _settled(stage, min(SETTLE_S, idle_s))
    before = {role: stage.host(name).cpu_ns() for role, name in hosts.items()}
    began_ns = time.monotonic_ns()
    time.sleep(idle_s)
    used = {role: stage.host(name).cpu_ns() - before[role] for role, name in hosts.items()}
    window_ns = time.monotonic_ns() - began_ns
    return [Processor(role, 100 * used[role] / window_ns) for role in hosts]


def _settled(stage: Stage, settle_s: float) -> dict[str, str]:
    """Who has which role, some time after the start; the third host only if it is used."""
    names = (*stage.start_both(), WITNESS)
    time.sleep(settle_s)
    return {role: name for role, name in zip(ROLES, names, strict=True) if stage.agents(name)}
