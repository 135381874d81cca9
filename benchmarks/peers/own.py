"""ha-heartbeat itself, from this checkout, with and without a witness."""

from __future__ import annotations

import os
import signal
import subprocess
from functools import partial

from benchmarks.hosts import Host
from benchmarks.members import INTERPRETER, SCRIPT
from benchmarks.network import MEMBERS, PORT, WITNESS
from benchmarks.peers.peer import Ground, Program, Settings
from benchmarks.witness import Witness

FASTEST = ("-t", "0.1", "--check-count", "3", "--stop-timeout", "0.05")
AS_KEEPALIVED = ("-t", "1.2", "--check-count", "3")


class Own:
    """Two members, and our own witness on the third host where one is wanted."""

    def __init__(self, ground: Ground, options: tuple[str, ...], *, witness: bool) -> None:
        self._ground = ground
        self._options = options
        if witness:
            third = Witness(ground.hosts[WITNESS].inside(), os.path.join(ground.folder, "witness"))
            third.wait_until_it_answers()
            self._options += ("--witness", third.url)

    def start(self, host: Host) -> subprocess.Popen[bytes]:
        """A member of the plain checkout."""
        other = self._ground.hosts[MEMBERS[1 - MEMBERS.index(host.name)]]
        where = ("-l", f"{host.address}:{PORT}", "-r", f"{other.address}:{PORT}")
        state = os.path.join(self._ground.folder, f"state-{host.name}")
        options = ("--member", host.name, "--state-dir", state, *self._options)
        return host.start((*INTERPRETER, SCRIPT, *where, *options, *self._ground.command(host)))

    def stands_by(self, host: Host) -> bool:
        """It says so itself."""
        return f" {host.name} supervisor" in host.said()

    def ask_to_stop(self, host: Host, main_pid: int) -> None:
        """SIGTERM to the member."""
        os.kill(main_pid, signal.SIGTERM)


def _version() -> str:
    words = (*INTERPRETER, SCRIPT, "--version")
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return told.split()[-1]


def _settings(
    key: str, text: str, check_s: float, options: tuple[str, ...], measures: tuple[str, ...] = ()
) -> Settings:
    deploy = partial(Own, options=options, witness="witness" in key)
    return Settings(key, text, 3 * check_s, check_s, deploy, measures)


PROGRAM = Program(
    key="ha-heartbeat",
    title="ha-heartbeat",
    debian=(),
    pip=(),
    version=_version,
    settings=(
        _settings("defaults", "defaults (-t 10 --check-count 3)", 10.0, ()),
        _settings("defaults-witness", "defaults, --witness", 10.0, ()),
        _settings("fastest", " ".join(FASTEST), 0.1, FASTEST),
        _settings("fastest-witness", f"{' '.join(FASTEST)} --witness", 0.1, FASTEST),
        # Notices a lost host as soon as keepalived does with its defaults.
        _settings(
            "as-keepalived", " ".join(AS_KEEPALIVED), 1.2, AS_KEEPALIVED, ("host", "memory", "idle")
        ),
    ),
    is_prompt=True,
    way="runs the command itself; planned stop: SIGTERM to the member",
)
