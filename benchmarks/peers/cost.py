"""What a peer costs on each host while nothing happens."""

from __future__ import annotations

import time
from typing import NamedTuple

from benchmarks import processes
from benchmarks.network import MEMBERS, WITNESS
from benchmarks.peers.stage import Stage

SETTLE_S = 5.0
"""A pause after the start, so that what is done once is not counted as idling."""


class Cost(NamedTuple):
    """Of all processes of one host but the command."""

    host: str
    processes: int
    pss_kib: int
    cpu_percent: float


def measure(stage: Stage, idle_s: float) -> list[Cost]:
    """Memory, and processor time over `idle_s`: worker, standby, and the third host if it is used.

    Processor time is that of the host's control group, which has also what short-lived helpers
    used. The command is part of it, and sleeps.
    """
    stage.start_both()
    time.sleep(min(SETTLE_S, idle_s))
    names = [name for name in (*MEMBERS, WITNESS) if stage.agents(name)]
    before = {name: stage.host(name).cpu_ns() for name in names}
    began_ns = time.monotonic_ns()
    time.sleep(idle_s)
    used = {name: stage.host(name).cpu_ns() - before[name] for name in names}
    window_ns = time.monotonic_ns() - began_ns
    costs = []
    for name in names:
        pids = stage.agents(name)
        pss_kib = processes.memory(pids).pss_kib
        costs.append(Cost(name, len(pids), pss_kib, 100 * used[name] / window_ns))
    return costs
