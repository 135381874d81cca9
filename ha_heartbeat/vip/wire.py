"""Asks the network for addresses, and tells it of them, through packet(7)."""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from ha_heartbeat.vip import ANNOUNCEMENTS, frames

if TYPE_CHECKING:
    from ha_heartbeat.vip.main import Place

PROBES: Final = 2
PROBE_S: Final = 0.05
"""How often is asked, and how long an answer may take. RFC 5227 asks three times and waits for four
to seven seconds; a takeover cannot, and has other evidence that the one before is gone."""
ANNOUNCE_S: Final = 0.02
"""From one announcement to the next; the command waits for them."""
_SO_ATTACH_FILTER: Final = 26
_LOAD_BYTE, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x15, 0x06  # linux/filter.h
_FRAME_BYTES: Final = 2048


def probe(places: Sequence[Place]) -> Iterator[tuple[Place, bytes]]:
    """Each of them that another host has, with that one's hardware address. Raises OSError."""
    with ExitStack() as stack:
        asked = {stack.enter_context(_open(place)): place for place in places}
        for _ in range(PROBES):
            for wire, place in asked.items():
                wire.send(frames.question(place.mac, place.vip.address))
            end_s = time.monotonic() + PROBE_S
            while (left_s := end_s - time.monotonic()) > 0:
                for wire in select.select(list(asked), [], [], left_s)[0]:
                    place = asked[wire]
                    frame = wire.recv(_FRAME_BYTES)
                    if owner := frames.owner(frame, place.mac, place.vip.address):
                        yield place, owner


def announce(places: Sequence[Place]) -> None:
    """Tell everybody on the network where they are now. Raises OSError."""
    with ExitStack() as stack:
        wires = [stack.enter_context(_open(place)) for place in places]
        for number in range(ANNOUNCEMENTS):
            if number:
                time.sleep(ANNOUNCE_S)
            for wire, place in zip(wires, places, strict=True):
                for frame in frames.announcement(place.mac, place.vip.address):
                    wire.send(frame)


def _open(place: Place) -> socket.socket:
    """A socket for that interface that hears what may be an answer. Raises OSError."""
    if sys.platform != "linux":
        raise OSError("packet(7) is Linux's alone")
    is_ipv4 = place.vip.address.version == 4
    kind = frames.ETH_P_ARP if is_ipv4 else frames.ETH_P_IPV6
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        if not is_ipv4:
            _hear_advertisements_only(wire)
        wire.bind((place.vip.interface, kind))  # hears nothing before that
    except OSError:
        wire.close()
        raise
    return wire


def _hear_advertisements_only(wire: socket.socket) -> None:
    """Of all IPv6 on the interface, which may be more than can be read in time (bpf, socket(7))."""
    program = b"".join(
        struct.pack("=HBBI", *step)
        for step in (
            (_LOAD_BYTE, 0, 0, frames.NEXT_HEADER_AT),
            (_JUMP_IF_EQUAL, 0, 3, frames.ICMPV6),
            (_LOAD_BYTE, 0, 0, frames.ICMP_TYPE_AT),
            (_JUMP_IF_EQUAL, 0, 1, frames.ADVERTISEMENT),
            (_RETURN, 0, 0, _FRAME_BYTES),
            (_RETURN, 0, 0, 0),
        )
    )
    held = ctypes.create_string_buffer(program)
    wire.setsockopt(
        socket.SOL_SOCKET,
        _SO_ATTACH_FILTER,
        struct.pack("HP", len(program) // 8, ctypes.addressof(held)),
    )
