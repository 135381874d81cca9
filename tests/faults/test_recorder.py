"""The command of a campaign records what it and its children do, and the judge sees it there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults import abilities
from faults.checker import judge
from faults.history import History, Limits, Step
from faults.lanes import draw, window
from faults.recorder import Kind, Life, Recorder

pytestmark = [
    pytest.mark.linux,
    pytest.mark.skipif(sys.platform != "linux", reason="the command reads Linux's /proc"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]
LIMITS = Limits(lease_s=0.3, recovers_s=60, starts_s=60, every_s=0.2, wakes_s=0.05, hand_over_s=60)
WAIT_S = 30.0

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> abilities.Programs:
    return abilities.build(str(tmp_path_factory.mktemp("programs")))


@pytest.fixture
def recorder(programs: abilities.Programs, tmp_path: Path) -> Recorder:
    return Recorder(programs.command, str(tmp_path / "records"))


@pytest.fixture
def start(recorder: Recorder) -> Iterator[Start]:
    """Starts the command as a member of that host would; all of its processes are ended."""
    made: list[subprocess.Popen[bytes]] = []

    def begin(host: str, run: str, *mode: str) -> subprocess.Popen[bytes]:
        environment = {"HA_HEARTBEAT_RUN": run, "HA_HEARTBEAT_MEMBER": host}
        process = subprocess.Popen(
            recorder.command(mode or ("serve",)),
            env=environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        made.append(process)
        wait_until(lambda: any(life.pid == process.pid for life in recorder.lives()))
        return process

    try:
        yield begin
    finally:
        for life in recorder.lives():
            if is_ours(life.pid):
                os.kill(life.pid, signal.SIGKILL)
        for process in made:
            process.wait()


def is_ours(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "faults-command"
    except OSError:
        return False


def wait_until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def kinds_found(recorder: Recorder) -> list[str]:
    now_ns = time.monotonic_ns()
    lives = recorder.lives()
    step = Step("x", ("x",), "x", 0, now_ns, now_ns, None, False, False)
    history = History(lives, [], [step], [], [], recorder.flaws, LIMITS, now_ns, {})
    return [finding.kind for finding in judge(history).findings]


def one(recorder: Recorder, kind: Kind) -> Life | None:
    return next((life for life in recorder.lives() if life.kind is kind), None)


def test_a_life_from_start_to_end(recorder: Recorder, start: Start) -> None:
    process = start("a", "6.3")
    process.terminate()
    process.wait()
    (life,) = recorder.lives()
    assert (life.host, life.epoch, life.run, life.pid) == ("a", 6, 3, process.pid)
    assert life.start_ns <= life.last_ns == life.end_ns
    assert not life.foreign


def test_a_kill_leaves_the_last_tick(recorder: Recorder, start: Start) -> None:
    process = start("a", "2.1", "stubborn")
    process.terminate()
    (before,) = recorder.lives()
    wait_until(lambda: recorder.lives()[0].last_ns > before.last_ns + 50_000_000)
    process.kill()
    process.wait()
    (life,) = recorder.lives()
    assert life.last_ns > before.last_ns
    assert life.end_ns == 0


def test_a_stop_leaves_a_hole(recorder: Recorder, start: Start) -> None:
    process = start("a", "2.1")
    process.send_signal(signal.SIGSTOP)
    from_ns = time.monotonic_ns()
    time.sleep(0.1)
    to_ns = time.monotonic_ns()
    process.send_signal(signal.SIGCONT)
    wait_until(lambda: recorder.lives()[0].holes)
    hole = recorder.lives()[0].holes[0]
    assert hole[0] <= from_ns + 50_000_000
    assert hole[1] >= to_ns


def test_two_hosts_at_once_are_an_overlap(recorder: Recorder, start: Start) -> None:
    first = start("a", "2.1")
    second = start("b", "3.1")
    wait_until(lambda: recorder.lives()[1].foreign)
    assert (recorder.lives()[1].foreign or (0, ""))[0] == first.pid
    for process in (first, second):
        process.terminate()
        process.wait()
    assert kinds_found(recorder) == ["overlap"]


@pytest.mark.parametrize(
    ("mode", "kind"), [("daemon", Kind.DAEMON), ("family", Kind.CHILD), ("flood", Kind.CHILD)]
)
def test_what_a_run_leaves_behind_is_an_overlap_and_a_stray(
    recorder: Recorder, start: Start, mode: str, kind: Kind
) -> None:
    first = start("a", "2.1", mode)
    wait_until(lambda: one(recorder, kind))
    first.kill()
    first.wait()
    start("b", "3.1").kill()
    start("a", "4.1").kill()
    now_ns = time.monotonic_ns()
    wait_until(lambda: (left := one(recorder, kind)) and left.last_ns > now_ns)
    found = kinds_found(recorder)
    assert "overlap" in found
    assert "stray" in found


def test_one_after_the_other_is_nothing(recorder: Recorder, start: Start) -> None:
    for host, run in (("a", "2.1"), ("b", "3.1"), ("a", "4.1")):
        process = start(host, run)
        process.terminate()
        process.wait()
    found = [kind for kind in kinds_found(recorder) if kind != "gap"]
    assert found == []


def test_an_epoch_that_goes_back(recorder: Recorder, start: Start) -> None:
    for host, run in (("a", "4.1"), ("b", "3.1")):
        process = start(host, run)
        process.terminate()
        process.wait()
    assert kinds_found(recorder) == ["epoch"]


def test_lanes_show_who_ran_when(recorder: Recorder, start: Start) -> None:
    started = [start("a", "2.1"), start("b", "3.1")]
    for process in started:
        process.terminate()
        process.wait()
    lives = recorder.lives()
    step = Step("x", ("x",), "the blow", lives[1].start_ns, *2 * (lives[1].last_ns,), None, False,
                False)  # fmt: skip
    history = History(lives, [], [step], [], [], [], LIMITS, lives[1].last_ns, {})
    finding = judge(history).findings[0]
    shown = draw(history, [], window(history, finding))
    lanes = [line for line in shown.splitlines() if line.endswith("|") and "#" in line]
    assert [lane[0] for lane in lanes] == ["a", "b"]
    assert "FAULT the blow" in shown
    assert f"b: main {started[1].pid} of run 3.1 begins, which saw ({started[0].pid}," in shown
