"""Two members that were started differently: said once, on both, and survived."""

from __future__ import annotations

import pytest

from tests.member import history
from tests.member.rig import Rig, holds_for, paused, wait_for

pytestmark = pytest.mark.side_by_side


def test_another_service(rig: Rig) -> None:
    """They do not belong together: each says so, and neither takes the other for a peer."""
    options = ("-t", "0.3", "--takeover", "proof")
    web = rig.member(1, *options, "--name", "web")
    wait_for(lambda: web.is_worker, "the first to find nobody")
    mail = rig.member(2, *options, "--name", "mail")
    web.hears("turned away: this member is of the service 'web', not 'mail'")
    mail.hears("turned us away: this member is of the service 'web', not 'mail'")
    mail.hears("waiting until it answers")
    holds_for(1.0, lambda: mail.is_supervisor and web.is_worker, "the roles")
    assert {run.member for run in rig.runs()} == {"m1"}


def test_who_takes_over_from_another_service_says_that_it_was_turned_away(rig: Rig) -> None:
    """By policy it acts on what it calls silence, so whoever reads that must find the reason."""
    web = rig.member(1, "-t", "0.3", "--name", "web")
    wait_for(lambda: web.is_worker, "the first to find nobody")
    mail = rig.member(2, "-t", "0.3", "--name", "mail", command="sleep 600")
    mail.hears(
        r"was not heard .* turned us away: this member is of the service 'web', not 'mail': .*\), "
        "which proves nothing, but --takeover silence acts on it"
    )


def test_the_same_name_on_both(rig: Rig) -> None:
    """Said once on both; one of them works all the same, and the other takes over."""
    one = rig.member(1, "-t", "0.5", name="twin")
    two = rig.member(2, "-t", "0.5", name="twin")
    worker, other = rig.settle(one, two)
    for member in (one, two):
        member.hears("Both members are called twin: give each a name of its own with --member")
    worker.kill()
    rig.works(other)
    assert len(rig.runs()) == 2
    rig.shared.unlink()  # the judge tells members by their names


def test_different_settings(rig: Rig) -> None:
    """What differs is named with both values, once on each side, and nothing else is."""
    one = rig.member(1, "-t", "0.5", "-i", "0.2", command=rig.work(0.1))
    two = rig.member(2, "-t", "1", "-i", "0.4", "--takeover", "proof", command=rig.work(0.2))
    wait_for(lambda: one.role and two.role != "starting", "both")
    for member, mine, theirs in ((one, "0.5", "1.0"), (two, "1.0", "0.5")):
        member.hears(f"was started differently: interval-test is {mine} here and {theirs} there; ")
        (line,) = (line for line in member.lines if "started differently" in line)
        assert "interval-commands is" in line
        assert "takeover is" in line
        assert "command is" in line
        assert "check-count" not in line
    wait_for(lambda: len(rig.runs()) >= 5, "some runs")
    assert one.said("started differently") == two.said("started differently") == 1


def test_a_longer_lease_there(rig: Rig) -> None:
    """A worker with a long lease is not replaced after the supervisor's own short one."""
    worker = rig.member(1, "-t", "3", "--check-count", "2")
    rig.works(worker)
    other = rig.member(2, "-t", "0.2", "--check-count", "2")
    rig.settle(worker, other)
    holds_for(0.5, lambda: other.is_supervisor, "the worker asks for its vote meanwhile")
    with paused(worker.pid):
        holds_for(1.5, lambda: other.is_supervisor, "its vote is for six seconds")
    holds_for(0.5, lambda: worker.is_worker and other.is_supervisor, "the roles")
    assert len(rig.runs()) == 1


def test_a_longer_lease_there_of_one_that_cannot_ask(rig: Rig) -> None:
    """It answers, but its own questions get lost: nobody voted, and its lease is long all the same.

    A cut in one direction is played by a `--remote` at which nobody answers.
    """
    with rig.free_port() as silent:
        silent.listen()
        worker = rig.member(1, "-t", "0.8", "--check-count", "2")
        rig.works(worker)
        elsewhere = rig.address(3)
        other = rig.member(2, "-l", elsewhere, "-t", "0.2", "--check-count", "2")
        rig.settle(worker, other)
        with paused(worker.pid):
            rig.works(other)  # by policy, but not before the guardian there has ended the command
            wait_for(lambda: len(rig.runs()[-1].words) > 1, "a sign of its run")
            assert history.overlaps(rig.runs()) == []
