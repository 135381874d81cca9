"""The third voter as a real process, in a network namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks import processes
from benchmarks.members import LOOK_S, SCRIPT, BenchmarkError
from benchmarks.network import ADDRESSES, WITNESS

PORT = 22220
START_S = 15.0
HERE = os.path.dirname(os.path.abspath(__file__))


class Witness:
    """Our own server where its extra is installed, else the least one that conforms."""

    def __init__(self, inside: Sequence[str], folder: str) -> None:
        host = ADDRESSES[WITNESS]
        os.mkdir(folder)
        self._store = os.path.join(folder, "witness.sqlite3")
        words: tuple[str, ...]
        if _has_extra():
            self.description = "ha-heartbeat-witness"
            address = ("--listen", f"{host}:{PORT}", "--store", self._store)
            words = ("-m", "ha_heartbeat.witness_server", *address)
        else:
            self.description = "a server of the benchmark, in memory"
            words = (os.path.join(HERE, "register_server.py"), host, str(PORT))
        self.url = f"witness://{host}:{PORT}"
        self._words = (*inside, sys.executable, *words)
        self._log_path = os.path.join(folder, "log")
        self._log_offset = 0
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with processes.uninterrupted(), open(self._log_path, "ab") as log:
            self._log_offset = log.tell()
            return subprocess.Popen(
                self._words,
                cwd=os.path.dirname(SCRIPT),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_again(self, *, wiped: bool = False) -> None:
        """End it if it still lives, and start it with its store or, if it was `wiped`, without."""
        self.close()
        if wiped:
            for name in os.listdir(os.path.dirname(self._store)):
                if name.startswith(os.path.basename(self._store)):
                    os.unlink(os.path.join(os.path.dirname(self._store), name))
        self._process = self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_it_answers(self) -> None:
        """Raises BenchmarkError when it does not within a while."""
        end_s = time.monotonic() + START_S
        while "answers on" not in (said := self._said()):
            if self._process.poll() is not None or time.monotonic() > end_s:
                raise BenchmarkError(f"the witness did not start\n{said}")
            time.sleep(LOOK_S)

    def _said(self) -> str:
        with open(self._log_path, errors="replace") as log:
            log.seek(self._log_offset)
            return log.read()

    def close(self) -> None:
        """End it with SIGKILL."""
        with processes.uninterrupted():
            self._process.kill()
            self._process.wait()


def _has_extra() -> bool:
    """Members and this benchmark run without site-packages; the server needs them."""
    words = (sys.executable, "-c", "import httptools")
    return not subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode
