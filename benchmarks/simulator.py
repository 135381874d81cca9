"""Simulated failovers a second on one core, as the simulator itself says."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.bench import Bench
from benchmarks.members import SCRIPT
from benchmarks.report import Absent, Fact

TITLE = "simulator, one core"


def measure(bench: Bench) -> list[Fact | Absent]:
    """Run it once; its last line but a hint is its summary."""
    words = ("-m", "ha_heartbeat.sim", "--runs", str(bench.simulated_runs), "--jobs", "1")
    done = subprocess.run(
        [sys.executable, *words],
        cwd=os.path.dirname(SCRIPT),
        capture_output=True,
        text=True,
        check=False,
    )
    summary = next((line for line in done.stdout.splitlines() if " failovers" in line), "")
    if not summary:
        said = done.stderr.strip().splitlines() or ["it printed no summary"]
        return [Absent(TITLE, said[-1])]
    return [Fact(TITLE, summary)]
