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
from ha_heartbeat.guardian.light import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    _Place = tuple[int, bytes, int, int]
    """Family, address, prefix length and interface's index."""

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
    _REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
    _REPLACE, _EXCL, _CREATE = 0x100, 0x200, 0x400
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
    _INTERRUPTED = (
        0x10  # NLM_F_DUMP_INTR: some were added or removed meanwhile, and it may lack one
    )
    _LOOKS = 5
    _GONE = 99  # EADDRNOTAVAIL: it went with the first address of its network, which it was below

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
            self._known = [(word, *_parts(word)) for word in words]
            self._held: set[str] = set()  # seen here since they were last taken off
            self._lease = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")

        def extend(self, until_ns: int) -> str:
            """The lease ends then, and with it those that are there; the ones added again, if any.

            Only what was there before is added, when somebody has taken it off meanwhile, as a
            restart of the network does. What cannot be changed keeps the end that it has.
            """
            self._lease[0] = until_ns
            left_ns = until_ns - now_ns()
            if left_ns <= 0:
                return ""
            again = []
            with suppress(OSError), _Channel() as channel:
                there = channel.found()
                for word, family, at, body in self._placed():
                    if is_there := at in there:
                        self._held.add(word)
                    elif word not in self._held:
                        continue
                    how = _REPLACE if is_there else _CREATE | _EXCL
                    if not channel.ask(_RTM_NEWADDR, how, body + _life(family, life_s(left_ns))):
                        again += [] if is_there else [word]
            return " and ".join(again)

        def lapse(self) -> None:
            """Take them off if the lease is over, by what was last said of it."""
            if now_ns() >= self._lease[0]:
                self.remove()

        def remove(self) -> str:
            """Take them off, if they are there; what was wrong, if anything."""
            self._held.clear()
            wrong = []
            try:
                with _Channel() as channel:
                    there = channel.found()
                    for word, _, at, body in self._placed():
                        number = channel.ask(_RTM_DELADDR, 0, body) if at in there else 0
                        if number not in (0, _GONE):
                            wrong.append(f"{word}: {os.strerror(number)}")
            except OSError as problem:
                wrong.append(str(problem.strerror))
            return "; ".join(wrong)

        def _placed(self) -> Iterator[tuple[str, int, _Place, bytes]]:
            """Those whose interface is there: the word, family, place and message of each."""
            for word, family, packed, prefix, interface in self._known:
                with suppress(OSError):  # it is gone, and its addresses with it
                    index = socket.if_nametoindex(interface)
                    body = _ADDRESS.pack(family, prefix, 0, 0, index)
                    body += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
                    yield word, family, (family, packed, prefix, index), body

    class _Channel:
        """One conversation with the kernel by rtnetlink(7). Raises OSError."""

        def __enter__(self) -> _Channel:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            return self

        def __exit__(self, *_: object) -> None:
            self._socket.close()

        def ask(self, kind: int, flags: int, body: bytes) -> int:
            """Have something done: 0, or an errno."""
            self._send(kind, _ACK | flags, body)
            answer = self._socket.recv(_ANSWER_BYTES)
            return -int(_ERRNO.unpack_from(answer, _HEADER.size)[0])

        def found(self) -> set[_Place]:
            """The host's addresses that come to an end."""
            found: set[_Place] = set()
            for _ in range(_LOOKS):
                is_whole = True
                for flags, message in self._dumped():
                    is_whole = is_whole and not flags & _INTERRUPTED
                    if one := _read(message):
                        found.add(one)
                if is_whole:
                    break
            return found

        def _dumped(self) -> Iterator[tuple[int, bytes]]:
            """All addresses of the host: the flags and the content of each message."""
            self._send(_RTM_GETADDR, _DUMP, _ADDRESS.pack(0, 0, 0, 0, 0))
            while True:
                data = self._socket.recv(_ANSWER_BYTES)
                at = 0
                while at < len(data):
                    size, kind, flags = _HEADER.unpack_from(data, at)[:3]
                    if kind in (_DONE, _ERROR):
                        return
                    if kind == _RTM_NEWADDR:
                        yield flags, data[at + _HEADER.size : at + size]
                    at += size + -size % 4

        def _send(self, kind: int, flags: int, body: bytes) -> None:
            size = _HEADER.size + len(body)
            self._socket.send(_HEADER.pack(size, kind, _REQUEST | flags, 0, 0) + body)

    def _life(family: int, valid_s: int) -> bytes:
        times = _CACHEINFO.pack(preferred_s(family, valid_s), valid_s, 0, 0)
        flags = _FLAGS.pack(flags_of(family))
        return _attribute(_IFA_CACHEINFO, times) + _attribute(_IFA_FLAGS, flags)

    def _parts(word: str) -> tuple[int, bytes, int, str]:
        address, _, rest = word.partition("/")
        prefix, _, interface = rest.partition("@")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return family, socket.inet_pton(family, address), int(prefix), interface

    def _attribute(kind: int, content: bytes) -> bytes:
        return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(content), kind) + content

    def _read(message: bytes) -> _Place | None:
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
