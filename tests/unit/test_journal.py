"""The journal: what was committed is there, whoever dies, and two of them can be brought level."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ha_heartbeat.journal import (
    FORMAT,
    SKIPPED_END,
    TABLES,
    Batch,
    Change,
    Entry,
    Journal,
    JournalError,
    Run,
)
from ha_heartbeat.wire.journal import ROWS_BYTES, SHAPES

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from ha_heartbeat.journal import Change, Journal, Run
journal = Journal.open(sys.argv[1], "m1")
journal.close_runs("cut off")
for n in range(int(sys.argv[2]), 10**9):
    run = Run("web", "m1", f"7.{n}", 7, float(n))
    change = Change("web", "m1", "role", float(n), "worker", n, "refused", "gone.", 0.0)
    journal.write([run, change])
    sys.stdout.write(f"begun {n}\\n")
    sys.stdout.flush()
    journal.write([run._replace(ended=n + 1.0, took_s=1.0, status=0)])
    sys.stdout.write(f"ended {n}\\n")
    sys.stdout.flush()
"""


def run(number: int, member: str = "m1", **fields: object) -> Run:
    made = Run("web", member, f"7.{number}", 7, 1000.0 + number)
    return made._replace(**fields)  # type: ignore[arg-type]


def change(number: int, kind: str = "role") -> Change:
    text = "m2 refused the connection."
    return Change("web", "m1", kind, 1000.0 + number, "worker", number, "refused", text, 0.5)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.open(str(tmp_path / "journal.sqlite3"), "m1")


def another(tmp_path: Path, name: str) -> Journal:
    return Journal.open(str(tmp_path / f"{name}.sqlite3"), name)


def everything(journal: Journal) -> tuple[list[Entry], list[Entry]]:
    return journal.select("run", order="run"), journal.select("change", order="at, kind")


def level(source: Journal, target: Journal) -> list[Batch]:
    """Bring the target to where the source is, as the two would over the link."""
    sent = []
    while (batch := source.lacking(target.have(), ROWS_BYTES)) is not None:
        target.take(batch)
        sent.append(batch)
        assert len(sent) < 1000, "it never ends"
    return sent


def test_a_run_that_ends_takes_the_place_of_its_beginning(journal: Journal) -> None:
    journal.write([run(1)])
    assert journal.select("run") == [run(1)]
    ended = run(1, ended=1002.0, took_s=1.0, status=3, output="oops")
    journal.write([ended, change(1)])
    assert everything(journal) == ([ended], [change(1)])
    assert journal.last_run("m1") == ended
    assert journal.last_change("m1") == change(1)
    assert journal.last_run("m2") is None


def test_what_was_written_is_there_for_the_next_life(tmp_path: Path, journal: Journal) -> None:
    journal.write([run(1), run(2, ended=1.0, status=0)])
    journal.close()
    again = Journal.open(journal.path, "m1")
    again.close_runs(SKIPPED_END)
    assert [r.note for r in again.select("run", order="run") if isinstance(r, Run)] == [
        SKIPPED_END,
        "",
    ]
    again.write([run(3)])
    assert len(again.select("run")) == 3
    assert os.stat(journal.path).st_mode & 0o777 == 0o600


def test_it_can_be_read_while_it_is_written(journal: Journal) -> None:
    reader = Journal.read(journal.path)
    journal.write([run(1)])
    assert reader.select("run") == [run(1)]
    with pytest.raises(JournalError, match="readonly"):
        reader.write([run(2)])


def test_two_are_brought_level(tmp_path: Path, journal: Journal) -> None:
    other = another(tmp_path, "m2")
    journal.write([run(n, ended=1.0, status=0) for n in range(500)])
    journal.write([run(777), change(1), change(2, "overlap")])
    other.write([run(900, "m2", ended=2.0, status=1, note="x")])
    level(journal, other)
    level(other, journal)
    assert everything(journal) == everything(other)
    assert len(other.select("run", limit=1000)) == 502
    # A run that ends is news again, and takes the place of its beginning there, too.
    journal.write([run(777, ended=5.0, took_s=4.0, signal=9)])
    (batch,) = level(journal, other)
    assert len(batch.rows) == 1
    assert other.select("run", "run = '7.777'") == journal.select("run", "run = '7.777'")
    assert level(journal, other) == []


def test_a_lost_journal_comes_back_from_the_peer(tmp_path: Path, journal: Journal) -> None:
    other = another(tmp_path, "m2")
    journal.write([run(1, ended=1.0), change(1)])
    level(journal, other)
    anew = another(tmp_path, "m1-anew")
    anew.write([run(2)])
    level(other, anew)
    level(anew, other)
    assert len(anew.select("run")) == 2
    assert everything(anew) == everything(other)


def test_an_entry_larger_than_a_frame_is_cut_and_sent(tmp_path: Path, journal: Journal) -> None:
    other = another(tmp_path, "m2")
    journal.write([run(1, ended=1.0, output="\x00" * 60_000), run(2, ended=2.0)])
    level(journal, other)
    (first, second) = other.select("run", order="run")
    assert isinstance(first, Run)
    assert first.output == "\x00" * 1000
    assert second == run(2, ended=2.0)


def test_what_is_old_goes(journal: Journal) -> None:
    now = time.time()
    journal.write([run(n, started=now - n * 10.0, ended=now) for n in range(1000)])
    journal.write([change(1)])
    while not journal.prune(keep_s=1005.0, limit_bytes=10**9):
        pass
    assert len(journal.select("run", limit=2000)) == 101
    assert journal.select("change") == []


def test_what_is_too_much_goes_the_oldest_first(journal: Journal) -> None:
    now = time.time()
    for n in range(20):
        journal.write(
            [
                run(k, started=now + k, ended=now, output="x" * 500)
                for k in range(n * 200, n * 200 + 200)
            ]
        )
    limit = 1024 * 1024
    for _ in range(100):
        if journal.prune(keep_s=1e9, limit_bytes=limit):
            break
    left = journal.select("run", order="started", limit=5000)
    assert journal._size() <= limit
    assert 0 < len(left) < 4000
    assert left[-1] == run(3999, started=now + 3999, ended=now, output="x" * 500)


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    path.write_bytes(b"no journal at all" * 1000)
    with pytest.raises(JournalError) as found:
        Journal.open(str(path), "m1")
    assert found.value.damaged
    with pytest.raises(JournalError, match="there is no journal"):
        Journal.read(str(tmp_path / "nowhere"))


def test_a_newer_format_is_left_alone(journal: Journal) -> None:
    journal.close()
    db = sqlite3.connect(journal.path)
    db.execute(f"PRAGMA user_version = {FORMAT + 1}")
    db.close()
    with pytest.raises(JournalError, match="knows up to") as found:
        Journal.open(journal.path, "m1")
    assert not found.value.damaged


def test_the_wire_knows_the_same_fields() -> None:
    kinds = {"str": "s", "int": "i", "float": "f"}
    for name, made in TABLES.items():
        shape = ""
        for annotation in made.__annotations__.values():
            word = str(getattr(annotation, "__forward_arg__", annotation))
            kind = kinds[word.removesuffix(" | None")]
            shape += kind.upper() if word.endswith("None") else kind
        assert SHAPES[name] == shape


@pytest.mark.skipif(sys.platform == "win32", reason="kills with a signal")
def test_no_committed_entry_is_lost_to_kill_9(tmp_path: Path) -> None:
    """Writers are killed at random, often in the middle of a commit; see benchmarks/journal.py."""
    path = str(tmp_path / "journal.sqlite3")
    chance = random.Random(5)
    lives = 12
    begun, ended, start = 0, 0, 0
    for _ in range(lives):
        writer = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", WRITER, path, str(start)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        assert writer.stdout.readline().startswith("begun")
        time.sleep(chance.uniform(0.0, 0.05))
        writer.send_signal(signal.SIGKILL)
        for line in [f"begun {start}", *writer.stdout.read().splitlines()]:
            word, _, number = line.partition(" ")
            if number.isdecimal():
                begun += word == "begun"
                ended += word == "ended"
                start = max(start, int(number) + 2)  # one more may be there, unacknowledged
        writer.stdout.close()
        writer.wait()
    found = Journal.open(path, "m1")
    runs = found.select("run", limit=10**6)
    assert len(runs) >= begun > lives
    assert sum(isinstance(r, Run) and r.ended is not None for r in runs) >= ended
    assert len(found.select("change", limit=10**6)) >= begun
    assert len({r.run for r in runs if isinstance(r, Run)}) == len(runs), "none is there twice"
