#!/usr/bin/env python3
"""Two members on this machine take turns: a takeover, a return, and a hand-over, in one terminal.

    python3 examples/demo.py

Needs a Python 3.11 or newer and nothing else: no install, no network but loopback, no rights. It
ends by itself, leaves nothing behind, and exits 0 only if everything was as promised.
"""

from __future__ import annotations

import os
import queue
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[1]
LOG_LINE: Final = re.compile(r"\S+ \S+ \S+ [a-z-]+(?: \d+)?: (.*)")
PATIENCE_S: Final = 20.0
RUNS_TO_SEE: Final = 3
WIDTH: Final = 78
COLOURS: Final = {"m1": "36", "m2": "33", "": "1"}

COMMAND: Final = """
import os, signal, sys, time
def say(word):
    os.write(1, f"{word} {os.environ['HA_HEARTBEAT_RUN']} {time.monotonic_ns()}\\n".encode())
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
try:
    say("BEGIN")
    time.sleep(0.25)
finally:
    say("END")
"""
"""What the members run: it says when it begins and ends, by a clock that all processes share."""


class BrokenPromiseError(Exception):
    """Something was not as promised; the text is the sentence to end with."""


class Stage:
    """Writes to the terminal, in lines that fit, with colour only where it is wanted."""

    def __init__(self) -> None:
        is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = is_terminal and not os.environ.get("NO_COLOR")
        self._began_s = time.monotonic()

    def step(self, text: str) -> None:
        """What happens next, and why."""
        print()
        for line in textwrap.wrap(f"* {text}", WIDTH, subsequent_indent="  "):
            print(self._in_colour("", line), flush=True)

    def line(self, name: str, text: str) -> None:
        """What a member said or did, and when."""
        since = f"{time.monotonic() - self._began_s:5.2f} s  "
        first, *rest = textwrap.wrap(text, WIDTH - len(since) - len(name) - 2) or [""]
        print(since + self._in_colour(name, f"{name}  {first}"), flush=True)
        for more in rest:
            print(" " * len(since) + self._in_colour(name, f"    {more}"), flush=True)

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
        """Ask it to stop, insist if it does not, and wait until all that it started has ended."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reader.join(PATIENCE_S)  # the last of its processes closes its output


class Show:
    """The demo itself: the members, what was seen of them, and the promises."""

    def __init__(self, stage: Stage, state: str) -> None:
        self.stage = stage
        self.state = state
        self.lines: queue.Queue[tuple[str, str]] = queue.Queue()
        self.members: dict[str, Member] = {}
        self.lives: list[Member] = []
        self.worker = ""
        self.in_a_row = 0
        self.began_ns: dict[str, int] = {}  # by run, in the order in which they were heard of
        self.ended_ns: dict[str, int] = {}
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
        match line.split():
            case ["BEGIN", run, now_ns]:
                self.began_ns[run] = int(now_ns)
                self.in_a_row = self.in_a_row + 1 if name == self.worker else 1
                self.worker = name
                self.stage.line(name, f"> run {run} of the command")
            case ["END", run, now_ns]:
                self.ended_ns[run] = int(now_ns)
            case _:
                said = LOG_LINE.fullmatch(line)
                self.stage.line(name, said[1] if said else line)

    def took_ms(self, since_ns: int) -> float:
        """From then to the beginning of the latest run."""
        return (max(self.began_ns.values()) - since_ns) / 1e6

    def runs_on(self, name: str, times: int = RUNS_TO_SEE) -> Callable[[], bool]:
        """A condition: the latest runs were all this member's."""
        return lambda: self.worker == name and self.in_a_row >= times

    def play(self) -> str:
        """All acts; the sentence to end with."""
        say = self.stage.step
        say("Two members start with the same command: it runs on exactly one of them.")
        self.start("m2")
        self.start("m1")
        self.until(self.runs_on("m2"), "the first run on m2")

        say("kill -9 for m2, amid a run. Its port is refused: proof that all of it is gone.")
        killed_ns = self.members["m2"].kill()
        self.until(self.runs_on("m1", 1), "the takeover")
        takeover_ms = self.took_ms(killed_ns)
        say(f"That took {takeover_ms:.0f} ms from the kill to the first line of the new run.")
        self.until(self.runs_on("m1"), "the next runs on m1")

        say("m2 returns. It is preferred (m1 has -f), so m1 gives the role back.")
        self.start("m2")
        self.until(self.runs_on("m2"), "the hand-over")

        say("SIGTERM for m2: it ends its run and says goodbye. Nobody waits for anything.")
        asked_ns = time.monotonic_ns()
        self.members["m2"].end()
        self.until(self.runs_on("m1", 1), "the takeover after the goodbye")
        goodbye_ms = self.took_ms(asked_ns)

        say("SIGTERM for m1, too.")
        self.end()
        self.until(self.lines.empty, "the end")
        self.judge()
        return (
            f"As promised: {len(self.began_ns)} runs, never two at once. Takeover after kill -9: "
            f"{takeover_ms:.0f} ms, after SIGTERM: {goodbye_ms:.0f} ms."
        )

    def judge(self) -> None:
        """Raise BrokenPromiseError if two runs were alive at once, or an exit status is wrong."""
        runs = sorted(self.began_ns, key=lambda run: self.began_ns[run])
        for one, other in pairwise(runs):
            if one not in self.ended_ns or self.ended_ns[one] > self.began_ns[other]:
                raise BrokenPromiseError(f"run {other} began before run {one} had ended")
        for name, member in self.members.items():
            if member.process.returncode != 0:
                raise BrokenPromiseError(f"{name} did not exit 0 when it was asked to stop")

    def end(self) -> None:
        """End every member, whatever happened; each ends its own command."""
        for member in self.lives:
            member.end()


def two_free_addresses() -> tuple[str, str]:
    """Two loopback addresses that nothing listens at now."""
    with socket.socket() as one, socket.socket() as two:
        for sock in (one, two):
            sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}", f"127.0.0.1:{two.getsockname()[1]}"


def main() -> int:
    """Play, clean up, and return the exit status."""
    stage = Stage()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ha-heartbeat-demo-") as state:
        show = Show(stage, state)
        try:
            ending = show.play()
        except KeyboardInterrupt:
            print("\ndemo: interrupted; ending both members", file=sys.stderr)
            return 130
        except BrokenPromiseError as broken:
            print(f"demo: {broken}", file=sys.stderr)
            return 1
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # nothing may be left behind
            show.end()
    stage.step(ending)
    return 0


if __name__ == "__main__":
    sys.exit(main())
