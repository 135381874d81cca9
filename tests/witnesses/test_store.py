"""The server's store: what is refused, what is kept, and versions that never come back."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_heartbeat.witness_server import store as module
from ha_heartbeat.witness_server.store import Conflict, Refused, Store, StoreError, Swap, Written
from tests.witnesses.rig import ROOT
from tests.witnesses.test_file import tmpfs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


@contextlib.contextmanager
def opened(path: Path, max_clusters: int = 10) -> Iterator[Store]:
    store = Store(str(path), max_clusters)
    try:
        yield store
    finally:
        store.close()


def put(store: Store, cluster: str, expected: str | None, value: bytes = b"v") -> object:
    return store.commit([Swap(cluster, expected, value)])[0]


def written(outcome: object) -> str:
    assert isinstance(outcome, Written), outcome
    return outcome.version


def test_one_batch_sees_its_own_swaps_in_their_order(path: Path) -> None:
    with opened(path) as store:
        first = written(put(store, "a", None))
        outcomes = store.commit(
            [
                Swap("a", first, b"1"),
                Swap("a", first, b"2"),
                Swap("b", None, b"3"),
                Swap("b", None, b"4"),
                Swap("c", first, b"5"),
            ]
        )
        assert [type(outcome) for outcome in outcomes] == [
            Written,
            Conflict,
            Written,
            Conflict,
            Conflict,
        ]
        assert store.read("a") == (written(outcomes[0]), b"1")
        assert store.read("b") == (written(outcomes[2]), b"3")
        assert store.read("c") is None


def test_a_restart_forgets_nothing(path: Path) -> None:
    with opened(path) as store:
        versions = {name: written(put(store, name, None, name.encode())) for name in "abc"}
    with opened(path) as store:
        assert store.clusters == 3
        for name, version in versions.items():
            assert store.read(name) == (version, name.encode())
        assert [entry.age_s for entry in store.entries(9)] == [None] * 3
        assert written(put(store, "a", versions["a"])) != versions["a"]


def test_a_large_batch_is_one_transaction_of_several_statements(path: Path) -> None:
    count = 2 * module.ROWS_A_STATEMENT + 1
    with opened(path, count) as store:
        outcomes = store.commit([Swap(f"c{n}", None, b"v") for n in range(count)])
        assert all(isinstance(outcome, Written) for outcome in outcomes)
    with opened(path) as store:
        assert store.clusters == count


def test_what_is_not_in_memory_is_read_from_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CACHED_BYTES", 10)
    with opened(path) as store:
        first = written(put(store, "a", None, b"x" * 8))
        second = written(put(store, "b", None, b"y" * 8))
        assert store._cached_bytes == 0
        assert store.read("a") == (first, b"x" * 8)
        assert store.read("b") == (second, b"y" * 8)


def test_versions_never_come_back(path: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    copy = tmp_path / "copy"
    with opened(path) as store:
        seen.append(written(put(store, "a", None)))
    shutil.copy(path, copy)
    with opened(path) as store:
        seen.append(written(put(store, "a", seen[-1])))
    shutil.copy(copy, path)  # restored from an older copy
    with opened(path) as store:
        assert isinstance(put(store, "a", seen[1]), Conflict)
        seen.append(written(put(store, "a", seen[0])))
    os.unlink(path)  # wiped
    with opened(path) as store:
        assert isinstance(put(store, "a", seen[-1]), Conflict)
        seen.append(written(put(store, "a", None)))
    assert len(set(seen)) == len(seen)
    assert seen[-1].split("-")[0] != seen[0].split("-")[0]


def test_the_number_of_clusters_is_limited(path: Path) -> None:
    with opened(path, 2) as store:
        outcomes = store.commit([Swap(name, None, b"v") for name in "abc"])
        assert isinstance(outcomes[2], Refused)
        assert "2 clusters" in outcomes[2].sentence
        assert isinstance(put(store, "a", None), Conflict)
        assert isinstance(put(store, "a", written(outcomes[0])), Written)


def test_a_store_that_became_read_only_still_reads(path: Path) -> None:
    with opened(path) as store:
        version = written(put(store, "a", None))
        store._writer.execute("PRAGMA query_only = ON")
        outcome = put(store, "a", version, b"new")
        assert isinstance(outcome, Refused)
        assert "read-only" in outcome.sentence
        assert store.read("a") == (version, b"v")
        store._writer.execute("PRAGMA query_only = OFF")
        assert isinstance(put(store, "a", version, b"new"), Written)


@pytest.mark.root
def test_a_full_disk_still_reads_and_recovers(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=512k") as disk, opened(disk / "store.sqlite3") as store:
        version = written(put(store, "a", None))
        with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        refused = store.commit([Swap(f"b{n}", None, b"x" * 16_000) for n in range(5)])
        assert all(isinstance(one, Refused) and "make room" in one.sentence for one in refused)
        assert store.read("a") == (version, b"v")
        assert store.read("b0") is None
        os.unlink(disk / "filler")
        assert isinstance(put(store, "a", version), Written)


def test_a_store_deleted_under_the_server_takes_no_more_writes(path: Path) -> None:
    with opened(path) as store:
        version = written(put(store, "a", None))
        os.unlink(path)
        outcome = put(store, "a", version)
        assert isinstance(outcome, Refused)
        assert "was deleted or replaced" in outcome.sentence
        assert store.read("a") == (version, b"v")


def test_a_failed_fsync_closes_the_store_for_writes(path: Path) -> None:
    with opened(path) as store:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        store._refusal(error)
        outcome = put(store, "a", None)
        assert isinstance(outcome, Refused)
        assert "restart the witness" in outcome.sentence


def damage(path: Path, at: int, what: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(what)


@pytest.mark.parametrize("kind", ["header", "page", "text", "cut", "number"])
def test_a_damaged_store_is_refused(path: Path, kind: str) -> None:
    with opened(path, 1000) as store:
        store.commit([Swap(f"c{n}", None, b"x" * 2000) for n in range(20)])
    if kind == "header":
        damage(path, 0, b"\xff" * 16)
    elif kind == "page":
        damage(path, 8192, b"\xff" * 4096)
    elif kind == "text":
        path.write_text("this is no database, and long enough to be seen as none\n" * 50)
    elif kind == "cut":
        os.truncate(path, path.stat().st_size // 2)
    else:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM store")
    with pytest.raises(StoreError, match="is damaged") as caught:
        Store(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_programs_files_are_refused(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StoreError, match="another program"):
        Store(str(path))


def test_a_later_format_is_refused(path: Path) -> None:
    with opened(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="format 99"):
        Store(str(path))


def test_one_process_at_a_time(path: Path) -> None:
    code = (
        "import sys; from ha_heartbeat.witness_server.store import Store, StoreError\n"
        "try: Store(sys.argv[1])\nexcept StoreError as error: print(error)"
    )
    with opened(path):
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    assert "in use by another witness" in done.stdout
