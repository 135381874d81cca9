"""SIGTERM and SIGINT: the command ends, the role is released, and the peer takes over at once."""

from __future__ import annotations

import signal
import time

import pytest

from tests.member.rig import Rig, holds_for, send, wait_for

FAR = ("-t", "20", "-i", "0.2")
"""With these nothing happens on account of a check: whatever is quick was told."""

AT_ONCE_S = 5.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_goodbye(rig: Rig, number: signal.Signals) -> None:
    worker, other = rig.pair("-t", "0.7", "--check-count", "30")
    holds_for(1.0, lambda: other.is_supervisor, "a check or two")
    send(worker.pid, number)
    assert worker.ended() == 0
    rig.works(other)
    assert other.said(f"{worker.name} said goodbye: its command has ended. Becoming worker") == 1
    assert rig.runs()[0].ending == "terminated"
    assert rig.gap() < AT_ONCE_S
    assert worker.processes() == []
    assert worker.said("nothing of the command is alive( here)?, and the role is released") == 1


def test_a_supervisor_says_goodbye(rig: Rig) -> None:
    worker, other = rig.pair(*FAR)
    assert other.stop() == 0
    worker.hears("said goodbye: nobody supervises this worker until it is up again")
    assert len(rig.runs()) == 1


def test_a_command_that_ignores_sigterm(rig: Rig) -> None:
    """Killed after the stop timeout; the goodbye waits for it, and so does the peer."""
    worker, other = rig.pair(*FAR, "--stop-timeout", "1", command=rig.work(0, "ignore-term"))
    began_s = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began_s >= 1.0
    rig.works(other)
    first = rig.runs()[0]
    assert first.words[-2:] == ("ignored", "tick")
    assert first.last_s - began_s < 1.0 + AT_ONCE_S
    assert other.said("said goodbye")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_kills_at_once(rig: Rig, number: signal.Signals) -> None:
    """It skips the waiting, never the release."""
    worker, other = rig.pair(*FAR, "--stop-timeout", "600", command=rig.work(0, "ignore-term"))
    worker.terminate()
    wait_for(lambda: "ignored" in rig.runs()[0].words, "the command to hear of it")
    assert worker.process.poll() is None
    assert other.is_supervisor
    send(worker.pid, number)
    assert worker.ended() == 0
    assert worker.said("Asked to stop again: killing the command") == 1
    rig.works(other)
    assert other.said("(said goodbye|refused the connection): .*Becoming worker") == 1
    for times in (1, 2):  # so that nobody waits for ten minutes
        other.terminate()
        wait_for(lambda times=times: other.said("Asked to stop") >= times, "it to hear")


def test_a_third_signal_changes_nothing(rig: Rig) -> None:
    alone = rig.member(1, "--stop-timeout", "600", command=rig.work(0, "ignore-term"))
    rig.works(alone)
    for asked in (1, 2):
        alone.terminate()
        wait_for(lambda asked=asked: alone.said("Asked to stop") >= asked, "it to hear")
    send(alone.pid, signal.SIGINT)
    assert alone.ended() == 0
    assert not alone.said("fault")


def test_before_it_has_found_anybody(rig: Rig) -> None:
    """A member that is still looking ends at once, too."""
    with rig.free_port() as silent:
        silent.listen()
        member = rig.member(1, *FAR)
        wait_for(lambda: member.said("listens on"), "its start")
        assert member.stop() == 0
    assert rig.runs() == []


def test_before_it_has_its_port(rig: Rig) -> None:
    """A member that waits for its port (-w) can be told to stop; nothing was started."""
    first = rig.member(1)
    rig.works(first)
    waiting = rig.member(1, "-w", "60")
    waiting.hears("waiting up to 60 s for it")
    waiting.terminate()
    assert waiting.ended() in (0, 128 + signal.SIGTERM, -signal.SIGTERM)
    waiting = rig.member(1, "-w", "60")
    waiting.hears("waiting up to 60 s for it")
    send(waiting.pid, signal.SIGINT)
    assert waiting.ended() == 130
    assert not waiting.said("Traceback")
