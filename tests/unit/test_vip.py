"""How long the kernel keeps a virtual address, and the packets about it, byte by byte."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_heartbeat.guardian.addresses import LATE_S, life_s
from ha_heartbeat.vip import frames

MAC = bytes.fromhex("020000000001")
OTHER = bytes.fromhex("020000000002")
V4, V6 = ip_address("192.0.2.10"), ip_address("2001:db8::10")


@pytest.mark.parametrize(
    ("left_s", "kept_s"), [(29.7, 28), (9.9, 8), (5.9, 6), (2.9, 3), (0.3, 1), (1.0, 1)]
)
def test_whole_seconds(left_s: float, kept_s: int) -> None:
    assert life_s(round(left_s * 1e9)) == kept_s


@given(st.integers(1, 60 * 10**9))
def test_it_is_kept_while_the_lease_may_be_extended(left_ns: int) -> None:
    kept_ns = life_s(left_ns) * 10**9
    assert kept_ns >= left_ns * 3 / 4
    assert kept_ns < left_ns + 10**9
    assert left_ns < 9 * 10**9 or kept_ns + LATE_S * 1e9 <= left_ns


def test_arp_asks_without_a_claim() -> None:
    assert frames.question(MAC, V4).hex() == (
        "ffffffffffff" + MAC.hex() + "0806"
        "0001" "0800" "06" "04" "0001" + MAC.hex() + "00000000" "000000000000" "c000020a"
    )  # fmt: skip


def test_arp_announces_in_both_kinds() -> None:
    request, reply = frames.announcement(MAC, V4)
    assert (request[20:22], reply[20:22]) == (b"\0\1", b"\0\2")
    for frame in (request, reply):
        assert frame[:6] == b"\xff" * 6
        assert frame[22:32] == MAC + V4.packed
        assert frame[38:42] == V4.packed


def test_ipv6_asks_from_nobody_and_is_believed() -> None:
    question = frames.question(MAC, V6)
    assert question[:6].hex() == "3333ff000010"
    assert question[22:38] == bytes(16)
    assert question[21] == 255
    assert question[62:78] == V6.packed
    (told,) = frames.announcement(MAC, V6)
    assert told[:6].hex() == "333300000001"
    assert told[54:62].hex()[:2] == "88"
    assert told[58] == 0x20, "the override flag: what was known before is wrong"
    assert told[62:] == V6.packed + b"\2\1" + MAC
    for frame in (question, told):
        assert verifies(frame)


def verifies(frame: bytes) -> bool:
    """The checksum over the pseudo-header (RFC 8200, 8.1) is right: all words add up to ones."""
    message = frame[54:]
    whole = frame[22:54] + len(message).to_bytes(4, "big") + bytes((0, 0, 0, 58)) + message
    total = sum(int.from_bytes(whole[at : at + 2], "big") for at in range(0, len(whole), 2))
    return total % 0xFFFF == 0


def test_who_has_it() -> None:
    for address, other in ((V4, ip_address("192.0.2.11")), (V6, ip_address("2001:db8::11"))):
        for frame in frames.announcement(OTHER, address):
            assert frames.owner(frame, MAC, address) == OTHER
            assert frames.owner(frame, MAC, other) == b""
            assert frames.owner(frame, OTHER, address) == b"", "that is the own voice"
            assert all(not frames.owner(frame[:end], MAC, address) for end in range(42 - 1))
        assert frames.owner(frames.question(OTHER, address), MAC, address) == b""
