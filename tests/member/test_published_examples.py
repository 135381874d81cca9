"""The two examples that the original was published with (DESIGN 1), with shorter intervals."""

from __future__ import annotations

import pytest

from tests.member.rig import Rig, wait_for

pytestmark = pytest.mark.side_by_side

QUICK = ("-t", "1", "-i", "0.2")


def test_pinned_to_the_second_member(rig: Rig) -> None:
    """m1 takes over while m2 is down, and gives it back when m2 returns."""
    m1_options = (*QUICK, "-f")
    m2_options = (*QUICK, "-m", "WORKER")
    command = rig.work(0.1)

    m1 = rig.member(1, *m1_options, command=command)
    m2 = rig.member(2, *m2_options, command=command)
    wait_for(lambda: m2.is_worker and m1.is_supervisor, "m2 to be the worker")
    assert not m1.said("Becoming worker")
    wait_for(lambda: len(rig.runs()) >= 3, "one run after the other")
    assert {run.member for run in rig.runs()} == {"m2"}

    for down, evidence in (("kill", "refused the connection"), ("stop", "m2 said goodbye")):
        getattr(m2, down)()
        wait_for(lambda: m1.is_worker, "m1 to take over")
        assert m1.said(f"{evidence}.*Becoming worker") == 1
        wait_for(lambda: rig.runs()[-1].member == "m1", "m1 to run the command")

        m2 = rig.member(2, *m2_options, command=command)
        wait_for(lambda m2=m2: m2.is_worker and m1.is_supervisor, "m1 to give it back")
        assert m1.said("The command has ended here. Gave the role to m2")
        wait_for(lambda: rig.runs()[-1].member == "m2", "m2 to run the command")
    assert m1.stop() == 0
    assert m2.stop() == 0
    assert {run.ending for run in rig.runs()} <= {"end", "terminated"}


def test_whoever_took_over_keeps_it(rig: Rig) -> None:
    """A member that returns supervises the one that took over, every time."""
    command = rig.work(0.1)
    worker, other = rig.member(1, *QUICK, command=command), rig.member(2, *QUICK, command=command)
    worker, other = wait_for(
        lambda: (
            (worker.is_worker and other.is_supervisor and (worker, other))
            or (other.is_worker and worker.is_supervisor and (other, worker))
        ),
        "a worker and a supervisor",
    )
    for down in ("kill", "stop", "kill"):
        getattr(worker, down)()
        wait_for(lambda other=other: other.is_worker, "the takeover")
        back = rig.member(int(worker.name[1]), *QUICK, command=command)
        wait_for(lambda back=back: back.is_supervisor, "the return")
        count = len(rig.runs())
        wait_for(lambda count=count: len(rig.runs()) >= count + 3, "three more runs")
        assert {run.member for run in rig.runs()[count:]} == {other.name}
        assert not back.said("Becoming worker")
        worker, other = other, back
