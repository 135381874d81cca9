"""The log: one line for each decision, none for what is as it was, and JSON for machines."""

from __future__ import annotations

import json

from tests.member.rig import Rig, wait_for

FIELDS = {"time", "level", "member", "service", "role", "epoch", "text"}


def test_json(rig: Rig) -> None:
    """Each line is one object, also those of a member that is verbose."""
    worker, other = (
        rig.member(number, "--log-format", "json", "-v", "-t", "0.3", command=rig.work())
        for number in (1, 2)
    )
    wait_for(lambda: any('"worker"' in line for line in worker.lines + other.lines), "a worker")
    wait_for(lambda: len(worker.lines) > 3 < len(other.lines), "some lines")
    worker.kill()
    wait_for(lambda: any('"worker"' in line for line in other.lines), "the other")
    assert other.stop() == 0
    for member in (worker, other):
        objects = [json.loads(line) for line in member.lines]
        assert all(set(found) >= FIELDS for found in objects)
        assert {found["member"] for found in objects} == {member.name}
    last = json.loads(other.lines[-1])
    assert (last["role"], last["level"], last["service"]) == ("stopped", "info", "default")


def test_a_quiet_log(rig: Rig) -> None:
    """Forty checks and as many runs later, five minutes by the defaults, not a line was added."""
    worker, other = rig.pair("-t", "0.1", "--check-count", "30", "-i", "0.05")
    before = worker.lines, other.lines
    end = len(rig.runs())
    # Counted in runs of the same pace as the checks, so that a slow machine makes no difference.
    alive = [run for run in rig.runs() if run.ending == ""]
    assert len(alive) == end == 1
    first_s = rig.runs()[0].last_s
    wait_for(lambda: rig.runs()[0].last_s > first_s + 4.0, "four seconds of work")
    skips = [line for line in worker.lines if "is still going" in line]
    assert [line for line in worker.lines if line not in skips] == [
        line for line in before[0] if line not in skips
    ]
    assert len(skips) == 1
    assert other.lines == before[1]


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


def test_the_output_of_the_command_is_the_members(rig: Rig) -> None:
    member = rig.member(1, "-i", "60", command="echo to stdout; echo to stderr >&2")
    wait_for(lambda: "to stdout" in member.output, "the output")
    wait_for(lambda: "to stderr" in member.lines, "the errors")
