"""The journal: what ran where, who was worker and on which evidence, and every overlap.

One SQLite file for each member, of which this module is the schema and its rules. What a member has
seen itself and what it was told by its peer stand side by side, told apart by their origin: the
journal file in which they were first written. Nothing here knows of threads or of the network.

Every entry has a key, which is its own for ever, and a sequence number, which it is given anew when
it changes. Both count up within an origin. So "all of this origin above number n" is what somebody
lacks who has n, and no more has to be remembered of him.

SQLite is set up so that what was committed outlasts the process and the machine: a write-ahead log,
written through at each commit (https://www.sqlite.org/pragma.html#pragma_synchronous, FULL).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import sqlite3

FORMAT: Final = 1
BUSY_S: Final = 2.0
CACHE_KIB: Final = 256
PRUNE_ROWS: Final = 1000
PRUNE_PAGES: Final = 2000
EXCHANGED_OUTPUT_CHARS: Final = 1000
MAX_TEXT_CHARS: Final = 4096
MAX_ROWS: Final = 200

SKIPPED_END: Final = "its member ended before it was known how it ended"
"""The note of a run of which only the beginning was written."""

_SCHEMA: Final = """
CREATE TABLE origin (
    id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, member TEXT NOT NULL, seq INTEGER NOT NULL
);
CREATE TABLE own (id INTEGER PRIMARY KEY CHECK (id = 1), origin INTEGER NOT NULL);
CREATE TABLE run (
    origin INTEGER NOT NULL, key INTEGER NOT NULL, seq INTEGER NOT NULL,
    service TEXT NOT NULL, member TEXT NOT NULL, run TEXT NOT NULL, epoch INTEGER NOT NULL,
    started REAL NOT NULL, ended REAL, took_s REAL, status INTEGER, signal INTEGER,
    leftovers INTEGER NOT NULL, note TEXT NOT NULL, output TEXT NOT NULL,
    PRIMARY KEY (origin, key)
) WITHOUT ROWID;
CREATE UNIQUE INDEX run_seq ON run (origin, seq);
CREATE INDEX run_started ON run (started);
CREATE INDEX run_member ON run (member, started);
CREATE INDEX run_name ON run (run);
CREATE INDEX run_failed ON run (started) WHERE status <> 0 OR signal <> 0 OR note <> '';
CREATE TABLE change (
    origin INTEGER NOT NULL, key INTEGER NOT NULL, seq INTEGER NOT NULL,
    service TEXT NOT NULL, member TEXT NOT NULL, kind TEXT NOT NULL, at REAL NOT NULL,
    role TEXT NOT NULL, epoch INTEGER NOT NULL, evidence TEXT NOT NULL, text TEXT NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (origin, key)
) WITHOUT ROWID;
CREATE UNIQUE INDEX change_seq ON change (origin, seq);
CREATE INDEX change_at ON change (at);
CREATE INDEX change_kind ON change (kind, at);
"""

_BY_SERVICE: Final = """
CREATE INDEX IF NOT EXISTS run_service ON run (service, started);
CREATE INDEX IF NOT EXISTS run_of ON run (member, service, started);
"""
"""Journals of earlier versions lack them; whoever writes one adds them: they change no reader.

Nearly all runs may be of one service. So where a run is looked for by its name, `+service` keeps
SQLite from looking through all that the service has (the unary + of its query planner).
"""

_MEMBERS: Final = """
WITH RECURSIVE names (name) AS (
    SELECT min(member) FROM run
    UNION ALL SELECT (SELECT min(member) FROM run WHERE member > name) FROM names WHERE name <> ''
)
SELECT name FROM names WHERE name <> ?
"""
"""Whose runs there are, from one name to the next in the index, and not row by row."""


class JournalError(Exception):
    """The journal cannot be used now; the text is a sentence for the operator.

    `damaged` says that the file is no journal, or is one no longer.
    """

    def __init__(self, text: str, *, damaged: bool = False) -> None:
        super().__init__(text)
        self.damaged = damaged


class Run(NamedTuple):
    """One run. `started` and `ended` are times of day, `took_s` is from a clock that only goes on.

    `ended` is None while it runs; `status` and `signal` are None where they do not apply; `note`
    says how it ended if not by itself; `output` is the last of what it printed, if that is kept.
    """

    service: str
    member: str
    run: str
    epoch: int
    started: float
    ended: float | None = None
    took_s: float | None = None
    status: int | None = None
    signal: int | None = None
    leftovers: int = 0
    note: str = ""
    output: str = ""

    @property
    def failed(self) -> bool:
        """Whether it ended otherwise than with exit status 0."""
        return bool(self.status) or bool(self.signal) or self.note != ""


class Change(NamedTuple):
    """Something else that happened: `kind` is role, overlap, pause, resume or gap.

    `text` is what the log said. `role` and `evidence` belong to role, `seconds` to overlap.
    """

    service: str
    member: str
    kind: str
    at: float
    role: str
    epoch: int
    evidence: str
    text: str
    seconds: float


Entry: TypeAlias = Run | Change


class Batch(NamedTuple):
    """Entries of one origin, each as (table, key, seq, *fields); `upto` is what they bring one to.

    `more` says that there are more above `upto`.
    """

    origin: str
    member: str
    upto: int
    more: bool
    rows: tuple[tuple[Any, ...], ...]


TABLES: Final[dict[str, type[Run] | type[Change]]] = {"run": Run, "change": Change}
_COLUMNS: Final = {name: ", ".join(made._fields) for name, made in TABLES.items()}
_MARKS: Final = {name: ", ".join("?" * (3 + len(made._fields))) for name, made in TABLES.items()}


class Journal:
    """One journal file, open, for one thread. Made by `open` or `read`. Raises JournalError."""

    def __init__(self, path: str, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db
        self._own = 0
        self._seq = 0

    # -- opening -----------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: str, member: str) -> Journal:
        """Open the journal that `member` writes, made if there is none. Raises JournalError."""
        import sqlite3  # only here and below: it weighs more than a megabyte

        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # the others follow its mode
            db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise _error(path, error) from error
        journal = cls(path, db)
        try:
            db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA wal_autocheckpoint = 250")
            journal._prepare(member)
        except sqlite3.Error as error:
            db.close()
            raise _error(path, error) from error
        except JournalError:
            db.close()
            raise
        return journal

    @classmethod
    def read(cls, path: str) -> Journal:
        """Open a journal to read it, whoever writes it. Raises JournalError."""
        import sqlite3

        try:
            os.close(os.open(path, os.O_RDONLY))  # sqlite does not tell one reason from another
        except FileNotFoundError:
            raise JournalError(f"there is no journal {path}") from None
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise JournalError(f"the journal {path} cannot be read: {why}") from None
        try:
            db = sqlite3.connect(f"file:{_quoted(path)}?mode=ro", uri=True, timeout=BUSY_S)
            db.execute(f"PRAGMA cache_size = -{8 * CACHE_KIB}")
            _check_format(path, db)
        except sqlite3.Error as error:
            raise _error(path, error) from error
        return cls(path, db)

    def _prepare(self, member: str) -> None:
        db = self._db
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        _check_format(self.path, db)
        db.executescript(_BY_SERVICE)
        own = db.execute(
            "SELECT origin.id, seq FROM own JOIN origin ON origin.id = origin"
        ).fetchone()
        if own is None:
            uuid = os.urandom(8).hex()
            db.execute("BEGIN IMMEDIATE")
            made = db.execute("INSERT INTO origin VALUES (NULL, ?, ?, 0)", (uuid, member)).lastrowid
            db.execute("INSERT INTO own VALUES (1, ?)", (made,))
            db.execute("COMMIT")
            own = made, 0
        self._own, self._seq = own

    def close(self) -> None:
        """Let go of the file; what was committed is in it."""
        import sqlite3

        try:
            self._db.close()
        except sqlite3.Error:  # nothing was left to write
            return

    # -- writing -----------------------------------------------------------------------------------

    def write(self, entries: Iterable[Entry]) -> None:
        """Commit all of these, or none. A run that has ended takes the place of its beginning."""
        import sqlite3

        db, before = self._db, self._seq
        try:
            db.execute("BEGIN IMMEDIATE")
            for entry in entries:
                self._put(entry)
            db.execute("UPDATE origin SET seq = ? WHERE id = ?", (self._seq, self._own))
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._seq = before
            self._roll_back()
            raise _error(self.path, error) from error

    def _put(self, entry: Entry) -> None:
        self._seq += 1
        key = self._seq
        if isinstance(entry, Run):
            begun = self._db.execute(
                "SELECT key FROM run "
                "WHERE run = ? AND +origin = ? AND +service = ? AND ended IS NULL",
                (entry.run, self._own, entry.service),
            ).fetchone()
            key = begun[0] if begun else key
        table = "run" if isinstance(entry, Run) else "change"
        self._insert(table, (self._own, key, self._seq, *entry))

    def _insert(self, table: str, values: tuple[Any, ...]) -> None:
        names = f"origin, key, seq, {_COLUMNS[table]}"
        self._db.execute(
            f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({_MARKS[table]})", values
        )

    def close_runs(self, note: str, live: str = "") -> None:
        """Runs of an earlier life of which no end was written ended somehow: say so."""
        left = self.select(
            "run", "ended IS NULL AND origin = ? AND run <> ?", (self._own, live), "started", 1000
        )
        if left:
            self.write(
                run._replace(ended=run.started, note=note) for run in left if isinstance(run, Run)
            )

    def _roll_back(self) -> None:
        import sqlite3

        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:  # a full disk has rolled it back by itself
            return

    # -- keeping within bounds ---------------------------------------------------------------------

    def prune(self, keep_s: float, limit_bytes: int) -> bool:
        """Remove what is older than `keep_s`, and the oldest runs beyond the size; True if done.

        A round at a time, so that nothing else has to wait for long.
        """
        import sqlite3

        try:
            oldest = time.time() - keep_s
            for table, when in (("run", "started"), ("change", "at")):
                if self._remove(table, f"{when} < ?", (oldest,), when) == PRUNE_ROWS:
                    return False
            if self._size() > limit_bytes and not self._remove("run", "1", (), "started"):
                self._remove("change", "1", (), "at")
            self._db.execute(f"PRAGMA incremental_vacuum({PRUNE_PAGES})").fetchall()
            return self._size() <= limit_bytes
        except sqlite3.Error as error:
            self._roll_back()
            raise _error(self.path, error) from error

    def _remove(self, table: str, where: str, values: tuple[Any, ...], order: str) -> int:
        doomed = (
            f"SELECT origin, key FROM {table} WHERE {where} ORDER BY {order} LIMIT {PRUNE_ROWS}"
        )
        sql = f"DELETE FROM {table} WHERE (origin, key) IN ({doomed})"
        return self._db.execute(sql, values).rowcount

    def _size(self) -> int:
        """What is in use, in bytes."""
        pages, free, each = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * each)

    # -- exchanging --------------------------------------------------------------------------------

    def have(self) -> dict[str, int]:
        """How far this journal goes, for each origin."""
        return dict(self._rows("SELECT uuid, seq FROM origin ORDER BY id"))

    def lacking(self, have: Mapping[str, int], limit_bytes: int) -> Batch | None:
        """The next entries for somebody who has `have`; None if he lacks nothing."""
        for number, uuid, member, seq in self._rows("SELECT id, uuid, member, seq FROM origin"):
            known = have.get(uuid, 0)
            if seq > known:
                return self._batch(number, uuid, member, seq, known, limit_bytes)
        return None

    def _batch(
        self, number: int, uuid: str, member: str, end: int, known: int, limit_bytes: int
    ) -> Batch:
        rows: list[tuple[Any, ...]] = []
        for table, columns in _COLUMNS.items():
            sql = (
                f"SELECT key, seq, {columns} FROM {table} WHERE origin = ? AND seq > ? "
                f"ORDER BY seq LIMIT {MAX_ROWS}"
            )
            rows += [(table, *row) for row in self._rows(sql, (number, known))]
        rows.sort(key=lambda row: row[2])
        taken: list[tuple[Any, ...]] = []
        size = 0
        for row in rows[:MAX_ROWS]:
            row = tuple(v[:EXCHANGED_OUTPUT_CHARS] if isinstance(v, str) else v for v in row)
            size += sum(6 * len(v) + 3 if isinstance(v, str) else 24 for v in row)
            if taken and size > limit_bytes:
                break
            taken.append(row)
        more = len(taken) < len(rows)
        return Batch(uuid, member, taken[-1][2] if more else end, more, tuple(taken))

    def take(self, batch: Batch) -> int:
        """Keep what somebody else has sent; how many entries that were. Ours is never changed."""
        import sqlite3

        db = self._db
        try:
            found = db.execute(
                "SELECT id, seq FROM origin WHERE uuid = ?", (batch.origin,)
            ).fetchone()
            if found and (found[0] == self._own or found[1] >= batch.upto):
                return 0
            db.execute("BEGIN IMMEDIATE")
            if found is None:
                sql = "INSERT INTO origin VALUES (NULL, ?, ?, 0)"
                found = (db.execute(sql, (batch.origin, batch.member)).lastrowid, 0)
            for table, *values in batch.rows:
                self._insert(table, (found[0], *values))
            sql = "UPDATE origin SET seq = ?, member = ? WHERE id = ?"
            db.execute(sql, (batch.upto, batch.member, found[0]))
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise _error(self.path, error) from error
        return len(batch.rows)

    # -- reading -----------------------------------------------------------------------------------

    def select(
        self,
        table: str,
        where: str = "1",
        values: tuple[Any, ...] = (),
        order: str = "",
        limit: int = 100,
    ) -> list[Entry]:
        """Entries of `table` for which `where` holds, in this order."""
        made = TABLES[table]
        order = order or ("started DESC" if table == "run" else "at DESC")
        sql = f"SELECT {_COLUMNS[table]} FROM {table} WHERE {where} ORDER BY {order} LIMIT ?"
        return [made(*row) for row in self._rows(sql, (*values, limit))]

    def last_run(self, member: str, service: str = "") -> Run | None:
        """The latest run of a member, of one service or of any, by when it began."""
        where, values = _of("member = ?", member, service)
        found = self.select("run", where, values, "started DESC", 1)
        return found[0] if found and isinstance(found[0], Run) else None

    def last_run_elsewhere(self, member: str, service: str) -> Run | None:
        """The latest run of a service that was not this member's."""
        others = [name for (name,) in self._rows(_MEMBERS, (member,))]
        found = [run for name in others if (run := self.last_run(name, service)) is not None]
        return max(found, key=lambda run: run.started, default=None)

    def last_change(self, member: str, service: str = "") -> Change | None:
        """The latest change of a member's role, in one service or in any."""
        where, values = _of("kind = 'role' AND member = ?", member, service)
        found = self.select("change", where, values, "at DESC", 1)
        return found[0] if found and isinstance(found[0], Change) else None

    def _rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        import sqlite3

        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise _error(self.path, error) from error


def _of(where: str, member: str, service: str) -> tuple[str, tuple[str, ...]]:
    """The condition with the service, if one is meant."""
    return (f"{where} AND service = ?", (member, service)) if service else (where, (member,))


def _check_format(path: str, db: sqlite3.Connection) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > FORMAT:
        raise JournalError(
            f"the journal {path} has format {version}, and this version knows up to {FORMAT}"
        )
    if version == 0:
        raise JournalError(f"the journal {path} is empty", damaged=True)


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(os.path.abspath(path))


def _error(path: str, error: sqlite3.Error | OSError) -> JournalError:
    """The sentence; damaged is what SQLite calls so (https://www.sqlite.org/rescode.html)."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return JournalError(f"the journal {path} cannot be used: {error}", damaged=code in (11, 26))
