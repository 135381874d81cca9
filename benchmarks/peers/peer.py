"""What a scenario needs of a program that keeps one command running on one of two hosts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import NamedTuple, Protocol

from benchmarks.hosts import Host, Hosts
from benchmarks.recorder import Mode, Recorder


class Ground(NamedTuple):
    """Where a peer is deployed: three hosts, a folder for its files, the command to keep up."""

    hosts: Hosts
    folder: str
    recorder: Recorder
    mode: Mode

    def command(self, host: Host) -> tuple[str, ...]:
        """The words of the command on this host."""
        return self.recorder.command(host.name, self.mode)


class Peer(Protocol):
    """One program with one set of settings, deployed on a ground."""

    def start(self, host: Host) -> subprocess.Popen[bytes]:
        """Start the agent on a member's host."""

    def stands_by(self, host: Host) -> bool:
        """Whether the agent that was started there beside a worker is ready to take over."""

    def ask_to_stop(self, host: Host, main_pid: int) -> None:
        """The planned stop that the program's manual or the habits of its users give."""


class Settings(NamedTuple):
    """One row of the comparison: what it is set to, and what follows for who measures it."""

    key: str
    """defaults, fastest, ...: its name on the command line."""
    text: str
    """What a reader needs to set the same."""
    silence_s: float
    """How long a silence it takes to act on one, by its manual."""
    period_s: float
    """How often something recurs in it: each fault comes at a random moment of that."""
    deploy: Callable[[Ground], Peer]
    """Write its files on this ground, start what it needs on the third host, return it."""
    measures: tuple[str, ...] = ()
    """What is measured of it; everything unless named."""


class Program(NamedTuple):
    """A program of the comparison."""

    key: str
    title: str
    debian: tuple[str, ...]
    """The Debian packages that it needs."""
    pip: tuple[str, ...]
    """What it needs of PyPI."""
    version: Callable[[], str]
    """As installed; raises OSError or CalledProcessError when it is not."""
    settings: tuple[Settings, ...]
    is_prompt: bool
    """Whether a crash, a stop and a start wait for no timer of it."""
    way: str
    """How the command is put under it, and how it is stopped: a sentence for the reader."""
    main: str = ""
    """The first word of its main process, where that is not the one that `start` starts."""
    machine: tuple[str, ...] = ()
    """The first words of processes that stand for the machine and are not its."""
