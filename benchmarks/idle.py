"""What a member and its guardian cost while nothing happens, with default options."""

from __future__ import annotations

import time

from benchmarks import processes
from benchmarks.bench import Bench
from benchmarks.members import Member, Pair, running
from benchmarks.report import Fact
from benchmarks.takeovers import LONG_INTERVAL

SETTLE_S = 3.0
"""A pause after the start, so that what is done once is not counted as idling."""


def measure(bench: Bench) -> list[Fact]:
    """Memory after the start, then processor time and wake-ups over `bench.idle_s`."""
    pair = Pair(bench.network, bench.recorder(), bench.folder(), LONG_INTERVAL)
    with running(pair):
        members = dict(zip(("worker", "supervisor"), pair.start_both(), strict=True))
        time.sleep(min(SETTLE_S, bench.idle_s))
        before = {role: _usage(member) for role, member in members.items()}
        began_ns = time.monotonic_ns()
        time.sleep(bench.idle_s)
        window_ns = time.monotonic_ns() - began_ns
        facts = []
        for role, member in members.items():
            facts += [_memory(role, member), _cost(role, before[role], _usage(member), window_ns)]
    return facts


def _usage(member: Member) -> processes.Usage:
    """Of the member and its guardian together."""
    used = [processes.usage(pid) for pid in (member.pid, *member.guardian_pids)]
    return processes.Usage(*map(sum, zip(*used, strict=True)))


def _memory(role: str, member: Member) -> Fact:
    one = processes.memory([member.pid]).pss_kib
    two = processes.memory(member.guardian_pids).pss_kib
    alone = processes.memory([member.pid, *member.guardian_pids]).alone_kib
    return Fact(
        f"memory of an idle {role}",
        f"{(one + two) / 1024:.1f} MiB PSS (member {one / 1024:.1f}, guardian {two / 1024:.1f}); "
        f"{alone / 1024:.1f} MiB if nothing else shared a page with them",
    )


def _cost(role: str, before: processes.Usage, after: processes.Usage, window_ns: int) -> Fact:
    cpu_ns = after.cpu_ns - before.cpu_ns
    wake_ups = after.voluntary_switches - before.voluntary_switches
    window_s = window_ns / 1e9
    return Fact(
        f"processor of an idle {role}",
        f"{100 * cpu_ns / window_ns:.4f} % of a core, {wake_ups / window_s:.2f} wake-ups a second "
        f"({cpu_ns / 1e6:.1f} ms and {wake_ups} in {window_s:.0f} s)",
    )
