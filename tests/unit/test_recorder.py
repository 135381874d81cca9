"""The journal's thread: a disk that is full, slow or damaged holds up nobody."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ha_heartbeat.journal import Batch, Change, Entry, Journal, JournalError, Run
from ha_heartbeat.shell import recorder as module
from ha_heartbeat.shell.recorder import Recorder

NOW = time.time()


def run(number: int) -> Run:
    began = NOW + number
    return Run("web", "m1", f"7.{number}", 7, began, began, 0.0, 0)


def entries(folder: Path, table: str = "run") -> list[Entry]:
    journal = Journal.read(str(folder / "journal.sqlite3"))
    try:
        return journal.select(table, limit=10_000)
    finally:
        journal.close()


async def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        await asyncio.sleep(0.01)


def made(folder: Path, notices: list[str]) -> Recorder:
    made = Recorder(str(folder), "m1", 30.0, 100.0, notices.append)
    made.start(lambda change, run: None)
    return made


def test_what_is_recorded_is_written_and_recalled(tmp_path: Path) -> None:
    async def life(number: int) -> list[Run | None]:
        recalled: list[Run | None] = []
        recorder = Recorder(str(tmp_path), "m1", 30.0, 100.0, lambda text: None)
        recorder.start(lambda change, run: recalled.append(run))
        recorder.record(run(number))
        await recorder.close()
        await asyncio.sleep(0)
        return recalled

    assert asyncio.run(life(1)) == [None]
    assert asyncio.run(life(2)) == [run(1)]
    assert len(entries(tmp_path)) == 2


def test_a_disk_that_takes_nothing_is_said_once_and_the_gap_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True
    write = Journal.write

    def fails(self: Journal, told: list[Entry]) -> None:
        if full:
            raise JournalError("the journal cannot be used: database or disk is full")
        write(self, told)

    monkeypatch.setattr(Journal, "write", fails)
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    monkeypatch.setattr(module, "MAX_WAITING", 100)

    async def life() -> list[str]:
        nonlocal full
        notices: list[str] = []
        recorder = made(tmp_path, notices)
        for number in range(250):
            recorder.record(run(number))
            await asyncio.sleep(0.001 if number % 50 == 0 else 0)
        await until(lambda: recorder.lost >= 150)
        assert "disk is full" in recorder.problem
        full = False
        await until(lambda: not recorder.problem)
        await recorder.close()
        return notices

    notices = asyncio.run(life())
    assert [n for n in notices if "disk is full" in n] == notices[:1]
    assert "is written again; 150 entries are lost" in notices[-1]
    assert [r.run for r in entries(tmp_path) if isinstance(r, Run)] == [
        f"7.{n}" for n in range(249, 149, -1)
    ]
    (gap,) = entries(tmp_path, "change")
    assert isinstance(gap, Change)
    assert (gap.kind, gap.text.split(" ")[0]) == ("gap", "150")


def test_a_damaged_journal_is_kept_and_a_new_one_begun(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite3").write_bytes(b"rubbish" * 4000)

    async def life() -> list[str]:
        notices: list[str] = []
        recorder = made(tmp_path, notices)
        recorder.record(run(1))
        await until(lambda: any("written again" in n for n in notices))
        await recorder.close()
        return notices

    notices = asyncio.run(life())
    (aside,) = (n for n in notices if "is kept as" in n)
    assert os.path.exists(aside.split("kept as ")[1].split(";")[0])
    assert entries(tmp_path) == [run(1)]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Batch:
    """What another member's journal has sent."""
    journal = Journal.open(str(tmp_path / "elsewhere"), "m2")
    try:
        journal.write([run(number)._replace(member="m2") for number in range(3)])
        batch = journal.lacking({}, 100_000)
    finally:
        journal.close()
    assert batch is not None
    return batch


@pytest.mark.parametrize("method", ["open", "write", "take", "have"])
def test_what_was_asked_while_it_could_not_be_used_is_answered_when_it_can(
    method: str, elsewhere: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself, whatever failed: nobody else says a word."""
    works = getattr(Journal, method)
    locked = True

    def fails(*words: Any) -> Any:
        if locked:
            raise JournalError("the journal cannot be used: database is locked")
        return works(*words)

    monkeypatch.setattr(Journal, method, fails)
    monkeypatch.setattr(module, "RETRY_S", 0.05)

    async def life() -> list[str]:
        nonlocal locked
        notices: list[str] = []
        has: list[dict[str, int]] = []
        recorder = made(tmp_path, notices)
        recorder.record(run(1))
        recorder.take(elsewhere, lambda: recorder.have(has.append))
        if method == "have":
            recorder.have(has.append)
        await until(lambda: bool(recorder.problem))
        assert not has
        locked = False
        await until(lambda: any(elsewhere.origin in told for told in has))
        await until(lambda: not recorder.problem)
        await recorder.close()
        await asyncio.sleep(0)
        return notices

    notices = asyncio.run(life())
    assert ["is written again" in notice for notice in notices] == [False, True]
    assert len(entries(tmp_path)) == 4


def test_what_was_sent_for_a_damaged_journal_is_asked_for_anew(
    elsewhere: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new one lacks what came before it, which would never be sent again."""
    take, damaged = Journal.take, [JournalError("the journal is malformed", damaged=True)]

    def fails(self: Journal, batch: Batch) -> int:
        for error in damaged:
            damaged.clear()
            raise error
        return take(self, batch)

    monkeypatch.setattr(Journal, "take", fails)
    monkeypatch.setattr(module, "RETRY_S", 0.05)

    async def life() -> list[dict[str, int]]:
        has: list[dict[str, int]] = []
        recorder = made(tmp_path, [])
        recorder.take(elsewhere, lambda: recorder.have(has.append))
        await until(lambda: bool(has))
        await recorder.close()
        return has

    (has,) = asyncio.run(life())
    assert elsewhere.origin not in has


def test_a_slow_disk_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Journal.write

    def slow(self: Journal, told: list[Entry]) -> None:
        time.sleep(0.5)
        write(self, told)

    monkeypatch.setattr(Journal, "write", slow)

    async def life() -> float:
        recorder = made(tmp_path, [])
        longest = 0.0
        for number in range(40):
            began = time.perf_counter()
            recorder.record(run(number))
            longest = max(longest, time.perf_counter() - began)
            await asyncio.sleep(0.005)
        await recorder.close()
        return longest

    assert asyncio.run(life()) < 0.25, "no entry waited for the disk"
    assert len(entries(tmp_path)) == 40


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounts a tmpfs, which root may do on Linux")
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


@pytest.mark.root
def test_a_full_disk(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one: it goes on, and what fits in memory is written when there is room again."""
    monkeypatch.setattr(module, "RETRY_S", 0.05)

    async def life() -> list[str]:
        notices: list[str] = []
        recorder = made(small_disk, notices)
        recorder.record(run(0))
        await until(lambda: os.path.exists(small_disk / "journal.sqlite3"))
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="No space"):
            fill(ballast)
        for number in range(1, 1500):
            recorder.record(run(number))
        await until(lambda: bool(recorder.problem))
        ballast.unlink()
        await until(lambda: not recorder.problem)
        await recorder.close()
        return notices

    notices = asyncio.run(life())
    assert sum("is full" in n or "I/O error" in n for n in notices) == 1
    assert len(entries(small_disk)) == 1500
