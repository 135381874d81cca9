"""The lease: at its end the tree is dead, and not before."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from ha_heartbeat.guardian.clock import now_ns
from ha_heartbeat.guardian.protocol import (
    Ended,
    Expired,
    Extend,
    Gone,
    Kill,
    Started,
    Stop,
)
from tests.guardian.rig import FAR_NS, Rig, lease, linux_only, order, refused, shell, wait_for

Maker = Callable[..., Rig]
DEAF = (
    "import os, signal, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'term\\n'))\n"
    "while True: time.sleep(0.05)\n"
)
STUBBORN = "trap '' TERM; exec sleep 600"


def test_a_lease_that_runs_out_ends_the_run_by_sigterm(rig: Maker, variant: str) -> None:
    member = rig(variant)
    times = lease(0.4, 60)
    member.say(shell("exec sleep 600", **times))
    member.expect(Started)
    ended = member.expect(Ended)
    assert ended.signal == signal.SIGTERM
    assert ended.at_ns >= times["term_at_ns"]
    assert member.expect(Expired).at_ns >= ended.at_ns


def test_who_ignores_that_is_killed_when_the_lease_is_over(rig: Maker, variant: str) -> None:
    member = rig(variant)
    times = lease(0.2, 0.6)
    member.say(shell(STUBBORN, **times))
    member.expect(Started)
    ended = member.expect(Ended)
    assert ended.signal == signal.SIGKILL
    assert ended.at_ns >= times["kill_at_ns"]
    member.expect(Expired)
    member.say(shell("exit 5", 2), Stop(0))  # and the guardian waits for further orders
    member.expect(Started)
    member.expect(Ended)
    member.expect(Gone)


def test_a_lease_that_is_extended_keeps_the_run_alive(rig: Maker, variant: str) -> None:
    member = rig(variant)
    member.say(shell("exec sleep 600", **lease(0.5, 0.6)))
    member.expect(Started)
    first = lease(1.5, 60)
    member.say(Extend(FAR_NS, FAR_NS), Extend(**first))
    ended = member.expect(Ended)
    assert ended.at_ns >= first["term_at_ns"]
    member.expect(Expired)


def test_an_extension_after_the_sigterm_saves_who_ignored_it(rig: Maker, variant: str) -> None:
    member = rig(variant)
    times = lease(0.5, 20)
    member.say(order((sys.executable, "-c", DEAF), 1, (), **times))
    member.expect(Started)
    assert os.read(member.output, 5) == b"term\n"
    member.say(Extend(**lease(0.2, 20)))
    assert os.read(member.output, 5) == b"term\n"
    member.say(Extend(FAR_NS, FAR_NS), Kill())
    member.expect(Ended)
    assert isinstance(member.hear(), Gone), "and it did not expire"


@linux_only
def test_leftovers_expire_with_the_lease(rig: Maker) -> None:
    member = rig("linux")
    times = lease(0.5, 60)
    member.say(shell("setsid sleep 600 &", **times))
    member.expect(Started)
    assert member.expect(Ended).leftovers == 1
    assert member.expect(Expired).at_ns >= times["term_at_ns"]


def test_a_lease_without_a_tree_passes_in_silence(rig: Maker, variant: str) -> None:
    member = rig(variant)
    times = lease(0.2, 0.3)
    member.say(shell("true", **times))
    member.expect(Started)
    member.expect(Ended)
    wait_for(lambda: now_ns() > times["kill_at_ns"])
    member.say(Kill())
    assert isinstance(member.hear(), Gone)


@linux_only
def test_an_idle_guardian_does_not_wake(rig: Maker) -> None:
    def switches() -> str:
        lines = Path(f"/proc/{member.pid}/status").read_text().splitlines()
        return next(line for line in lines if line.startswith("voluntary"))

    member = rig("linux")
    member.say(shell("true"))
    member.expect(Started)
    member.expect(Ended)

    def sleeps_on() -> bool:
        before, end_ns = switches(), now_ns() + 1_500_000_000
        wait_for(lambda: now_ns() > end_ns)
        return switches() == before

    wait_for(sleeps_on)  # the first look may come before it has gone to sleep
    assert not refused(member.port)
