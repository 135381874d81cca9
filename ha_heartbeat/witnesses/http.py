"""A witness behind a URL: any HTTP server that does conditional requests with strong ETags.

GET reads; PUT with `If-Match: <version>` or `If-None-Match: *` swaps; the ETag is the version
(RFC 9110, sections 8.8.3 and 13.1). Standard library only. Proxies from the environment are not
used and redirects not followed: a witness that moves is one that its operator has to know of.

Only a GET is ever sent twice. A PUT whose answer was lost may have been done, and the same PUT
again would then be answered with 412, which looks as if somebody else had won.
"""

from __future__ import annotations

import base64
import http.client
import io
import re
import select
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from ha_heartbeat.witnesses.bounded import Bounded, BusyError, OverdueError
from ha_heartbeat.witnesses.register import (
    MAX_VALUE_BYTES,
    MAX_VERSION_CHARS,
    ConflictError,
    Stored,
    UnknownOutcomeError,
    WitnessError,
    WitnessUrlError,
    check_timeout,
    check_value,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from _typeshed import WriteableBuffer

MAX_IDLE_S = 30.0  # many servers close an idle connection after a minute, often while we write
MAX_REASON_CHARS = 80

# RFC 9110, 8.8.3: opaque-tag, without obs-text, which nobody can be relied on to hand back as is.
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e]*"')
_REQUEST_TARGET = re.compile(r"[\x21-\x7e]+")
_WRITTEN = frozenset({200, 201, 204})
# What a server says that may have done, or may yet do, what it was asked to.
_PERHAPS_WRITTEN = frozenset({408, *range(200, 300), *range(500, 600)}) - _WRITTEN


class Target(NamedTuple):
    """Where a witness is. `path` begins with a slash; `shown` is the URL without a password."""

    tls: bool
    host: str
    port: int
    path: str
    authorization: str
    shown: str


class _Answer(NamedTuple):
    status: int
    reason: str
    tags: tuple[str, ...]
    body: bytes | None  # None: longer than any record, cut off, or its end cannot be told


def read_target(url: str) -> Target:
    """Take an http or https URL apart. Raises WitnessUrlError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise WitnessUrlError(f"the witness {_masked(url)} is no URL: {error}") from None
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"
    if not host or port == 0:
        raise WitnessUrlError(
            f"the witness {shown} has no usable host and port; "
            "give a URL such as http://m3:22220/v1/web"
        )
    if parts.fragment or not _REQUEST_TARGET.fullmatch(path):
        raise WitnessUrlError(
            f"the witness {shown!r} has a fragment, a blank or a character that no URL may have; "
            "percent-encode it"
        )
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        authorization = f"Basic {base64.b64encode(pair).decode('ascii')}"
    return Target(tls, host, port or (443 if tls else 80), path, authorization, shown)


class HttpRegister:
    """A Register behind one URL, over one connection that is kept open between the calls.

    `timeout_s` is above 0 and covers a whole call: the name's resolution, connecting, TLS, and the
    last byte of the answer. Nothing is sent before the first call. Raises WitnessUrlError for a URL
    that cannot be used, ValueError for a time limit that is none.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        check_timeout(timeout_s)
        self._target = read_target(url)
        self._timeout_s = timeout_s
        self._turn = threading.Lock()
        self._dialler = _Dialler(self._target)
        self._connection: _Connection | None = None
        self._idle_since_s = 0.0

    def read(self) -> Stored | None:
        """See Register."""
        deadline_s = time.monotonic() + self._timeout_s
        self._take_turn(deadline_s)
        try:
            return self._read(deadline_s)
        finally:
            self._turn.release()

    def swap(self, expected: str | None, value: bytes) -> str:
        """See Register; a version is a strong ETag, with its quotes."""
        check_value(value)
        if expected is not None and not _is_version(expected):
            raise ValueError(f"{expected!r} is no strong ETag, so it is no version of this witness")
        deadline_s = time.monotonic() + self._timeout_s
        self._take_turn(deadline_s)
        try:
            return self._swap(expected, value, deadline_s)
        finally:
            self._turn.release()

    def close(self) -> None:
        """See Register. A call under way keeps its connection and closes it at its end."""
        if self._turn.acquire(blocking=False):
            self._drop()
            self._turn.release()

    def _take_turn(self, deadline_s: float) -> None:
        if not self._turn.acquire(timeout=max(deadline_s - time.monotonic(), 0.0)):
            raise self._error("was not asked: an earlier call took all of the time limit")

    def _read(self, deadline_s: float) -> Stored | None:
        answer = self._get(deadline_s)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._refused("GET", answer)
        if answer.body is None:
            raise self._error(
                f"sent a record that is cut off, longer than {MAX_VALUE_BYTES} bytes, "
                "or without a length"
            )
        if not answer.body:
            raise self._error("sent an empty record, which nobody writes")
        return Stored(answer.body, self._version(answer))

    def _get(self, deadline_s: float) -> _Answer:
        headers = {"Cache-Control": "no-cache"}
        kept = self._usable_connection()
        try:
            if kept is not None:
                try:
                    return self._exchange(kept, "GET", headers, None, deadline_s)
                except ConnectionError:  # RemoteDisconnected is one, too
                    pass  # the server closed it just as we wrote; reading twice harms nobody
            return self._exchange(self._connect(deadline_s), "GET", headers, None, deadline_s)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._failed(error) from error

    def _swap(self, expected: str | None, value: bytes, deadline_s: float) -> str:
        condition = {"If-None-Match": "*"} if expected is None else {"If-Match": expected}
        headers = {**condition, "Content-Type": "application/octet-stream"}
        try:
            connection = self._usable_connection() or self._connect(deadline_s)
        except (OSError, ValueError) as error:
            raise self._failed(error) from error
        try:
            answer = self._exchange(connection, "PUT", headers, value, deadline_s)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnknownOutcomeError(f"{self._failed(error)}, after a PUT was sent") from error
        if answer.status == 412:
            raise ConflictError(f"the witness {self._target.shown} has another version by now")
        if answer.status in _PERHAPS_WRITTEN:
            raise UnknownOutcomeError(str(self._refused("PUT", answer)))
        if answer.status not in _WRITTEN:
            raise self._refused("PUT", answer)
        if not answer.tags:
            return self._version_read_back(value, deadline_s)
        try:
            return self._version(answer)
        except WitnessError as error:
            raise UnknownOutcomeError(f"{error}, in its answer to a PUT that was done") from error

    def _version_read_back(self, value: bytes, deadline_s: float) -> str:
        """The version of what was written, from a server that does not say it (RFC 9110, 9.3.4)."""
        try:
            stored = self._read(deadline_s)
        except WitnessError as error:
            raise UnknownOutcomeError(
                f"{error}, when asked for the version of what it had just written"
            ) from error
        if stored is None or stored.value != value:
            raise UnknownOutcomeError(
                f"the witness {self._target.shown} wrote the record without telling its version, "
                "and has another record already"
            )
        return stored.version

    def _usable_connection(self) -> _Connection | None:
        """The kept connection, unless the server has closed it or is about to."""
        if self._connection is not None and (
            time.monotonic() - self._idle_since_s > MAX_IDLE_S or self._connection.has_input()
        ):
            self._drop()
        return self._connection

    def _connect(self, deadline_s: float) -> _Connection:
        self._drop()
        connection = _Connection(self._target, self._dialler)
        connection.deadline_s = deadline_s
        connection.connect()
        self._connection = connection
        return connection

    def _exchange(
        self,
        connection: _Connection,
        method: str,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline_s: float,
    ) -> _Answer:
        """Ask and answer. Whatever goes wrong, the connection is not used again."""
        connection.deadline_s = deadline_s
        whole = False
        try:
            if self._target.authorization:
                headers = {**headers, "Authorization": self._target.authorization}
            connection.request(method, self._target.path, body=body, headers=dict(headers))
            response = connection.getresponse()
            content, whole = _read_body(response)
            tags = tuple(response.headers.get_all("ETag", ()))
            return _Answer(response.status, response.reason, tags, content)
        finally:
            self._idle_since_s = time.monotonic()
            if not whole:
                self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _version(self, answer: _Answer) -> str:
        if not answer.tags:
            raise self._error("sent a record without an ETag, so it cannot be used as a witness")
        tag = answer.tags[0]
        if len(answer.tags) == 1 and _is_version(tag):
            return tag
        shown = repr(", ".join(answer.tags)[:MAX_REASON_CHARS])
        weak = " is a weak one, and" if tag.startswith("W/") else " is not one that can be used;"
        raise self._error(f"sent an ETag that{weak} a witness needs one strong ETag: {shown}")

    def _refused(self, method: str, answer: _Answer) -> WitnessError:
        hint = ""
        if 300 <= answer.status < 400:
            hint = "; redirects are not followed, so give the final URL"
        elif answer.status in (401, 403):
            hint = "; check the user and the password in its URL"
        reason = "".join(c for c in answer.reason[:MAX_REASON_CHARS] if c.isprintable())
        return self._error(f"answered {method} with {answer.status} {reason}".rstrip() + hint)

    def _failed(self, error: Exception) -> WitnessError:
        if isinstance(error, TimeoutError):
            return self._error(f"did not answer within {self._timeout_s:g} s")
        if isinstance(error, http.client.HTTPException):
            if isinstance(error, http.client.RemoteDisconnected):
                return self._error("closed the connection without an answer")
            return self._error(f"sent what is no HTTP answer ({type(error).__name__})")
        if isinstance(error, OSError):
            return self._error(f"cannot be asked: {error.strerror or error}")
        return self._error(f"cannot be asked: {error}")

    def _error(self, what: str) -> WitnessError:
        return WitnessError(f"the witness {self._target.shown} {what}")


def _is_version(tag: str) -> bool:
    return len(tag) <= MAX_VERSION_CHARS and _STRONG_TAG.fullmatch(tag) is not None


def _masked(url: str) -> str:
    """A URL that cannot be taken apart, without what may be a password in it."""
    scheme, separator, rest = url.partition("://")
    return repr(f"{scheme}{separator}{rest.rpartition('@')[2]}"[:MAX_REASON_CHARS])


def _read_body(response: http.client.HTTPResponse) -> tuple[bytes | None, bool]:
    """The body, None when it is not one that can be a record, and whether all of it was read."""
    if response.length == 0:
        response.read()
        return b"", not response.will_close
    if response.length is None and not response.chunked:
        return None, False  # it would end with the connection, and so would a torn one
    if response.length is not None and response.length > MAX_VALUE_BYTES:
        return None, False
    body = bytearray()
    try:
        while len(body) <= MAX_VALUE_BYTES:
            part = response.read(MAX_VALUE_BYTES + 1 - len(body))
            if not part:
                break
            body += part
    except TimeoutError:
        raise
    except (OSError, http.client.HTTPException, ValueError):
        return None, False
    if len(body) > MAX_VALUE_BYTES or response.length:  # HTTPResponse.read(n) tells no truncation
        return None, False
    return bytes(body), not response.will_close


class _Dialler:
    """Opens sockets, TLS included, until a deadline."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._resolver = Bounded("witness-name")
        self._context: ssl.SSLContext | None = None

    def dial(self, deadline_s: float) -> socket.socket:
        """Connect to the first address that takes it. Raises OSError."""
        last = OSError("its name has no address")
        addresses = self._addresses(deadline_s)
        for left, (family, kind, protocol, _name, address) in zip(
            range(len(addresses), 0, -1), addresses, strict=True
        ):
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(_left_s(deadline_s) / left)  # a silent one leaves time for others
                plain.connect(address)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return self._secured(plain, deadline_s) if self._target.tls else plain
            except OSError as error:
                plain.close()
                last = error
            except BaseException:
                plain.close()
                raise
        raise last

    def _addresses(self, deadline_s: float) -> list[Any]:
        host, port = self._target.host, self._target.port
        try:
            # The resolver has time limits of its own, of minutes, and cannot be interrupted.
            return self._resolver.run(
                lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), deadline_s
            )
        except (BusyError, OverdueError):
            raise OSError(f"its name {host} was not resolved within the time limit") from None
        except UnicodeError:
            raise OSError(f"{host} cannot be a host's name") from None

    def _secured(self, plain: socket.socket, deadline_s: float) -> socket.socket:
        import ssl  # only here: http:// works with a Python built without it, too

        if self._context is None:
            self._context = ssl.create_default_context()
        plain.settimeout(_left_s(deadline_s))
        return self._context.wrap_socket(plain, server_hostname=self._target.host)


class _Connection(http.client.HTTPConnection):
    """An HTTP connection on which every single wait ends at `deadline_s`."""

    def __init__(self, target: Target, dialler: _Dialler) -> None:
        super().__init__(target.host, target.port)
        self.default_port = 443 if target.tls else 80  # for the Host header
        self.deadline_s = 0.0
        self._dialler = dialler
        self._raw: socket.socket | None = None

    def connect(self) -> None:
        """Called by the base class as well, whenever there is no socket."""
        self._raw = self._dialler.dial(self.deadline_s)
        self.sock: Any = _TimedSocket(self._raw, self)

    def has_input(self) -> bool:
        """Whether the server has spoken unasked or closed; either way nothing can follow."""
        if self._raw is None or self.sock is None:
            return True
        try:
            if sys.platform == "win32":
                return bool(select.select([self._raw], [], [], 0)[0])
            poller = select.poll()  # select(2) knows no descriptors above 1023
            poller.register(self._raw, select.POLLIN)
            return bool(poller.poll(0))
        except (OSError, ValueError):
            return True


class _TimedSocket:
    """What http.client uses of a socket, with what is left until the deadline as each timeout.

    A timeout of the socket's own begins anew with every byte, so that a server which sends one
    byte now and then would never be given up.
    """

    def __init__(self, raw: socket.socket, connection: _Connection) -> None:
        self._raw = raw
        self._connection = connection

    def sendall(self, data: bytes) -> None:
        self._raw.settimeout(_left_s(self._connection.deadline_s))
        self._raw.sendall(data)

    def recv_into(self, buffer: WriteableBuffer) -> int:
        self._raw.settimeout(_left_s(self._connection.deadline_s))
        return self._raw.recv_into(buffer)

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_TimedReader(self))

    def close(self) -> None:
        self._raw.close()


class _TimedReader(io.RawIOBase):
    def __init__(self, timed: _TimedSocket) -> None:
        super().__init__()
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        return self._timed.recv_into(buffer)


def _left_s(deadline_s: float) -> float:
    """What is left until the deadline. Raises TimeoutError when nothing is."""
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the time limit has passed")
    return left_s
