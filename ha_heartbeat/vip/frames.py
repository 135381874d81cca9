"""The packets that ask whether an address is in use, and tell where it is now.

IPv4: ARP probes and announcements (RFC 5227). IPv6: neighbour solicitations from the unspecified
address, as for duplicate address detection (RFC 4862, 5.4.2), and unsolicited neighbour
advertisements (RFC 4861, 7.2.6). All as Ethernet frames, for packet(7).
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

ETH_P_ARP: Final = 0x0806
ETH_P_IPV6: Final = 0x86DD
ICMPV6: Final = 58
ADVERTISEMENT: Final = 136
NEXT_HEADER_AT: Final = 14 + 6
ICMP_TYPE_AT: Final = 14 + 40
_SOLICITATION: Final = 135
_REQUEST, _REPLY = 1, 2
_OVERRIDE: Final = 0x20000000
_HOPS: Final = 255
_BROADCAST: Final = b"\xff" * 6
_ARP: Final = struct.Struct("!HHBBH6s4s6s4s")
_IPV6_HEADER: Final = struct.Struct("!IHBB16s16s")
_TARGET_AT: Final = ICMP_TYPE_AT + 8
_ALL_NODES: Final = IPv6Address("ff02::1").packed
_SOLICITED_NODE: Final = IPv6Address("ff02::1:ff00:0").packed[:13]
_NOBODY: Final = bytes(16)


def question(mac: bytes, address: Address) -> bytes:
    """Does anybody have this address? It claims nothing, so it changes no neighbour's table."""
    if isinstance(address, IPv4Address):
        return _arp(_REQUEST, mac, bytes(4), bytes(6), address)
    group = _SOLICITED_NODE + address.packed[13:]
    return _icmp(mac, _NOBODY, group, _SOLICITATION, bytes(4) + address.packed)


def announcement(mac: bytes, address: Address) -> tuple[bytes, ...]:
    """The address is at `mac` now, whatever was known before.

    ARP in both its kinds, since some listen to one only.
    """
    if isinstance(address, IPv4Address):
        return (
            _arp(_REQUEST, mac, address.packed, bytes(6), address),
            _arp(_REPLY, mac, address.packed, _BROADCAST, address),
        )
    where = struct.pack("!I", _OVERRIDE) + address.packed + b"\x02\x01" + mac
    return (_icmp(mac, address.packed, _ALL_NODES, ADVERTISEMENT, where),)


def owner(frame: bytes, own_mac: bytes, address: Address) -> bytes:
    """The hardware address of another host that has the address, by this frame; else b"".

    Somebody else's question is none: some switches ask for the addresses of their hosts like this.
    """
    mac = frame[6:12]
    if isinstance(address, IPv4Address):
        if len(frame) < 14 + _ARP.size or frame[12:14] != struct.pack("!H", ETH_P_ARP):
            return b""
        mac, sender = _ARP.unpack_from(frame, 14)[5:7]
        has_it = sender == address.packed
    else:
        has_it = (
            len(frame) >= _TARGET_AT + 16
            and frame[12:14] == struct.pack("!H", ETH_P_IPV6)
            and frame[NEXT_HEADER_AT] == ICMPV6
            and frame[ICMP_TYPE_AT] == ADVERTISEMENT
            and frame[_TARGET_AT : _TARGET_AT + 16] == address.packed
        )
    return mac if has_it and mac != own_mac else b""


def _arp(
    operation: int, mac: bytes, sender: bytes, target_mac: bytes, target: IPv4Address
) -> bytes:
    body = _ARP.pack(1, 0x0800, 6, 4, operation, mac, sender, target_mac, target.packed)
    return _BROADCAST + mac + struct.pack("!H", ETH_P_ARP) + body


def _icmp(mac: bytes, source: bytes, group: bytes, kind: int, body: bytes) -> bytes:
    message = struct.pack("!BBH", kind, 0, 0) + body
    pseudo_header = source + group + struct.pack("!II", len(message), ICMPV6)
    message = struct.pack("!BBH", kind, 0, _checksum(pseudo_header + message)) + body
    header = _IPV6_HEADER.pack(6 << 28, len(message), ICMPV6, _HOPS, source, group)
    to = b"\x33\x33" + group[12:]  # RFC 2464, 7
    return to + mac + struct.pack("!H", ETH_P_IPV6) + header + message


def _checksum(data: bytes) -> int:
    """RFC 1071; `data` has an even number of bytes here."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
