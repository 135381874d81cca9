"""Whoever dies, the port is refused only when nothing of the tree is left."""

from __future__ import annotations

import ast
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import pytest

from ha_heartbeat.guardian.clock import now_ns
from ha_heartbeat.guardian.protocol import Run
from tests.guardian.rig import (
    DAEMON,
    PATIENCE_S,
    alive,
    lease,
    linux_only,
    marked,
    order,
    pid_from,
    refused,
    shell,
    stat_of,
    variants,
    wait_for,
)

pytestmark = linux_only
SLOW_TO_STOP = (
    "import signal, time\n"
    "def on_term(*_):\n"
    "    time.sleep(0.4)\n"
    "    raise SystemExit(0)\n"
    "signal.signal(signal.SIGTERM, on_term)\n"
    "while True: time.sleep(0.05)\n"
)


class Member:
    """A member process, seen from outside."""

    def __init__(self, variant: str, stop_timeout_s: float = 10.0) -> None:
        script = str(Path(__file__).with_name("member_script.py"))
        self.process = subprocess.Popen(
            [sys.executable, script, variant, str(stop_timeout_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._buffer = b""
        self.pid = self.process.pid
        self.port = int(self._line())
        self.guardian: int = self.expect("Ready")[0]
        parent = Path(f"/proc/{self.guardian}/stat").read_text().rpartition(")")[2].split()[1]
        self.keeper = int(parent)

    def _line(self) -> str:
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        while b"\n" not in self._buffer:
            assert select.select([fd], [], [], PATIENCE_S)[0], "the member says nothing"
            data = os.read(fd, 65536)
            assert data, "the member has ended"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def expect(self, name: str) -> tuple[Any, ...]:
        while True:
            kind, *fields = ast.literal_eval(line := self._line())
            if kind == name:
                return tuple(fields)
            assert kind == "Leftovers", line

    def run(self, run: Run) -> int:
        """Start it; its pid."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{('Run', *run)!r}\n".encode())
        self.process.stdin.flush()
        pid = self.expect("Started")[1]
        assert isinstance(pid, int)
        return pid

    def close(self) -> None:
        self.process.kill()
        for pid in (self.keeper, self.guardian):  # one that was left stopped would stay
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.process.communicate()


@pytest.fixture(params=["linux", "many"])
def member(mark: str, request: pytest.FixtureRequest) -> Iterator[Member]:
    made = Member(request.param)
    yield made
    made.close()


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def await_refusal(port: int, *tree: int) -> None:
    """Probe the port until it is refused; all of the tree must be dead by then."""

    def free() -> bool:
        was_refused = refused(port)
        if was_refused:
            left = [pid for pid in tree if alive(pid)]
            assert not left, f"the port was freed while {left} still ran"
        return was_refused

    wait_for(free)


@pytest.mark.parametrize("member", [*variants(), "many"], indirect=True)
def test_an_idle_member_killed_frees_its_port(member: Member) -> None:
    kill(member.pid)
    await_refusal(member.port, member.guardian)


@pytest.mark.parametrize("member", [*variants(), "many"], indirect=True)
def test_a_member_killed_takes_its_run_along(member: Member) -> None:
    pid = member.run(order((sys.executable, "-c", SLOW_TO_STOP)))
    kill(member.pid)
    await_refusal(member.port, pid)


@pytest.mark.parametrize("variant", ["linux", "linux-sweep"])
def test_a_member_killed_takes_stubborn_daemons_along(
    mark: str, variant: str, tmp_path: Path
) -> None:
    with closing(Member(variant, stop_timeout_s=0.3)) as member:
        main = member.run(shell("trap '' TERM; setsid sleep 600 & while :; do sleep 600; done"))
        wait_for(lambda: len(marked(mark)) == 6)
        tree = set(marked(mark)) - {member.pid, member.guardian, member.keeper}
        assert main in tree
        kill(member.pid)
        await_refusal(member.port, *tree)


def test_a_guardian_killed_takes_its_tree_along_and_is_replaced(
    member: Member, tmp_path: Path
) -> None:
    line = f"{sys.executable} -c '{DAEMON}' {tmp_path}/pid; exec sleep 600"
    pid = member.run(shell(line.replace("'w'", '"w"')))
    daemon = pid_from(tmp_path / "pid")
    kill(member.guardian)
    (reason,) = member.expect("Lost")
    assert reason == "the guardian was killed by signal 9"
    assert not alive(pid)
    assert not alive(daemon)
    assert member.expect("Ready")[0] != member.guardian
    assert not refused(member.port)
    member.run(shell("exit 6", 2))
    assert member.expect("Ended")[:2] == (2, 6)


def test_both_killed_with_a_run_and_nothing_else(member: Member) -> None:
    pid = member.run(order(("sleep", "600")))
    kill(member.guardian, member.pid)
    await_refusal(member.port, pid)


def with_grandchild(member: Member, tmp_path: Path, **times: int) -> tuple[int, int]:
    """A run, and a process of it that has left its session."""
    line = f"setsid sleep 600 & echo $! > {tmp_path}/pid; exec sleep 600"
    return member.run(shell(line, **times)), pid_from(tmp_path / "pid")


WATCHERS = ("member", "keeper", "guardian")


def watchers(member: Member, names: tuple[str, ...]) -> list[int]:
    pids = {"member": member.pid, "keeper": member.keeper, "guardian": member.guardian}
    return [pids[name] for name in names]


@pytest.mark.parametrize("killed", list(permutations(WATCHERS, 2)), ids="-".join)
def test_any_one_that_is_left_ends_the_tree(
    member: Member, tmp_path: Path, killed: tuple[str, str]
) -> None:
    tree = with_grandchild(member, tmp_path)
    pids = watchers(member, killed)
    for pid in pids:  # so that the first has no time to do anything when the second is killed
        os.kill(pid, signal.SIGSTOP)
    kill(*pids)
    if "member" in killed:
        await_refusal(member.port, *tree)
    else:
        (reason,) = member.expect("Lost")
        assert "killed by signal 9" in reason
        assert not any(map(alive, tree))


def test_a_guardian_left_alone_sleeps_until_its_tree_is_to_be_killed(
    member: Member, tmp_path: Path
) -> None:
    line = f"trap '' TERM; echo $$ > {tmp_path}/pid; exec sleep 600"
    pid = member.run(shell(line))
    assert pid_from(tmp_path / "pid") == pid
    kill(member.pid)
    member.process.wait()
    kill(member.keeper)
    wait_for(lambda: stat_of(member.keeper)[:1] in ([], ["Z"]))
    wait_for(lambda: all(stat_of(member.guardian)[:1] == ["S"] for _ in range(50)))
    assert alive(pid)
    kill(pid)
    await_refusal(member.port, pid)


@pytest.mark.parametrize("variant", ["linux", "many"])
def test_a_guardian_left_alone_kills_what_is_stubborn(
    mark: str, variant: str, tmp_path: Path
) -> None:
    with closing(Member(variant, stop_timeout_s=0.3)) as member:
        line = f"trap '' TERM; setsid sleep 600 & echo $! > {tmp_path}/pid; exec sleep 600"
        tree = member.run(shell(line)), pid_from(tmp_path / "pid")
        kill(member.pid, member.keeper)
        await_refusal(member.port, *tree)


@pytest.mark.parametrize("killed", list(permutations(WATCHERS, 3)), ids="-".join)
def test_all_killed_and_a_grandchild_holds_the_port(
    member: Member, tmp_path: Path, killed: tuple[str, ...]
) -> None:
    main, grandchild = with_grandchild(member, tmp_path)
    pids = watchers(member, killed)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    kill(*pids)
    wait_for(lambda: not any(map(alive, (main, *pids))))
    for _ in range(50):
        assert not refused(member.port)
    assert alive(grandchild)
    kill(grandchild)
    await_refusal(member.port, grandchild)


def test_a_keeper_killed_takes_its_tree_along_and_is_replaced(
    member: Member, tmp_path: Path
) -> None:
    tree = with_grandchild(member, tmp_path)
    kill(member.keeper)
    (reason,) = member.expect("Lost")
    assert reason == "the guardian was killed by signal 9"
    assert not any(map(alive, (*tree, member.guardian)))
    assert member.expect("Ready")[0] != member.guardian


STOPPED = [names for n in (1, 2) for names in combinations(WATCHERS, n)]


@pytest.mark.parametrize("stopped", STOPPED, ids="-".join)
def test_whoever_stands_still_the_tree_is_dead_when_its_lease_is_over(
    member: Member, tmp_path: Path, stopped: tuple[str, ...]
) -> None:
    times = lease(0.6, 0.8)
    line = f"trap '' TERM; setsid sleep 600 & echo $! > {tmp_path}/pid; exec sleep 600"
    tree = member.run(shell(line, **times)), pid_from(tmp_path / "pid")
    for pid in watchers(member, stopped):
        os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: not any(map(alive, tree)))
    assert now_ns() >= times["kill_at_ns"]
    if "member" in stopped:
        os.kill(member.pid, signal.SIGCONT)
    if "guardian" in stopped:
        assert "deadline" in lost(member)
    else:
        assert member.expect("Ended")[2] == signal.SIGKILL
        member.expect("Expired")


def lost(member: Member) -> str:
    """Why the guardian was lost, whatever else was said before."""
    while True:
        kind, *fields = ast.literal_eval(member._line())
        if kind == "Lost":
            return str(fields[0])


def test_all_stand_still_and_the_kernel_ends_the_run(member: Member) -> None:
    times = lease(0.6, 0.8)
    pid = member.run(order(("sleep", "600"), **times))
    for watcher in watchers(member, WATCHERS):
        os.kill(watcher, signal.SIGSTOP)
    wait_for(lambda: not alive(pid))
    assert now_ns() >= times["kill_at_ns"]
    for watcher in (member.pid, member.keeper):
        os.kill(watcher, signal.SIGCONT)
    assert "deadline" in lost(member)


@pytest.mark.parametrize("member", [*variants(), "many"], indirect=True)
def test_a_stopped_member_has_no_tree_after_its_lease(member: Member) -> None:
    times = lease(0.4, 0.8)
    pid = member.run(shell("trap '' TERM; exec sleep 600", **times))
    os.kill(member.pid, signal.SIGSTOP)
    wait_for(lambda: not alive(pid))
    assert now_ns() >= times["kill_at_ns"]
    assert alive(member.guardian)
    assert not refused(member.port)
    os.kill(member.pid, signal.SIGCONT)
    assert member.expect("Ended")[2] == signal.SIGKILL
    member.expect("Expired")


@pytest.mark.parametrize("number", ["HUP", "INT", "QUIT", "TERM", "USR1", "ALRM", "PIPE"])
def test_no_signal_but_kill_ends_a_guardian(member: Member, number: str) -> None:
    for _ in range(3):
        os.kill(member.guardian, getattr(signal, f"SIG{number}"))
    member.run(shell("exit 2"))
    assert member.expect("Ended")[1] == 2


def test_a_guardian_has_a_session_of_its_own(member: Member) -> None:
    assert os.getsid(member.guardian) == os.getsid(member.keeper) == member.keeper
