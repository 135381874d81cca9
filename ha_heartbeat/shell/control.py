"""The control socket: how an operator of this machine speaks with its member.

A Unix socket in the member's own directory that only its owner can open: the file has mode 0600,
and on Linux the kernel is asked who is at the other end. One JSON object a line is a request, one
JSON object a line is its answer:

    {"do": "status"}
    {"ok": true, "member": "m1", ...}
    {"ok": false, "error": "a sentence"}

What is asked for is decided by the core. There is no control socket on Windows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from ha_heartbeat import places

Request: TypeAlias = Mapping[str, Any]
Reply: TypeAlias = Callable[[dict[str, Any]], None]
Handler: TypeAlias = Callable[[Request, Reply], None]

MAX_REQUEST_BYTES: Final = 16 * 1024
MAX_VISITORS: Final = 16
MAX_UNSENT_BYTES: Final = 1024 * 1024
IDLE_S: Final = 60.0
"""A visitor that asks nothing for so long is shown the door; `hbctl watch` asks all the time."""


class RequestError(Exception):
    """The request cannot be understood; the text is a sentence for the operator."""


class Control:
    """Listens in `directory`, and gives each request to the handler of its name.

    A handler calls its `Reply` once, at once or later. Everything runs in the event loop.
    """

    def __init__(self, directory: str, handlers: dict[str, Handler]) -> None:
        self.path = os.path.join(directory, places.CONTROL_SOCKET)
        self._directory = directory
        self.handlers = handlers
        self._server: asyncio.Server | None = None
        self._visitors: set[_Visitor] = set()

    async def open(self) -> str:
        """Start to listen; "" when it does, else a sentence on why it does not.

        A member without a control socket does its work all the same.
        """
        if sys.platform != "win32":  # Python has no Unix sockets there
            try:
                sock = _bind(self._directory, self.path)
                loop = asyncio.get_running_loop()
                self._server = await loop.create_unix_server(
                    lambda: _Visitor(self), sock=sock, start_serving=False
                )
                await self._server.start_serving()  # given up in here, it can still be closed
            except OSError as error:
                return (
                    f"the control socket {self.path} cannot be made ({error.strerror or error}): "
                    "hbctl will not find this member"
                )
        return ""

    async def close(self) -> None:
        """Stop listening, end every conversation, and remove the file."""
        if self._server is None:
            return
        self._server.close()
        for visitor in tuple(self._visitors):
            visitor.finish()
        self._server = None
        await asyncio.sleep(0)
        try:
            os.unlink(self.path)
        except OSError:  # somebody else has removed it
            return

    # -- visitors ----------------------------------------------------------------------------------

    def came(self, visitor: _Visitor, transport: asyncio.Transport) -> bool:
        """Whether this one may stay."""
        if len(self._visitors) >= MAX_VISITORS or not _is_owner(transport):
            return False
        self._visitors.add(visitor)
        return True

    def gone(self, visitor: _Visitor) -> None:
        """The conversation is over."""
        self._visitors.discard(visitor)

    def answer(self, line: bytes, reply: Reply) -> None:
        """Do what one line asks for."""
        try:
            request = read_request(line)
            handler = self.handlers.get(str(request["do"]))
            if handler is None:
                known = ", ".join(sorted(self.handlers))
                raise RequestError(f"it is not known what {request['do']!r} means; known: {known}")
            handler(request, reply)
        except RequestError as error:
            reply({"ok": False, "error": str(error)})


def read_request(line: bytes) -> dict[str, Any]:
    """The request in a line. Raises RequestError."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise RequestError("the request is no JSON") from None
    if not isinstance(request, dict) or not isinstance(request.get("do"), str):
        raise RequestError('the request is no JSON object with the text "do"')
    return request


def text_of(request: Request, name: str, limit_chars: int) -> str:
    """A text in a request, "" when it is left out. Raises RequestError."""
    value = request.get(name, "")
    if not isinstance(value, str) or len(value) > limit_chars or not value.isprintable():
        raise RequestError(
            f'"{name}" must be a text of at most {limit_chars} printable characters on one line'
        )
    return value


class _Visitor(asyncio.Protocol):
    """One connection: lines in, lines out, in order."""

    def __init__(self, house: Control) -> None:
        self._house = house
        self._transport: asyncio.Transport | None = None
        self._partial = b""
        self._limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if not self._house.came(self, transport):
            transport.abort()
            return
        self._transport = transport
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._limit is not None:
            self._limit.cancel()
        self._house.gone(self)

    def data_received(self, data: bytes) -> None:
        self._wait()
        *lines, self._partial = (self._partial + data).split(b"\n")
        if max(map(len, (*lines, self._partial))) > MAX_REQUEST_BYTES:
            self._say({"ok": False, "error": f"the request is longer than {MAX_REQUEST_BYTES}"})
            self.finish()
            return
        for line in lines:
            self._house.answer(line, self._say)

    def _say(self, answer: dict[str, Any]) -> None:
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._transport.abort()
            return
        self._transport.write(json.dumps(answer).encode() + b"\n")

    def _wait(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
        self._limit = asyncio.get_running_loop().call_later(IDLE_S, self.finish)

    def finish(self) -> None:
        """End after what is queued."""
        if self._transport is not None:
            self._transport.close()


if sys.platform != "win32":

    def _bind(directory: str, path: str) -> socket.socket:
        """A listening socket at `path`, where an earlier life may have left one. Raises OSError.

        The member holds its port by now, so nobody else can be using that file. A name that is too
        long for the kernel (unix(7): 108 bytes) is reached by way of the directory's descriptor.
        """
        try:
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)
        except FileNotFoundError:
            pass
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = -1
        with contextlib.suppress(OSError):  # Linux gives the file this mode from its first moment
            os.fchmod(sock.fileno(), 0o600)
        try:
            if len(os.fsencode(path)) > places.MAX_SOCKET_PATH_BYTES:
                folder = os.open(directory, os.O_RDONLY)
                path = f"/proc/self/fd/{folder}/{places.CONTROL_SOCKET}"
            sock.bind(path)
            os.chmod(path, 0o600)
            sock.listen(MAX_VISITORS)
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
        finally:
            if folder != -1:
                os.close(folder)
        return sock


def _is_owner(transport: asyncio.Transport) -> bool:
    """Whether the process at the other end is root's or this user's, as far as can be told."""
    sock = transport.get_extra_info("socket")
    if sys.platform != "linux":
        return True  # the mode of the file is all that is there
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", raw)
    return uid in (0, os.geteuid())
