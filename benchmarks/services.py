"""Many services in one pair, on loopback: what they cost, and how soon all are taken over.

    python3 -S -E benchmarks/services.py [--services 200] [--seconds 30]

Half of the services are at home on each member. After a while in which nothing happens, one member
and everything below it is killed with SIGKILL, and the other takes over its half.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks import processes
from benchmarks.members import INTERPRETER, SCRIPT, BenchmarkError

ADDRESSES = ("127.94.7.1:22221", "127.94.7.2:22222")
LIMIT_S = 120.0
SETTLE_S = 12.0
"""Until checks that began at different moments are in step."""

HBCTL_TIMES = 9


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=200, metavar="N")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="of idling")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="ha-heartbeat-") as folder:
        for line in _measure(folder, args.services, args.seconds):
            print(line, flush=True)
    return 0


def _measure(folder: str, count: int, seconds: float) -> Iterator[str]:
    for number in (0, 1):
        _write_file(folder, number, count)
    with _running(folder) as (one, two):
        _wait(lambda: len(_marks(folder)) >= count, f"{count} commands run")
        time.sleep(SETTLE_S)
        _wait(lambda: _is_at_home(folder, count), "each service is at home")
        yield from _cost(one, two, seconds)
        yield _status(folder)
        before = set(_marks(folder))
        doomed = _below(one.pid)
        began_ns = time.time_ns()
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wanted = (count + 1) // 2
        _wait(lambda: len(set(_marks(folder)) - before) >= wanted, "all are taken over")
        after = [_marks(folder)[name] for name in set(_marks(folder)) - before]
        times = sorted((at_ns - began_ns) / 1e9 for at_ns in after)
        yield (
            f"kill -9 of a member and everything below it: {len(times)} services taken over, the "
            f"first run after {times[0]:.3f} s, half after {times[len(times) // 2]:.3f} s, the "
            f"last after {times[-1]:.3f} s"
        )


def _write_file(folder: str, number: int, count: int) -> None:
    top = {
        "local": ADDRESSES[number],
        "remote": ADDRESSES[1 - number],
        "member": f"m{number + 1}",
        "state_dir": os.path.join(folder, "state"),
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in top.items()]
    mark = f"{folder}/$HA_HEARTBEAT_SERVICE.$HA_HEARTBEAT_MEMBER.$HA_HEARTBEAT_EPOCH"
    lines += ["[defaults]", "interval_test = 1", "interval_commands = 3600"]
    lines += [f"command = {json.dumps(f': > {mark}; exec sleep 86400')}"]
    for index in range(count):
        lines.append(f"[services.s{index:04}]")
        lines.append('mode = "worker"' if index % 2 == number else "fallback = true")
    with open(os.path.join(folder, f"m{number + 1}.toml"), "w") as file:
        file.write("\n".join(lines) + "\n")


@contextlib.contextmanager
def _running(folder: str) -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    members = []
    try:
        for name in ("m1", "m2"):
            with open(os.path.join(folder, f"{name}.log"), "wb") as log:
                words = [*INTERPRETER, SCRIPT, "--config", os.path.join(folder, f"{name}.toml")]
                members.append(subprocess.Popen(words, stderr=log, stdin=subprocess.DEVNULL))
        yield members[0], members[1]
    finally:
        for member in members:
            member.terminate()
        for member in members:
            member.wait()


def _marks(folder: str) -> dict[str, int]:
    """What has begun to run, and when, in nanoseconds of the day."""
    found = {}
    for entry in os.scandir(folder):
        if entry.name.startswith("s0"):
            found[entry.name] = entry.stat().st_mtime_ns
    return found


def _is_at_home(folder: str, count: int) -> bool:
    told = json.loads(_hbctl(folder, "--json"))["members"]
    at_home = [m for m in told if m["role"] == ("worker" if _home(m) else "supervisor")]
    return len(at_home) == count


def _home(member: dict[str, str]) -> bool:
    """Whether the first member is home of this service."""
    return int(member["service"][1:]) % 2 == 0


def _hbctl(folder: str, *words: str) -> bytes:
    where = ("--state-dir", os.path.join(folder, "state"), "--local", ADDRESSES[0])
    hbctl = os.path.join(os.path.dirname(SCRIPT), "hbctl")
    return subprocess.run(
        [*INTERPRETER, hbctl, "status", *where, *words], check=True, capture_output=True
    ).stdout


def _status(folder: str) -> str:
    times = []
    for _ in range(HBCTL_TIMES):
        began = time.monotonic()
        _hbctl(folder)
        times.append(time.monotonic() - began)
    return f"hbctl status of one member: {1000 * sorted(times)[len(times) // 2]:.0f} ms median"


def _below(pid: int) -> list[int]:
    """A process and all that is below it, parents first."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError), open(f"/proc/{one}/task/{one}/children") as file:
            found += map(int, file.read().split())
    return found


def _watchers(member: int) -> list[int]:
    """The keepers and guardians below a member: what runs our code."""
    found = []
    for pid in _below(member)[1:]:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"ha_heartbeat" in file.read():
                found.append(pid)
    return found


def _cost(
    one: subprocess.Popen[bytes], two: subprocess.Popen[bytes], seconds: float
) -> Iterator[str]:
    groups = {
        f"{name} of {member}": pids
        for member, process in (("m1", one), ("m2", two))
        for name, pids in (
            ("member", [process.pid]),
            ("keepers and guardians", _watchers(process.pid)),
        )
    }
    before = {name: _used(pids) for name, pids in groups.items()}
    began_ns = time.monotonic_ns()
    time.sleep(seconds)
    window_ns = time.monotonic_ns() - began_ns
    for name, pids in groups.items():
        pss_kib = processes.memory(pids).pss_kib
        used = 100 * (_used(pids) - before[name]) / window_ns
        yield (
            f"{name}: {len(pids)} processes, {pss_kib / 1024:.1f} MiB PSS, {used:.2f} % of a core"
        )


def _used(pids: Sequence[int]) -> int:
    return sum(processes.usage(pid).cpu_ns for pid in pids)


def _wait(condition: object, what: str) -> None:
    assert callable(condition)
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > end_s:
            raise BenchmarkError(f"not within {LIMIT_S:g} s: {what}")
        time.sleep(0.05)


if __name__ == "__main__":
    processes.exit_with(main)
