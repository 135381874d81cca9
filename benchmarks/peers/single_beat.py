"""single-beat: a key with a time to live in Redis on the third host, and the command as its child.

Its times are whole seconds. A heartbeat interval of 0 is accepted and spins, so the fastest are the
least times that are not that.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from functools import partial

from benchmarks.hosts import Host
from benchmarks.members import BenchmarkError
from benchmarks.network import ADDRESSES, WITNESS
from benchmarks.peers.install import VENV, pip_version
from benchmarks.peers.peer import Ground, Program, Settings

_START_S = 30.0
_LOOK_S = 0.05


class SingleBeat:
    """Two of them after the same key, and one Redis without persistence."""

    def __init__(self, ground: Ground, environment: Mapping[str, str]) -> None:
        self._ground = ground
        self._environment = {
            "SINGLE_BEAT_REDIS_SERVER": f"redis://{ADDRESSES[WITNESS]}:6379",
            "SINGLE_BEAT_IDENTIFIER": "command",
            **environment,
        }
        address = ("--bind", ADDRESSES[WITNESS], "--protected-mode", "no")
        files = ("--save", "", "--appendonly", "no", "--dir", ground.folder)
        third = ground.hosts[WITNESS]
        third.start(("redis-server", *address, *files))
        end_s = time.monotonic() + _START_S
        while "PONG" not in self._ask("ping"):
            if time.monotonic() > end_s:
                raise BenchmarkError(f"Redis did not start\n{third.said()[-1500:]}")
            time.sleep(_LOOK_S)

    def _ask(self, *words: str) -> str:
        """An answer of Redis, asked on its own host."""
        inside = self._ground.hosts[WITNESS].inside()
        command = (*inside, "redis-cli", "-h", ADDRESSES[WITNESS], *words)
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def start(self, host: Host) -> subprocess.Popen[bytes]:
        """Wait for the key, then run the command."""
        program = os.path.join(VENV, "bin", "single-beat")
        return host.start((program, *self._ground.command(host)), self._environment)

    def stands_by(self, host: Host) -> bool:
        """It has tried to set the key; a connection of one that was cut off does not count."""
        clients = self._ask("client", "list").splitlines()
        return any(
            f"addr={host.address}:" in client and "cmd=set " in client and " idle=0" in client
            for client in clients
        )

    def ask_to_stop(self, host: Host, main_pid: int) -> None:
        """SIGTERM, which it passes on."""
        os.kill(main_pid, signal.SIGTERM)


def _settings(key: str, text: str, lock_s: int, environment: Mapping[str, str]) -> Settings:
    return Settings(key, text, 2.0 * lock_s, 1.0, partial(SingleBeat, environment=environment))


PROGRAM = Program(
    key="single-beat",
    title="single-beat",
    debian=("redis-server",),
    pip=("single-beat",),
    version=partial(pip_version, "single-beat"),
    settings=(
        _settings("defaults", "defaults (LOCK_TIME 5, HEARTBEAT_INTERVAL 1)", 5, {}),
        _settings(
            "fastest",
            "LOCK_TIME 3, INITIAL_LOCK_TIME 4, HEARTBEAT_INTERVAL 1",
            3,
            {"SINGLE_BEAT_LOCK_TIME": "3", "SINGLE_BEAT_INITIAL_LOCK_TIME": "4"},
        ),
    ),
    is_prompt=False,
    way="runs the command itself, with one Redis on the third host; planned stop: SIGTERM to "
    "single-beat",
)
