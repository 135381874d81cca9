"""Starting the program as an operator does: as a process, from a plain checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0

Result: TypeAlias = "subprocess.CompletedProcess[str]"
Run: TypeAlias = Callable[..., Result]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a plain checkout needs to run: the script and the package."""
    place = tmp_path_factory.mktemp("check out")  # with a blank, as paths may have
    shutil.copy(ROOT / "ha_heartbeat.py", place)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "ha_heartbeat", place / "ha_heartbeat", ignore=ignored)
    return place


@pytest.fixture
def run(checkout: Path, tmp_path: Path) -> Run:
    """Run the script with these arguments, from elsewhere, without site-packages."""

    def run(
        *arguments: str, script: Path | None = None, python: str = sys.executable
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, "-S", "-E", str(script or checkout / "ha_heartbeat.py"), *arguments],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    return run


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    """Run the script, check that it failed as errors are to look, and return its one sentence."""

    def refused(*arguments: str, status: int = 2) -> str:
        result = run(*arguments)
        assert result.returncode == status, result
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        assert result.stderr.count("\n") == 1
        assert result.stderr.endswith("\n")
        assert result.stderr.startswith("ha-heartbeat: ")
        return result.stderr.removeprefix("ha-heartbeat: ").rstrip("\n")

    return refused
