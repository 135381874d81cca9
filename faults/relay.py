"""Delays all that a host sends and gets, where the kernel has no netem.

A host's port is taken off the bridge, and this process carries its frames to a port of its own
that is on the bridge, each a while later. Nothing but the time is changed: addresses, refusals and
silence are the real ones.

    python3 relay.py NAMESPACE HOST...       reads lines HOST DELAY_MS JITTER_MS, or HOST off
"""

from __future__ import annotations

import heapq
import os
import random
import selectors
import socket
import subprocess
import sys
import time

ETH_P_ALL = 3
MAX_FRAME = 65536
SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17
ANSWER_S = 5.0


class Relay:
    """The relay as a process of its own, for every host of a network."""

    def __init__(self, network: object) -> None:
        """Raises OSError where it cannot be made."""
        from benchmarks.network import ADDRESSES, Namespaces

        assert isinstance(network, Namespaces)
        self._network = network
        switch = network.namespace("switch")
        for host in ADDRESSES:
            for words in (
                ("link", "add", f"way-{host}", "type", "veth", "peer", "name", f"end-{host}"),
                ("link", "set", f"way-{host}", "up"),
                ("link", "set", f"end-{host}", "up"),
            ):
                _ip("-n", switch, *words)
            _no_checksum_offload(network.inside(host), "cable")
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self._process = subprocess.Popen(
            (*network.inside("switch"), sys.executable, "-S", "-m", "faults.relay", *ADDRESSES),
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def delay(self, host: str, delay_ms: int, jitter_ms: int) -> None:
        """From now on everything to and from this host takes so much longer."""
        switch = self._network.namespace("switch")
        self._network.cut(host)
        _ip("-n", switch, "link", "set", f"end-{host}", "master", "bridge")
        self._tell(f"{host} {delay_ms} {jitter_ms}")

    def undo(self, host: str) -> None:
        """The short way again; what is under way is lost."""
        self._tell(f"{host} off")
        _ip("-n", self._network.namespace("switch"), "link", "set", f"end-{host}", "nomaster")
        self._network.heal(host)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        self._process.stdout.readline()

    def close(self) -> None:
        """End the process; the devices go with their namespace."""
        self._process.kill()
        self._process.communicate()


def _ip(*words: str) -> None:
    done = subprocess.run(("ip", *words), capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _no_checksum_offload(inside: tuple[str, ...], device: str) -> None:
    """Have the sender compute checksums: who copies frames gets them as they are (ethtool(8))."""
    code = (
        "import array,fcntl,socket,struct;"
        f"v=array.array('I',[{ETHTOOL_STXCSUM},0]);"
        "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);"
        f"fcntl.ioctl(s,{SIOCETHTOOL},struct.pack('16sP8x',b'{device}',v.buffer_info()[0]))"
    )
    words = (*inside, sys.executable, "-S", "-E", "-c", code)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"checksum offload: {done.stderr.strip().splitlines()[-1]}")


# -- the process -----------------------------------------------------------------------------------


class _Way:
    """Both directions of one host's way."""

    def __init__(self, host: str) -> None:
        self.sockets = (_packets(f"port-{host}"), _packets(f"way-{host}"))
        self.delay_s = 0.0
        self.jitter_s = 0.0
        self.on = False


def _packets(device: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.bind((device, ETH_P_ALL))
    sock.setblocking(False)
    return sock


def main(hosts: list[str]) -> None:
    """Carry frames until standard input ends."""
    ways = {host: _Way(host) for host in hosts}
    selector = selectors.DefaultSelector()
    for way in ways.values():
        for index, sock in enumerate(way.sockets):
            selector.register(sock, selectors.EVENT_READ, (way, way.sockets[1 - index]))
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    waiting: list[tuple[float, int, socket.socket, bytes]] = []
    number = 0
    while True:
        timeout = max(waiting[0][0] - time.monotonic(), 0) if waiting else None
        for key, _events in selector.select(timeout):
            if key.data is None:
                line = os.read(0, 4096)
                if not line:
                    return
                for order in line.decode().splitlines():
                    _obey(ways, order)
                    waiting = [entry for entry in waiting if _is_on(ways, entry[2])]
                    heapq.heapify(waiting)
                    print(flush=True)
                continue
            way, out = key.data
            frame, address = key.fileobj.recvfrom(MAX_FRAME)  # type: ignore[union-attr]
            if way.on and address[2] != socket.PACKET_OUTGOING:
                due = time.monotonic() + way.delay_s + random.uniform(0, way.jitter_s)
                number += 1
                heapq.heappush(waiting, (due, number, out, frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _due, _number, out, frame = heapq.heappop(waiting)
            try:
                out.send(frame)
            except OSError:  # a full queue or a link that is down: the frame is lost
                pass


def _obey(ways: dict[str, _Way], order: str) -> None:
    host, *rest = order.split()
    way = ways[host]
    way.on = rest != ["off"]
    if way.on:
        way.delay_s, way.jitter_s = (int(word) / 1000 for word in rest)


def _is_on(ways: dict[str, _Way], sock: socket.socket) -> bool:
    return any(sock in way.sockets and way.on for way in ways.values())


if __name__ == "__main__":
    main(sys.argv[1:])
