"""A command that does badly: health checks and failed runs hand over, and never to and fro."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.member.rig import Member, Rig, children, holds_for, marked, wait_for

pytestmark = pytest.mark.side_by_side

CHECK = ("--check-interval", "0.3", "--check-failures", "2")


def fever(rig: Rig, member: Member) -> Path:
    """The file that makes the service of that member ill."""
    return rig.place / f"ill-{member.name}"


def check(rig: Rig, command: str = "") -> tuple[str, ...]:
    """The options of a check that fails where that file is."""
    command = command or f'test ! -e {rig.place}/ill-"$HA_HEARTBEAT_MEMBER"'
    return ("--check", command, *CHECK)


def test_an_ill_service_moves_and_stays_away(rig: Rig) -> None:
    worker, other = rig.pair(*check(rig))
    fever(rig, worker).touch()
    worker.hears(r"The health check failed 2 times in a row \(--check\): handing over to")
    rig.works(other)
    worker.hears("Held down for 3 s")
    assert worker.is_supervisor
    fever(rig, other).touch()
    other.hears(r"The health check failed .*, but .* is held down.*: staying worker, epoch")
    fever(rig, other).unlink()
    other.hears("The health check succeeds again")
    holds_for(4, lambda: other.is_worker, "the role stays where the service is well")
    assert worker.said("Becoming worker") == 1


def test_nobody_to_hand_over_to(rig: Rig) -> None:
    """The worker stays, and hands over when somebody comes."""
    one = rig.member(1, *check(rig))
    rig.works(one)
    fever(rig, one).touch()
    one.hears("The health check failed 2 times in a row.*, but .* is not up: staying worker")
    two = rig.member(2, *check(rig))
    rig.works(two)
    assert one.is_supervisor


def test_a_check_that_hangs_has_failed(rig: Rig) -> None:
    """And nothing of it is left."""
    hangs = f'test ! -e {rig.place}/ill-"$HA_HEARTBEAT_MEMBER" || (sleep 600; true)'
    worker, other = rig.pair(*check(rig, hangs), "--check-timeout", "0.4")
    fever(rig, worker).touch()
    worker.hears(r"The health check failed \(it took longer than 0.4 s\), 1 of 2")
    rig.works(other)
    wait_for(lambda: len(marked(worker.mark)) == 3, "member, guardian and keeper alone")
    wait_for(lambda: children(worker.pid) == [worker.keeper], "the keeper alone, and no zombie")


def test_runs_that_fail(rig: Rig) -> None:
    work = rig.work(0.05).removeprefix("exec ")
    command = f'{work}; test ! -e {rig.place}/ill-"$HA_HEARTBEAT_MEMBER"'
    one = rig.member(1, "--max-failures", "3", command=command)
    two = rig.member(2, "--max-failures", "3", command=command)
    wait_for(lambda: one.is_worker or two.is_worker, "a worker")
    worker, other = (one, two) if one.is_worker else (two, one)
    wait_for(lambda: other.is_supervisor, "a supervisor")
    fever(rig, worker).touch()
    worker.hears(r"\d+ runs failed in a row \(--max-failures\): handing over to")
    wait_for(lambda: other.is_worker, "the other to work")
    wait_for(lambda: rig.runs()[-1].member == other.name, "its run")
