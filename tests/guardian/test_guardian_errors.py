"""Errors of the guardian's own, and of its member's: the tree never outlives them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ha_heartbeat.guardian.protocol import Ended, Gone, Started, encode
from tests.guardian.rig import ROOT, Rig, linux_only, marked, shell, wait_for

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
TREE = "setsid sleep 600 & setsid sleep 600 & echo; wait"


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
