"""What the tests of the witness share: servers good and bad, a reference register, waiting."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ha_heartbeat.witnesses import ConflictError, Register, Stored

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
PATIENCE_S = 20.0

needs_server = pytest.mark.skipif(
    importlib.util.find_spec("httptools") is None,
    reason="the extra `witness` is not installed (httptools is missing)",
)


class MemoryRegister:
    """The reference: what every register has to behave like."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stored: Stored | None = None
        self._count = 0

    def read(self) -> Stored | None:
        return self._stored

    def swap(self, expected: str | None, value: bytes) -> str:
        with self._lock:
            if (self._stored.version if self._stored else None) != expected:
                raise ConflictError("another version")
            self._count += 1
            self._stored = Stored(value, str(self._count))
            return self._stored.version

    def close(self) -> None:
        pass


def wait_for(true: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s, f"waited too long for: {what}"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def run_witness(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The program, to its own end; for what it refuses to start with."""
    return subprocess.run(
        [sys.executable, "-m", "ha_heartbeat.witness_server", *words],
        cwd=ROOT,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


class Witness:
    """Our own server as a process, which can be killed and started again on the same store."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.port = free_port()
        self.url = f"witness://{HOST}:{self.port}"
        self.process: subprocess.Popen[str] | None = None
        self.greeting = ""

    def start(self) -> None:
        words = ["--listen", f"{HOST}:{self.port}", "--store", str(self.store)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ha_heartbeat.witness_server", *words],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.greeting = self.process.stderr.readline()
        assert "answers on" in self.greeting, self.greeting

    def end(self, *, kill: bool = False) -> int:
        """End it and return its exit status."""
        if self.process is None:
            return 0
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stderr is not None
            self.process.stderr.close()
            self.process = None


@contextlib.contextmanager
def witness(folder: Path) -> Iterator[Witness]:
    running = Witness(folder / "store.sqlite3")
    running.start()
    try:
        yield running
    finally:
        running.end()


class _Conforming(BaseHTTPRequestHandler):
    """The least of what RFC 9110 asks of a witness; the ETag is made from a count and the value."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65_536  # one packet for an answer
    server: ConformingServer

    def do_GET(self) -> None:
        with self.server.lock:
            stored = self.server.records.get(self.path)
        if stored is None:
            self._answer(404)
        else:
            self._answer(200, stored.version, stored.value)

    def do_PUT(self) -> None:
        value = self.rfile.read(int(self.headers["Content-Length"]))
        match, none_match = self.headers["If-Match"], self.headers["If-None-Match"]
        with self.server.lock:
            stored = self.server.records.get(self.path)
            good = stored is None if none_match == "*" else stored and stored.version == match
            if not good:
                self._answer(412)
                return
            self.server.count += 1
            digest = hashlib.sha256(value).hexdigest()[:8]
            version = f'"{self.server.count}:{digest}"'
            self.server.records[self.path] = Stored(value, version)
        self._answer(200 if stored else 201, version if self.server.tells_version else "")

    def _answer(self, status: int, tag: str = "", body: bytes = b"") -> None:
        self.send_response(status)
        if tag:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class ConformingServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *, tells_version: bool) -> None:
        super().__init__((HOST, 0), _Conforming)
        self.tells_version = tells_version
        self.lock = threading.Lock()
        self.records: dict[str, Stored] = {}
        self.count = 0
        self.url = f"http://{HOST}:{self.server_address[1]}/some/record"


@contextlib.contextmanager
def conforming(*, tells_version: bool = True) -> Iterator[ConformingServer]:
    server = ConformingServer(tells_version=tells_version)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


Step = bytes | Callable[[socket.socket, threading.Event], None]


class Script:
    """A server that answers the n-th request with the n-th step, each connection's in turn.

    Bytes are sent as they are; a function gets the socket and an event that is set at the end. An
    empty step closes the connection. After the last step connections are closed.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = list(steps)
        self._listener = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self._listener.getsockname()[1]}/r"
        self.requests: list[bytes] = []
        self.connections = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            with client, contextlib.suppress(OSError):
                client.settimeout(0.05)
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        while request := self._receive(client):
            self.requests.append(request)
            step = self._steps.pop(0) if self._steps else b""
            if callable(step):
                step(client, self._over)
            elif step:
                client.sendall(step)
            if not step:
                return

    def _receive(self, client: socket.socket) -> bytes:
        received = b""
        while not self._over.is_set():
            head, end, body = received.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            if end and len(body) >= int(length or b"0"):
                return received
            try:
                part = client.recv(65536)
            except TimeoutError:
                continue
            if not part:
                return b""
            received += part
        return b""


@contextlib.contextmanager
def script(*steps: Step) -> Iterator[Script]:
    server = Script(steps)
    try:
        yield server
    finally:
        server.close()


def answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers]
    if not any(line.lower().startswith(("content-length", "transfer")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextlib.contextmanager
def closing(register: Register) -> Iterator[Register]:
    try:
        yield register
    finally:
        register.close()
