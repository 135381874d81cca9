"""The README's commands work as they stand: two members, the plug, the return, the goodbye."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docs.pages import README, ROOT, blocks

PATIENCE_S = 40.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGQUIT")


class Terminal:
    """One of the two terminals: a command line of the README, with ports that are free."""

    def __init__(self, line: str, place: Path, number: int) -> None:
        self._words = shlex.split(line)
        self._log = place / f"{number}.log"
        self._state = place / f"state-{number}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program, script, *rest = self._words
        assert (program, script) == ("python3", "ha_heartbeat.py")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, script, "--state-dir", str(self._state), *rest],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def press(self, key: signal.Signals) -> int:
        """What the terminal does on a key, and how the member ended."""
        assert self._process is not None
        os.killpg(self._process.pid, key)
        return self._process.wait(PATIENCE_S)

    def close(self) -> None:
        """Stop what still runs."""
        if self._process is not None and self._process.poll() is None:
            self.press(signal.SIGTERM)

    def said(self, pattern: str) -> int:
        return len(re.findall(pattern, self._log.read_text()))

    def says(self, pattern: str, times: int = 1) -> None:
        _wait_for(lambda: self.said(pattern) >= times, f"{pattern!r} in {self._log.read_text()}")


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, f"waited in vain for {what}"
        time.sleep(0.02)


def _free_ports() -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [int(sock.getsockname()[1]) for sock in held]
    for sock in held:
        sock.close()
    return ports


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[list[Terminal]]:
    lines = [body.strip() for body in blocks(README, "sh", under="Running in a minute")]
    assert len(lines) == 2
    first, second = _free_ports()
    made = [
        Terminal(line.replace("22221", str(first)).replace("22222", str(second)), tmp_path, number)
        for number, line in enumerate(lines, 1)
    ]
    yield made
    for terminal in made:
        terminal.close()


def test_in_a_minute(terminals: list[Terminal]) -> None:
    one, two = terminals
    one.start()
    one.says("refused the connection: nothing of it is running. Becoming worker")
    one.says(r"^run \d+\.1$|\nrun \d+\.1\n")
    two.start()
    two.says("is worker, epoch .* Supervising it")
    assert one.press(signal.SIGQUIT) == -signal.SIGQUIT
    two.says("refused the connection: its process tree is gone. Becoming worker")
    two.says(r"\nrun \d+\.1\n")
    one.start()
    one.says("is worker, epoch .* Supervising it")
    assert two.press(signal.SIGINT) == 0
    # A goodbye is an answer, and on a busy machine the first question may not have been put yet.
    one.says("(said goodbye: its command has ended|its process tree is gone)\\. Becoming worker")
    one.says(r"\nrun \d+\.1\n", 2)
    assert one.press(signal.SIGINT) == 0
