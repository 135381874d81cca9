"""Errors of the guardian's own, and of its member's: the tree never outlives them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ha_heartbeat.guardian.clock import now_ns
from ha_heartbeat.guardian.protocol import Ended, Gone, Started, encode
from tests.guardian.rig import ROOT, Rig, lease, linux_only, marked, shell, wait_for

Maker = Callable[..., Rig]
BROKEN = f"""
import sys
sys.path.insert(0, {ROOT!r})
from ha_heartbeat.guardian import main
def stop_wrongly(guardian, grace_ns):
    raise RuntimeError("as planned")
main.Guard._limit = stop_wrongly
main.main()
"""
STOPPED_AFTER_FORK = f"""
import os, signal, sys
sys.path.insert(0, {ROOT!r})
from ha_heartbeat.guardian import linux, main
start = linux.LinuxTree.start
def start_and_stand_still(tree, order):
    start(tree, order)
    os.kill(os.getpid(), signal.SIGSTOP)
linux.LinuxTree.start = start_and_stand_still
main.main()
"""
TREE = "echo; setsid sleep 600 & setsid sleep 600 & wait"


@linux_only
@pytest.mark.parametrize("variant", ["linux", "linux-sweep"])
def test_an_unexpected_error_kills_the_tree_and_is_one_sentence(
    rig: Maker, variant: str, mark: str
) -> None:
    member = rig(variant, program=BROKEN)
    member.say(shell(TREE))
    member.expect(Started)
    wait_for(lambda: len(marked(mark)) == 5)
    member.leave()  # which makes it stop the tree
    assert member.process.wait(20) == 70
    assert not marked(mark)
    assert member.text() == (
        "\nha-heartbeat guardian: an unexpected error, so it kills its runs: "
        "RuntimeError: as planned\n"
    )


@linux_only
def test_a_guardian_that_stands_still_right_after_the_fork_has_answered_for_it_before(
    rig: Maker, mark: str
) -> None:
    times = lease(0.6, 0.8)
    member = rig("linux", program=STOPPED_AFTER_FORK)
    member.say(shell("exec sleep 600", **times))
    wait_for(lambda: len(marked(mark)) == 3)  # guardian, keeper and run
    wait_for(lambda: not marked(mark))
    assert now_ns() >= times["kill_at_ns"]


@pytest.mark.parametrize("garbage", [b"\xff" * 8, b"\0\0\0\x04what", encode(Gone(1))])
def test_a_member_that_talks_nonsense_is_one_that_has_died(
    rig: Maker, variant: str, garbage: bytes
) -> None:
    member = rig(variant)
    member.say(shell("exec sleep 600"))
    member.expect(Started)
    member.control.sendall(garbage)
    assert member.expect(Ended)
    assert member.process.wait(20) == 0
    assert "what its member says is not understood" in member.text()
