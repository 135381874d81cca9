"""Virtual addresses on Linux: extended with the lease, and taken off when it is over.

An address lives under the lease like a process. The kernel is told when the lease ends
(IFA_CACHEINFO of rtnetlink(7)), so it goes even if nobody is left to take it off. Only an address
with such an end is touched here: one that an operator has configured has none. Who adds it, and
asks the network before that, is `ha_heartbeat.vip`, with a library that is too heavy to be loaded
here, and would be too slow when the lease is over.
"""

from __future__ import annotations

import os
import sys

from ha_heartbeat.guardian.clock import now_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_S = 1_000_000_000
LATE_S = 1.25
"""How late the kernel may be with the end of an address: it looks at most once a second, and a
quarter more, so as to look at several at once (ADDRCONF_TIMER_FUZZ, net/ipv4/devinet.c)."""


def life_s(left_ns: int) -> int:
    """For how many seconds the kernel is to keep an address whose lease ends in that time.

    Whole seconds are what the kernel takes, at least one. It is the most that ends before the
    lease does, if that is three quarters of it: until then a lease may come to be extended. Of a
    lease too short for that, it is the first that does not end before.
    """
    whole_s = (left_ns - round(LATE_S * _S)) // _S
    if 4 * whole_s * _S >= 3 * left_ns:
        return max(whole_s, 1)
    return max(-(-left_ns // _S), 1)


if sys.platform == "linux":
    import _socket as socket  # what socket.py wraps in enums
    import mmap
    import struct

    _RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
    _REQUEST, _ACK, _REPLACE, _DUMP = 0x1, 0x4, 0x100, 0x300
    _ERROR, _DONE = 2, 3
    _IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 6, 8
    _FOR_EVER = 2**32 - 1
    NODAD, NOPREFIXROUTE = 0x02, 0x200
    _HEADER = struct.Struct("=IHHII")
    _ADDRESS = struct.Struct("=BBBBI")
    _ATTRIBUTE = struct.Struct("=HH")
    _FLAGS = struct.Struct("=I")
    _CACHEINFO = struct.Struct("=IIII")
    _ERRNO = struct.Struct("=i")
    _ANSWER_BYTES = 65536

    def flags_of(family: int) -> int:
        """What an address of that family is added and extended with.

        IPv6: whether somebody else has it was asked before. And no route to its network: that would
        get the address's end, also where an address of the host's own had made it before.
        """
        return NODAD | NOPREFIXROUTE if family == socket.AF_INET6 else 0

    def preferred_s(family: int, valid_s: int) -> int:
        """For how long connections may begin from the address: IPv6 is not to choose it."""
        return 0 if family == socket.AF_INET6 else valid_s

    class LinuxAddresses:
        """The virtual addresses of one service, each written ADDRESS/PREFIX@INTERFACE.

        One object before a fork is the same for both: they share what is known of the lease.
        Raises ValueError or OSError for a word that is none.
        """

        def __init__(self, words: Sequence[str]) -> None:
            self._known = [_parts(word) for word in words]
            self._lease = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")

        def extend(self, until_ns: int) -> None:
            """The lease ends then, and with it those that are there; none is added.

            What cannot be extended keeps the end that it has.
            """
            self._lease[0] = until_ns
            left_ns = until_ns - now_ns()
            if left_ns > 0:
                self._try(_RTM_NEWADDR, _REPLACE, life_s(left_ns))

        def lapse(self) -> None:
            """Take them off if the lease is over, by what was last said of it."""
            if now_ns() >= self._lease[0]:
                self.remove()

        def remove(self) -> str:
            """Take them off, if they are there; what was wrong, if anything."""
            return self._try(_RTM_DELADDR, 0, 0)

        def _try(self, kind: int, flags: int, valid_s: int) -> str:
            try:
                channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            except OSError as problem:
                return str(problem.strerror)
            try:
                return "; ".join(self._change(channel, kind, flags, valid_s))
            except OSError as problem:
                return str(problem.strerror)
            finally:
                channel.close()

        def _change(
            self, channel: socket.socket, kind: int, flags: int, valid_s: int
        ) -> Iterator[str]:
            there = set(_found(channel))
            for family, packed, prefix, interface in self._known:
                try:
                    index = socket.if_nametoindex(interface)
                except OSError:
                    continue  # it is gone, and its addresses are
                if (family, packed, prefix, index) not in there:
                    continue
                body = _ADDRESS.pack(family, prefix, 0, 0, index)
                body += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
                if valid_s:
                    preferred = preferred_s(family, valid_s)
                    life = _CACHEINFO.pack(preferred, valid_s, 0, 0)
                    body += _attribute(_IFA_CACHEINFO, life)
                    body += _attribute(_IFA_FLAGS, _FLAGS.pack(flags_of(family)))
                if number := _ask(channel, kind, _REQUEST | _ACK | flags, body):
                    yield f"{socket.inet_ntop(family, packed)}@{interface}: {os.strerror(number)}"

    def _parts(word: str) -> tuple[int, bytes, int, str]:
        address, _, rest = word.partition("/")
        prefix, _, interface = rest.partition("@")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return family, socket.inet_pton(family, address), int(prefix), interface

    def _attribute(kind: int, content: bytes) -> bytes:
        return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(content), kind) + content

    def _ask(channel: socket.socket, kind: int, flags: int, body: bytes) -> int:
        """Whether the kernel has done it: 0, or an errno. Raises OSError."""
        channel.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body)
        answer = channel.recv(_ANSWER_BYTES)
        return -int(_ERRNO.unpack_from(answer, _HEADER.size)[0])

    def _found(channel: socket.socket) -> Iterator[tuple[int, bytes, int, int]]:
        """The host's addresses that come to an end: family, address, prefix, interface's index."""
        body = _ADDRESS.pack(0, 0, 0, 0, 0)
        size = _HEADER.size + len(body)
        channel.send(_HEADER.pack(size, _RTM_GETADDR, _REQUEST | _DUMP, 0, 0) + body)
        while True:
            data = channel.recv(_ANSWER_BYTES)
            at = 0
            while at < len(data):
                size, kind = _HEADER.unpack_from(data, at)[:2]
                if kind in (_DONE, _ERROR):
                    return
                if kind == _RTM_NEWADDR and (one := _read(data[at + _HEADER.size : at + size])):
                    yield one
                at += size + -size % 4

    def _read(message: bytes) -> tuple[int, bytes, int, int] | None:
        family, prefix, _, _, index = _ADDRESS.unpack_from(message)
        found: dict[int, bytes] = {}
        at = _ADDRESS.size
        while at + _ATTRIBUTE.size <= len(message):
            size, kind = _ATTRIBUTE.unpack_from(message, at)
            found[kind] = message[at + _ATTRIBUTE.size : at + size]
            at += size + -size % 4
        address = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
        valid_s = _CACHEINFO.unpack(found[_IFA_CACHEINFO])[1]
        if address is None or valid_s == _FOR_EVER:
            return None
        return family, address, prefix, index
