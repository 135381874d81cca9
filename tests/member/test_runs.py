"""What a run is (DESIGN 8): environment, arguments, ticks, and what is said of its end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.member.rig import Rig, holds_for, wait_for

pytestmark = pytest.mark.side_by_side


def test_the_command(rigs: Callable[[int], list[Rig]]) -> None:
    """One argument is a shell command; several are a program and its own, with nothing changed."""
    shell, several, streams = rigs(3)
    program = "import sys; print(sys.argv[1:])"
    words = (sys.executable, "-c", program, "$HOME", "a b", "-f", "--", "*", "")
    one = shell.member(1, "-i", "60", command="echo $((6 * 7)); cd / && pwd")
    two = several.member(1, "-i", "60", command=words)
    three = streams.member(1, "-i", "60", command="echo to stdout; echo to stderr >&2")
    wait_for(lambda: one.output == "42\n/\n", "the output")
    wait_for(lambda: two.output == "['$HOME', 'a b', '-f', '--', '*', '']\n", "the output")
    wait_for(lambda: "to stdout" in three.output, "its output on ours")
    wait_for(lambda: "to stderr" in three.lines, "its errors on ours")


def test_the_environment(rig: Rig) -> None:
    member = rig.member(1, "-i", "60", "--name", "web", command="env")
    wait_for(lambda: "HA_HEARTBEAT_SERVICE" in member.output, "the output")
    wait_for(lambda: member.command() == [], "the end of the run")
    shown = dict(line.split("=", 1) for line in member.output.splitlines() if "=" in line)
    epoch = shown["HA_HEARTBEAT_EPOCH"]
    assert int(epoch) >= 1
    assert shown["HA_HEARTBEAT_RUN"] == f"{epoch}.1"
    assert shown["HA_HEARTBEAT_MEMBER"] == "m1"
    assert shown["HA_HEARTBEAT_PEER"] == rig.address(2)
    assert shown["HA_HEARTBEAT_SERVICE"] == "web"
    assert "PATH" in shown


def test_a_program_that_is_not_there(rig: Rig) -> None:
    """The member says so once and carries on: it may be installed later."""
    program = rig.place / "later"
    member = rig.member(1, "-i", "0.1", command=(str(program), "x"))
    member.hears(f"Run .* could not be started: .*{program}")
    holds_for(0.6, lambda: member.said("could not be started") == 1, "said once")
    assert member.is_worker
    program.write_text("#!/bin/sh\necho here at last\n")
    program.chmod(0o755)
    wait_for(lambda: "here at last" in member.output, "the first run")
    member.hears("exit status 0. It succeeds again")


def test_a_change_of_the_outcome_is_logged_once_each_way(rig: Rig) -> None:
    fails = rig.place / "fails"
    count = rig.place / "count"
    member = rig.member(1, "-i", "0.1", command=f"echo >> {count}; ! [ -e {fails} ] || exit 3")

    def runs(more: int) -> None:
        before = len(count.read_bytes()) if count.exists() else 0
        wait_for(lambda: count.exists() and len(count.read_bytes()) >= before + more, "runs")

    runs(4)
    assert not member.said("exit status")
    for round_number in (1, 2):
        fails.touch()
        member.hears("exit status 3\\.", times=round_number)
        runs(4)
        assert member.said("exit status 3") == round_number
        fails.unlink()
        member.hears("exit status 0. It succeeds again", times=round_number)
        runs(4)
    assert member.said("exit status") == 4


def test_a_command_that_kills_itself(rig: Rig) -> None:
    member = rig.member(1, "-i", "0.1", command="kill -SEGV $$")
    member.hears("killed by signal 11")


def test_when_runs_start(rigs: Callable[[int], list[Rig]]) -> None:
    """From start to start, without the ticks during a run; a service an interval after its end."""
    clock, ticks, service = rigs(3)
    clock.member(1, "-i", "0.25", command=clock.work(0.1))
    member = ticks.member(1, "-i", "0.2", command=ticks.work(0.7))
    service.member(1, "-i", "0.1", command=service.work(1.3))

    wait_for(lambda: len(clock.runs()) >= 9, "nine runs")
    starts = [run.first_s for run in clock.runs()[:9]]
    assert starts[-1] - starts[0] >= 8 * 0.25 - 0.2
    assert all(run.run.endswith(f".{n}") for n, run in enumerate(clock.runs(), 1))

    wait_for(lambda: len(ticks.runs()) >= 4, "four runs")
    runs = ticks.runs()[:4]
    assert all(one.ending == "end" for one in runs[:3])
    for one, other in pairwise(runs):
        assert other.first_s - one.first_s >= 0.7
    assert member.said(f"Run {runs[0].run} is still going") == 1

    wait_for(lambda: len(service.runs()) >= 2, "its second run")
    first, second = service.runs()[:2]
    assert first.ending == "end"
    assert second.first_s - first.last_s >= 0.08


def test_the_first_run_does_not_wait_for_its_interval(rig: Rig) -> None:
    """However long the interval is, a takeover runs the command at once."""
    worker, other = rig.pair("-i", "3600")
    worker.kill()
    rig.works(other)


def test_a_run_that_takes_too_long_is_ended(rig: Rig) -> None:
    """SIGTERM, then SIGKILL; it counts as failed, and the next one starts."""
    command = rig.work(0, "ignore-term")
    m1 = rig.member(1, "--run-timeout", "0.5", "--stop-timeout", "0.3", command=command)
    wait_for(lambda: len(rig.runs()) >= 3, "a third run")
    assert rig.runs()[0].words[-2:] == ("ignored", "tick")
    assert m1.said(r"Run \d+\.1 has taken longer than 0\.5 s \(--run-timeout\)") == 1
    m1.hears("ended after .*: killed by signal 9")  # said at the first failure only
