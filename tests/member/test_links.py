"""Two members with a network and a cable of their own, and what is left of it when one is cut."""

from __future__ import annotations

import signal

import pytest

from tests.member.rig import Member, holds_for, send, wait_for
from tests.vip.network import MEMBERS, NetRig
from tests.vip.network import rigs_in as rigs_in

pytestmark = pytest.mark.side_by_side

DIRECT = {1: "198.51.100.1", 2: "198.51.100.2"}  # RFC 5737: never a real one
NETWORK = {1: "192.0.2.1", 2: "192.0.2.2"}


def lay_direct_cable(rig: NetRig) -> None:
    """From one member to the other, beside the network that both are on."""
    ends = {number: rig.network.namespace(side) for number, side in MEMBERS.items()}
    peer = ("type", "veth", "peer", "name", "direct", "netns", ends[2])
    rig.network.ip(MEMBERS[1], "link", "add", "direct", *peer)
    for number, side in MEMBERS.items():
        rig.network.ip(side, "address", "add", f"{DIRECT[number]}/24", "dev", "direct")
        rig.network.ip(side, "link", "set", "direct", "up")


def pull_direct_cable(rig: NetRig) -> None:
    rig.network.ip(MEMBERS[1], "link", "set", "direct", "down")


def plug_direct_cable(rig: NetRig) -> None:
    rig.network.ip(MEMBERS[1], "link", "set", "direct", "up")


def number_of(member: Member) -> int:
    return int(member.name[1])


def member(rig: NetRig, number: int) -> Member:
    other = 3 - number
    ways = ("-l", "0.0.0.0:22221", "--links", f"{DIRECT[other]}:22221")
    own_state = ("--state-dir", str(rig.place / f"state-{number}"))
    return rig.member(number, *ways, *own_state, "--takeover", "proof")


def both(rig: NetRig) -> tuple[Member, Member]:
    lay_direct_cable(rig)
    return rig.settle(member(rig, 1), member(rig, 2))


def names(rig: NetRig) -> list[str]:
    """Of all runs so far."""
    return [run.run for run in rig.runs()]


def say_path(members: tuple[Member, Member], addresses: dict[int, str], what: str) -> None:
    """Each tells of the way to the other."""
    for one in members:
        one.hears(rf"[Tt]he path to {addresses[3 - number_of(one)]}:22221 {what}")


def test_with_the_network_cut_the_cable_is_enough(rig: NetRig) -> None:
    worker, other = both(rig)
    before = names(rig)

    rig.network.cut(MEMBERS[1])
    say_path((worker, other), NETWORK, "is lost")
    assert names(rig) == before, "the run has been touched"

    # Proof is all that counts here, and the way that is cut gives none: the other one has to do.
    send(worker.guardian, signal.SIGKILL)
    worker.kill()
    rig.works(other)
    assert other.said("refused the connection")

    rig.network.heal(MEMBERS[1])
    back = member(rig, number_of(worker))
    rig.settle(other, back)


def test_a_pulled_cable_changes_nothing_and_is_said(rig: NetRig) -> None:
    worker, other = both(rig)
    before = names(rig)
    pull_direct_cable(rig)
    say_path((worker, other), DIRECT, "is lost")
    plug_direct_cable(rig)
    say_path((worker, other), DIRECT, "works again")
    assert names(rig) == before


def test_both_cut_is_a_partition_that_one_way_ends(rig: NetRig) -> None:
    worker, other = both(rig)
    before = names(rig)
    rig.network.cut(MEMBERS[2])
    pull_direct_cable(rig)
    other.hears("has not answered for")
    holds_for(1.0, lambda: names(rig) == before and other.is_supervisor, "who runs")

    plug_direct_cable(rig)
    worker.hears("is heard", times=worker.said("is heard") + 1)
    wait_for(lambda: other.is_supervisor, "the supervisor to supervise")
    assert names(rig) == before
