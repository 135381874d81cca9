"""Witnesses for real members: a file, and our own server, each of which can fail on demand."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.member.rig import MARK, ROOT, Rig, wait_for

GARBAGE = b"\x00garbage\n"


class Witness(Protocol):
    """What the tests do to a witness."""

    url: str

    def start(self) -> None: ...
    def stop(self) -> None:
        """From now on it cannot be asked."""

    def wipe(self) -> None:
        """It answers, and has forgotten everything."""

    def spoil(self) -> None:
        """Its record is not one that a member writes."""

    def record(self) -> dict[str, Any]: ...
    def close(self) -> None: ...


class FileWitness:
    """A file on a share, which can be unmounted."""

    def __init__(self, rig: Rig) -> None:
        self._share = rig.place / "share"
        self._away = rig.place / "unmounted"
        self._path = self._share / "web.witness"
        self.url = self._path.as_uri()

    def start(self) -> None:
        if self._away.exists():
            self._away.rename(self._share)
        else:
            self._share.mkdir()

    def stop(self) -> None:
        self._share.rename(self._away)

    def wipe(self) -> None:
        self._path.unlink()

    def spoil(self) -> None:
        self._path.write_bytes(GARBAGE)

    def record(self) -> dict[str, Any]:
        from ha_heartbeat.witnesses import open_register

        stored = open_register(self.url, "default", 10).read()
        return dict(json.loads(stored.value)) if stored is not None else {}

    def close(self) -> None:
        pass


class ServerWitness:
    """`ha-heartbeat-witness` as a process."""

    def __init__(self, rig: Rig) -> None:
        if importlib.util.find_spec("httptools") is None:
            pytest.skip("the extra `witness` is not installed (httptools is missing)")
        self._rig = rig
        self._store = rig.place / "witness.sqlite3"
        self._host, port = rig.address(9).split(":")
        self._port = int(port)
        self.url = f"witness://{self._host}:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        listen = ("--listen", f"{self._host}:{self._port}", "--store", str(self._store))
        with (self._rig.place / "witness.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ha_heartbeat.witness_server", *listen],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, MARK: f"witness-of-{self._rig.word}"},
            )
        wait_for(self._answers, "the witness to answer")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection((self._host, self._port), timeout=5).close()
            return True
        return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    close = stop

    def wipe(self) -> None:
        self.stop()
        for path in self._store.parent.glob(f"{self._store.name}*"):
            path.unlink()
        self.start()

    def spoil(self) -> None:
        wait_for(self._put_garbage, "nobody else to write")

    def _put_garbage(self) -> bool:
        tag, _ = self._ask("GET", None, {})
        return self._ask("PUT", GARBAGE, {"If-Match": tag})[0] != ""

    def record(self) -> dict[str, Any]:
        body = self._ask("GET", None, {})[1]
        return dict(json.loads(body)) if body.startswith(b"{") else {}

    def _ask(self, method: str, body: bytes | None, headers: dict[str, str]) -> tuple[str, bytes]:
        """The ETag of the answer, if there is one, and its body."""
        with contextlib.closing(http.client.HTTPConnection(self._host, self._port, 10)) as conn:
            conn.request(method, "/v1/default", body, headers)
            answer = conn.getresponse()
            return answer.headers["ETag"] or "", answer.read()


KINDS = {"file": FileWitness, "server": ServerWitness}


def tmpfs(place: Path, size: str) -> None:
    """Mount a small file system, or skip the test."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
