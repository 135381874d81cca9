"""A virtual address is where the command is, whatever dies, and the network is told."""

from __future__ import annotations

import json
import signal

import pytest

from tests.member.rig import Member, paused, send, wait_for
from tests.member.test_many import Many
from tests.vip.network import CLIENT, DEVICE, MEMBERS, V4, V6, VIPS, NetRig
from tests.vip.network import rigs_in as rigs_in

pytestmark = pytest.mark.side_by_side

OPTIONS = ("--vip", VIPS[0], "--vip", VIPS[1], "--stop-timeout", "1", "--hook-timeout", "20")


def side(member: Member) -> str:
    return MEMBERS[int(member.name[1])]


def is_bare(rig: NetRig, member: Member) -> bool:
    return not any(rig.network.has(side(member), address) for address in (V4, V6))


def has_both(rig: NetRig, member: Member) -> bool:
    return all(rig.network.has(side(member), address) for address in (V4, V6))


def believe(rig: NetRig, member: Member) -> None:
    """The client has talked with the addresses on that member."""
    for address in (V4, V6):
        rig.network.mislead(address, rig.network.mac(side(member)))


def served_by(rig: NetRig, member: Member) -> None:
    """It runs, has the addresses alone, and the client knows without having asked."""
    rig.works(member)
    assert has_both(rig, member)
    for address in (V4, V6):
        assert rig.network.known_mac(address) == rig.network.mac(side(member))


def both(rig: NetRig) -> tuple[Member, Member]:
    one, two = rig.member(1, *OPTIONS), rig.member(2, *OPTIONS)
    return rig.settle(one, two)


def again(rig: NetRig, gone: Member, worker: Member) -> Member:
    """The other one is back."""
    member = rig.member(int(gone.name[1]), *OPTIONS)
    rig.settle(worker, member)
    return member


def test_it_follows_the_role(rig: NetRig) -> None:
    worker, other = both(rig)
    believe(rig, other)
    assert has_both(rig, worker)
    assert is_bare(rig, other)
    worker.hears(rf"Virtual address {VIPS[0]} and {VIPS[1]}: .* announced 3 times")

    believe(rig, worker)
    worker.stop()
    worker.hears("Virtual address .*: removed")
    served_by(rig, other)
    assert is_bare(rig, worker)
    worker, other = other, again(rig, worker, other)

    for victims in (("pid",), ("pid", "guardian"), ("pid", "keeper")):
        believe(rig, worker)
        killed = [getattr(worker, name) for name in victims]
        for pid in killed:
            send(pid, signal.SIGKILL)
        worker.ended()
        served_by(rig, other)
        assert is_bare(rig, worker)
        worker, other = other, again(rig, worker, other)

    found = [member.name for member in rig.members if member.said("--vip failed")]
    assert not found, "the one before still had it"

    believe(rig, worker)
    with paused(worker.pid):
        served_by(rig, other)
        assert is_bare(rig, worker)
    wait_for(lambda: worker.is_supervisor, "the one before to supervise")
    assert is_bare(rig, worker)
    assert has_both(rig, other)

    believe(rig, other)
    rig.hbctl(other, "switchover")
    served_by(rig, worker)
    assert is_bare(rig, other)
    here, there = (
        json.loads(rig.hbctl(member, "status", "--json"))["members"][0]
        for member in (worker, other)
    )
    assert here["virtual_addresses"] == there["virtual_addresses"] == list(VIPS)
    assert (here["has_virtual_addresses"], there["has_virtual_addresses"]) == (True, False)
    assert f"{worker.name} has {', '.join(VIPS)}" in rig.hbctl(worker, "status")
    told = f"Virtual address {', '.join(VIPS)}: not on {other.name}."
    assert told in rig.hbctl(other, "explain")


def test_a_lost_guardian_is_no_loss_of_the_role(rig: NetRig) -> None:
    """Whoever is left takes them off, and they are set up anew."""
    one = rig.member(1, *OPTIONS)
    rig.works(one)
    for number, victims in enumerate((("guardian",), ("guardian", "keeper")), 2):
        killed = [getattr(one, name) for name in victims]
        for pid in killed:
            send(pid, signal.SIGKILL)
        wait_for(lambda count=number: one.said("announced 3 times") >= count, "its return")
        rig.works(one)
        assert has_both(rig, one)
    one.stop()
    assert is_bare(rig, one)


def test_with_a_file_it_is_off_before_the_loss_of_guardian_and_keeper_is_told(rig: NetRig) -> None:
    """Nothing sets it up anew, as somebody else has it by then."""
    many = Many(rig)
    many.write(1, {"a": {"vip": list(VIPS)}})
    one = many.start(1)
    many.runs_on(one, "a")
    assert has_both(rig, one)
    rig.network.ip(CLIENT, "address", "add", f"{V4}/32", "dev", DEVICE)
    killed = (one.guardian, one.keeper)
    for pid in killed:
        send(pid, signal.SIGSTOP)
    for pid in killed:
        send(pid, signal.SIGKILL)
    one.hears("Virtual address .*: removed")
    assert is_bare(rig, one)


def test_all_killed_at_once_leaves_it_to_the_kernel(rig: NetRig) -> None:
    one = rig.member(1, *OPTIONS)
    rig.works(one)
    pids = (one.pid, one.guardian, one.keeper)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            send(pid, number)
    one.ended()
    wait_for(lambda: is_bare(rig, one), "the kernel to take the addresses off")


def test_another_machine_has_it(rig: NetRig) -> None:
    """The promotion fails, as it does for a hook, and is tried again."""
    rig.network.ip(CLIENT, "address", "add", f"{V4}/32", "dev", DEVICE)
    one = rig.member(1, *OPTIONS)
    one.hears(r"--vip failed \(exit status 1\), but .* is not up: staying worker")
    in_use = f"--vip {VIPS[0]}: the address is in use by {rig.network.mac(CLIENT)}"
    assert one.said(in_use)
    assert is_bare(rig, one)
    assert not rig.runs()
    rig.network.ip(CLIENT, "address", "del", f"{V4}/32", "dev", DEVICE)
    rig.works(one)
    assert has_both(rig, one)


def test_a_hand_over_between_two_runs_takes_it_off_first(rig: NetRig) -> None:
    """Nothing of the command is alive then, but what was set up for it stands."""
    one, two = (rig.member(number, *OPTIONS, "-i", "600", command="true") for number in (1, 2))
    wait_for(lambda: {one.role, two.role} == {"worker", "supervisor"}, "two roles")
    worker, other = (one, two) if one.is_worker else (two, one)

    def run() -> dict[str, object]:
        (member,) = json.loads(rig.hbctl(worker, "status", "--json"))["members"]
        return member["last_run"] or {}

    wait_for(lambda: run().get("ended"), "the end of its run")
    rig.hbctl(worker, "switchover")
    wait_for(lambda: has_both(rig, other), "the addresses to move")
    assert is_bare(rig, worker)
    assert not other.said("--vip failed")
