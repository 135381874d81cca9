"""A member that is stopped for longer than its lease (SIGSTOP, a swamped host, a suspended one)."""

from __future__ import annotations

from collections.abc import Callable

from tests.member.rig import Rig, holds_for, pairs, paused, wait_for

LONGER = ("-t", "2")
LEASE = ("-t", "0.2", "--check-count", "3")
LEASE_S = 0.6


def test_under_silence_the_peer_takes_over(rig: Rig) -> None:
    """Its guardian ends the command before the peer may start; awake again, it only supervises."""
    worker, other = rig.pair(*LEASE, "--stop-timeout", "0.1")
    runs = len(rig.runs())
    with paused(worker.pid):
        rig.works(other)
        assert other.said("has been silent for .*--takeover silence")
        assert worker.command() == []
        assert rig.runs()[runs].member == other.name
    wait_for(lambda: worker.said(f"{other.name} is worker.*Supervising"), "it to find out")
    holds_for(2 * LEASE_S, lambda: not worker.is_worker or not other.is_worker, "one worker")
    assert rig.gap() >= 0


def test_under_proof_nobody_takes_over(rig: Rig) -> None:
    """Its guardian ends the command at the deadline; awake again, it goes on in the same epoch."""
    worker, other = rig.pair(*LEASE, "--stop-timeout", "0.1", "--takeover", "proof")
    runs = len(rig.runs())
    with paused(worker.pid):
        wait_for(lambda: worker.command() == [], "the guardian to end the command")
        other.hears("has not answered for 0.6 s. That proves nothing")
        holds_for(2 * LEASE_S, lambda: other.is_supervisor, "the peer waits")
        assert len(rig.runs()) == runs
    wait_for(lambda: len(rig.runs()) > runs, "it to go on")
    other.hears(f"{worker.name} is heard: it is worker")
    assert worker.said("paused or starved") >= 1
    assert {run.epoch for run in rig.runs()[runs - 1 :]} == {rig.runs()[0].epoch}


def test_a_pause_within_the_lease_changes_nothing(rigs: Callable[[int], list[Rig]]) -> None:
    one, two = rigs(2)
    found = [*pairs([one], *LONGER), *pairs([two], *LONGER, "--takeover", "proof")]
    pids = [pid for _, worker, _ in found for pid in (worker.pid, worker.guardian)]
    with paused(*pids):
        holds_for(1.2, lambda: all(other.is_supervisor for _, _, other in found), "the lease holds")
    holds_for(
        0.3,
        lambda: all(worker.is_worker and other.is_supervisor for _, worker, other in found),
        "nothing changed",
    )
    for rig, worker, _ in found:
        assert len(rig.runs()) == 1
        assert not worker.said("starved")


def test_the_supervisor_was_paused(rig: Rig) -> None:
    """Its clock says that it has heard nothing for long, but it has not asked either."""
    worker, other = rig.pair(*LEASE)
    runs = len(rig.runs())
    with paused(other.pid):
        holds_for(2 * LEASE_S, lambda: worker.is_worker, "a worker needs no supervisor")
    holds_for(LEASE_S, lambda: worker.is_worker and other.is_supervisor, "the roles")
    assert len(rig.runs()) == runs
