"""How bytes are taken from a connection between members: into one buffer that stays.

Left to itself, asyncio has the kernel write into 256 KiB of fresh memory at each read, which is
mapped, cut down to the few hundred bytes of a message and unmapped again. That took a tenth of all
that a check costs.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod

from ha_heartbeat.wire.frames import MAX_LINE_BYTES


def room() -> bytearray:
    """A buffer for all connections of one event loop: what is read is passed on before the next."""
    return bytearray(MAX_LINE_BYTES)


class Received(asyncio.BufferedProtocol):
    """A connection that reads into `room` and is given what has arrived as `data_received`."""

    __slots__ = ("_room",)

    def __init__(self, room: bytearray) -> None:
        self._room = room

    def get_buffer(self, sizehint: int) -> bytearray:
        """Where the next bytes go."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """So many have arrived."""
        self.data_received(bytes(self._room[:nbytes]))

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
