"""`etcdctl lock NAME COMMAND`: a lease in etcd on the third host, and the command beside it.

etcdctl runs the command once it has the lock, and unlocks when the command has ended. It neither
passes a SIGTERM on to the command nor looks after the lease while the command runs, so the
planned stop signals both, as a service manager does that stops a control group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from functools import partial

from benchmarks.hosts import Host
from benchmarks.members import BenchmarkError
from benchmarks.network import ADDRESSES, MEMBERS, WITNESS
from benchmarks.peers.install import debian_version
from benchmarks.peers.peer import Ground, Program, Settings

_URL = f"http://{ADDRESSES[WITNESS]}:2379"
_PEER_URL = f"http://{ADDRESSES[WITNESS]}:2380"
_LOCK = "command"
_START_S = 30.0
_LOOK_S = 0.05


class EtcdctlLock:
    """Two of them after the same lock, and one etcd."""

    def __init__(self, ground: Ground, lock: tuple[str, ...], server: tuple[str, ...]) -> None:
        self._ground = ground
        self._lock = lock
        urls = (
            *("--listen-client-urls", _URL, "--advertise-client-urls", _URL),
            *("--listen-peer-urls", _PEER_URL, "--initial-advertise-peer-urls", _PEER_URL),
            *("--initial-cluster", f"default={_PEER_URL}"),
        )
        data = ("--data-dir", os.path.join(ground.folder, "etcd"))
        ground.hosts[WITNESS].start(("etcd", *data, *urls, *server))
        end_s = time.monotonic() + _START_S
        while self._ask("endpoint", "health").returncode:
            if time.monotonic() > end_s:
                raise BenchmarkError(f"etcd did not start\n{ground.hosts[WITNESS].said()[-1500:]}")
            time.sleep(_LOOK_S)

    def _ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """An answer of etcd, asked on its own host."""
        return subprocess.run(
            (*self._ground.hosts[WITNESS].inside(), "etcdctl", "--endpoints", _URL, *words),
            env={**os.environ, "ETCDCTL_API": "3"},
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, host: Host) -> subprocess.Popen[bytes]:
        """Wait for the lock, then run the command."""
        command = self._ground.command(host)
        words = ("etcdctl", "--endpoints", _URL, "lock", *self._lock, _LOCK, *command)
        return host.start(words, {"ETCDCTL_API": "3"})

    def stands_by(self, host: Host) -> bool:
        """Holder and candidate have a key each; that of a dead one goes with its lease."""
        told = self._ask("get", "--prefix", "--keys-only", f"{_LOCK}/").stdout
        return len(told.split()) == len(MEMBERS)

    def ask_to_stop(self, host: Host, main_pid: int) -> None:
        """SIGTERM to everything on the host."""
        for pid in host.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def _settings(
    key: str, text: str, ttl_s: int, lock: tuple[str, ...] = (), server: tuple[str, ...] = ()
) -> Settings:
    return Settings(
        key, text, ttl_s + 1.0, ttl_s / 3, partial(EtcdctlLock, lock=lock, server=server)
    )


PROGRAM = Program(
    key="etcdctl-lock",
    title="etcdctl lock",
    debian=("etcd-server", "etcd-client"),
    pip=(),
    version=partial(debian_version, "etcd-server"),
    settings=(
        _settings("defaults", "defaults (--ttl 10)", 10),
        _settings(
            "fastest",
            "--ttl 1; etcd --heartbeat-interval 10 --election-timeout 100",
            1,
            ("--ttl", "1"),
            # etcd gives no lease that is shorter than one and a half of its election timeouts.
            ("--heartbeat-interval", "10", "--election-timeout", "100"),
        ),
    ),
    is_prompt=False,
    way="runs the command itself, with one etcd on the third host; planned stop: SIGTERM to "
    "etcdctl and to the command",
)
