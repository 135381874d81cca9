"""`python3 benchmarks/witness_load.py`: what the witness costs while many clusters renew.

Starts `ha-heartbeat-witness` as a process of its own on the loopback interface, with a store in a
temporary directory, and removes both at the end. Each cluster has one connection that swaps its
record once a period and, unless told otherwise, one that reads it as often. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from benchmarks.processes import memory, usage
from benchmarks.report import percentile_ns

HOST = "127.0.0.1"
START_S = 15.0
ANSWER_S = 10.0
VALUE_BYTES = 300


class LoadError(Exception):
    """The load could not be measured; the text says why."""


class Connection(asyncio.Protocol):
    """One keep-alive connection that asks and waits for the whole answer."""

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or self._answer is None or self._answer.done():
            return
        length = header(self._received[:end], b"content-length") or b"0"
        if len(self._received) >= end + 4 + int(length):
            answer, self._received = self._received, b""
            self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the witness closed the connection"))

    async def ask(self, request: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        timer = loop.call_later(ANSWER_S, self.transport.abort)
        self.transport.write(request)
        try:
            return await self._answer
        finally:
            timer.cancel()


def header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _colon, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return b""


@dataclass
class Load:
    """What is asked of the witness, and what came of it."""

    clusters: int
    readers: int
    period_s: float
    port: int
    put_ns: list[int] = field(default_factory=list)
    get_ns: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    measuring: bool = False

    async def renew(self, number: int) -> None:
        """One cluster's holder: swap the version that the last swap gave."""
        condition = b"If-None-Match: *"
        connection = await self._connect()
        async for _tick in self._ticks(number, self.clusters):
            request = (
                b"PUT /v1/cluster-%d HTTP/1.1\r\nHost: witness\r\n%s\r\nContent-Length: %d\r\n\r\n"
                % (number, condition, VALUE_BYTES)
            )
            answer = await self._timed(
                connection, request + os.urandom(VALUE_BYTES), self.put_ns, b"2"
            )
            condition = b"If-Match: " + header(answer.partition(b"\r\n\r\n")[0], b"etag")

    async def watch(self, number: int) -> None:
        """One cluster's supervisor: read the record."""
        connection = await self._connect()
        request = b"GET /v1/cluster-%d HTTP/1.1\r\nHost: witness\r\n\r\n" % (number % self.clusters)
        async for _tick in self._ticks(number, self.readers):
            await self._timed(connection, request, self.get_ns, b"24")

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Connection, HOST, self.port))[1]

    async def _ticks(self, number: int, among: int):  # type: ignore[no-untyped-def]
        """Once a period, evenly spread over it; a late one is not made up for."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self.period_s * number / among
        while True:
            await asyncio.sleep(max(due_s - loop.time(), 0.0))
            yield due_s
            due_s = max(due_s + self.period_s, loop.time())

    async def _timed(
        self, connection: Connection, request: bytes, times_ns: list[int], good: bytes
    ) -> bytes:
        began_ns = time.perf_counter_ns()
        answer = await connection.ask(request)
        if self.measuring:
            times_ns.append(time.perf_counter_ns() - began_ns)
        if answer[9:10] not in (b"2", good[-1:]):
            self.errors.append(answer.partition(b"\r\n")[0].decode("ascii", "replace"))
        return answer


async def drive(load: Load, pid: int, seconds: float) -> float:
    """Load the witness for a warm-up and `seconds`; the CPU time in percent of one core."""
    tasks = [asyncio.create_task(load.renew(number)) for number in range(load.clusters)]
    tasks += [asyncio.create_task(load.watch(number)) for number in range(load.readers)]
    try:
        await asyncio.sleep(2 * load.period_s + 1.0)
        load.measuring = True
        before_ns, began_ns = usage(pid).cpu_ns, time.monotonic_ns()
        await asyncio.sleep(seconds)
        percent = 100 * (usage(pid).cpu_ns - before_ns) / (time.monotonic_ns() - began_ns)
        load.measuring = False
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    load.errors += [str(end) for end in ended if isinstance(end, Exception)]
    return percent


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def start_witness(port: int, folder: str) -> subprocess.Popen[bytes]:
    """Start the real program and wait until it answers. Raises LoadError."""
    words = ["--listen", f"{HOST}:{port}", "--store", os.path.join(folder, "witness.sqlite3")]
    process = subprocess.Popen(
        [sys.executable, "-m", "ha_heartbeat.witness_server", *words], cwd=ROOT
    )
    deadline_s = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline_s:
        try:
            socket.create_connection((HOST, port), timeout=1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process
    stop(process)
    raise LoadError("the witness did not start")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(START_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def describe(title: str, times_ns: Sequence[int]) -> str:
    if not times_ns:
        return f"{title:<16} none"
    numbers = (statistics.median(times_ns), percentile_ns(times_ns, 0.99), max(times_ns))
    median, p99, worst = (f"{number / 1e6:.1f} ms" for number in numbers)
    return f"{title:<16} n {len(times_ns)}, median {median}, p99 {p99}, worst {worst}"


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what the witness costs under load.")
    parser.add_argument("--clusters", type=int, default=1000, help="(%(default)s)")
    parser.add_argument("--readers", type=int, help="connections that read (one a cluster)")
    parser.add_argument("--period-s", type=float, default=1.0, help="of each one (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured (%(default)s)")
    options = parser.parse_args(words)
    if options.readers is None:
        options.readers = options.clusters
    if options.clusters < 1 or options.readers < 0:
        parser.error("at least one cluster is needed")
    if not (0.01 <= options.period_s <= 60 and 0.1 <= options.seconds <= 600):
        parser.error("a period has 0.01 to 60 s, and a measurement 0.1 to 600 s")
    return options


def main(words: Sequence[str]) -> int:
    """Exit status 0 when it was measured without an error of the witness, 1 otherwise."""
    options = parse(words)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    load = Load(options.clusters, options.readers, options.period_s, free_port())
    with tempfile.TemporaryDirectory(prefix="witness-load-") as folder:
        try:
            process = start_witness(load.port, folder)
        except LoadError as error:
            print(error, file=sys.stderr)
            return 1
        try:
            percent = asyncio.run(drive(load, process.pid, options.seconds))
            used = memory([process.pid])
        finally:
            stop(process)
    print(f"{'load':<16} {load.clusters} PUTs and {load.readers} GETs each {load.period_s:g} s")
    print(f"{'CPU':<16} {percent:.1f} % of one core")
    print(f"{'memory':<16} RSS {used.alone_kib / 1024:.1f} MiB, PSS {used.pss_kib / 1024:.1f} MiB")
    print(describe("PUT", load.put_ns))
    print(describe("GET", load.get_ns))
    print(f"{'errors':<16} {len(load.errors)} {'; '.join(sorted(set(load.errors))[:5])}".rstrip())
    return 1 if load.errors or not load.put_ns else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
