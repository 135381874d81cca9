#!/usr/bin/env python3
"""Two members on this machine take turns: a takeover, a return, and a hand-over, in one terminal.

    python3 examples/demo.py

Needs a Python 3.11 or newer and nothing else: no install, no network but loopback, no rights. It
ends by itself, leaves nothing behind, and exits 0 only if everything was as promised.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S: Final = 20.0
RUNS_TO_SEE: Final = 3
WIDTH: Final = 78
COLOURS: Final = {"m1": "36", "m2": "33", "": "1"}

COMMAND = "import os, time; e = os.environ; print('RUN', time.monotonic_ns(), os.getpid())"
"""What the members run; shown as a line of its member's. Its own clock tells when it began."""


class BrokenPromiseError(Exception):
    """Something was not as promised; the text is the sentence to end with."""


class Stage:
    """Writes to the terminal: one label, one line, colour only where it is wanted."""

    def __init__(self) -> None:
        is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = is_terminal and not os.environ.get("NO_COLOR")
        self._began_s = time.monotonic()

    def step(self, text: str) -> None:
        """What happens next, and why."""
        print(flush=True)
        print(self._in_colour("", f"* {text}"), flush=True)

    def line(self, name: str, text: str) -> None:
        """What a member said or did, cut to the width of a terminal."""
        since = f"{time.monotonic() - self._began_s:5.2f} s"
        indent = "" if name == "m1" else " " * 4
        room = WIDTH - len(f"{since}  {indent}{name}  ")
        text = text if len(text) <= room else text[: room - 3] + "..."
        print(f"{since}  {indent}{self._in_colour(name, f'{name}  {text}')}", flush=True)

    def _in_colour(self, name: str, text: str) -> str:
        return f"\033[{COLOURS[name]}m{text}\033[0m" if self._coloured else text


class Member:
    """One life of a member; its lines arrive in the queue that both share."""

    def __init__(self, name: str, options: list[str], lines: queue.Queue[tuple[str, str]]) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "ha_heartbeat.py"), "--member", name, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for the demo, which then ends its members itself
        )
        self._reader = threading.Thread(target=self._read, args=(lines,), daemon=True)
        self._reader.start()

    def _read(self, lines: queue.Queue[tuple[str, str]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            lines.put((self.name, line.rstrip("\n")))

    def kill(self) -> int:
        """Kill -9; the moment of it, by the clock that the command uses, too."""
        now_ns = time.monotonic_ns()
        self.process.kill()
        self.process.wait()
        return now_ns

    def end(self) -> None:
        """Ask it to stop, and insist if it does not."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise BrokenPromiseError(f"{self.name} did not stop when asked to") from None
        self._reader.join(PATIENCE_S)


class Show:
    """The demo itself: the members, what was seen of them, and the promises."""

    def __init__(self, stage: Stage, state: str) -> None:
        self.stage = stage
        self.state = state
        self.lines: queue.Queue[tuple[str, str]] = queue.Queue()
        self.members: dict[str, Member] = {}
        self.lives: list[Member] = []
        self.worker = ""
        self.ran_at_ns = 0
        self.runs = 0
        self.since_role = 0
        first, second = two_free_addresses()
        self.addresses = {"m1": first, "m2": second}

    def start(self, name: str) -> None:
        """Start one of the pair: m2 is preferred, and m1 gives the role back to it."""
        other = "m2" if name == "m1" else "m1"
        options = [
            *("-l", self.addresses[name], "-r", self.addresses[other], "--state-dir", self.state),
            *("-t", "2", "-i", "0.5"),
            *(["-f"] if name == "m1" else ["-m", "WORKER"]),
        ]
        command = shlex.join([sys.executable, "-I", "-S", "-c", COMMAND])
        self.members[name] = Member(name, [*options, command], self.lines)
        self.lives.append(self.members[name])

    def until(self, condition: Callable[[], bool], promise: str) -> None:
        """Show what comes until the condition holds. Raises BrokenPromiseError if it never does."""
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            try:
                self._take(*self.lines.get(timeout=max(0.0, end_s - time.monotonic())))
            except queue.Empty:
                raise BrokenPromiseError(f"{promise} did not happen in {PATIENCE_S:g} s") from None

    def _take(self, name: str, line: str) -> None:
        if line.startswith("RUN "):
            _, self.ran_at_ns, _ = (int(word) if word.isdigit() else 0 for word in line.split())
            self.since_role = self.since_role + 1 if name == self.worker else 1
            self.worker = name
            self.runs += 1
            self.stage.line(name, "> the command runs here")
            return
        said = re.fullmatch(r"\S+ \S+ \S+ [a-z-]+(?: \d+)?: (.*)", line)
        self.stage.line(name, said[1] if said else line)

    def runs_on(self, name: str, times: int = RUNS_TO_SEE) -> Callable[[], bool]:
        """A condition: the latest runs were all this member's."""
        return lambda: self.worker == name and self.since_role >= times

    def play(self) -> str:
        """All acts; the sentence to end with."""
        say = self.stage.step
        say("Two members start, the same command on both: it runs on exactly one.")
        self.start("m2")
        self.start("m1")
        self.until(self.runs_on("m2"), "the first run on m2")

        say("kill -9 for m2. Its port closes with its last process: proof, so no waiting.")
        killed_ns = self.members["m2"].kill()
        self.until(self.runs_on("m1", 1), "the takeover")
        took_ms = (self.ran_at_ns - killed_ns) / 1e6
        say(f"The takeover took {took_ms:.0f} ms, from the kill to the command's first line.")
        self.until(self.runs_on("m1"), "the next runs on m1")

        say("m2 returns. It is preferred, so m1 ends its run and gives the role back.")
        self.start("m2")
        self.until(self.runs_on("m2"), "the hand-over")

        say("SIGTERM for m2: it says goodbye, and m1 need not wait for anything.")
        asked_ns = time.monotonic_ns()
        self.members["m2"].end()
        self.until(self.runs_on("m1", 1), "the takeover after the goodbye")
        goodbye_ms = (self.ran_at_ns - asked_ns) / 1e6
        if self.members["m2"].process.returncode != 0:
            raise BrokenPromiseError("m2 did not exit 0 when it was asked to stop")
        self.members["m1"].end()
        if self.members["m1"].process.returncode != 0:
            raise BrokenPromiseError("m1 did not exit 0 when it was asked to stop")
        return (
            f"Done: {self.runs} runs, never two at once. Takeover after kill -9: {took_ms:.0f} ms,"
            f" after SIGTERM: {goodbye_ms:.0f} ms."
        )

    def end(self) -> None:
        """End every member, whatever happened; each ends its own command."""
        for member in self.lives:
            member.end()


def two_free_addresses() -> tuple[str, str]:
    """Two loopback addresses that nothing listens at now."""
    with socket.socket() as one, socket.socket() as two:
        for sock in (one, two):
            sock.bind(("127.0.0.1", 0))
        return tuple(f"127.0.0.1:{sock.getsockname()[1]}" for sock in (one, two))  # type: ignore


def main() -> int:
    """Play, clean up, and return the exit status."""
    stage = Stage()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ha-heartbeat-demo-") as state:
        show = Show(stage, state)
        try:
            ending = show.play()
        except KeyboardInterrupt:
            return 130
        except BrokenPromiseError as broken:
            print(f"demo: {broken}", file=sys.stderr)
            return 1
        finally:
            with contextlib.suppress(BrokenPromiseError):
                show.end()
    stage.step(ending)
    return 0


if __name__ == "__main__":
    sys.exit(main())
