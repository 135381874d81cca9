"""Tells systemd how this process stands: ready, its status, stopping, and that it is not wedged.

The protocol is sd_notify(3): lines of NAME=VALUE in one datagram to the socket that NOTIFY_SOCKET
names, in the file system or, with a leading `@`, in the abstract namespace. Without that variable
nothing is sent. Both variables are for this process alone: they are taken out of the environment,
so that neither the guardian nor the command can speak in its name.

WATCHDOG_USEC asks for a sign of life. It is given twice in that time, from the loop that does the
work, and only while the owner vouches that its work is done in time. So it fails to come when the
loop does not turn, and when it turns for nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, MutableMapping
from typing import Final

RETRY_S: Final = 0.2
"""How often a message is offered again while systemd's queue is full."""
MAX_STATUS_CHARS: Final = 200


def take(environ: MutableMapping[str, str]) -> Notifier:
    """A notifier for what `environ` says; the variables of sd_notify(3) are removed from it.

    WATCHDOG_USEC counts only with this process's pid in WATCHDOG_PID, or without that variable, as
    sd_watchdog_enabled(3) has it. A value that is no number is no watchdog.
    """
    address = environ.pop("NOTIFY_SOCKET", "")
    text = environ.pop("WATCHDOG_USEC", "")
    pid = environ.pop("WATCHDOG_PID", "")
    meant = not pid or pid == str(os.getpid())
    period_us = int(text) if meant and text.isascii() and text.isdecimal() else 0
    return Notifier(address, period_us / 1e6)


class Notifier:
    """Sends to `address` ("" is nobody), and signs of life in each `watchdog_s` seconds (0: none).

    Nothing here raises or blocks. To be used from one event loop once `ready` was called.
    """

    def __init__(self, address: str, watchdog_s: float) -> None:
        self._address = _sockaddr(address)
        self._watchdog_s = watchdog_s
        self._pending: dict[str, str] = {}
        self._socket: socket.socket | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._pinger: asyncio.TimerHandle | None = None
        self._is_well: Callable[[], bool] = bool

    def ready(self, is_well: Callable[[], bool]) -> None:
        """The service is up. From now on a sign of life is given whenever `is_well` says so.

        `is_well` is called in the running loop, twice in each WATCHDOG_USEC; must not raise.
        """
        self._tell("READY", "1")
        if self._address and self._watchdog_s and self._pinger is None:
            self._is_well = is_well
            self._ping()

    @property
    def half_s(self) -> float:
        """From one sign of life to the next, in seconds; 0 when none is asked for."""
        return self._watchdog_s / 2 if self._address else 0.0

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        line = " ".join(text.split())
        if len(line) > MAX_STATUS_CHARS:
            line = line[: MAX_STATUS_CHARS - 3] + "..."
        self._tell("STATUS", line)

    def stopping(self) -> None:
        """The end has begun; the signs of life go on until `close`, since an end may take long."""
        self._tell("STOPPING", "1")

    def close(self) -> None:
        """Say nothing more."""
        for timer in (self._retry, self._pinger):
            if timer is not None:
                timer.cancel()
        self._retry = self._pinger = None
        self._address = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        self._pinger = loop.call_later(self.half_s, self._ping)
        # In the next round: what was due with this, in a loop that was held up, is done first.
        loop.call_soon(self._vouch)

    def _vouch(self) -> None:
        if self._is_well():
            self._tell("WATCHDOG", "1")

    def _tell(self, name: str, value: str) -> None:
        """Send it, with what could not be sent before; a later value replaces an earlier one."""
        if self._address is None:
            return
        self._pending[name] = value
        if self._retry is None:
            self._flush()

    def _flush(self) -> None:
        self._retry = None
        datagram = "".join(f"{name}={value}\n" for name, value in self._pending.items())
        try:
            self._send(datagram.encode("utf-8", "replace"))
        except BlockingIOError:
            # Its queue is full: READY must not get lost, or the unit never starts.
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._flush)
        except OSError:
            self._pending.clear()  # nobody listens there; whoever does next is told what comes next
        else:
            self._pending.clear()

    def _send(self, datagram: bytes) -> None:
        if sys.platform == "win32":
            return
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        self._socket.sendto(datagram, self._address or "")


def _sockaddr(address: str) -> str | bytes | None:
    """The address as the socket module takes it; None for one that is of another kind."""
    if sys.platform == "win32" or not address.startswith(("/", "@")) or len(address) == 1:
        return None
    if address.startswith("@"):
        return b"\0" + os.fsencode(address[1:])
    return address
