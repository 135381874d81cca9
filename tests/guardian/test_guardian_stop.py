"""Stopping and killing: all of the tree, however it hides."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ha_heartbeat.guardian import sweep
from ha_heartbeat.guardian.clock import now_ns
from ha_heartbeat.guardian.protocol import End, Ended, Gone, Kill, Leftovers, Started, Stop
from tests.guardian.rig import (
    DAEMON,
    Rig,
    alive,
    linux_only,
    marked,
    order,
    pid_from,
    refused,
    shell,
    wait_for,
)

Maker = Callable[..., Rig]
LINUX = ["linux", "linux-sweep"]
BOMB = (
    "import os, time\n"
    "for depth in range(40):\n"
    "    for width in range(7):\n"
    "        if os.fork() == 0:\n"
    "            os.setpgid(0, 0)\n"
    "            time.sleep(600)\n"
    "    if os.fork(): time.sleep(600)\n"
    "    os.setsid()\n"
    "print(flush=True)\n"
    "time.sleep(600)\n"
)
"""About 300 processes, in as many groups and forty sessions, as fast as they can be forked."""
FAMILY = """
import os, signal, time
reader, writer = os.pipe()
pid = os.fork()
def on_term(number, frame):
    os.write(1, b"parent " if pid else b"child ")
    time.sleep(0.05)
    if pid:
        os.wait()
    os._exit(3)
signal.signal(signal.SIGTERM, on_term)
if pid:
    os.read(reader, 1)
    os.write(1, b"up\\n")
else:
    os.write(writer, b".")
while True:
    time.sleep(0.05)
"""
PARTING = """
import os, signal, subprocess, time
def on_term(number, frame):
    subprocess.Popen(["sleep", "600"])
    os._exit(0)
signal.signal(signal.SIGTERM, on_term)
os.write(1, b"up\\n")
while True:
    time.sleep(0.05)
"""
STUBBORN = "trap '' TERM; echo; exec sleep 600"


@pytest.mark.parametrize("command", [Stop(1_000_000_000), Kill()])
def test_with_nothing_there_the_answer_is_gone(
    rig: Maker, variant: str, command: Stop | Kill
) -> None:
    member = rig(variant)
    member.say(command)
    member.expect(Gone)


def test_a_stop_is_a_sigterm_to_all(rig: Maker, variant: str) -> None:
    member = rig(variant)
    member.say(order((sys.executable, "-c", FAMILY)))
    member.expect(Started)
    assert os.read(member.output, 3) == b"up\n"
    member.say(Stop(60_000_000_000))
    assert member.expect(Ended).status == 3
    member.expect(Gone)
    member.leave()
    assert sorted(member.text().split()) == ["child", "parent"], "and each of them once"


@linux_only
@pytest.mark.parametrize("variant", LINUX)
def test_what_a_process_leaves_behind_at_a_stop_is_asked_to_end_too(
    rig: Maker, variant: str
) -> None:
    member = rig(variant)
    member.say(order((sys.executable, "-c", PARTING)))
    member.expect(Started)
    assert os.read(member.output, 3) == b"up\n"
    member.say(Stop(600_000_000_000))
    assert member.expect(Ended).leftovers == 1
    member.expect(Gone)


def test_who_ignores_sigterm_is_killed_after_the_grace(rig: Maker, variant: str) -> None:
    member = rig(variant)
    member.say(shell(STUBBORN))
    member.expect(Started)
    assert os.read(member.output, 1) == b"\n"
    asked_ns = now_ns()
    member.say(Stop(300_000_000))
    ended = member.expect(Ended)
    assert (ended.status, ended.signal) == (-1, signal.SIGKILL)
    assert member.expect(Gone).at_ns >= asked_ns + 300_000_000


def test_a_kill_shortens_a_stop(rig: Maker, variant: str) -> None:
    member = rig(variant)
    member.say(shell(STUBBORN))
    member.expect(Started)
    assert os.read(member.output, 1) == b"\n"
    member.say(Stop(600_000_000_000), Kill())
    assert member.expect(Ended).signal == signal.SIGKILL
    member.expect(Gone)


def test_a_stopped_process_can_act_on_sigterm(rig: Maker, variant: str) -> None:
    member = rig(variant)
    member.say(shell("trap 'exit 7' TERM; kill -STOP $$; sleep 600"))
    pid = member.expect(Started).pid
    wait_for(lambda: "T (stopped)" in Path(f"/proc/{pid}/status").read_text())
    member.say(Stop(60_000_000_000))
    assert member.expect(Ended).status == 7
    member.expect(Gone)


@linux_only
@pytest.mark.parametrize("variant", LINUX)
@pytest.mark.parametrize("command", [Stop(60_000_000_000), Kill()])
def test_daemons_are_left_alone_counted_and_killed_at_a_stop(
    rig: Maker, variant: str, command: Stop | Kill, tmp_path: Path
) -> None:
    member = rig(variant)
    member.say(order((sys.executable, "-c", DAEMON, str(tmp_path / "pid"))))
    member.expect(Started)
    assert member.expect(Ended).status == 0
    daemon = pid_from(tmp_path / "pid")
    member.say(shell("exit 4", 2))  # runs go on beside it
    member.expect(Started)
    ended = member.expect(Ended)
    assert (ended.status, ended.leftovers) == (4, 1)
    assert alive(daemon)
    member.say(command)
    member.expect(Gone)
    assert not alive(daemon)


@linux_only
@pytest.mark.parametrize("variant", LINUX)
def test_a_change_in_the_number_of_leftovers_is_told(
    rig: Maker, variant: str, tmp_path: Path
) -> None:
    member = rig(variant)
    member.say(shell(f"sleep 600 & echo $! > {tmp_path}/a; sleep 600 & echo $! > {tmp_path}/b"))
    member.expect(Started)
    assert member.expect(Ended).leftovers == 2
    os.kill(pid_from(tmp_path / "a"), signal.SIGKILL)
    assert member.expect(Leftovers) == Leftovers(1)
    os.kill(pid_from(tmp_path / "b"), signal.SIGKILL)
    assert member.expect(Leftovers) == Leftovers(0)


@linux_only
@pytest.mark.parametrize("variant", LINUX)
def test_a_leftover_that_forks_is_counted_in_time(rig: Maker, variant: str, tmp_path: Path) -> None:
    member = rig(variant)
    go = tmp_path / "go"
    member.say(shell(f"(until [ -e {go} ]; do sleep 0.05; done; sleep 600 & sleep 600 & wait) &"))
    member.expect(Started)
    assert member.expect(Ended).leftovers >= 1
    go.touch()
    wait_for(lambda: member.expect(Leftovers) == Leftovers(3))
    member.say(Kill())
    member.expect(Gone)


@linux_only
@pytest.mark.parametrize("variant", LINUX)
def test_a_fork_bomb_is_wholly_gone_after_a_kill(rig: Maker, variant: str, mark: str) -> None:
    member = rig(variant)
    member.say(order((sys.executable, "-c", BOMB)))
    member.expect(Started)
    assert os.read(member.output, 1) == b"\n"
    assert len(marked(mark)) > 250
    member.say(Kill())
    while not isinstance(member.hear(), Gone):
        pass
    assert sorted(marked(mark)) == [member.keeper, member.pid]


@linux_only
@pytest.mark.parametrize("variant", LINUX)
def test_a_bomb_that_is_still_forking_is_wholly_gone_after_a_kill(
    rig: Maker, variant: str, mark: str
) -> None:
    member = rig(variant)
    member.say(
        order(
            (
                sys.executable,
                "-c",
                "import os, time\n"
                "end = time.monotonic() + 20\n"
                "while time.monotonic() < end:\n"
                "    time.sleep(0.0005)\n"  # one lives on by its child: never more than a few
                "    if os.fork(): os._exit(0)\n"
                "    os.setsid()\n",
            )
        )
    )
    member.expect(Started)
    member.expect(Ended)
    member.say(Kill())
    while not isinstance(member.hear(), Gone):
        pass
    assert sorted(marked(mark)) == [member.keeper, member.pid]


def test_an_end_kills_what_is_left_and_frees_the_port(rig: Maker, variant: str) -> None:
    member = rig(variant)
    member.say(shell(STUBBORN))
    member.expect(Started)
    member.listener.close()
    assert not refused(member.port)
    member.say(End())
    member.expect(Ended)
    assert member.process.wait(20) == 0
    assert refused(member.port)


@linux_only
@pytest.mark.parametrize("by_children_files", [True, False])
def test_both_ways_to_find_descendants_agree(
    rig: Maker, monkeypatch: pytest.MonkeyPatch, by_children_files: bool, mark: str
) -> None:
    if by_children_files and not sweep.has_children_files():
        pytest.skip("this kernel lists no children")
    member = rig("linux-sweep")
    member.say(shell("(sleep 600 & sleep 600 & wait) & sleep 600 & wait"))
    member.expect(Started)
    wait_for(lambda: len(marked(mark)) == 7)
    monkeypatch.setattr(sweep, "has_children_files", lambda: by_children_files)
    assert sorted(sweep.below([member.keeper], sweep.lister())) == sorted(marked(mark))
    member.say(Kill())
    member.expect(Ended)
    member.expect(Gone)
