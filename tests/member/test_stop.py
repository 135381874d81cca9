"""SIGTERM and SIGINT: the command ends, the role is released, and the peer takes over at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.member.rig import Rig, holds_for, pairs, send, wait_for

pytestmark = pytest.mark.side_by_side

FAR = ("-t", "20", "-i", "0.2")
"""With these nothing happens on account of a check: whatever is quick was told."""

AT_ONCE_S = 5.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def test_goodbye(rigs: Callable[[int], list[Rig]]) -> None:
    """A worker's by each of the two signals, and a supervisor's."""
    found = pairs(rigs(3), "-t", "0.7", "--check-count", "30")
    holds_for(1.0, lambda: all(other.is_supervisor for _, _, other in found), "a check or two")
    *stopped, (rig, kept, left) = found
    for (_, worker, _), number in zip(stopped, STOP_SIGNALS, strict=True):
        send(worker.pid, number)
    send(left.pid, signal.SIGTERM)
    for rig_of, worker, other in stopped:
        assert worker.ended() == 0
        rig_of.works(other)
        assert other.said(f"{worker.name} said goodbye.*Becoming worker") == 1
        assert rig_of.runs()[0].ending == "terminated"
        assert rig_of.gap() < AT_ONCE_S
        assert worker.processes() == []
        assert worker.said("Stopped: .*the role is released") == 1
    assert left.ended() == 0
    assert left.said("Stopped: .*it was not worker") == 1
    kept.hears("said goodbye: nobody supervises this worker")
    assert len(rig.runs()) == 1


def test_a_terminal_that_is_closed(rig: Rig) -> None:
    """As often told twice, by the kernel and by the shell, which is not impatience."""
    worker, other = rig.pair(*FAR, "--stop-timeout", "1", command=rig.work(0, "ignore-term"))
    send(worker.pid, signal.SIGHUP)
    worker.hears("Asked to stop: ending the command")
    send(worker.pid, signal.SIGHUP)
    assert worker.ended() == 0
    assert not worker.said("Asked to stop again")
    rig.works(other)
    assert other.said("said goodbye")


def test_what_nohup_has_started_goes_on(rig: Rig) -> None:
    rig.inside = lambda number: ("nohup",)  # type: ignore[method-assign]
    member = rig.member(1)
    rig.works(member)
    send(member.pid, signal.SIGHUP)
    holds_for(0.3, lambda: not member.said("Asked to stop"), "nothing is asked")
    assert member.stop() == 0


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


def test_a_second_signal_kills_at_once(rigs: Callable[[int], list[Rig]]) -> None:
    """It skips the waiting, never the release; a third signal changes nothing."""
    found = pairs(rigs(3), *FAR, "--stop-timeout", "600", work=(0, "ignore-term"))
    for _, worker, _ in found:
        worker.terminate()
    for rig, worker, other in found:
        wait_for(lambda rig=rig: "ignored" in rig.runs()[0].words, "the command to hear of it")
        assert worker.process.poll() is None
        assert other.is_supervisor
    for (_, worker, _), number in zip(found, (*STOP_SIGNALS, signal.SIGTERM), strict=True):
        send(worker.pid, number)
    found[2][1].hears("Asked to stop again")
    send(found[2][1].pid, signal.SIGINT)
    for rig, worker, other in found:
        assert worker.ended() == 0
        assert worker.said("Asked to stop again") == 1
        assert not worker.said("fault")
        rig.works(other)
        assert other.said("(said goodbye|refused the connection).*Becoming worker") == 1
    for times in (1, 2):  # so that nobody waits for ten minutes
        for _, _, other in found:
            other.terminate()
            wait_for(
                lambda other=other, times=times: other.said("Asked to stop") >= times,
                "it to hear",
            )


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
    waiting = [rig.member(1, "-w", "60") for _ in STOP_SIGNALS]
    for member, number in zip(waiting, STOP_SIGNALS, strict=True):
        member.hears("waiting up to 60 s for it")
        send(member.pid, number)
    for member in waiting:
        assert member.ended() == 0
        assert not member.said("Traceback")
