"""Two members and a client on one bridge, and a watch over who has the virtual addresses."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.network import Namespaces, NetworkError, _netlink_in
from tests.member.conftest import MakeRigs
from tests.member.rig import ROOT, Member, Rig

MEMBERS = {1: "a", 2: "b"}
CLIENT = "w"
DEVICE = "cable"
V4, V6 = "192.0.2.10", "2001:db8::10"
VIPS = (f"{V4}/24@{DEVICE}", f"{V6}/64@{DEVICE}")
_GROUPS = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR: rtnetlink(7)
_HEADER = struct.Struct("=IHHII")
_RTM_NEWADDR = 20
_serial = itertools.count(1)


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


class Network:
    """Namespaces of its own, in each of which the interface is called DEVICE."""

    def __init__(self) -> None:
        self._made = Namespaces(f"hb-vip-{next(_serial)}")
        for side in (*MEMBERS.values(), CLIENT):
            number = "abw".index(side) + 1
            self.ip(side, "address", "add", f"2001:db8::{number}/64", "dev", DEVICE, "nodad")

    def inside(self, side: str) -> tuple[str, ...]:
        return self._made.inside(side)

    def namespace(self, side: str) -> str:
        return self._made.namespace(side)

    def python(self, side: str, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """This Python with these words, on that side, from the checkout."""
        return subprocess.run(
            [*self.inside(side), sys.executable, *words],
            cwd=ROOT,
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ip(self, side: str, *words: str) -> Any:
        """ip(8) on that side; what it says as data."""
        done = subprocess.run(
            ["ip", "-n", self.namespace(side), "-j", *words],
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout) if done.stdout.strip() else None

    def has(self, side: str, address: str) -> dict[str, Any] | None:
        """What is known of that address there, if it is there."""
        (link,) = self.ip(side, "address", "show", "dev", DEVICE)
        found = [one for one in link["addr_info"] if one.get("local") == address]
        return found[0] if found else None

    def mac(self, side: str) -> str:
        (link,) = self.ip(side, "link", "show", "dev", DEVICE)
        return str(link["address"])

    def known_mac(self, address: str) -> str:
        """Where the client believes an address to be."""
        shown = self.ip(CLIENT, "neigh", "show", "to", address, "dev", DEVICE)
        return str(shown[0].get("lladdr", "")) if shown else ""

    def mislead(self, address: str, mac: str) -> None:
        """The client believes that an address is there."""
        words = (address, "lladdr", mac, "nud", "reachable", "dev", DEVICE)
        self.ip(CLIENT, "neigh", "replace", *words)

    def cut(self, side: str) -> None:
        """Silence on that side's cable, whose ends both stay up."""
        self._made.cut(side)

    def heal(self, side: str) -> None:
        self._made.heal(side)

    def close(self) -> None:
        self._made.close()


class Watch:
    """Follows where the addresses are, from the kernel's own word, and remembers what is wrong."""

    def __init__(self, network: Network, addresses: Sequence[str] = (V4, V6)) -> None:
        self._sockets = {}
        for side in MEMBERS.values():
            sock = _netlink_in(network.namespace(side))
            sock.bind((0, _GROUPS))
            sock.setblocking(False)
            self._sockets[sock] = side
        self._addresses = {address: packed(address) for address in addresses}
        self._at: dict[str, set[str]] = {address: set() for address in addresses}
        self.moves: dict[str, list[str]] = {address: [] for address in addresses}
        self.wrong: list[str] = []
        self._end, self._ends = os.pipe()
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        while True:
            ready, _, _ = select.select([*self._sockets, self._end], [], [])
            if self._end in ready:
                return
            while self._read():  # what came meanwhile on the other side is read, too
                pass
            for address, sides in self._at.items():
                if len(sides) > 1:
                    self.wrong.append(f"{address} is on {sorted(sides)} after {self.moves}")

    def _read(self) -> bool:
        found = False
        for sock, side in self._sockets.items():
            with contextlib.suppress(BlockingIOError):
                while True:
                    found = self._note(side, sock.recv(65536)) or found
        return found

    def _note(self, side: str, message: bytes) -> bool:
        is_there = _HEADER.unpack_from(message)[1] == _RTM_NEWADDR
        for address, its_bytes in self._addresses.items():
            if its_bytes in message:
                if is_there and side not in self._at[address]:
                    self.moves[address].append(side)
                (self._at[address].add if is_there else self._at[address].discard)(side)
        return True

    def close(self) -> None:
        os.write(self._ends, b".")
        self._thread.join()
        for sock in self._sockets:
            sock.close()
        os.close(self._end)
        os.close(self._ends)


class NetRig(Rig):
    """A rig with each member in a namespace."""

    def __init__(self, place: Path, word: str, network: Network) -> None:
        super().__init__(place, word)
        self.network = network

    def address(self, number: int) -> str:
        return f"192.0.2.{number}:22221"

    def inside(self, number: int) -> tuple[str, ...]:
        return self.network.inside(MEMBERS[number])

    def hbctl(self, member: Member, *words: str) -> str:
        """What an operator is told who asks that member."""
        where = ("--state-dir", str(self.place / "state"), "--local")
        return subprocess.run(
            [
                sys.executable,
                str(ROOT / "hbctl"),
                *words,
                *where,
                self.address(int(member.name[1])),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout


def why_not() -> str:
    """Why there can be no namespaces here; "" if there can."""
    if sys.platform != "linux":
        return "needs Linux"
    for tool in ("ip", "nsenter"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    if os.geteuid():
        return "needs root, to make network namespaces"
    return ""


@contextlib.contextmanager
def networks() -> Iterator[Network]:
    """One, removed at the end."""
    if reason := why_not():
        pytest.skip(reason)
    try:
        made = Network()
    except NetworkError as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def rigs_in(top: Path) -> Iterator[MakeRigs]:
    """Rigs, each in a network of its own, in which no address is ever on both sides."""
    with contextlib.ExitStack() as stack:
        watches: list[Watch] = []
        made: list[NetRig] = []

        def make(count: int) -> list[Rig]:
            for _ in range(count):
                network = stack.enter_context(networks())
                watches.append(stack.enter_context(contextlib.closing(Watch(network))))
                place = top / f"net-{len(made)}"
                place.mkdir()
                made.append(NetRig(place, uuid.uuid4().hex, network))
                stack.callback(made[-1].destroy)
            return [*made[-count:]]

        try:
            yield make
            for rig in made:
                rig.finish()
                rig.judge()
            wrong = [line for watch in watches for line in watch.wrong]
            assert not wrong
        except BaseException as error:
            for rig in made:
                error.add_note(rig.logs())
            raise
