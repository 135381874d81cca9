"""The records on disk: SQLite, where a committed swap has reached the disk before it is answered.

Write-ahead log with `synchronous=FULL` (sqlite.org/pragma.html#pragma_synchronous): every commit
ends with an fsync, and readers see a commit only after that. Swaps come in batches, one transaction
each. One process at a time has the store; it keeps all versions in memory, and values up to a
limit, as they are on disk.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import re
import secrets
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ha_heartbeat.witnesses.locks import try_lock

APPLICATION_ID = 0x68617769  # "hawi": tells our files from other programs'
FORMAT = 1
MAX_CLUSTERS = 100_000
MAX_CACHED_BYTES = 16_777_216
ROWS_A_STATEMENT = 500
BUSY_S = 5.0

_SCHEMA = """
CREATE TABLE store (id TEXT NOT NULL);
CREATE TABLE record (cluster TEXT PRIMARY KEY, version TEXT NOT NULL, value BLOB NOT NULL)
    WITHOUT ROWID;
"""
_STORE_ID = re.compile("[0-9a-f]{12}")


class StoreError(Exception):
    """The store cannot be used; the text is one sentence for the operator."""


class Swap(NamedTuple):
    """What somebody wants. `expected` is a version, None: only if there is no record."""

    cluster: str
    expected: str | None
    value: bytes


class Written(NamedTuple):
    """The swap is on disk, with this version; `created`: it is the cluster's first record."""

    version: str
    created: bool


class Conflict(NamedTuple):
    """The record had another version, or was missing, or was there: nothing was written."""


class Refused(NamedTuple):
    """The store could not write. After `busy` the same may succeed in a moment."""

    sentence: str
    busy: bool = False


Outcome = Written | Conflict | Refused


class Entry(NamedTuple):
    """A line of the list. `age_s` is None when it was not written since this server's start."""

    cluster: str
    version: str
    age_s: float | None


class _Record(NamedTuple):
    """What is on disk. `value` is None when it has to be read there, `written_s` is monotonic."""

    version: str
    value: bytes | None
    written_s: float | None


class Store:
    """The records of all clusters. `commit` belongs to one thread, everything else to another.

    A version is the store's random number, this start's, and a count: no write ever gets a version
    that another one had, not after the file was wiped nor after it was restored from a copy.
    """

    def __init__(self, path: str, max_clusters: int = MAX_CLUSTERS) -> None:
        """Open the store and make it if there is none. Raises StoreError; `path` is on a disk."""
        self.path = os.path.abspath(path)
        self._max_clusters = max_clusters
        self._cached_bytes = 0
        self._count = 0
        self._closed_for_writes = ""
        with contextlib.ExitStack() as opened:
            try:
                opened.callback(os.close, _lock(self.path))
                self._writer = opened.enter_context(contextlib.closing(_connect(self.path)))
                self.store_id = _prepare(self._writer, self.path)
                rows = self._writer.execute("SELECT cluster, version FROM record")
                self._records = {
                    str(cluster): _Record(str(version), None, None) for cluster, version in rows
                }
                self._reader = opened.enter_context(contextlib.closing(_connect(self.path)))
            except (sqlite3.Error, OSError) as error:
                raise StoreError(_why_not_opened(self.path, error)) from error
            self._opened = opened.pop_all()
        self.found = len(self._records)
        """How many records were there when it was opened."""
        # The inode cannot be given to another file while it is open here.
        self._identity = _identity(self.path)
        self._start_id = secrets.token_hex(4)

    def close(self) -> None:
        """Close everything; nothing is lost without it."""
        self._opened.close()

    # -- reading, in one thread --------------------------------------------------------------------

    def read(self, cluster: str) -> tuple[str, bytes] | None:
        """Version and value, None when there is no record. Raises StoreError."""
        record = self._records.get(cluster)
        if record is None:
            return None
        if record.value is not None:
            return record.version, record.value
        query = "SELECT version, value FROM record WHERE cluster = ?"
        try:
            row = self._reader.execute(query, (cluster,)).fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"the store {self.path} cannot be read: {error}") from error
        if row is None:
            raise StoreError(f"the store {self.path} has lost the record of {cluster}")
        return str(row[0]), bytes(row[1])

    def check(self) -> None:
        """Raise StoreError unless the disk can be read."""
        try:
            self._reader.execute("SELECT id FROM store").fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"the store {self.path} cannot be read: {error}") from error

    def entries(self, limit: int) -> Iterator[Entry]:
        """The first records by name, at most `limit`."""
        now_s = time.monotonic()
        for cluster in heapq.nsmallest(limit, list(self._records)):
            version, _value, written_s = self._records[cluster]
            yield Entry(cluster, version, None if written_s is None else now_s - written_s)

    @property
    def clusters(self) -> int:
        """How many clusters have a record."""
        return len(self._records)

    # -- writing, in one thread --------------------------------------------------------------------

    def commit(self, swaps: Sequence[Swap]) -> list[Outcome]:
        """Do the swaps in their order, in one transaction; the outcomes hold once this returns."""
        if not self._closed_for_writes and _identity(self.path) != self._identity:
            # What is written to a file without a name is forgotten at the next start.
            self._closed_for_writes = "was deleted or replaced while this server used it"
        if self._closed_for_writes:
            refused = Refused(
                f"the store {self.path} {self._closed_for_writes}; restart the witness"
            )
            return [refused] * len(swaps)
        changed: dict[str, _Record] = {}
        outcomes = [self._swap(swap, changed) for swap in swaps]
        if changed:
            try:
                self._write(changed)
            except sqlite3.Error as error:
                self._roll_back()
                return [self._refusal(error)] * len(swaps)
            self._keep(changed)
        return outcomes

    def _swap(self, swap: Swap, changed: dict[str, _Record]) -> Outcome:
        """Decide one swap on top of those before it in `changed`, and add it there."""
        found = changed.get(swap.cluster) or self._records.get(swap.cluster)
        if (found.version if found else None) != swap.expected:
            return Conflict()
        if found is None and len(self._records) + len(changed) >= self._max_clusters:
            return Refused(
                f"the store {self.path} has {self._max_clusters} clusters, the most it takes; "
                "use another witness for more"
            )
        self._count += 1
        version = f"{self.store_id}-{self._start_id}-{self._count}"
        changed[swap.cluster] = _Record(version, swap.value, time.monotonic())
        return Written(version, found is None)

    def _write(self, changed: Mapping[str, _Record]) -> None:
        """Few statements with many rows: each one costs a wait for the interpreter's lock."""
        rows = [(cluster, record.version, record.value) for cluster, record in changed.items()]
        self._writer.execute("BEGIN IMMEDIATE")
        for first in range(0, len(rows), ROWS_A_STATEMENT):
            part = rows[first : first + ROWS_A_STATEMENT]
            places = ", ".join(["(?, ?, ?)"] * len(part))
            self._writer.execute(
                f"INSERT INTO record (cluster, version, value) VALUES {places} "
                "ON CONFLICT (cluster) DO UPDATE "
                "SET version = excluded.version, value = excluded.value",
                [column for row in part for column in row],
            )
        self._writer.execute("COMMIT")

    def _keep(self, changed: Mapping[str, _Record]) -> None:
        for cluster, record in changed.items():
            before = self._records.get(cluster)
            self._cached_bytes += len(record.value or b"") - len((before and before.value) or b"")
            self._records[cluster] = record
        if self._cached_bytes > MAX_CACHED_BYTES:
            self._cached_bytes = 0
            for cluster, record in list(self._records.items()):
                self._records[cluster] = record._replace(value=None)

    def _roll_back(self) -> None:
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._closed_for_writes = f"could not take a failed write back ({error})"

    def _refusal(self, error: sqlite3.Error) -> Refused:
        name = str(getattr(error, "sqlite_errorname", ""))
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return Refused(f"the store {self.path} is locked by another program", busy=True)
        if name == "SQLITE_FULL":
            return Refused(f"the store {self.path} cannot be written: its disk is full; make room")
        if name.startswith("SQLITE_READONLY"):
            return Refused(f"the store {self.path} is read-only now; make it writable")
        if name.startswith(("SQLITE_IOERR_FSYNC", "SQLITE_CORRUPT", "SQLITE_NOTADB")):
            # After a failed fsync the system may take lost pages for written (fsync(2)).
            self._closed_for_writes = f"has failed ({error})"
        return Refused(f"the store {self.path} cannot be written: {error}")


def _lock(path: str) -> int:
    """Keep other servers off: this one compares in memory. Raises StoreError, OSError."""
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        locked = try_lock(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    if not locked:
        os.close(descriptor)
        raise StoreError(f"the store {path} is in use by another witness; end that one first")
    return descriptor


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: str) -> str:
    """Make the tables in an empty file, check them in another; returns the store's number."""
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(
            f"the store {path} is on a file system on which SQLite can keep no write-ahead log; "
            "give another place with --store"
        )
    connection.execute("BEGIN IMMEDIATE")
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if not tables and not application:
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute("INSERT INTO store (id) VALUES (?)", (secrets.token_hex(6),))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("COMMIT")
    _sync_directory(os.path.dirname(path))
    return _check(connection, path)


def _check(connection: sqlite3.Connection, path: str) -> str:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        raise StoreError(f"{path} belongs to another program; give another place with --store")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != FORMAT:
        raise StoreError(
            f"the store {path} has format {version}, and this version knows {FORMAT}; "
            "use the version of ha-heartbeat that made it"
        )
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    ids = connection.execute("SELECT id FROM store").fetchall()
    if verdict != "ok" or len(ids) != 1 or not _STORE_ID.fullmatch(str(ids[0][0])):
        reason = verdict if verdict != "ok" else "its number is missing"
        raise StoreError(_damaged(path, str(reason).splitlines()[-1]))
    return str(ids[0][0])


def _damaged(path: str, reason: str) -> str:
    return (
        f"the store {path} is damaged ({reason}); restore it from a copy, or move it aside and "
        "start anew, which members take as the loss of their votes"
    )


def _why_not_opened(path: str, error: Exception) -> str:
    name = str(getattr(error, "sqlite_errorname", ""))
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")):
        return _damaged(path, str(error))
    if name.startswith("SQLITE_BUSY"):
        return f"the store {path} is locked by another program; end that one first"
    return (
        f"the store {path} cannot be opened for writing: {error}; "
        "make its directory writable and leave room on its disk, or give another with --store"
    )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _sync_directory(folder: str) -> None:
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
