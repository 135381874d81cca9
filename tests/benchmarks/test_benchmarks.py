"""The benchmark works from end to end and leaves nothing behind. Speeds are nobody's test."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.recorder import Run, count_overlaps
from benchmarks.report import Absent, Fact, Times, as_markdown, as_text, percentile_ns, tables

ROOT = Path(__file__).resolve().parent.parent.parent
RUN = (sys.executable, str(ROOT / "benchmarks" / "run.py"))
ROWS = (
    "kill -9 of the member",
    "kill -9 of the member, lasting command",
    "kill -9 of member, guardian and command",
    "SIGTERM, idle",
    "profile, kill -9 of the member, idle command: all",
    "profile, kill -9 of the member, lasting command: all",
    "SIGTERM, lasting command, from the old command's last tick",
    "hbctl switchover, from the old command's last tick",
    "hbctl status",
    "hbctl status, the peer is dead",
    "cable pulled, -t 0.1 --check-count 3 --takeover silence",
    "cable back, until one worker again",
    "worker cut from peer and witness, -t 0.1 --check-count 3",
    "worker cut from peer and witness, -t 0.1 --check-count 3, from the old command's last tick",
)
FACTS = (
    "journal under kill -9",
    "overlaps written down by both members",
    "cut from peer and witness",
    "memory of an idle worker",
    "processor of an idle supervisor",
    "simulator, one core",
)


def what_is_missing() -> str:
    """Why the benchmark cannot run here as it is meant to; "" if it can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    for tool in ("gcc", "ip", "nsenter"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    probe = f"hb-bench-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode:
        return "network namespaces may not be made here"
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return ""


MISSING = what_is_missing()
needs_namespaces = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def namespaces_of(pid: int) -> list[str]:
    shown = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return re.findall(rf"hb-bench-{pid}-\w+", shown.stdout)


@needs_namespaces
@pytest.mark.slow
@pytest.mark.linux
@pytest.mark.root
def test_smoke_prints_every_row_and_leaves_nothing_behind(tmp_path: Path) -> None:
    markdown = tmp_path / "table.md"
    words = (*RUN, "--smoke", "--markdown", str(markdown))
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        printed = process.communicate(timeout=300)[0]
    assert process.returncode == 0, printed
    for row in ROWS:
        count, overlaps = (
            (r"\d+", "") if row.startswith("hbctl status") else ("3", " +(0|by policy)")
        )
        times = rf"{re.escape(row)} +{count}( +\d+\.\d ms){{3}}"
        assert re.search(rf"^{times}{overlaps} *$", printed, re.M), printed
    for fact in FACTS:
        assert re.search(rf"^{re.escape(fact)} +\S", printed, re.M)
    assert "old command dead before the new one began: 3 of 3" in printed
    assert all(f"| {row} " in markdown.read_text() for row in (*ROWS, *FACTS))
    assert "Linux" in printed
    assert not namespaces_of(process.pid)


@needs_namespaces
@pytest.mark.linux
@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_benchmark_leaves_nothing_behind(tmp_path: Path, number: int) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    words = (*RUN, "--only", "kill-lasting", "-n", "100")
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        end_s = time.monotonic() + 30
        while not any(tmp_path.glob("*/members-*/b.log")) and time.monotonic() < end_s:
            time.sleep(0.02)
        assert any(tmp_path.glob("*/members-*/b.log"))
        process.send_signal(number)
        assert process.wait(60) == 130
    assert not namespaces_of(process.pid)
    assert not list(tmp_path.iterdir())
    assert not processes_with(str(tmp_path))


def processes_with(words: str) -> list[str]:
    """Command lines of living processes that contain these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words in line:
            found.append(line)
    return found


def test_a_run_that_begins_while_the_other_member_still_runs_is_an_overlap() -> None:
    old = Run(0, 100, 0, 1, "a", 1)
    assert count_overlaps([old, Run(99, 200, 200, 2, "b", 2)]) == 1
    assert count_overlaps([old, Run(101, 200, 200, 2, "b", 2)]) == 0
    assert count_overlaps([old, Run(99, 200, 200, 2, "a", 2)]) == 0


def test_the_worst_is_never_left_out() -> None:
    values_ns = [1_000_000] * 99 + [9_000_000_000]
    assert percentile_ns(values_ns, 0.99) == 1_000_000
    assert percentile_ns(values_ns[-3:], 0.99) == 9_000_000_000
    (table,) = tables([Times("x", values_ns, "0")])
    assert table[1] == ("x", "100", "1.0 ms", "1.0 ms", "9000.0 ms", "0")


def test_tables_are_aligned_as_text_and_as_markdown() -> None:
    both = tables([Fact("a", "1"), Absent("longer", "no"), Times("x", [1_500_000], "")])
    assert as_text(both[1]).splitlines() == [
        "cost    value",
        "a       1",
        "longer  not measured: no",
    ]
    assert as_markdown(both[0]).splitlines() == [
        "| takeover |   n | median |    p99 |  worst | overlaps |",
        "| -------- | --: | -----: | -----: | -----: | -------- |",
        "| x        |   1 | 1.5 ms | 1.5 ms | 1.5 ms |          |",
    ]
