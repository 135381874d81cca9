"""What docs/guarantees.md names exists, and the examples of the pages work as they stand."""

from __future__ import annotations

import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ha_heartbeat.sim.checker import Checker
from ha_heartbeat.witnesses import ConflictError, Stored, UnknownOutcomeError, WitnessError
from tests.docs.pages import OPERATING, ROOT, blocks, prose, rows

GUARANTEES = ROOT / "docs" / "guarantees.md"


def test_each_promise_has_a_check_that_exists() -> None:
    table = rows(prose(GUARANTEES), "promise")
    assert len(table) > 10
    for promise, invariants, tests in table:
        assert invariants or tests, promise
        for name in re.findall(r"`Checker\.(\w+)`", invariants):
            assert callable(getattr(Checker, name)), name
        found = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        assert found, promise
        for file, name in found:
            assert re.search(rf"^ *(?:async )?def {name}\(", (ROOT / file).read_text(), re.M), name


def test_the_example_of_check_config() -> None:
    (block,) = [body for body in blocks(OPERATING, "console") if "--check-config" in body]
    line, shown = block.split("\n", 1)
    words = shlex.split(line.removeprefix("$ "))
    said = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout == shown


def test_the_fencing_token(tmp_path: Path) -> None:
    """A later epoch is taken, the same again, and an earlier one changes no row."""
    (script,) = blocks(GUARANTEES, "sql")
    made, _, transaction = script.partition("BEGIN;")
    claim = transaction.split(";")[0].replace("$HA_HEARTBEAT_EPOCH", "?")
    store = sqlite3.connect(tmp_path / "store")
    store.executescript(made)
    taken = [store.execute(claim, (epoch, epoch)).rowcount for epoch in (2, 2, 5, 2, 4, 5, 6)]
    store.close()
    assert taken == [1, 1, 1, 0, 0, 1, 1]


# -- the example of a kind of witness, with a stand-in for PostgreSQL ------------------------------


class StandIn:
    """As much of a psycopg connection as the example uses."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path)

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.commit()
        self._connection.close()

    def execute(self, sql: str, values: tuple[object, ...]) -> sqlite3.Cursor:
        return self._connection.execute(sql.replace("%s", "?"), values)


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example's class, opened; its database is a file that `connect` finds."""
    store = sqlite3.connect(tmp_path / "database")
    (sql,) = re.findall(r"`(CREATE TABLE witness .*?)`", prose(OPERATING), re.S)
    store.execute(sql)
    store.close()
    psycopg: Any = ModuleType("psycopg")
    psycopg.Error = sqlite3.Error
    psycopg.urls = []

    def connect(url: str, **limits: object) -> StandIn:
        psycopg.urls.append((url, limits))
        return StandIn(tmp_path / "database")

    psycopg.connect = connect
    monkeypatch.setitem(sys.modules, "psycopg", psycopg)
    names: dict[str, Any] = {}
    (code,) = blocks(OPERATING, "python")
    exec(compile(code, "the example", "exec"), names)
    register = names["PgRegister"]("pg://ha@db/ha", "web", 5.0)
    yield register
    register.close()
    for url, limits in psycopg.urls:
        assert url == "postgresql://ha@db/ha"
        assert limits == {"connect_timeout": 5, "options": "-c statement_timeout=5.0s"}


def test_the_example_of_a_kind_is_a_register(opened: Any) -> None:
    assert opened.read() is None
    first = opened.swap(None, b"one")
    assert opened.read() == Stored(b"one", first)
    with pytest.raises(ConflictError):
        opened.swap(None, b"two")
    second = opened.swap(first, b"two")
    with pytest.raises(ConflictError):
        opened.swap(first, b"three")
    assert opened.read() == Stored(b"two", second)


def test_the_example_of_a_kind_tells_failures_apart(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "database").write_bytes(b"no database" * 100)
    with pytest.raises(UnknownOutcomeError):
        opened.swap(None, b"one")
    with pytest.raises(WitnessError):
        opened.read()
