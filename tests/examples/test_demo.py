"""The demo: what it shows is true, it ends by itself, and it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"
MARK = "HA_HEARTBEAT_DEMO_TEST"
PATIENCE_S = 60.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start the demo; whatever it starts has to be gone at the end of the test."""
    word = uuid.uuid4().hex
    made: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        made.append(
            subprocess.Popen(
                [sys.executable, "-S", "-E", str(DEMO)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, MARK: word, "TMPDIR": str(tmp_path)},
            )
        )
        return made[-1]

    yield start
    left = marked(word)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    for process in made:
        process.communicate()
    assert not left
    assert list(tmp_path.iterdir()) == []


def marked(word: str) -> list[int]:
    """The processes with that word in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and f"{MARK}={word}" in (folder / "environ").read_text():
                found.append(int(folder.name))
        except (OSError, UnicodeDecodeError):
            continue
    return found


def test_it_shows_what_it_promises(start: Callable[[], subprocess.Popen[str]]) -> None:
    began_s = time.monotonic()
    out, err = start().communicate(timeout=PATIENCE_S)
    assert err == ""
    assert time.monotonic() - began_s < 30
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "\033" not in out
    ending = " ".join(out[out.rindex("\n* ") :].split())
    said = re.fullmatch(
        r"\* As promised: (\d+) runs, never two at once. "
        r"Takeover after kill -9: (\d+) ms, after SIGTERM: (\d+) ms.",
        ending,
    )
    assert said
    assert int(said[1]) >= 9
    assert 0 < int(said[2]) < 15_000
    assert 0 < int(said[3]) < 15_000
    assert out.count("Becoming worker") == 4


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)], ids=["int", "term"]
)
def test_an_interruption_leaves_nothing(
    start: Callable[[], subprocess.Popen[str]], number: signal.Signals, status: int
) -> None:
    demo = start()
    assert demo.stdout is not None
    for line in demo.stdout:
        if "> run" in line:
            break
    demo.send_signal(number)
    _, err = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == status
    assert err == "\ndemo: interrupted; ending both members\n"
