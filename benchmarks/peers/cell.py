"""`cell.py PROGRAM SETTINGS MEASURE COUNT IDLE_S FILE`: one cell of the comparison, as JSON.

A process of its own, with a network, control groups and folders of its own, so that several can
be at work at a time and none leaves anything to the next. Exit status 0 when it was measured, and 1
when it was not, with the reason in the file.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from benchmarks import processes
from benchmarks.groups import GroupError
from benchmarks.hosts import Hosts
from benchmarks.members import BenchmarkError
from benchmarks.network import Namespaces, NetworkError
from benchmarks.peers import cost, faults
from benchmarks.peers.catalog import MEASURES, PROGRAMS, is_slow, settings_of
from benchmarks.peers.peer import Ground, Program, Settings
from benchmarks.peers.stage import Stage
from benchmarks.recorder import Mode, Payload, Recorder, build_payload


class Cell:
    """What all trials of this process share, and a new stage whenever one is wanted."""

    def __init__(self, network: Namespaces, payload: Payload, disk: str, memory: str) -> None:
        self._network = network
        self._payload = payload
        self._disk = disk
        self._memory = memory
        self._made = 0

    @contextmanager
    def stage(
        self, program: Program, settings: Settings, mode: Mode = "lasting"
    ) -> Iterator[Stage]:
        """The peer, deployed anew and not started yet; all of it is gone afterwards."""
        self._made += 1
        folder = os.path.join(self._disk, f"peer-{self._made}")
        os.mkdir(folder)
        recorder = Recorder(self._payload, os.path.join(self._memory, f"records-{self._made}"))
        with processes.uninterrupted():
            hosts = Hosts(self._network, os.path.join(folder, "logs"))
        try:
            ground = Ground(hosts, folder, recorder, mode)
            yield Stage(ground, program, settings)
        finally:
            hosts.close()


def measure(cell: Cell, words: Sequence[str]) -> dict[str, object]:
    """The trials or costs of the cell that the command line names."""
    program_key, settings_key, measure_key, count, idle_s = words
    program = PROGRAMS[program_key]
    settings = settings_of(program, settings_key)
    kind = MEASURES[measure_key]
    if measure_key == "idle":
        with cell.stage(program, settings, "still") as stage:
            return {"rows": cost.processor(stage, float(idle_s))}
    if measure_key == "memory":
        with cell.stage(program, settings, "still") as stage:
            return {"rows": cost.memory(stage)}
    if kind.strike is None:
        done = faults.Outcome([], 0, 0)
        for _ in range(int(count)):
            with cell.stage(program, settings) as stage:
                done.trials.append(faults.cold_start(stage))
    else:
        rest_s = settings.period_s if is_slow(program, settings, kind) else 0.0
        with cell.stage(program, settings) as stage:
            done = faults.trials(stage, settings, kind.strike, int(count), rest_s)
    return {"rows": done.trials, "moved": done.moved, "stranded": done.stranded}


def main(words: Sequence[str]) -> int:
    """Measure one cell."""
    path = words[-1]
    told: dict[str, object]
    with (
        tempfile.TemporaryDirectory(prefix="hb-peers-") as disk,
        tempfile.TemporaryDirectory(prefix="hb-peers-", dir="/dev/shm") as memory,
    ):
        network = None
        try:
            with processes.uninterrupted():
                network = Namespaces()
            told = measure(Cell(network, build_payload(disk), disk, memory), words[:-1])
        except (BenchmarkError, GroupError, NetworkError, OSError) as problem:
            told = {"failure": str(problem) or type(problem).__name__}
        finally:
            if network is not None:
                with processes.uninterrupted():
                    network.close()
    with open(path, "w", encoding="utf-8") as file:
        json.dump(told, file)
    return int("failure" in told)


if __name__ == "__main__":
    processes.exit_with(main)
