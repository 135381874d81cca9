"""What the members say, with the moment at which it was said by this machine's steady clock.

Their own time stamps are of the wall clock, which is one of the things that a campaign steps. The
judge reads none of this: it is for the person who reads a timeline, and to know when a pair has
settled.
"""

from __future__ import annotations

import json
import os
import selectors
import threading
import time
from typing import NamedTuple

KEPT_LINES = 4000


class Line(NamedTuple):
    """One line of a host's log."""

    at_ns: int
    host: str
    role: str
    epoch: int
    text: str


class Logs:
    """Reads the pipes that members write to, in a thread; keeps the lines, and a file of all."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._rests: dict[int, bytes] = {}
        self.lines: list[Line] = []
        self._roles: dict[str, str] = {}
        self._wake, self._woken = os.pipe()
        self._selector.register(self._wake, selectors.EVENT_READ, "")
        self._thread = threading.Thread(target=self._read_all, daemon=True)
        self._thread.start()

    def open(self, host: str) -> int:
        """The end of a new pipe, for the standard error of a member of this host."""
        reads, writes = os.pipe()
        os.set_blocking(reads, False)
        with self._lock:
            self._roles[host] = "starting"
            self._selector.register(reads, selectors.EVENT_READ, host)
        os.write(self._woken, b".")
        return writes

    def role(self, host: str) -> str:
        """The role that the host's member named last."""
        with self._lock:
            return self._roles.get(host, "starting")

    def between(self, from_ns: int, to_ns: int) -> list[Line]:
        """The lines of that time."""
        with self._lock:
            return [line for line in self.lines if from_ns <= line.at_ns <= to_ns]

    def note(self, host: str, text: str) -> None:
        """A line of the campaign's own."""
        self._keep(Line(time.monotonic_ns(), host, "", 0, text))

    def _read_all(self) -> None:
        while True:
            for key, _events in self._selector.select():
                data = os.read(key.fd, 65536)
                if key.fd == self._wake:
                    if b"!" in data:
                        return
                elif data:
                    self._take(key.fd, key.data, data)
                else:
                    self._selector.unregister(key.fd)
                    os.close(key.fd)
                    self._rests.pop(key.fd, None)

    def _take(self, fd: int, host: str, data: bytes) -> None:
        at_ns = time.monotonic_ns()
        *whole, rest = (self._rests.get(fd, b"") + data).split(b"\n")
        self._rests[fd] = rest
        for raw in whole:
            try:
                said = json.loads(raw)
                line = Line(at_ns, host, said["role"], said["epoch"] or 0, said["text"])
            except (ValueError, KeyError, TypeError):
                line = Line(at_ns, host, "", 0, raw.decode(errors="replace"))
            self._keep(line)

    def _keep(self, line: Line) -> None:
        with self._lock:
            if line.role:
                self._roles[line.host] = line.role
            self.lines.append(line)
            del self.lines[:-KEPT_LINES]
            shown = f"{line.at_ns / 1e9:.4f} {line.host} {line.role} {line.epoch or ''} {line.text}"
            self._file.write(shown + "\n")

    def close(self) -> None:
        """Stop reading; the file is complete."""
        os.write(self._woken, b"!")
        self._thread.join()
        self._file.close()
        for key in list(self._selector.get_map().values()):
            os.close(key.fd)
        self._selector.close()
        os.close(self._woken)
