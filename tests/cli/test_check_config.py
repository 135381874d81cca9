"""--check-config: what the options amount to, and the refusal of those that cannot keep it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Run

HERE = ("-l", "m1:22221", "-r", "m2:22222")
WITNESS = ("--witness", "witness://m3:22220")


def rows(text: str) -> dict[str, tuple[str, str]]:
    """The table: what happens, when another runs, and for how long both do."""
    table = text.split("\n\n")[1].splitlines()
    starts = [table[0].index(word) for word in ("another runs", "both run")]
    return {
        line[: starts[0]].strip(): (line[starts[0] : starts[1]].strip(), line[starts[1] :])
        for line in table[1:]
    }


def test_the_defaults(run: Run) -> None:
    result = run("--check-config", *HERE, "ls -l")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("After a crash or a stop at most one command runs;")
    assert rows(result.stdout) == {
        "process killed": ("after 10 s at most", "never"),
        "host lost": ("after 30.3 s at most", "never"),
        "cable pulled between the two": ("after 30.3 s at most", "while it lasts"),
        "worker cut from everything": ("after 30.3 s at most", "while it lasts"),
        "worker's machine paused": ("after 30.3 s at most", "20 s if clocks stop"),
    }


def test_proof(run: Run) -> None:
    told = rows(run("--check-config", *HERE, "--takeover", "proof", "ls").stdout)
    assert told["host lost"] == ("none while it lasts", "never")
    assert told["cable pulled between the two"] == ("the worker goes on", "never")


def test_a_fence(run: Run) -> None:
    words = ("--takeover", "proof", "--fence", "off m2", "ls")
    result = run("--check-config", *HERE, *words)
    assert rows(result.stdout)["host lost"] == ("after 30.3 s at most", "never")
    assert "the fence command, too" in " ".join(result.stdout.split())


def test_a_witness(run: Run) -> None:
    result = run("--check-config", *HERE, *WITNESS, "ls")
    assert (result.returncode, result.stderr) == (0, "")
    told = rows(result.stdout)
    assert (
        told["host lost"] == told["worker cut from everything"] == ("after 40.3 s at most", "never")
    )
    assert told["witness lost"] == ("the worker goes on", "never")


def test_a_witness_without_a_peer(run: Run) -> None:
    told = rows(run("--check-config", "-l", "m1:22221", *WITNESS, "ls").stdout)
    assert told["witness lost"] == ("none while it lasts", "never")
    assert told["process killed"] == ("after 40.3 s at most", "never")


def test_no_line_is_wider_than_a_terminal(run: Run) -> None:
    for words in ((), WITNESS, ("--takeover", "proof"), ("--takeover", "proof", "--fence", "x")):
        result = run("--check-config", *HERE, "-t", "0.123456", *words, "ls")
        assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_command_may_be_left_out_but_nothing_else(
    run: Run, refused: Callable[..., str]
) -> None:
    assert run("--check-config", *HERE).returncode == 0
    assert "is out of range" in refused("--check-config", *HERE, "-t", "0")


def test_it_starts_nothing(run: Run, tmp_path: Path) -> None:
    state = tmp_path / "state"
    run("--check-config", *HERE, "--state-dir", str(state), f"touch {tmp_path / 'ran'}")
    assert not state.exists()
    assert not (tmp_path / "ran").exists()


BAD = {
    ("-t", "5"): "--stop-timeout 10 is longer than a lease of 15 s leaves",
    ("--check-count", "1"): "--check-count 1 makes a check every 5 s",
    ("-t", "0.01"): "--interval-test 0.01 is shorter than a question and its answer take",
}


@pytest.mark.parametrize("words", BAD)
def test_with_a_witness_they_are_refused(
    run: Run, refused: Callable[..., str], words: tuple[str, str]
) -> None:
    result = run("--check-config", *HERE, *WITNESS, *words, "ls")
    assert result.returncode == 1
    assert result.stderr.startswith(f"ha-heartbeat: {BAD[words]}")
    assert "; give " in result.stderr
    assert rows(result.stdout)
    sentence = refused(*HERE, *WITNESS, *words, "ls", status=1)
    assert result.stderr == f"ha-heartbeat: {sentence}\n"


@pytest.mark.parametrize("words", BAD)
def test_without_a_witness_they_are_warnings(run: Run, words: tuple[str, str]) -> None:
    result = run("--check-config", *HERE, *words, "ls")
    assert result.returncode == 0
    assert result.stderr.startswith(f"ha-heartbeat: warning: {BAD[words]}")


def test_each_objection_has_a_line(run: Run) -> None:
    result = run("--check-config", *HERE, *WITNESS, "-t", "0.01", "--check-count", "1", "ls")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 2
