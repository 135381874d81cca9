"""Whatever of a worker dies: the other one takes over when all of it is gone, and never before."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.member.rig import Rig, holds_for, is_alive, paused, send, wait_for

pytestmark = pytest.mark.side_by_side

SOON_S = 15.0
"""A bound for what takes milliseconds, on a machine that does other things, too."""


def test_the_member_is_killed(rig: Rig) -> None:
    """The guardian ends the command; only then is the port free, and the peer takes over."""
    worker, other = rig.pair("-t", "5")
    worker.kill()
    rig.works(other)
    assert other.said("refused the connection: its process tree is gone.*Becoming worker") == 1
    assert rig.runs()[0].ending == "terminated"
    assert rig.gap() < SOON_S
    assert worker.processes() == []


def test_the_command_ignores_its_end(rig: Rig) -> None:
    """The guardian of a dead member kills after the stop timeout, and the peer waits for that."""
    command = rig.work(0, "ignore-term")
    worker, other = rig.pair("-t", "5", "--stop-timeout", "1", command=command)
    worker.kill()
    rig.works(other)
    assert rig.runs()[0].words[-2:] == ("ignored", "tick")
    assert 0 <= rig.gap() < SOON_S


def test_the_guardian_is_killed(rig: Rig) -> None:
    """Nothing of its run survives, the member replaces it, and the role stays where it is."""
    worker, other = rig.pair("-t", "5", command=f"sleep 300 & {rig.work()}")
    old, command = worker.guardian, worker.command()
    assert len(command) == 2
    send(old, signal.SIGKILL)
    worker.hears("guardian was lost")
    wait_for(lambda: len(rig.runs()) == 2, "the next run")
    assert not any(map(is_alive, [old, *command]))
    assert worker.guardian not in (0, old)
    assert worker.is_worker
    assert other.is_supervisor
    assert len({run.epoch for run in rig.runs()}) == 1


def test_everything_is_killed_at_once(rig: Rig) -> None:
    worker, other = rig.pair("-t", "5")
    for pid in (worker.pid, worker.guardian, *worker.command()):
        send(pid, signal.SIGKILL)
    worker.ended()
    rig.works(other)
    assert other.said("refused the connection")
    assert rig.gap() < SOON_S


@pytest.mark.parametrize("left", ["keeper", "guardian"])
def test_what_is_left_of_the_watchers_ends_a_daemon(rig: Rig, left: str) -> None:
    """Killed in one moment, so that neither sees the other's end."""
    command = f"setsid sleep 300 & {rig.work()}"
    one = rig.member(1, "-t", "0.5", "-m", "WORKER", command=command)
    rig.works(one)
    two = rig.member(2, "-t", "0.5", command=command)
    rig.settle(one, two)
    tree = one.command()
    with paused(one.pid):
        send(one.guardian if left == "keeper" else one.keeper, signal.SIGKILL)
        one.kill()
    rig.works(two)
    assert not any(map(is_alive, tree))
    assert two.said("refused the connection: its process tree is gone. Becoming worker") == 1


def test_a_grandchild_survives_all_watchers(rig: Rig) -> None:
    """It holds the port: no proof for the peer, and nothing for the restarted member to bind."""
    options = ("-t", "0.5", "--takeover", "proof")
    command = f"sleep 300 & {rig.work()}"
    one = rig.member(1, *options, "-m", "WORKER", command=command)
    rig.works(one)
    two = rig.member(2, *options, command=command)
    rig.settle(one, two)
    main = rig.runs()[-1].pid
    with paused(one.pid):  # so that neither sees the other's end
        watchers = one.keeper, one.guardian
        for pid in watchers:
            send(pid, signal.SIGSTOP)
        for pid in watchers:
            send(pid, signal.SIGKILL)
        one.kill()
    wait_for(lambda: not is_alive(main), "the run to die with its guardian")
    (grandchild,) = one.processes()
    two.hears("--takeover proof does not act on it")
    again = rig.member(1, *options, "-m", "WORKER", "-w", "60", command=command)
    again.hears("held by another process, perhaps by what is left of this member's earlier command")
    holds_for(1.2, lambda: two.role == "supervisor" and again.role == "starting", "nobody runs")
    assert len(rig.runs()) == 1
    send(grandchild, signal.SIGKILL)
    rig.settle(again, two)


def test_the_supervisor_is_killed(rig: Rig) -> None:
    """The worker says so once, goes on, and says when there is a supervisor again."""
    worker, other = rig.pair()
    before = worker.said("nobody supervises this worker"), worker.said(f"{other.name} is heard")
    other.kill()
    worker.hears("nobody supervises this worker", times=before[0] + 1)
    again = rig.member(int(other.name[1]))
    rig.settle(worker, again)
    worker.hears(f"{other.name} is heard", times=before[1] + 1)
    (run,) = rig.runs()
    assert again.said(f"{worker.name} is worker, epoch {run.epoch}\\.") == 1


def test_epochs_over_many_lives(rig: Rig) -> None:
    """They grow with every takeover and every restart; the rig's judge compares them all."""
    worker, other = rig.pair()
    for number in range(4):
        if number % 2:
            worker.kill()
        else:
            worker.stop()
        rig.works(other)
        worker, other = other, rig.member(int(worker.name[1]))
        rig.settle(worker, other)
    epochs = [run.epoch for run in rig.runs()]
    assert len(set(epochs)) == len(epochs) == 5


def test_both_are_killed_and_one_returns_alone(rig: Rig) -> None:
    """What it used before is on its disk, so its next epoch is higher without being told."""
    worker, other = rig.pair()
    other.kill()
    worker.kill()
    again = rig.member(int(worker.name[1]))
    rig.works(again)
    first, second = rig.runs()
    assert second.epoch > first.epoch


def test_a_refused_start(rigs: Callable[[int], list[Rig]]) -> None:
    """Nobody listens at the peer's address, so there is no worker: no need to wait for anything."""
    found = [
        (rig, rig.member(1, "-t", "20", "--takeover", policy))
        for rig, policy in zip(rigs(2), ("silence", "proof"), strict=True)
    ]
    for rig, alone in found:
        rig.works(alone)
        assert alone.said("nothing of it is running. Becoming worker") == 1
