"""The network between members and witness: a namespace for each and one for a switch, or loopback.

    member a (192.0.2.1) -- veth -- bridge -- veth -- (192.0.2.2) member b
                                      |
                                     veth -- (192.0.2.3) witness w

Everything has names of its own and is removed at the end. Where namespaces cannot be made, both
members use 127.0.0.1, no cable can be pulled, and `description` says so.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import struct
import subprocess

MEMBERS = ("a", "b")
WITNESS = "w"
ADDRESSES = {"a": "192.0.2.1", "b": "192.0.2.2", WITNESS: "192.0.2.3"}  # RFC 5737: never a real one
PORT = 22221
_NETNS_FOLDER = "/run/netns"
_CLONE_NEWNET = 0x40000000
_RTM_SETLINK, _NLM_F_REQUEST, _NLM_F_ACK, _NLMSG_ERROR = 19, 1, 4, 2
_IFLA_MASTER = 10
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HHI")


class NetworkError(Exception):
    """The namespaces cannot be made; the text says why."""


class Loopback:
    """Both members on 127.0.0.1, on two free ports."""

    can_cut = False

    def __init__(self, reason: str) -> None:
        self.description = f"loopback of one network stack ({reason})"
        self._ports = _free_ports(len(MEMBERS))

    def address(self, member: str) -> str:
        """HOST:PORT of a member."""
        return f"127.0.0.1:{self._ports[MEMBERS.index(member)]}"

    def inside(self, member: str) -> tuple[str, ...]:
        """The words before a command that make it run on that member's side."""
        return ()

    def close(self) -> None:
        """Nothing was made."""


class Namespaces:
    """A namespace for each member and for the witness, and one with the bridge between them."""

    can_cut = True
    description = "network namespaces, veth pairs to a bridge in one of their own"

    def __init__(self, stem: str = "hb-bench") -> None:
        stem = f"{stem}-{os.getpid()}"
        self._names = {name: f"{stem}-{name}" for name in (*ADDRESSES, "switch")}
        self._socket: socket.socket | None = None
        self._sequence = 0
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        for name in self._names.values():
            _ip("netns", "add", name)
        switch = self._names["switch"]
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge", "stp_state", "0")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for member in ADDRESSES:
            own, port = self._names[member], f"port-{member}"
            ends = ("type", "veth", "peer", "name", "cable", "netns", own)
            _ip("link", "add", port, "netns", switch, *ends)
            _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            _ip("-n", own, "address", "add", f"{ADDRESSES[member]}/24", "dev", "cable")
            _ip("-n", own, "link", "set", "cable", "up")
            _ip("-n", own, "link", "set", "lo", "up")
        self._socket = _netlink_in(switch)
        self._bridge = self._index("bridge")
        self._ports = {member: self._index(f"port-{member}") for member in ADDRESSES}

    def _index(self, device: str) -> int:
        shown = _ip("-n", self._names["switch"], "-o", "link", "show", device)
        return int(shown.partition(":")[0])

    def address(self, member: str) -> str:
        """HOST:PORT of a member."""
        return f"{ADDRESSES[member]}:{PORT}"

    def inside(self, member: str) -> tuple[str, ...]:
        """The words before a command that make it run on that member's side."""
        return ("nsenter", f"--net={_NETNS_FOLDER}/{self._names[member]}")

    def namespace(self, name: str) -> str:
        """The name of the namespace of a member, of the witness, or of the switch."""
        return self._names[name]

    def cut(self, member: str) -> None:
        """Take the member's port off the bridge: from now on both sides see silence only.

        The link stays up at both ends, as with a failed switch, so that no side is told.
        """
        self._set_master(self._ports[member], 0)

    def heal(self, member: str) -> None:
        """Put the port back; without a spanning tree it forwards at once."""
        self._set_master(self._ports[member], self._bridge)

    def _set_master(self, device: int, master: int) -> None:
        """rtnetlink(7), without the tens of milliseconds that starting ip(8) may take."""
        assert self._socket is not None
        self._sequence += 1
        body = _LINK.pack(0, 0, device, 0, 0) + _ATTRIBUTE.pack(8, _IFLA_MASTER, master)
        size = _HEADER.size + len(body)
        flags = _NLM_F_REQUEST | _NLM_F_ACK
        self._socket.send(_HEADER.pack(size, _RTM_SETLINK, flags, self._sequence, 0) + body)
        answer = self._socket.recv(4096)
        kind = _HEADER.unpack_from(answer)[1]
        error = struct.unpack_from("=i", answer, _HEADER.size)[0]
        if kind != _NLMSG_ERROR or error:
            raise OSError(-error, f"rtnetlink: {os.strerror(-error)}")

    def close(self) -> None:
        """Remove the namespaces, and with them all that is in them."""
        if self._socket is not None:
            self._socket.close()
        for name in self._names.values():
            if os.path.exists(f"{_NETNS_FOLDER}/{name}"):
                subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


Network = Namespaces | Loopback


def make_network() -> Network:
    """Namespaces where that is possible, else the loopback."""
    try:
        for tool in ("ip", "nsenter"):
            if shutil.which(tool) is None:
                raise NetworkError(f"{tool} is not installed")
        return Namespaces()
    except (NetworkError, OSError) as error:
        return Loopback(str(error))


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise NetworkError(f"ip {' '.join(words[:3])}: {said[-1]}")
    return done.stdout


def _netlink_in(namespace: str) -> socket.socket:
    """A netlink socket that belongs to another namespace, as sockets keep the one they began in."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (
        open("/proc/self/ns/net", "rb") as home,
        open(f"{_NETNS_FOLDER}/{namespace}", "rb") as away,
    ):
        if libc.setns(away.fileno(), _CLONE_NEWNET):
            raise NetworkError(f"setns: {os.strerror(ctypes.get_errno())}")
        try:
            return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        finally:
            if libc.setns(home.fileno(), _CLONE_NEWNET):
                raise SystemExit("cannot return to the own network namespace")


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(sock.getsockname()[1]) for sock in held]
    for sock in held:
        sock.close()
    return ports
