"""What the witness says to each request; how requests come and go is `protocol`'s business.

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

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from ha_heartbeat.witness_server.group import GroupCommit
from ha_heartbeat.witness_server.store import (
    Conflict,
    Outcome,
    Refused,
    Store,
    StoreError,
    Swap,
    Written,
)
from ha_heartbeat.witnesses.opening import check_cluster

MAX_LISTED = 1_000

_PREFIX = b"/v1/"
_STRONG_TAG = re.compile(rb'"([\x21\x23-\x7e]{1,200})"')

Headers = Iterable[tuple[bytes, bytes]]


class Request(NamedTuple):
    """What was asked. Header names are in lower case; `body` has at most MAX_VALUE_BYTES bytes."""

    method: str
    target: bytes
    headers: Headers
    body: bytes


class Reply(NamedTuple):
    """An answer. `tag` is a version without quotes, "" for none; `allow` is for a 405."""

    status: int
    body: bytes = b""
    tag: str = ""
    allow: str = ""
    binary: bool = False


def text(status: int, sentence: str) -> Reply:
    """A reply of one sentence."""
    return Reply(status, f"{sentence}\n".encode())


class App:
    """Answers requests. Its store is read in the event loop, and written by way of `group`."""

    def __init__(self, store: Store, group: GroupCommit) -> None:
        self._store = store
        self._group = group

    def answer(self, request: Request, done: Callable[[Reply], None]) -> None:
        """Call `done` with the reply: at once, or for a swap once it is on disk."""
        try:
            reply = self._reply(request, done)
        except StoreError as error:
            reply = text(500, str(error))
        if reply is not None:
            done(reply)

    def _reply(self, request: Request, done: Callable[[Reply], None]) -> Reply | None:
        """The reply, None when `done` will get it later."""
        path = request.target.partition(b"?")[0]
        if path.startswith(_PREFIX):
            return self._record(request, path[len(_PREFIX) :], done)
        if path not in (b"/", b"/healthz"):
            return text(404, "there is nothing here; records are at /v1/<cluster>")
        if request.method not in ("GET", "HEAD"):
            return _not_allowed(request.method, "GET, HEAD")
        return self._health() if path == b"/healthz" else self._list()

    def _record(self, request: Request, name: bytes, done: Callable[[Reply], None]) -> Reply | None:
        try:
            cluster = _cluster(name)
        except ValueError as error:
            return text(400, str(error))
        if request.method == "PUT":
            return self._put(cluster, request, done)
        if request.method not in ("GET", "HEAD"):
            return _not_allowed(request.method, "GET, HEAD, PUT")
        found = self._store.read(cluster)
        if found is None:
            return text(404, f"the cluster {cluster} has no record")
        version, value = found
        return Reply(200, value, version, binary=True)

    def _put(self, cluster: str, request: Request, done: Callable[[Reply], None]) -> Reply | None:
        condition = _condition(request.headers)
        if isinstance(condition, Reply):
            return condition
        if not request.body:
            return text(400, "a record has at least one byte")
        swap = Swap(cluster, condition.expected, request.body)
        self._group.submit(swap, lambda outcome: done(_swapped(cluster, outcome)))
        return None

    def _health(self) -> Reply:
        self._store.check()
        return text(200, "ok")

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
        return text(200, "\n".join(lines))


@lru_cache(maxsize=8192)
def _cluster(name: bytes) -> str:
    """The cluster that a path names. Raises ValueError with a sentence."""
    try:
        cluster = unquote_to_bytes(name).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("a cluster's name is percent-encoded UTF-8") from None
    check_cluster(cluster)
    return cluster


class _Condition(NamedTuple):
    expected: str | None


def _condition(headers: Headers) -> _Condition | Reply:
    """The version that a PUT expects, or what to answer to a PUT without a usable one."""
    match = [value.strip() for name, value in headers if name == b"if-match"]
    none_match = [value.strip() for name, value in headers if name == b"if-none-match"]
    if not match and not none_match:
        return text(
            428, 'say what to replace: If-Match: "<version>", or If-None-Match: * for the first'
        )
    if not match and none_match == [b"*"]:
        return _Condition(None)
    tag = _STRONG_TAG.fullmatch(match[0]) if len(match) == 1 and not none_match else None
    if tag is None:
        return text(400, 'give one If-Match: "<version>" or one If-None-Match: *, no more')
    return _Condition(tag[1].decode("ascii"))


def _swapped(cluster: str, outcome: Outcome) -> Reply:
    match outcome:
        case Written(version, created):
            return Reply(201 if created else 204, tag=version)
        case Conflict():
            return text(412, f"the record of {cluster} has another version, or there is none")
        case Refused(sentence, busy):
            return text(503 if busy else 507, sentence)


def _not_allowed(method: str, allow: str) -> Reply:
    why = ": records are never deleted" if method == "DELETE" else ""
    return text(405, f"{method} is not possible here{why}")._replace(allow=allow)
