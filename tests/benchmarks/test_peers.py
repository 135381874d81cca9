"""The comparison works from end to end, counts what it says, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers import comparison
from benchmarks.peers.catalog import MEASURES, PROGRAMS, is_slow, settings_of
from benchmarks.peers.faults import Pause, both_ns
from benchmarks.recorder import Run

ROOT = Path(__file__).resolve().parent.parent.parent
RUN = (sys.executable, str(ROOT / "benchmarks" / "peers" / "run.py"))
MS = 1_000_000


def why_not() -> str:
    """Why hosts cannot be made here; "" if they can."""
    if sys.platform != "linux":
        return "network namespaces and control groups are Linux's"
    if shutil.which("gcc") is None:
        return "gcc is not installed"
    from benchmarks.peers.run import why_not as asked

    return asked()


MISSING = why_not()
needs_hosts = pytest.mark.skipif(bool(MISSING), reason=MISSING)
needs_keepalived = pytest.mark.skipif(
    shutil.which("keepalived", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None,
    reason="keepalived is not installed; make bench-peers installs it",
)


def measured(tmp_path: Path, *words: str) -> dict[str, list[object]]:
    """One trial of each cell that is named, and nothing left of it."""
    raw = tmp_path / "raw.json"
    run = subprocess.Popen(
        (*RUN, "--no-install", "-n", "1", "--raw", str(raw), *words),
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 0, said
    assert not groups(run.pid)
    assert list(tmp_path.iterdir()) == [raw]
    return {key: told["rows"] for key, told in json.loads(raw.read_text()).items()}


def groups(pid: int) -> set[str]:
    """The control groups that the hosts of a run have, by its process id."""
    return {path.name for path in Path("/sys/fs/cgroup").glob(f"**/hb-bench-{pid}-*")}


@needs_hosts
@pytest.mark.linux
@pytest.mark.root
def test_a_crash_of_our_own(tmp_path: Path) -> None:
    cells = measured(
        *(tmp_path, "--only", "ha-heartbeat", "--settings", "fastest"),
        *("--measure", "crash-agent", "--measure", "pause"),
    )
    assert len(cells) == 2
    for ((took_ns, _both_ns, lasts),) in cells.values():
        assert took_ns > 0
        assert not lasts


@needs_hosts
@needs_keepalived
@pytest.mark.linux
@pytest.mark.root
def test_a_lost_host_of_keepalived(tmp_path: Path) -> None:
    words = ("--only", "keepalived", "--settings", "fastest", "--measure", "host")
    ((took_ns, together_ns, lasts),) = measured(tmp_path, *words)["keepalived fastest host"]
    assert took_ns > 0
    assert not together_ns
    assert not lasts


def life(member: str, began_ms: int, ended_ms: int) -> Run:
    return Run(began_ms * MS, ended_ms * MS, 0, 0, member, 1)


def test_both_run_while_lives_of_two_hosts_overlap() -> None:
    runs = [life("a", 0, 100), life("b", 90, 300), life("a", 250, 260), life("b", 400, 500)]
    assert both_ns(runs, 0) == (10 + 10) * MS
    assert both_ns(runs, 90 * MS) == 10 * MS  # the first life of a is not asked about
    assert both_ns([life("a", 0, 100), life("a", 50, 100)], 0) == 0


def test_who_stands_still_does_not_run() -> None:
    runs = [life("a", 0, 503), life("b", 100, 700)]
    assert both_ns(runs, 0, [Pause("a", 50 * MS, 500 * MS)]) == 3 * MS
    assert both_ns(runs, 0, [Pause("b", 50 * MS, 100 * MS)]) == 403 * MS


def test_cells_become_rows_and_nothing_is_left_out() -> None:
    cells = {
        ("keepalived", "defaults", "host"): {
            "rows": [[3_000 * MS, 0, False], [4_000 * MS, 7 * MS, True], [None, 0, False]],
            "moved": 2,
            "stranded": 1,
        },
        ("ha-heartbeat", "defaults", "host"): {"failure": "no\nlog"},
        ("ha-heartbeat", "defaults", "memory"): {
            "rows": [["worker", 3, 2048, 4096], ["standby", 3, 1024, 2048]]
        },
    }
    found = dict(comparison.sections(cells, {"keepalived": "there is no apt-get here"}))
    ours, theirs = found[MEASURES["host"].title][1:]
    assert ours[5] == "not measured: no"
    assert theirs[1:5] == ("2", "3500 ms", "4000 ms", "4000 ms")
    assert theirs[5] == (
        "1 of 3: median 7.0 ms, worst 7.0 ms, 1 of them without an end; 1 without a takeover"
    )
    assert theirs[6] == "moved or doubled unasked 2 times, ran nowhere afterwards 1 times"
    assert found[MEASURES["memory"].title][1][1:] == (
        "2.0 MiB PSS, 4.0 alone, 3",
        "1.0 MiB PSS, 2.0 alone, 3",
        "none",
    )
    assert ("keepalived", "", "not measured: there is no apt-get here") in found["Programs"]


def test_the_tables_take_the_place_of_the_earlier_ones() -> None:
    document = f"one\n{comparison.BEGIN}\nold\n{comparison.END}\ntwo\n"
    placed = comparison.place(document, "new")
    assert placed == f"one\n{comparison.BEGIN}\n\nnew\n\n{comparison.END}\ntwo\n"
    assert comparison.place((ROOT / "docs" / "comparison.md").read_text(), "new")
    with pytest.raises(ValueError, match="measured: begin"):
        comparison.place("one\n", "new")


@pytest.mark.parametrize("key", PROGRAMS)
def test_every_program_has_its_defaults_and_its_fastest(key: str) -> None:
    program = PROGRAMS[key]
    keys = [settings.key for settings in program.settings]
    assert len(set(keys)) == len(keys)
    assert {"defaults", "fastest"} <= set(keys)
    assert is_slow(program, settings_of(program, "defaults"), MEASURES["host"])
