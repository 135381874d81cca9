"""`python3 -m ha_heartbeat.vip up UNTIL_NS VIP...`, or `check VIP...`: exit status 0 when it is so.

A VIP is ADDRESS/PREFIX@INTERFACE; UNTIL_NS is when the lease ends, on `guardian.clock`. What is
wrong is one sentence on standard error, and exit status 1.

`up` may be killed at any moment: whoever does so takes off what it has added. It adds nothing when
the lease is over, and what it adds has an end in the kernel from the first.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Final, NamedTuple

from ha_heartbeat.guardian.clock import now_ns
from ha_heartbeat.vip.frames import Address

if TYPE_CHECKING:
    from pyroute2 import IPRoute

CAP_NET_ADMIN, CAP_NET_RAW = 12, 13
_FOR_EVER: Final = 2**32 - 1
_ARPHRD_ETHER: Final = 1
_IFF_UP, _IFF_NOARP = 0x1, 0x80


class VipError(Exception):
    """An address cannot be taken; the text is a sentence for the operator."""


class Vip(NamedTuple):
    """One virtual address and where it belongs."""

    address: Address
    prefix: int
    interface: str

    @classmethod
    def read(cls, word: str) -> Vip:
        """From the form that the configuration has checked."""
        address, _, interface = word.partition("@")
        found = ip_interface(address)
        return cls(found.ip, found.network.prefixlen, interface)

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}@{self.interface}"


class Place(NamedTuple):
    """A virtual address with its interface: the index and the hardware address of that."""

    vip: Vip
    device: int
    mac: bytes


def find(ipr: IPRoute, vip: Vip) -> Place:
    """Where an address is to be. Raises VipError when it cannot be there."""
    indexes = ipr.link_lookup(ifname=vip.interface)
    if not indexes:
        known = ", ".join(sorted(name for _, name in socket.if_nameindex() if name != "lo"))
        raise VipError(
            f"--vip {vip}: there is no interface {vip.interface} here; give one of: {known}"
        )
    (link,) = ipr.get_links(indexes[0])
    if link["ifi_type"] != _ARPHRD_ETHER or link["flags"] & _IFF_NOARP:
        raise VipError(
            f"--vip {vip}: the interface {vip.interface} is no Ethernet with ARP, so nobody could "
            "be told that the address has moved; give another, or add it with --on-worker"
        )
    if not link["flags"] & _IFF_UP:
        raise VipError(
            f"--vip {vip}: the interface {vip.interface} is down; set it up first, as with "
            f"ip link set {vip.interface} up"
        )
    _look_for_it_here(ipr, vip, indexes[0])
    return Place(vip, indexes[0], bytes.fromhex(link.get_attr("IFLA_ADDRESS").replace(":", "")))


def _look_for_it_here(ipr: IPRoute, vip: Vip, index: int) -> None:
    """What has an end and stands where it belongs is left from an earlier life, and ours."""
    for found in ipr.get_addr(family=_family(vip)):
        own = found.get_attr("IFA_LOCAL") or found.get_attr("IFA_ADDRESS")
        if own != str(vip.address):
            continue
        ends = found.get_attr("IFA_CACHEINFO")["ifa_valid"] != _FOR_EVER
        if not (ends and found["index"] == index and found["prefixlen"] == vip.prefix):
            where = f"{own}/{found['prefixlen']}@{socket.if_indextoname(found['index'])}"
            raise VipError(
                f"--vip {vip}: this host already has {where}, which was not added by a member; "
                "take it out of the network's configuration, since only the worker may have it"
            )


def _family(vip: Vip) -> int:
    return socket.AF_INET6 if vip.address.version == 6 else socket.AF_INET


def up(vips: Sequence[Vip], until_ns: int) -> None:
    """Ask for all of them, take them, and announce them. Raises VipError, and others."""
    from pyroute2 import IPRoute

    from ha_heartbeat.vip import wire

    with IPRoute() as ipr:
        places = [find(ipr, vip) for vip in vips]
        for place, owner in wire.probe(places):
            raise VipError(
                f"--vip {place.vip}: the address is in use by {owner.hex(':')} on that network, so "
                "it is not taken; free it there, or give another one"
            )
        for place in places:
            _add(ipr, place, until_ns)
    wire.announce(places)


def _add(ipr: IPRoute, place: Place, until_ns: int) -> None:
    from ha_heartbeat.guardian import addresses

    left_ns = until_ns - now_ns()
    if left_ns <= 0:
        raise VipError(f"--vip {place.vip}: the lease ended before the address was added")
    family = _family(place.vip)
    where = {
        "index": place.device,
        "family": family,
        "address": str(place.vip.address),
        "prefixlen": place.vip.prefix,
    }
    if sys.platform == "linux":
        valid_s = addresses.life_s(left_ns)
        life = {"valid": valid_s, "preferred": addresses.preferred_s(family, valid_s)}
        # Twice the same: 0.7.2 takes the one, 0.9.7 the other, and both ignore the rest in silence.
        flags = addresses.flags_of(family)
        ipr.addr("replace", **where, flags=flags, **life, cacheinfo=life)
        if not _ends(ipr, place):
            ipr.addr("del", **where)
            raise VipError(
                f"--vip {place.vip}: this version of pyroute2 gives addresses no lifetime, without "
                "which it could outlive the lease; install the one that ha-heartbeat[vip] asks for"
            )


def _ends(ipr: IPRoute, place: Place) -> bool:
    """Whether the kernel has been told of the lease."""
    return all(
        found.get_attr("IFA_CACHEINFO")["ifa_valid"] != _FOR_EVER
        for found in ipr.get_addr(index=place.device, family=_family(place.vip))
        if found.get_attr("IFA_ADDRESS") == str(place.vip.address)
    )


def check(vips: Sequence[Vip]) -> None:
    """Whether they could be taken here, as far as can be known now. Raises VipError, and others."""
    from pyroute2 import IPRoute

    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff"))
    if not all(effective >> number & 1 for number in (CAP_NET_ADMIN, CAP_NET_RAW)):
        raise PermissionError
    with IPRoute() as ipr:
        for vip in vips:
            find(ipr, vip)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what `arguments`, by default the process's own, ask for; the exit status."""
    order, *words = sys.argv[1:] if arguments is None else arguments
    try:
        if order == "up":
            up([Vip.read(word) for word in words[1:]], int(words[0]))
        else:
            check([Vip.read(word) for word in words])
    except ImportError as error:
        return _fail(
            f"--vip needs the package pyroute2, which {sys.executable} cannot load ({error}): "
            "pip install 'ha-heartbeat[vip]', or apt-get install python3-pyroute2"
        )
    except VipError as error:
        return _fail(str(error))
    except PermissionError:
        return _fail(
            "--vip: this user may not change addresses; run as root, or with the capabilities "
            "CAP_NET_ADMIN and CAP_NET_RAW"
        )
    except Exception as error:  # pyroute2 has errors of its own
        return _fail(f"--vip {' '.join(words)}: it cannot be done here: {error}")
    return 0


def _fail(sentence: str) -> int:
    os.write(2, f"ha-heartbeat: {sentence}\n".encode(errors="replace"))
    return 1
