"""What the witness says to each request, as an ASGI application.

    GET  /v1/<cluster>   200 with ETag and the record; 404 when there is none
    PUT  /v1/<cluster>   If-Match: "<version>"  replaces that version    204 with ETag
                         If-None-Match: *       makes the first record   201 with ETag
                         412 when the record is not so; 428 when neither is given
    GET  /               the clusters with versions and ages, for people
    GET  /healthz        200 when records can be read

Conditions as in RFC 9110, section 13; 428 as in RFC 6585, 507 as in RFC 4918. Errors are one
sentence of text. There is no DELETE: a record that could vanish could be granted twice.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from ha_heartbeat.witness_server.group import GroupCommit
from ha_heartbeat.witness_server.store import Conflict, Refused, Store, StoreError, Swap, Written
from ha_heartbeat.witnesses.opening import check_cluster
from ha_heartbeat.witnesses.register import MAX_VALUE_BYTES

MAX_LISTED = 1_000
BODY_TIMEOUT_S = 10.0

_PREFIX = b"/v1/"
_STRONG_TAG = re.compile(rb'"([\x21\x23-\x7e]{1,200})"')

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]


class Reply(NamedTuple):
    """An answer. `tag` is a version without quotes, "" for none."""

    status: int
    body: bytes = b""
    tag: str = ""
    allow: bytes = b""
    binary: bool = False
    close: bool = False


def _text(status: int, sentence: str, *, close: bool = False) -> Reply:
    return Reply(status, f"{sentence}\n".encode(), close=close)


class App:
    """The application. Its store is read in the event loop, and written by way of `group`."""

    def __init__(self, store: Store, group: GroupCommit) -> None:
        self._store = store
        self._group = group

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3, HTTP only)."""
        assert scope["type"] == "http"
        await _send(send, await self._reply(scope, receive))

    async def _reply(self, scope: MutableMapping[str, Any], receive: Receive) -> Reply:
        method: str = scope["method"]
        path: bytes = scope["raw_path"].partition(b"?")[0]
        try:
            if path.startswith(_PREFIX):
                return await self._record(method, path[len(_PREFIX) :], scope["headers"], receive)
            if path not in (b"/", b"/healthz"):
                return _text(404, "there is nothing here; records are at /v1/<cluster>")
            if method not in ("GET", "HEAD"):
                return _not_allowed(method, b"GET, HEAD")
            return self._health() if path == b"/healthz" else self._list()
        except StoreError as error:
            return _text(500, str(error))

    async def _record(self, method: str, name: bytes, headers: Headers, receive: Receive) -> Reply:
        try:
            cluster = unquote_to_bytes(name).decode("utf-8")
            check_cluster(cluster)
        except UnicodeDecodeError:
            return _text(400, "a cluster's name is percent-encoded UTF-8")
        except ValueError as error:
            return _text(400, str(error))
        if method == "PUT":
            return await self._put(cluster, headers, receive)
        if method not in ("GET", "HEAD"):
            return _not_allowed(method, b"GET, HEAD, PUT")
        found = self._store.read(cluster)
        if found is None:
            return _text(404, f"the cluster {cluster} has no record")
        version, value = found
        return Reply(200, value, version, binary=True)

    async def _put(self, cluster: str, headers: Headers, receive: Receive) -> Reply:
        condition = _condition(headers)
        if isinstance(condition, Reply):
            return condition
        value = await _read_body(headers, receive)
        if isinstance(value, Reply):
            return value
        outcome = await self._group.swap(Swap(cluster, condition.expected, value))
        match outcome:
            case Written(version, created):
                return Reply(201 if created else 204, tag=version)
            case Conflict():
                return _text(412, f"the record of {cluster} has another version, or there is none")
            case Refused(sentence, busy):
                return _text(503 if busy else 507, sentence)

    def _health(self) -> Reply:
        self._store.read("healthz")
        return _text(200, "ok")

    def _list(self) -> Reply:
        lines = [f"ha-heartbeat-witness: {self._store.clusters} clusters", ""]
        for entry in self._store.entries(MAX_LISTED):
            age = (
                "not since this witness started"
                if entry.age_s is None
                else f"{entry.age_s:.1f} s ago"
            )
            lines.append(f"{entry.cluster}  version {entry.version}  written {age}")
        if self._store.clusters > MAX_LISTED:
            lines.append(f"and {self._store.clusters - MAX_LISTED} more")
        return _text(200, "\n".join(lines))


class _Condition(NamedTuple):
    expected: str | None


def _condition(headers: Headers) -> _Condition | Reply:
    """The version that a PUT expects, or what to answer to a PUT without a usable one."""
    match = [value.strip() for name, value in headers if name == b"if-match"]
    none_match = [value.strip() for name, value in headers if name == b"if-none-match"]
    if not match and not none_match:
        return _text(
            428, 'say what to replace: If-Match: "<version>", or If-None-Match: * for the first'
        )
    if not match and none_match == [b"*"]:
        return _Condition(None)
    tag = _STRONG_TAG.fullmatch(match[0]) if len(match) == 1 and not none_match else None
    if tag is None:
        return _text(400, 'give one If-Match: "<version>" or one If-None-Match: *, no more')
    return _Condition(tag[1].decode("ascii"))


async def _read_body(headers: Headers, receive: Receive) -> bytes | Reply:
    """The whole body, or what to answer to one that is too long, too slow, cut off or empty."""
    too_long = _text(413, f"a record has at most {MAX_VALUE_BYTES} bytes", close=True)
    for name, told in headers:
        if name == b"content-length" and (len(told) > 9 or int(told) > MAX_VALUE_BYTES):
            return too_long
    body = b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return _text(400, "the record was cut off", close=True)
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > MAX_VALUE_BYTES:
                    return too_long
    except TimeoutError:
        return _text(408, f"the record did not come within {BODY_TIMEOUT_S:g} s", close=True)
    return body if body else _text(400, "a record has at least one byte")


def _not_allowed(method: str, allow: bytes) -> Reply:
    why = ": records are never deleted" if method == "DELETE" else ""
    return _text(405, f"{method} is not possible here{why}")._replace(allow=allow)


async def _send(send: Send, reply: Reply) -> None:
    # What a cache keeps is what a witness must not say.
    headers = [(b"cache-control", b"no-store")]
    if reply.status != 204:
        headers.append((b"content-length", str(len(reply.body)).encode()))
        kind = b"application/octet-stream" if reply.binary else b"text/plain; charset=utf-8"
        headers.append((b"content-type", kind))
    if reply.tag:
        headers.append((b"etag", f'"{reply.tag}"'.encode()))
    if reply.allow:
        headers.append((b"allow", reply.allow))
    if reply.close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
