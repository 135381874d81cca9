"""The journal at its limits: a million runs, and writers that are killed at random."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

from benchmarks.bench import Bench
from benchmarks.control import HBCTL, STATUSES
from benchmarks.report import Fact, Result, Times
from ha_heartbeat.journal import Change, Entry, Journal, Run
from ha_heartbeat.places import directory_name

RUNS = 1_000_000
CHANGES = 10_000
"""Each with a run, begun and ended: three commits."""

LIFE_S = (0.0, 0.3)
"""How long a writer lives once it writes."""

FEW = 10
"""With fewer takeovers than this only the working is tried, with a hundredth of everything."""

WRITER = """
import sys
from ha_heartbeat.journal import SKIPPED_END, Change, Journal, Run
journal = Journal.open(sys.argv[1], "m1")
journal.close_runs(SKIPPED_END)
for n in range(int(sys.argv[2]), 10**9):
    run = Run("web", "m1", f"7.{n}", 7, float(n))
    journal.write([Change("web", "m1", "role", float(n), "worker", n, "refused", "gone.", 0.0)])
    sys.stdout.write(f"change {n}\\n")
    sys.stdout.flush()
    journal.write([run])
    sys.stdout.write(f"begun {n}\\n")
    sys.stdout.flush()
    journal.write([run._replace(ended=n + 1.0, took_s=1.0, status=0)])
    sys.stdout.write(f"ended {n}\\n")
    sys.stdout.flush()
"""


def measure(bench: Bench) -> list[Result]:
    """How long questions take when it is full, and whether anything committed is ever lost."""
    scale = 100 if bench.takeovers < FEW else 1
    folder = bench.folder()
    return [*_full(folder, RUNS // scale), _torture(folder, CHANGES // scale)]


def _full(folder: str, count: int) -> list[Result]:
    home = os.path.join(folder, directory_name("web", "m1", 22221))
    os.makedirs(home)
    path = os.path.join(home, "journal.sqlite3")
    journal = Journal.open(path, "m1")
    first = time.time() - 30.0 * count
    for start in range(0, count, 5000):
        journal.write(_entries(first, start, min(start + 5000, count)))
    journal.close()
    size_mib = os.path.getsize(path) / 1_048_576
    told: list[Result] = [Fact(f"journal of {count} runs", f"{size_mib:.0f} MiB")]
    for words in ("status", "history", "history --failed", "history --overlaps", "logs 2.1"):
        told.append(_asked(folder, words, f"hbctl {words}, {count} runs"))
    return told


def _entries(first: float, start: int, end: int) -> list[Entry]:
    made: list[Entry] = [
        Run("web", "m1", f"2.{n}", 2, first + 30 * n, first + 30 * n + 1, 1.0, n % 1000 == 0)
        for n in range(start, end)
    ]
    text = "m2 refused the connection: its process tree is gone."
    made.append(Change("web", "m1", "role", first + 30 * start, "worker", 2, "refused", text, 0.0))
    return made


def _asked(folder: str, words: str, title: str) -> Times:
    took_ns = []
    for _ in range(STATUSES):
        began_ns = time.monotonic_ns()
        subprocess.run(
            [sys.executable, HBCTL, *words.split(), "--state-dir", folder],
            capture_output=True,
            check=False,  # nobody runs there, and a status says so
        )
        took_ns.append(time.monotonic_ns() - began_ns)
    return Times(title, took_ns, "")


def _torture(folder: str, count: int) -> Fact:
    """What a writer has acknowledged is compared with what is there at the end."""
    path = os.path.join(folder, "torture.sqlite3")
    acknowledged: dict[str, set[int]] = {"change": set(), "begun": set(), "ended": set()}
    kills, start = 0, 0
    while len(acknowledged["change"]) < count:
        start = _life(path, start, acknowledged)
        kills += 1
    journal = Journal.read(path)
    runs = {e.run: e for e in journal.select("run", limit=10**7) if isinstance(e, Run)}
    changes = {e.epoch for e in journal.select("change", limit=10**7) if isinstance(e, Change)}
    journal.close()
    lost = len(acknowledged["change"] - changes)
    lost += sum(f"7.{n}" not in runs for n in acknowledged["begun"])
    lost += sum(runs[f"7.{n}"].status != 0 for n in acknowledged["ended"] if f"7.{n}" in runs)
    done = sum(map(len, acknowledged.values()))
    return Fact(
        "journal under kill -9",
        f"{lost} of {done} acknowledged commits lost ({len(acknowledged['change'])} changes of "
        f"role, {len(acknowledged['begun'])} runs), {kills} kills",
    )


def _life(path: str, start: int, acknowledged: dict[str, set[int]]) -> int:
    """One writer, from its start to its kill; where the next one has to begin."""
    writer = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", WRITER, path, str(start)],
        cwd=os.path.dirname(HBCTL),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    first = writer.stdout.readline()
    time.sleep(random.uniform(*LIFE_S))
    writer.send_signal(signal.SIGKILL)
    for line in (first, *writer.stdout):
        word, _, number = line.strip().partition(" ")
        if line.endswith("\n"):
            acknowledged[word].add(int(number))
            start = max(start, int(number))
    writer.stdout.close()
    writer.wait()
    return start + 2  # one more may be there, of which nobody was told
