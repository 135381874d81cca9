"""A line for each thing said, and nothing that a broken stderr could stop."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_heartbeat.config import LogFormat
from ha_heartbeat.core.types import Level, Phase, RoleChanged, Say
from ha_heartbeat.shell import log as log_module
from ha_heartbeat.shell.log import MAX_LINE_BYTES, MAX_WAITING_LINES, Log

HELLO = Say(Level.INFO, "hello")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe whose ends may be closed by the test."""
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:
            continue


def written(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def log_to(path: Path, log_format: LogFormat = LogFormat.TEXT, *, verbose: bool = False) -> Log:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return Log("m1:22221", "web", log_format, verbose=verbose, descriptor=descriptor)


def test_text_shows_time_member_role_and_epoch(tmp_path: Path) -> None:
    log = log_to(tmp_path / "log")
    log.say(HELLO)
    log.role_changed(RoleChanged(Phase.WORKER, 7, None))
    log.say(HELLO)
    log.role_changed(RoleChanged(Phase.HANDING_OVER, 0, None))
    log.say(HELLO)
    first, second, third = written(tmp_path / "log")
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"
    assert re.fullmatch(f"{when} m1:22221 starting: hello", first)
    assert re.fullmatch(f"{when} m1:22221 worker 7: hello", second)
    assert re.fullmatch(f"{when} m1:22221 handing-over: hello", third)


def test_json_is_one_object_a_line(tmp_path: Path) -> None:
    log = log_to(tmp_path / "log", LogFormat.JSON)
    log.role_changed(RoleChanged(Phase.WORKER, 7, None))
    log.say(Say(Level.WARNING, "two\nlines, ü \udcff"), run="7-1", level="mine")
    (line,) = written(tmp_path / "log")
    said = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said.pop("time"))
    assert said == {
        "level": "warning",
        "member": "m1:22221",
        "service": "web",
        "role": "worker",
        "epoch": 7,
        "text": "two\nlines, ü \udcff",
        "run": "7-1",
    }


def test_checks_are_logged_when_asked_for(tmp_path: Path) -> None:
    for verbose in (False, True):
        log_to(tmp_path / str(verbose), verbose=verbose).say(Say(Level.CHECK, "tick"))
    assert written(tmp_path / "False") == []
    assert len(written(tmp_path / "True")) == 1


@pytest.mark.parametrize(
    "text", ["a\nb", "a\rb", "\x1b[2J", "a\u2028b", "\u202e", "\x9b", "\udcff"]
)
def test_nothing_breaks_out_of_its_line(tmp_path: Path, text: str) -> None:
    log_to(tmp_path / "log").say(Say(Level.INFO, text))
    (line,) = written(tmp_path / "log")
    assert line.isprintable()
    assert "\\" in line


@pytest.mark.parametrize("log_format", list(LogFormat))
@pytest.mark.parametrize("char", ["x", "\n", "ü", "\U0001f600"])
def test_a_long_line_is_cut_to_what_a_pipe_takes_at_once(
    tmp_path: Path, log_format: LogFormat, char: str
) -> None:
    log_to(tmp_path / "log", log_format).say(Say(Level.INFO, char * 100_000))
    raw = (tmp_path / "log").read_bytes()
    assert MAX_LINE_BYTES - 20 <= len(raw) <= MAX_LINE_BYTES
    assert raw.count(b"\n") == 1
    if log_format is LogFormat.JSON:
        assert json.loads(raw)["text"].endswith("...")


def test_a_reader_that_has_gone(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    log = Log("m1", "web", descriptor=writer)
    log.say(HELLO)
    assert log.waiting


def test_a_closed_stderr(pipe: tuple[int, int]) -> None:
    os.close(pipe[1])
    log = Log("m1", "web", descriptor=pipe[1])
    log.say(HELLO)
    assert log.waiting


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    log = Log("m1", "web", descriptor=descriptor)
    log.say(HELLO)
    assert log.waiting
    os.close(descriptor)


@pytest.mark.parametrize("blocking", [False, True])
def test_a_reader_that_has_stopped_reading_stops_nobody(
    pipe: tuple[int, int], blocking: bool
) -> None:
    reader, writer = pipe
    os.set_blocking(writer, blocking)
    log = Log("m1", "web", descriptor=writer)
    for number in range(MAX_WAITING_LINES):
        log.say(Say(Level.INFO, f"{number:04} " + "x" * 200))
    assert log.waiting
    os.set_blocking(reader, False)
    got = b""
    while not log.flush() or not got.endswith(b"\n"):
        got += os.read(reader, 65536)
    got += os.read(reader, 65536) if not got else b""
    numbers = re.findall(rb"starting: (\d{4}) x{200}\n", got)
    assert [int(number) for number in numbers] == list(range(len(numbers)))


def test_what_was_lost_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_to(tmp_path / "log")
    with monkeypatch.context() as stopped:
        stopped.setattr(log_module, "_takes_a_line", lambda _descriptor: False)
        for number in range(MAX_WAITING_LINES + 6):
            log.say(Say(Level.INFO, str(number)))
    log.say(HELLO)
    assert not log.waiting
    lines = [line.partition(": ")[2] for line in written(tmp_path / "log")]
    assert lines[0] == "0"  # was already on its way
    lost = re.fullmatch(r"lines of this log lost here, .*: (\d+)", lines[1])
    assert lost
    kept = [str(number) for number in range(1 + int(lost[1]), MAX_WAITING_LINES + 6)]
    assert lines[2:] == [*kept, "hello"]


def test_a_torn_line_is_finished_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_to(tmp_path / "log")
    whole = os.write
    with monkeypatch.context() as torn:
        torn.setattr(log_module.os, "write", lambda fd, data: whole(fd, data[:3]))
        log.say(HELLO)
    log.say(HELLO)
    assert [line.partition(": ")[2] for line in written(tmp_path / "log")] == ["hello", "hello"]
