"""A planned hand-over (--fallback): it waits, it ends everything, and it can be undone."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.member.rig import Member, Rig, paused, python, send, wait_for

pytestmark = pytest.mark.side_by_side

DAEMON = Path(__file__).with_name("daemons.py")


def worker_of(rig: Rig, *options: str, command: str = "") -> Member:
    """The member that took over from its preferred peer, which was up before and is down now."""
    m2 = preferred(rig, *options, command="true")
    wait_for(lambda: m2.is_worker, "m2 to run first")
    m1 = rig.member(1, "-f", *options, command=command)
    wait_for(lambda: m1.is_supervisor, "m1 to supervise it")
    m2.kill()
    rig.works(m1)
    return m1


def preferred(rig: Rig, *options: str, command: str = "") -> Member:
    """The preferred peer starts."""
    return rig.member(2, "-m", "WORKER", *options, command=command)


def test_it_waits_for_the_run(rig: Rig) -> None:
    command = rig.work(1.5)
    m1 = worker_of(rig, "--stop-timeout", "60", command=command)
    m2 = preferred(rig, "--stop-timeout", "60", command=command)
    m1.hears("m2 is up again and preferred.*handing over when run .* has ended, at most in 60 s")
    assert m2.is_supervisor
    rig.works(m2)
    first, second = rig.runs()[:2]
    (line,) = (line for line in m1.lines if "handing over" in line)
    assert f" m1 handing-over {first.epoch}: " in line, "its own, until it has given the role away"
    assert (first.member, first.ending, second.member) == ("m1", "end", "m2")
    assert first.last_s - first.first_s >= 1.4
    assert rig.gap() >= 0
    assert m1.is_supervisor


def test_it_gives_the_reason(rig: Rig) -> None:
    """The new worker names the evidence that it acts on: the role was released."""
    m1 = worker_of(rig, command=rig.work(0.3))
    m2 = preferred(rig, command=rig.work(0.3))
    wait_for(lambda: m2.is_worker, "the hand-over")
    m1.hears("Gave the role to m2")
    assert m2.said("m1 gave the role away.*Becoming worker") == 1


def test_it_stops_a_run_that_does_not_end(rigs: Callable[[int], list[Rig]]) -> None:
    """And kills it if it ignores that."""
    options = ("--stop-timeout", "0.5")
    found = []
    for rig, flags in zip(rigs(2), ((), ("ignore-term",)), strict=True):
        command = rig.work(0, *flags)
        found.append((rig, worker_of(rig, *options, command=command), command))
    for rig, _, command in found:
        preferred(rig, *options, command=command)
    for rig, m1, _ in found:
        rig.works(rig.members[-1])
        assert m1.is_supervisor
    assert found[0][0].runs()[0].ending == "terminated"
    assert found[1][0].runs()[0].words[-2:] == ("ignored", "tick")


def test_it_is_undone_when_the_peer_goes(rig: Rig) -> None:
    """The role was never away, and the run that was waited for goes on."""
    options = ("--takeover", "proof", "--stop-timeout", "600")
    m1 = worker_of(rig, *options)
    (run,) = rig.runs()
    for times, how in enumerate(("killed", "stopped", "paused"), 1):
        m2 = preferred(rig, *options)
        m1.hears("handing over when run", times=times)
        if how == "killed":
            m2.kill()
        elif how == "stopped":
            m2.terminate()
        with paused(*([m2.pid] if how == "paused" else [])):
            m1.hears("hand-over is undone", times=times)
            rig.works(m1)
        assert m1.said(f"staying worker, epoch {run.epoch}\\.") == times
    assert len(rig.runs()) == 1
    m1.hears("handing over when run", times=4)  # awake again, it is given the role after all


def test_daemonised_descendants_are_ended(rig: Rig) -> None:
    """What outlives its run is left alone, counted, shown, and ended before the role goes."""
    command = f"{python(DAEMON, rig.place, 3)[5:]}; {rig.work(0.1)}"
    m1 = worker_of(rig, "-i", "60", command=command)
    m1.hears("left 3 processes behind")
    daemons = [int(path.name) for path in (rig.place / "daemons").iterdir()]
    assert sorted(m1.command()) == sorted(daemons)
    m2 = preferred(rig, "-i", "60", command=command)
    wait_for(lambda: m2.is_worker, "the hand-over")
    assert m1.command() == []
    m2.hears("left 3 processes behind")
    assert m2.stop() == 0
    assert m2.processes() == []


def test_two_hundred_processes_end_with_the_command(rig: Rig) -> None:
    """A tree of 200 that ignores SIGTERM, each a daemon: all gone before the peer runs."""
    command = f"{python(DAEMON, rig.place, 200, 'ignore-term')[5:]}; {rig.work()}"
    options = ("-t", "2", "--stop-timeout", "1")
    m1 = rig.member(1, *options, command=command)
    rig.works(m1)
    assert len(m1.command()) >= 200
    m2 = rig.member(2, *options, command=rig.work())
    rig.settle(m1, m2)
    send(m1.pid, signal.SIGTERM)
    rig.works(m2)
    assert m1.processes() in ([], [m1.pid])
    assert m1.ended() == 0
