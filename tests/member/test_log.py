"""The log: one line for each decision, none for what is as it was, and JSON for machines."""

from __future__ import annotations

import json

import pytest

from tests.member.rig import Rig, wait_for

pytestmark = pytest.mark.side_by_side

FIELDS = {"time", "level", "member", "service", "role", "epoch", "text"}


def test_json(rig: Rig) -> None:
    """Each line is one object, whatever happens and at every level."""
    worker = rig.member(1, "--log-format", "json", "-v", command=rig.work(0.1))
    wait_for(lambda: any('"worker"' in line for line in worker.lines), "a worker")
    other = rig.member(2, "--log-format", "json", "-v", command=rig.work(0.1))
    wait_for(lambda: any('"supervisor"' in line for line in other.lines), "a supervisor")
    worker.kill()
    wait_for(lambda: any('"worker"' in line for line in other.lines), "the other")
    assert other.stop() == 0
    for member in (worker, other):
        objects = [json.loads(line) for line in member.lines]
        assert all(set(found) >= FIELDS for found in objects)
        assert {found["member"] for found in objects} == {member.name}
    last = json.loads(other.lines[-1])
    assert (last["role"], last["level"], last["service"]) == ("stopped", "info", "default")


def test_a_verbose_log_shows_every_check(rig: Rig) -> None:
    """As --help has it: "log every check, too"."""
    _, other = rig.pair("-v", "-t", "0.2", "--check-count", "20")
    before = len(other.lines)
    wait_for(lambda: len(other.lines) >= before + 3, "lines on three checks")
    assert other.said("answered: it is worker") >= 3


def test_a_quiet_log(rig: Rig) -> None:
    """Twenty checks later, minutes by the defaults, not a line was added."""
    worker, other = rig.pair("-t", "0.1", "--check-count", "30", "-i", "0.05")
    worker.hears("is still going after 0.05 s")
    if other.said(f"{worker.name} is worker"):
        wait_for(lambda: worker.said("is heard") or not worker.said("refused"), "both to have met")
    before = worker.lines, other.lines
    seen_s = rig.runs()[0].last_s
    wait_for(lambda: rig.runs()[0].last_s > seen_s + 2.0, "two seconds of work")
    assert (worker.lines, other.lines) == before
    assert len(rig.runs()) == 1


def test_the_lines_of_one_takeover(rig: Rig) -> None:
    """One for each decision: the start, the supervision, the takeover, the end."""
    m1 = rig.member(1, "-t", "5", "-i", "60", "-m", "WORKER")
    rig.works(m1)
    m2 = rig.member(2, "-t", "5", "-i", "60")
    rig.settle(m1, m2)
    m1.kill()
    rig.works(m2)
    assert m2.stop() == 0
    texts = [line.split(": ", 1)[1] for line in m2.lines]
    assert len(texts) == 5, texts
    for text, words in zip(
        texts,
        ["listens on", "m1 is worker", "Becoming worker", "Asked to stop", "Stopped"],
        strict=True,
    ):
        assert words in text
