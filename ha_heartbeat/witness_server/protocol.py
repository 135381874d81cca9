"""One HTTP connection: bytes to requests (parsed by httptools), replies to bytes, limits.

Everything that a client can make us keep has a limit: the head and the body of a request, the time
until it is there, requests ahead of their answers, answers that nobody reads, and idle connections.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, cast

import httptools

from ha_heartbeat.witness_server.app import App, Reply, Request, text
from ha_heartbeat.witnesses.register import MAX_VALUE_BYTES

REQUEST_TIMEOUT_S = 10.0
IDLE_S = 120.0  # above the clients' own limit: they close first, so that no PUT meets a close
MAX_HEAD_BYTES = 16_384
MAX_PIPELINED = 16

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}
_TOO_LONG = text(413, f"a record has at most {MAX_VALUE_BYTES} bytes")


class _Asked(NamedTuple):
    """A request in its turn; `refusal` is the reply when it needs no thought."""

    request: Request
    keep: bool
    refusal: Reply | None = None


class Connection(asyncio.Protocol):
    """A client. `opened` and `closed` are called once each; `full` makes its first answer a 503."""

    def __init__(
        self,
        app: App,
        *,
        full: bool,
        opened: Callable[[Connection], None],
        closed: Callable[[Connection], None],
        now_s: float,
    ) -> None:
        self._app = app
        self._full = full
        self._opened = opened
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._since_s = now_s  # when it became idle, or its unfinished request began
        self._receiving = True  # in the sense of the time limit: so is one that never asked
        self._asked: deque[_Asked] = deque()
        self._answering = False
        self._ending = False
        self._new_message()

    # -- asyncio.Protocol --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another base class
        self._opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._ending = True
        self._asked.clear()
        self._closed(self)

    def pause_writing(self) -> None:
        """Whoever does not read answers cannot ask more."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._ending:
            return
        if not self._receiving:
            self._receiving = True
            self._since_s = self._loop.time()
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(text(400, "this server speaks HTTP/1.1 only"))
        except httptools.HttpParserError:
            self._refuse(text(400, "this is no HTTP request that can be understood"))
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(text(431, f"the head of a request has at most {MAX_HEAD_BYTES} bytes"))
        if len(self._asked) > MAX_PIPELINED:
            self._transport.abort()
            return
        self._answer_next()

    # -- callbacks of httptools --------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        """See httptools; may come in pieces."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._in_head = False
        for name, value in self._headers:
            if name == b"content-length" and int(value) > MAX_VALUE_BYTES:
                self._refuse(_TOO_LONG)
            elif name == b"expect" and value.lower() == b"100-continue" and not self._busy:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        if len(self._body) + len(body) > MAX_VALUE_BYTES:
            self._refuse(_TOO_LONG)
        elif not self._ending:
            self._body += body

    def on_message_complete(self) -> None:
        """See httptools."""
        if not self._ending:
            method = self._parser.get_method().decode("ascii")
            keep = self._parser.should_keep_alive() and self._parser.get_http_version() == "1.1"
            request = Request(method, self._target, self._headers, self._body)
            self._asked.append(_Asked(request, keep))
        self._receiving = False
        self._new_message()

    # -- the rest ----------------------------------------------------------------------------------

    def check(self, now_s: float) -> None:
        """Close when the time limit for a request, or for idling, has passed at `now_s`."""
        if self._busy:
            return
        limit_s = REQUEST_TIMEOUT_S if self._receiving else IDLE_S
        if now_s - self._since_s > limit_s:
            self._transport.abort()

    def end(self) -> None:
        """Close, after the answers to what was asked completely."""
        self._ending = True
        if not self._busy:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()

    @property
    def _busy(self) -> bool:
        return self._answering or bool(self._asked)

    def _new_message(self) -> None:
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""
        self._in_head = True
        self._head_bytes = 0

    def _refuse(self, reply: Reply) -> None:
        """Answer in its turn, and close: what follows cannot be told apart from a request."""
        if not self._ending:
            request = Request("", b"", (), b"")
            self._asked.append(_Asked(request, False, reply))
            self._ending = True

    def _answer_next(self) -> None:
        while self._asked and not self._answering:
            asked = self._asked.popleft()
            self._answering = True
            refusal = asked.refusal
            if self._full:
                refusal = text(503, "the witness has all the connections that it can take")
            if refusal is not None:
                self._write(asked._replace(keep=False), refusal)
            else:
                self._app.answer(asked.request, lambda reply, asked=asked: self._late(asked, reply))  # type: ignore[misc]

    def _late(self, asked: _Asked, reply: Reply) -> None:
        self._write(asked, reply)
        self._answer_next()

    def _write(self, asked: _Asked, reply: Reply) -> None:
        self._answering = False
        if self._transport.is_closing():
            return
        keep = asked.keep and (not self._ending or bool(self._asked))
        self._transport.write(_encode(reply, keep, asked.request.method == "HEAD"))
        if not keep:
            self._ending = True
            self._asked.clear()
            self._transport.close()
        elif not self._busy and not self._receiving:
            self._since_s = self._loop.time()


def _encode(reply: Reply, keep: bool, head_only: bool) -> bytes:
    head = _STATUS_LINES[reply.status]
    if reply.tag:
        head += f'ETag: "{reply.tag}"\r\n'
    if reply.status != 204:
        kind = "application/octet-stream" if reply.binary else "text/plain; charset=utf-8"
        # No store: a cache would hand out old votes.
        head += (
            f"Content-Type: {kind}\r\nContent-Length: {len(reply.body)}\r\n"
            "Cache-Control: no-store\r\n"
        )
    if reply.allow:
        head += f"Allow: {reply.allow}\r\n"
    if not keep:
        head += "Connection: close\r\n"
    return f"{head}\r\n".encode("ascii") + (b"" if head_only else reply.body)
