"""Our own witness as a process: its answers, its end, and what a kill leaves."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import random
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from ha_heartbeat.witness_server.group import GroupCommit
from ha_heartbeat.witness_server.store import Outcome, Refused, Store, Swap
from ha_heartbeat.witnesses import (
    ConflictError,
    UnknownOutcomeError,
    WitnessError,
    open_register,
)
from tests.witnesses.rig import (
    HOST,
    PATIENCE_S,
    ROOT,
    Witness,
    closing,
    free_port,
    needs_server,
    run_witness,
    wait_for,
    witness,
)
from tests.witnesses.test_file import tmpfs

pytestmark = needs_server
FIRST = {"If-None-Match": "*"}


class Said(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def tag(self) -> str:
        return self.headers["ETag"] or ""


class Client:
    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Said:
        self.connection.request(method, path, body=body or None, headers=headers or {})
        response = self.connection.getresponse()
        return Said(response.status, response.headers, response.read())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    with witness(tmp_path_factory.mktemp("witness")) as running:
        yield running


@pytest.fixture
def client(server: Witness) -> Iterator[Client]:
    made = Client(server.port)
    with contextlib.closing(made.connection):
        yield made


@pytest.fixture
def path(request: pytest.FixtureRequest) -> str:
    """A record of this test's own."""
    return f"/v1/{abs(hash(request.node.name))}"


def test_a_record_is_made_replaced_and_read(client: Client, path: str) -> None:
    assert client.ask("GET", path).status == 404
    made = client.ask("PUT", path, FIRST, b"one")
    assert (made.status, made.body) == (201, b"")
    replaced = client.ask("PUT", path, {"If-Match": made.tag}, b"two")
    assert replaced.status == 204
    said = client.ask("GET", path)
    assert (said.status, said.body, said.tag) == (200, b"two", replaced.tag)
    assert said.headers["Cache-Control"] == "no-store"
    assert said.headers["Date"] is None
    head = client.ask("HEAD", path)
    assert (head.status, head.body, head.tag) == (200, b"", replaced.tag)


def test_it_says_whether_its_store_is_new(tmp_path: Path) -> None:
    """A wrong --store would be a witness that has forgotten every vote."""
    with witness(tmp_path) as running:
        assert running.greeting.endswith(f"; its store {running.store} has no record yet\n")
        made = Client(running.port)
        with contextlib.closing(made.connection):
            assert made.ask("PUT", "/v1/a", FIRST, b"one").status == 201
        running.end()
        running.start()
        assert running.greeting.endswith(f"; its store {running.store} has 1 record\n")


def test_conditions(client: Client, path: str) -> None:
    assert client.ask("PUT", path, {"If-Match": '"x"'}, b"v").status == 412
    made = client.ask("PUT", path, FIRST, b"v")
    assert client.ask("PUT", path, FIRST, b"v").status == 412
    assert client.ask("PUT", path, {}, b"v").status == 428
    for headers in (
        {"If-Match": "*"},
        {"If-Match": f"W/{made.tag}"},
        {"If-Match": f'{made.tag}, "b"'},
        {"If-Match": "x"},
        {"If-None-Match": made.tag},
        {"If-Match": made.tag, **FIRST},
    ):
        assert client.ask("PUT", path, headers, b"v").status == 400
    assert client.ask("GET", path).tag == made.tag


def test_what_is_not_possible(client: Client, path: str) -> None:
    for method in ("DELETE", "POST", "PATCH", "OPTIONS"):
        said = client.ask(method, path)
        assert (said.status, said.headers["Allow"]) == (405, "GET, HEAD, PUT")
    assert client.ask("DELETE", "/").status == 405
    assert client.ask("GET", "/v2/x").status == 404
    assert client.ask("PUT", path, FIRST).status == 400


@pytest.mark.parametrize("name", ["", ".", "..", "a%20b", "a%2Fb", "a/b", "%FF", "x" * 129, "%00"])
def test_names_that_are_refused(client: Client, name: str) -> None:
    said = client.ask("PUT", f"/v1/{name}", FIRST, b"v")
    assert said.status == 400
    assert b"cluster's name" in said.body


def test_names_with_anything_else_are_one_name_each(server: Witness) -> None:
    names = ["web", "wéb", "%", "a?b", "a#b", "a+b", "x" * 128, "'; DROP TABLE record"[:2] + "x"]
    for name in names:
        with closing(open_register(server.url, name, PATIENCE_S)) as register:
            register.swap(None, name.encode())
    for name in names:
        with closing(open_register(server.url, name, PATIENCE_S)) as register:
            stored = register.read()
            assert stored is not None
            assert stored.value == name.encode()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_record_that_is_too_long(client: Client, path: str, chunked: bool) -> None:
    body = b"x" * 20_000
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.connection.request(
            "PUT",
            path,
            body=iter([body]) if chunked else body,
            headers=FIRST,
            encode_chunked=chunked,
        )
    assert client.connection.getresponse().status == 413
    client.connection.close()
    assert client.ask("GET", path).status == 404


def test_a_record_in_chunks(client: Client, path: str) -> None:
    client.connection.request(
        "PUT", path, body=iter([b"one", b"two"]), headers=FIRST, encode_chunked=True
    )
    response = client.connection.getresponse()
    response.read()
    assert response.status == 201
    assert client.ask("GET", path).body == b"onetwo"


def talk(server: Witness, sent: bytes) -> bytes:
    """Everything that the server says to these bytes, until it closes."""
    with socket.create_connection((HOST, server.port), timeout=PATIENCE_S) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(sent)
        said = b""
        with contextlib.suppress(ConnectionError):
            while part := sock.recv(65536):
                said += part
        return said


def test_pipelined_requests_are_answered_in_their_order(server: Witness, path: str) -> None:
    put = f"PUT {path} HTTP/1.1\r\nHost: w\r\nIf-None-Match: *\r\nContent-Length: 1\r\n\r\nv"
    get = f"GET {path} HTTP/1.1\r\nHost: w\r\n\r\n"
    last = f"GET {path} HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n"
    said = talk(server, (get + put + get + last).encode())
    assert re.findall(rb"HTTP/1\.1 (\d+)", said) == [b"404", b"201", b"200", b"200"]
    assert said.endswith(b"\r\n\r\nv")


def test_expect_continue(server: Witness, path: str) -> None:
    head = (
        f"PUT {path} HTTP/1.1\r\nHost: w\r\nIf-None-Match: *\r\nContent-Length: 1\r\n"
        "Connection: close\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection((HOST, server.port), timeout=PATIENCE_S) as sock:
        sock.sendall(head.encode())
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"v")
        assert sock.recv(1000).startswith(b"HTTP/1.1 201 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"hello\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: w\r\nX: " + b"a" * 20_000, b"431"),
        (b"GET / HTTP/1.0\r\n\r\n", b"200"),
        (b"PUT /v1/x HTTP/1.1\r\nHost: w\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"PUT /v1/x HTTP/1.1\r\nHost: w\r\nContent-Length: -1\r\n\r\n", b"400"),
    ],
)
def test_strangers_are_answered_and_left(server: Witness, sent: bytes, status: bytes) -> None:
    assert talk(server, sent).startswith(b"HTTP/1.1 " + status)


def test_a_flood_of_pipelined_requests_is_cut_off(server: Witness) -> None:
    talk(server, b"GET / HTTP/1.1\r\nHost: w\r\n\r\n" * 5000)
    assert talk(server, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_the_list_and_the_health(client: Client, path: str) -> None:
    made = client.ask("PUT", path, FIRST, b"v")
    said = client.ask("GET", "/")
    line = next(
        line for line in said.body.decode().splitlines() if line.startswith(path.split("/")[-1])
    )
    assert f"version {made.tag.strip(chr(34))}  written 0." in line
    assert "s ago" in line
    assert client.ask("GET", "/healthz").body == b"ok\n"


def test_a_slow_client_is_left(tmp_path: Path) -> None:
    code = (
        "import sys; from ha_heartbeat.witness_server import cli, protocol, serve; "
        "protocol.REQUEST_TIMEOUT_S = 0.2; serve.CHECK_S = 0.05; sys.exit(cli.main(sys.argv[1:]))"
    )
    port = free_port()
    words = ["--listen", f"{HOST}:{port}", "--store", str(tmp_path / "s")]
    with subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=ROOT, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        try:
            process.stderr.readline()
            for start in (b"", b"GET / HT", b"PUT /v1/x HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"):
                with socket.create_connection((HOST, port), timeout=PATIENCE_S) as sock:
                    sock.sendall(start)
                    with contextlib.suppress(ConnectionError):
                        assert sock.recv(100) == b""
        finally:
            process.kill()


def test_sigterm_ends_in_order_with_clients_connected(tmp_path: Path) -> None:
    with witness(tmp_path) as running:
        register = open_register(running.url, "web", PATIENCE_S)
        version = register.swap(None, b"one")
        idle = socket.create_connection((HOST, running.port))
        began_s = time.monotonic()
        with idle:
            assert running.end() == 0
        assert time.monotonic() - began_s < 4.0
        assert sorted(os.listdir(tmp_path)) == ["store.sqlite3", "store.sqlite3.lock"]
        with pytest.raises(WitnessError):
            register.read()
        running.start()
        assert register.read() == (b"one", version)
        register.close()


def test_a_wiped_store_is_another_one(tmp_path: Path) -> None:
    with (
        witness(tmp_path) as running,
        closing(open_register(running.url, "web", PATIENCE_S)) as register,
    ):
        version = register.swap(None, b"one")
        running.end()
        os.unlink(running.store)
        running.start()
        assert register.read() is None
        with pytest.raises(ConflictError):
            register.swap(version, b"two")
        assert register.swap(None, b"one") != version


def renew(url: str, cluster: str, stop: threading.Event, acked: dict[str, int]) -> None:
    """Count a record up for as long as the server answers; note what it has acknowledged."""
    with closing(open_register(url, cluster, PATIENCE_S)) as register:
        try:
            stored = register.read()
            version, count = (stored.version, int(stored.value)) if stored else (None, 0)
            while not stop.is_set():
                version = register.swap(version, str(count + 1).encode())
                count += 1
                acked[cluster] = count
        except WitnessError:
            return


def test_kill_9_under_load_loses_no_acknowledged_write(tmp_path: Path) -> None:
    clusters = [f"c{number}" for number in range(12)]
    acked: dict[str, int] = {}
    with witness(tmp_path) as running:
        for _round in range(4):
            stop = threading.Event()
            before = sum(acked.values())
            workers = [
                threading.Thread(target=renew, args=(running.url, name, stop, acked))
                for name in clusters
            ]
            for worker in workers:
                worker.start()
            more = random.randrange(50, 300)
            wait_for(lambda more=more, before=before: sum(acked.values()) > before + more, "load")  # type: ignore[misc]
            running.end(kill=True)
            stop.set()
            for worker in workers:
                worker.join(PATIENCE_S)
            running.start()
            for name in clusters:
                with closing(open_register(running.url, name, PATIENCE_S)) as register:
                    stored = register.read()
                assert stored is not None
                # One more may have been written without the answer getting through.
                assert int(stored.value) in (acked[name], acked[name] + 1)
                acked[name] = int(stored.value)


@pytest.mark.root
def test_a_full_disk_is_answered_with_507(tmp_path: Path) -> None:
    with (
        tmpfs(tmp_path / "disk", "size=512k") as disk,
        witness(disk) as running,
        closing(open_register(running.url, "web", PATIENCE_S)) as register,
    ):
        version = register.swap(None, b"one")
        with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        with pytest.raises(UnknownOutcomeError, match="507"):
            fill(running.url)
        assert register.read() == (b"one", version)
        os.unlink(disk / "filler")
        register.swap(version, b"two")


def fill(url: str) -> None:
    for number in range(40):
        with closing(open_register(url, f"c{number}", PATIENCE_S)) as register:
            register.swap(None, b"x" * 16_000)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--listen", "nonsense"], 2, "--listen: 'nonsense' has no port"),
        (["--listen", "localhost:99999"], 2, "from 1 to 65535"),
        (["--store", "/"], 2, "is a directory"),
        (["--what"], 2, "unrecognized arguments: --what; see"),
        (["--listen", "192.0.2.77:22220"], 1, "cannot listen on 192.0.2.77:22220"),
        (["--listen", "no-such-host.invalid:22220"], 1, "has no address"),
    ],
)
def test_bad_arguments(words: list[str], status: int, said: str, tmp_path: Path) -> None:
    done = run_witness(*words, XDG_STATE_HOME=str(tmp_path))
    assert done.returncode == status
    assert done.stderr.startswith("ha-heartbeat-witness: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_and_version() -> None:
    assert "localhost:22220" in run_witness("--help").stdout
    assert run_witness("--version").stdout.startswith("ha-heartbeat-witness ")


def test_a_port_that_is_taken(server: Witness, tmp_path: Path) -> None:
    done = run_witness("--listen", f"{HOST}:{server.port}", "--store", str(tmp_path / "s"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "give an address of this machine and a free port" in done.stderr


def test_a_store_that_is_taken(server: Witness) -> None:
    done = run_witness("--listen", f"{HOST}:{free_port()}", "--store", str(server.store))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "in use by another witness" in done.stderr


def test_a_damaged_store(tmp_path: Path) -> None:
    path = tmp_path / "store"
    path.write_bytes(b"no database at all, but a text of some length\n" * 100)
    done = run_witness("--listen", f"{HOST}:{free_port()}", "--store", str(path))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is damaged" in done.stderr


def test_without_the_extra_it_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "httptools.py").write_text("raise ModuleNotFoundError(name='httptools')\n")
    done = run_witness("--store", str(tmp_path / "s"), PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == (
        "ha-heartbeat-witness: the package httptools is missing; install the server with "
        "pip install 'ha-heartbeat[witness]'\n"
    )


def test_the_store_is_written_with_a_flush_to_disk_at_every_commit(server: Witness) -> None:
    """What `acknowledged means on disk` hangs on, where no power can be cut."""
    from ha_heartbeat.witness_server.store import _connect

    with contextlib.closing(_connect(str(server.store))) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    with contextlib.closing(sqlite3.connect(server.store)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no systemd")
def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        said: list[str] = []

        def heard(line: str) -> bool:
            with contextlib.suppress(BlockingIOError):
                while True:
                    said.extend(manager.recv(4096).decode().splitlines())
            return line in said

        with witness(tmp_path) as running:
            wait_for(lambda: heard("READY=1"), "READY")
            wait_for(lambda: heard("WATCHDOG=1"), "a sign of life")
            assert running.process is not None
            running.process.terminate()
            wait_for(lambda: heard("STOPPING=1"), "STOPPING")
        assert said[0].startswith("STATUS=answers on ")


def test_a_disk_that_hangs_gives_no_sign() -> None:
    """Swaps that are never confirmed: whoever asks this witness has none."""
    release = threading.Event()

    class Hanging(Store):
        def __init__(self) -> None:
            pass

        def commit(self, swaps: Sequence[Swap]) -> list[Outcome]:
            release.wait(PATIENCE_S)
            return [Refused("it hung")] * len(swaps)

    async def scene() -> None:
        group = GroupCommit(Hanging())
        assert group.writing_for_s == 0
        done = asyncio.Event()
        group.submit(Swap("web", None, b"x"), lambda _outcome: done.set())
        while not group.writing_for_s > 0.05:
            await asyncio.sleep(0.01)
        release.set()
        await done.wait()
        assert group.writing_for_s == 0
        group.close()

    asyncio.run(scene())
