"""What a chapter of a campaign is played with: drawn from the seed, and checked by the program.

A chapter is one life of a pair: its options and its command stay the same, and its faults follow
each other. The longest times are those that the program's own `--check-config` prints; the campaign
reads them like an operator would.
"""

from __future__ import annotations

import random
import re
import subprocess
from enum import Enum
from typing import NamedTuple

from benchmarks.members import INTERPRETER, SCRIPT
from benchmarks.network import ADDRESSES, PORT

STARTS_S = 0.5
"""For the start of an interpreter and of the command, which the printed times do not include."""
WAKES_S = 0.1
HAND_OVER_S = 0.1
PROCESSES = 60
"""How many a host may have while its command forks without end."""


class Judgement(Enum):
    """Who decides about a silent worker, which is what the promise depends on."""

    WITNESS = "witness"
    PROOF = "proof"
    SILENCE = "silence"


class Chapter(NamedTuple):
    """The settings of one life of a pair."""

    number: int
    judgement: Judgement
    interval_s: float
    check_count: int
    stop_timeout_s: float
    every_s: float
    mode: tuple[str, ...]
    distrust: bool
    fallback: bool
    stdout_is_read: bool

    @property
    def lease_s(self) -> float:
        return self.interval_s * self.check_count

    @property
    def command(self) -> str:
        """What the command does, in a word."""
        return self.mode[0]

    @property
    def leaves_orphans(self) -> bool:
        """Whether something of the command lives on if all that watches it is killed."""
        return self.command in ("daemon", "family", "bomb", "flood")

    def options(self, host: str, witness_url: str) -> tuple[str, ...]:
        """The options of the member on this host, but for its own place and state."""
        words = [
            *("-t", f"{self.interval_s:g}", "--check-count", str(self.check_count)),
            *("--stop-timeout", f"{self.stop_timeout_s:g}", "-i", f"{self.every_s:g}"),
            *("--log-format", "json"),
        ]
        if self.judgement is Judgement.WITNESS:
            words += ["--witness", witness_url]
        else:
            words += ["--takeover", self.judgement.value]
        if self.distrust:
            words.append("--distrust-refused")
        if self.fallback:
            words += ["--fallback"] if host == "a" else ["--mode", "WORKER"]
        return tuple(words)

    def __str__(self) -> str:
        extra = [word for word in ("distrust", "fallback") if getattr(self, word)]
        return (
            f"chapter {self.number}: {self.judgement.value}, -t {self.interval_s:g} "
            f"--check-count {self.check_count} --stop-timeout {self.stop_timeout_s:g} "
            f"-i {self.every_s:g}, command {' '.join(self.mode)}{''.join(f', {e}' for e in extra)}"
        )


MODES = {
    ("serve",): 6,
    ("stubborn",): 3,
    ("batch", "60"): 3,
    ("family",): 2,
    ("daemon",): 4,
    ("bomb",): 1,
    ("flood",): 1,
}
JUDGEMENTS = {Judgement.WITNESS: 8, Judgement.SILENCE: 1, Judgement.PROOF: 1}


def draw(
    number: int, dice: random.Random, judgement: Judgement | None = None, command: str = ""
) -> Chapter:
    """A chapter by chance: mostly with a witness, with a lease of 0.3 to 0.9 s.

    `judgement` and `command` are kept to if they are given; all else is drawn the same.
    """
    modes = {mode: weight for mode, weight in MODES.items() if command in ("", mode[0])}
    drawn = dice.choices(list(JUDGEMENTS), list(JUDGEMENTS.values()))[0]
    interval_s = dice.choice((0.1, 0.15, 0.2, 0.3))
    return Chapter(
        number=number,
        judgement=judgement or drawn,
        interval_s=interval_s,
        check_count=3,
        stop_timeout_s=dice.choice((0.05, round(interval_s / 2, 3))),
        every_s=0.2,
        mode=dice.choices(list(modes), list(modes.values()))[0],
        distrust=dice.random() < 0.15,
        fallback=dice.random() < 0.15,
        stdout_is_read=dice.random() < 0.5,
    )


class ConfigError(Exception):
    """The program objects to a chapter's options, or says what was not understood."""


def longest_times_s(chapter: Chapter, witness_url: str) -> dict[str, float]:
    """The longest time until another runs, for each failure that `--check-config` names.

    Infinite where the worker goes on, or where nobody takes over. Raises ConfigError.
    """
    words = (*INTERPRETER, SCRIPT, "--check-config", *chapter.options("b", witness_url))
    where = ("-l", f"{ADDRESSES['b']}:{PORT}", "-r", f"{ADDRESSES['a']}:{PORT}", "true")
    done = subprocess.run((*words, *where), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(done.stderr.strip())
    found = {}
    for line in done.stdout.splitlines():
        columns = re.split(r"\s{2,}", line.strip())
        if len(columns) == 3 and columns[0] != "what happens":
            seconds = re.fullmatch(r"after ([\d.]+) s at most", columns[1])
            found[columns[0]] = float(seconds.group(1)) if seconds else float("inf")
    if not {"process killed", "host lost"} <= set(found):
        raise ConfigError(f"--check-config printed no times:\n{done.stdout}")
    return found
