"""What every scenario is given: the network, the payload, a place for files, and how much to do."""

from __future__ import annotations

import os
from typing import NamedTuple

from benchmarks.network import Network
from benchmarks.recorder import Payload, Recorder


class Bench(NamedTuple):
    """One invocation of the benchmark.

    `disk` is for state and logs, `memory` for the records, so that no write-back delays a tick.
    """

    network: Network
    payload: Payload
    disk: str
    memory: str
    takeovers: int
    idle_s: float
    simulated_runs: int

    def recorder(self) -> Recorder:
        """A recorder with an empty folder of its own."""
        return Recorder(self.payload, _next(self.memory, "records"))

    def folder(self) -> str:
        """A new name for a folder of state and logs."""
        return _next(self.disk, "members")

    def trace_path(self) -> str:
        """A new name for a trace, in memory."""
        return _next(self.memory, "trace")


def _next(parent: str, stem: str) -> str:
    return os.path.join(parent, f"{stem}-{len(os.listdir(parent))}")
