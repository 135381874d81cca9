"""What a run is given, and what is said of it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ha_heartbeat.guardian.protocol import Ended, Failed, Gone, Kill, Message, Started, Stop
from tests.guardian.rig import Rig, lease, linux_only, order, shell

Maker = Callable[..., Rig]

RESERVED = 0b11 << 31
"""Signals 32 and 33 are the C library's: nobody can change what a parent ignores of them."""


def test_the_status_of_a_run_is_reported(rig: Maker, variant: str) -> None:
    member = rig(variant)
    for run, status in ((5, 0), (6, 3), (7, 255)):
        member.say(shell(f"exit {status}", run))
        started = member.expect(Started)
        assert started.run == run
        ended = member.expect(Ended)
        assert (ended.run, ended.status, ended.signal) == (run, status, 0)
        assert ended.at_ns >= started.at_ns


def test_the_signal_that_ended_a_run_is_reported(rig: Maker, variant: str) -> None:
    member = rig(variant)
    member.say(shell("kill -USR1 $$"))
    member.expect(Started)
    ended = member.expect(Ended)
    assert (ended.status, ended.signal) == (-1, signal.SIGUSR1)


def test_a_program_gets_its_arguments_and_environment(rig: Maker, variant: str) -> None:
    member = rig(variant)
    script = "import os, sys; print(sys.argv[1:], os.environb[b'WORD'], sys.stdin.read() == '')"
    argv = (sys.executable, "-c", script, "a b", "", "$HOME\n")
    member.say(order(argv, env=(("WORD", "\udcff=x"),)))
    member.expect(Started)
    assert member.expect(Ended).status == 0
    member.leave()
    assert member.text() == "['a b', '', '$HOME\\n'] b'\\xff=x' True\n"


def test_a_program_is_looked_for_on_the_path_of_the_run(
    rig: Maker, variant: str, tmp_path: Path
) -> None:
    program = tmp_path / "here"
    program.write_text("#!/bin/sh\nexit 9\n")
    program.chmod(0o755)
    member = rig(variant)
    member.say(order(("here",), env=(("PATH", f"/nowhere:{tmp_path}"),)))
    member.expect(Started)
    assert member.expect(Ended).status == 9


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("no-such-program", "No such file or directory"),
        ("/etc/passwd", "Permission denied"),
        ("/etc/passwd/x", "Not a directory"),
        ("", "illegal argument or environment|No such file|Permission denied|Is a directory"),
    ],
)
def test_a_program_that_cannot_be_executed_fails_in_the_words_of_the_system(
    rig: Maker, variant: str, program: str, words: str
) -> None:
    member = rig(variant)
    member.say(order((program,), 4))
    failed = member.expect(Failed)
    assert failed.run == 4
    assert failed.reason.startswith(f"could not run {program}: ")
    assert any(word in failed.reason for word in words.split("|"))
    member.say(shell("exit 1", 5))  # and it was a failure of that run alone
    assert member.expect(Started).run == 5
    assert member.expect(Ended).status == 1


def test_a_variable_without_a_name_fails_the_run(rig: Maker, variant: str) -> None:
    member = rig(variant)
    member.say(order(("true",), env=(("A=B", "c"),)))
    assert "illegal" in member.expect(Failed).reason


def test_a_second_run_beside_the_first_is_refused(rig: Maker, variant: str) -> None:
    member = rig(variant)
    member.say(shell("exec sleep 600", 1), shell("true", 2))
    reports = [member.hear(), member.hear()]
    assert {type(report) for report in reports} == {Started, Failed}
    (failed,) = (report for report in reports if isinstance(report, Failed))
    assert failed == Failed(2, "run 1 is in progress", 0)
    member.say(Kill())
    member.expect(Ended)
    member.expect(Gone)


def test_a_run_whose_lease_is_over_is_refused(rig: Maker, variant: str) -> None:
    member = rig(variant)
    member.say(shell("true", **lease(-1, 60)))
    assert member.expect(Failed).reason == "the lease is already over"


def test_a_run_while_the_tree_is_being_stopped_is_refused(rig: Maker, variant: str) -> None:
    member = rig(variant)
    member.say(shell("trap '' TERM; echo; exec sleep 600"))
    member.expect(Started)
    assert os.read(member.output, 1) == b"\n"
    member.say(Stop(60_000_000_000), Stop(0), shell("true", 2))
    assert member.expect(Failed).run == 2
    member.expect(Ended)
    member.expect(Gone)
    member.say(Stop(0), shell("true", 3))  # with nothing to stop, a run may follow at once
    member.expect(Gone)
    assert member.expect(Started).run == 3
    assert member.expect(Ended).run == 3


def test_a_stop_sent_right_behind_a_run_is_not_lost(rig: Maker, variant: str) -> None:
    member = rig(variant)
    for run in range(30):
        member.say(shell("exec sleep 600", run), Stop(60_000_000_000))
        seen: list[Message] = []
        while not (seen and isinstance(seen[-1], Gone)):
            seen.append(member.hear())
        assert any(isinstance(report, Ended) and report.signal == 15 for report in seen), seen


@linux_only
def test_a_run_starts_with_a_clean_slate(rig: Maker, variant: str) -> None:
    member = rig(variant)
    member.say(
        shell(
            "grep -E '^Sig(Blk|Ign)' /proc/self/status; ls -l /proc/self/fd | sed 's/.* -> //';"
            " cut -d' ' -f 5 /proc/$$/stat; echo $$ $PPID"
        )
    )
    started = member.expect(Started)
    member.expect(Ended)
    member.leave()
    lines = member.text().splitlines()
    assert lines[0].split() == ["SigBlk:", "0" * 16]
    ignored = int(lines[1].split()[1], 16)
    assert not ignored & ~RESERVED, lines[1]
    held = [line for line in lines if line.startswith("socket:")]
    assert len(held) == 1, "it holds the listening socket, and not the channel"
    assert "/dev/null" in lines
    assert lines[-2:] == [str(started.pid), f"{started.pid} {member.pid}"], "its own group"
