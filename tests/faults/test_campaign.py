"""Short campaigns on real members: a few of the quick faults of each family, with fixed seeds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from faults import abilities

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (1, 7)
FAULTS = 12
FAMILIES = ("processes", "hosts", "network", "hand-overs", "clock")

pytestmark = [pytest.mark.slow, pytest.mark.linux, pytest.mark.root]
MISSING = abilities.what_is_missing()
SAFETY = re.compile(r"^(OVERLAP|STRAY|EPOCH)", re.MULTILINE)
TRIES = 3
"""A busy machine can lose a run or leave something unknown, but never make two commands run."""


def campaign(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "faults", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def left_behind() -> list[str]:
    """Namespaces and control groups of campaigns whose process is gone."""
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    found = re.findall(r"ha-faults-(\d+)-\w+", names.stdout)
    for top, folders, _files in os.walk("/sys/fs/cgroup"):
        found += [m.group(1) for name in folders if (m := re.match(r"ha-faults-(\d+)-", name))]
        if top.count("/") > 5:
            folders.clear()
    return [pid for pid in found if not os.path.exists(f"/proc/{pid}")]


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_found_and_nothing_is_left(seed: int, tmp_path: Path) -> None:
    before = set(left_behind())
    summary = tmp_path / "summary.md"
    only = [word for family in FAMILIES for word in ("--only", family)]
    words = (
        *("--faults", str(FAULTS), "--seed", str(seed), "--takeover", "witness"),
        *("--starts", "15"),  # no speed is asserted here: others use this machine, too
        *("--markdown", str(summary), *only),
    )
    for _ in range(TRIES):
        done = campaign(*words)
        assert not SAFETY.search(done.stdout), done.stdout + done.stderr
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"\(\d+ of {FAULTS} faults\)", done.stdout)  # the last step may have two
    text = summary.read_text()
    assert "0 overlaps, 0 stray processes, 0 gaps beyond the bound" in text
    assert re.search(r"^\| all +\| +\d+ ", text, re.MULTILINE)
    assert set(left_behind()) <= before


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_a_pair_that_nobody_touches(tmp_path: Path) -> None:
    done = campaign("--quiet", "3", "--busy", "2", "--interval-test", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 false takeovers" in done.stdout


def test_what_cannot_be_made_is_said() -> None:
    if not MISSING:
        pytest.skip("everything can be made here")
    done = campaign("--faults", "1")
    assert done.returncode == 77
    assert MISSING in done.stderr


def test_the_faults_are_listed() -> None:
    done = campaign("--list")
    assert done.returncode == 0
    assert re.search(r"^hosts +host frozen$", done.stdout, re.MULTILINE)
