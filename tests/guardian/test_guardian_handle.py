"""The member's handle: nothing asked is lost, and a lost guardian leaves nothing behind."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Awaitable, Callable, Collection
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest

from ha_heartbeat.guardian.protocol import (
    Ended,
    Expired,
    Failed,
    Gone,
    Leftovers,
    Ready,
    Started,
)
from ha_heartbeat.shell import guardian as handle
from ha_heartbeat.shell import overdue
from ha_heartbeat.shell.guardian import Event, Guardian, GuardianError, Lost
from tests.guardian.rig import (
    DAEMON,
    PATIENCE_S,
    ROOT,
    alive,
    await_end,
    lease,
    linux_only,
    listen,
    order,
    orphans,
    pid_from,
    refused,
    shell,
    variants,
)

pytestmark = [
    pytest.mark.skipif(not variants(), reason="written for Windows, and not run there yet"),
    pytest.mark.usefixtures("mark", "no_subreaper"),
]
T = TypeVar("T")


class Member:
    """A guardian's handle, and what it was told."""

    def __init__(
        self, variant: str | None = None, spare: Callable[[], Collection[int]] = tuple
    ) -> None:
        self.heard: asyncio.Queue[Event] = asyncio.Queue()
        self.listener = listen()
        self.port: int = self.listener.getsockname()[1]
        self.guardian = Guardian(
            listeners=[self.listener.fileno()],
            stop_timeout_s=5,
            margin_s=PATIENCE_S,
            on_event=self.heard.put_nowait,
            variant=variant,
            spare=spare,
        )

    async def expect(self, kind: type[T]) -> T:
        while True:
            event = await asyncio.wait_for(self.heard.get(), PATIENCE_S)
            if isinstance(event, kind):
                return event
            assert isinstance(event, Leftovers), event

    @property
    def pid(self) -> int:
        assert self.guardian.pid is not None
        return self.guardian.pid

    @property
    def keeper(self) -> int:
        assert self.guardian.keeper_pid is not None
        return self.guardian.keeper_pid


def play(
    scene: Callable[[Member], Awaitable[None]],
    variant: str | None = None,
    spare: Callable[[], Collection[int]] = tuple,
) -> None:
    """Run a scene with a guardian that is up, and end that in the end."""

    async def whole() -> None:
        member = Member(variant, spare)
        await member.guardian.start()
        assert await member.expect(Ready) == Ready(member.pid)
        try:
            await scene(member)
        finally:
            await asyncio.wait_for(member.guardian.end(), PATIENCE_S)
            assert member.guardian.pid is None
            member.listener.close()
        assert refused(member.port)

    asyncio.run(whole())


def test_runs_and_orders_go_through(variant: str) -> None:
    async def scene(member: Member) -> None:
        member.guardian.run(shell("exit 3", 1))
        assert (await member.expect(Started)).run == 1
        assert (await member.expect(Ended)).status == 3
        member.guardian.run(shell("exec sleep 600", 2, **lease(60, 60)))
        await member.expect(Started)
        times = lease(0.2, 60)
        member.guardian.extend(times["term_at_ns"], times["kill_at_ns"])
        assert (await member.expect(Ended)).signal == signal.SIGTERM
        await member.expect(Expired)
        for clear in (member.guardian.kill, lambda: member.guardian.stop(60)):
            member.guardian.run(shell("exec sleep 600", 3))
            await member.expect(Started)
            clear()
            await member.expect(Ended)
            await member.expect(Gone)

    play(scene, variant)


def test_an_end_kills_what_runs(variant: str) -> None:
    async def scene(member: Member) -> None:
        member.guardian.run(shell("trap '' TERM; exec sleep 600"))
        await member.expect(Started)

    play(scene, variant)


def test_a_run_that_cannot_be_sent_fails() -> None:
    async def scene(member: Member) -> None:
        member.guardian.run(order(("a\0b",), 8))
        failed = await member.expect(Failed)
        assert failed == Failed(8, "a NUL character cannot be passed to a program", 1)

    play(scene)


@linux_only
def test_a_lost_guardian_leaves_nothing_and_is_replaced(tmp_path: Path, variant: str) -> None:
    """With the posix variant, what stays in its group; elsewhere, the daemon too."""

    async def scene(member: Member) -> None:
        first = member.pid
        argv = (sys.executable, "-c", DAEMON, str(tmp_path / "pid"))
        daemon = 0
        if variant != "posix":
            member.guardian.run(order(argv, 1))
            await member.expect(Started)
            await member.expect(Ended)
            daemon = pid_from(tmp_path / "pid")
        member.guardian.run(shell("trap '' TERM; sleep 600 & exec sleep 600", 2))
        run = (await member.expect(Started)).pid
        os.kill(first, signal.SIGKILL)
        assert await member.expect(Lost) == Lost("the guardian was killed by signal 9")
        assert not alive(run)
        assert not (daemon and alive(daemon))
        assert (await member.expect(Ready)).pid != first
        member.guardian.run(shell("exit 9", 3))
        await member.expect(Started)
        assert (await member.expect(Ended)).status == 9

    play(scene, variant)


@linux_only
def test_other_children_of_the_member_survive_a_lost_guardian() -> None:
    spared: list[int] = []

    async def scene(member: Member) -> None:
        fence = subprocess.Popen(["sleep", "600"], start_new_session=True)
        child = subprocess.Popen(["sleep", "600"])
        spared.append(fence.pid)
        watched = await asyncio.create_subprocess_exec("sleep", "600")
        try:
            member.guardian.run(shell("setsid sleep 600 & sleep 600"))
            await member.expect(Started)
            os.kill(member.pid, signal.SIGKILL)
            await member.expect(Lost)
            await member.expect(Ready)
            for pid in (fence.pid, child.pid, watched.pid):
                assert alive(pid)
        finally:
            watched.kill()
            for process in (fence, child):
                process.kill()
                process.wait()
        assert await watched.wait() == -signal.SIGKILL

    play(scene, spare=lambda: spared)


@linux_only
def test_orphans_that_have_ended_are_reaped_and_no_other_child() -> None:
    """What a health check leaves comes to the member."""
    spared: list[int] = []

    async def scene(member: Member) -> None:
        left = orphans()
        fence = subprocess.Popen(["false"], start_new_session=True)
        child = subprocess.Popen(["false"])
        spared.append(fence.pid)
        for process in (fence, child):
            await_end(process.pid)
        keeper = member.keeper
        os.kill(keeper, signal.SIGKILL)
        await_end(keeper)
        member.guardian.reap()
        for pid in left:
            with pytest.raises(ChildProcessError):
                await_end(pid)
        assert (fence.wait(), child.wait()) == (1, 1)
        assert await member.expect(Lost) == Lost("the guardian was killed by signal 9")
        await member.expect(Ready)

    play(scene, spare=lambda: spared)


@linux_only
def test_what_is_asked_while_there_is_no_guardian_is_answered() -> None:
    async def scene(member: Member) -> None:
        member.guardian.run(shell("exec sleep 600", 1))
        await member.expect(Started)
        os.kill(member.pid, signal.SIGSTOP)
        member.guardian.run(shell("true", 2))  # reaches a guardian that will never answer
        member.guardian.stop(60)
        os.kill(member.pid, signal.SIGKILL)
        assert (await member.expect(Failed)).run == 2
        await member.expect(Lost)
        await member.expect(Gone)
        assert member.guardian.pid is None
        member.guardian.run(shell("true", 3))
        member.guardian.kill()
        member.guardian.extend(1, 2)
        assert await member.expect(Failed) == Failed(3, "there is no guardian at the moment", 0)
        await member.expect(Gone)
        await member.expect(Ready)

    play(scene)


@linux_only
def test_an_end_in_the_middle_of_a_loss_is_an_end() -> None:
    async def scene(member: Member) -> None:
        member.guardian.run(shell("setsid sleep 600 & sleep 600"))
        await member.expect(Started)
        os.kill(member.pid, signal.SIGKILL)

    play(scene)


@linux_only
def test_a_guardian_that_stands_still_is_replaced_when_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overdue, "ANSWER_S", 0.2)

    async def scene(member: Member) -> None:
        os.kill(member.pid, signal.SIGSTOP)
        member.guardian.run(shell("true", 1))
        failed = await member.expect(Failed)
        assert failed.run == 1
        lost = await member.expect(Lost)
        assert lost.reason == "the guardian was killed: it does not answer"
        await member.expect(Ready)
        member.guardian.run(shell("exec sleep 600", 2))
        await member.expect(Started)
        os.kill(member.pid, signal.SIGSTOP)
        member.guardian.stop(60)
        await member.expect(Lost)
        await member.expect(Gone)
        await member.expect(Ready)

    play(scene)


@linux_only
def test_an_idle_guardian_that_stands_still_is_found_before_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overdue, "PING_S", 0.2)

    async def scene(member: Member) -> None:
        os.kill(member.pid, signal.SIGSTOP)
        await member.expect(Lost)
        await member.expect(Ready)

    play(scene)


@linux_only
def test_a_guardian_that_reads_nothing_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle, "UNREAD_LIMIT_BYTES", 1_000_000)

    async def scene(member: Member) -> None:
        os.kill(member.pid, signal.SIGSTOP)
        member.guardian.run(order(("x" * 4_000_000,), 1))
        while member.guardian.pid is not None:
            member.guardian.extend(1, 2)
            await asyncio.sleep(0)
        assert (await member.expect(Failed)).run == 1
        assert (await member.expect(Lost)).reason == (
            "the guardian was killed: it does not read its orders"
        )
        await member.expect(Ready)

    play(scene)


def test_one_that_cannot_start_says_why() -> None:
    async def scene() -> None:
        member = Member("beos")
        with member.listener, pytest.raises(GuardianError, match="ended with exit status 64"):
            await member.guardian.start()
        await member.guardian.end()

    asyncio.run(scene())


@linux_only
def test_a_start_that_fails_is_tried_again_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle, "RETRY_S", 0.05)

    async def scene(member: Member) -> None:
        tries = []

        def broken() -> str:
            tries.append(1)
            return "/nonexistent/python"

        class Sys:
            platform = sys.platform
            flags = sys.flags
            executable = property(lambda _self: broken())

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(handle, "sys", Sys())
            os.kill(member.pid, signal.SIGKILL)
            assert "signal 9" in (await member.expect(Lost)).reason
            assert "could not be started" in (await member.expect(Lost)).reason
            while len(tries) < 5:
                await asyncio.sleep(0.01)
            assert member.heard.empty()
        await member.expect(Ready)

    play(scene)


@linux_only
def test_what_uses_up_all_processes_is_killed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the fault campaign: a command that forks without end, and a guardian killed."""

    def out_of_processes(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def scene(member: Member) -> None:
        first = member.pid
        argv = (sys.executable, "-c", DAEMON, str(tmp_path / "pid"))
        member.guardian.run(order(argv, 1))
        await member.expect(Started)
        await member.expect(Ended)
        daemon = pid_from(tmp_path / "pid")
        monkeypatch.setattr(threading.Thread, "start", out_of_processes)
        os.kill(first, signal.SIGKILL)
        await member.expect(Lost)
        assert not alive(daemon)
        assert (await member.expect(Ready)).pid != first

    play(scene)


@linux_only
def test_a_start_without_a_free_descriptor_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle, "RETRY_S", 0.05)

    async def scene(member: Member) -> None:
        def full() -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(handle.socket, "socketpair", full)
            os.kill(member.pid, signal.SIGKILL)
            assert "signal 9" in (await member.expect(Lost)).reason
            assert "Too many open files" in (await member.expect(Lost)).reason
        await member.expect(Ready)

    play(scene)


@linux_only
def test_the_event_loop_goes_on_while_a_big_tree_is_killed() -> None:
    async def scene(member: Member) -> None:
        member.guardian.run(shell("for i in $(seq 200); do setsid sleep 600 & done; wait"))
        run = (await member.expect(Started)).pid
        while len(os.listdir("/proc")) < before + 200:
            await asyncio.sleep(0.01)
        ticks: list[float] = []

        async def tick() -> None:
            loop = asyncio.get_running_loop()
            while True:
                ticks.append(loop.time())
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        os.kill(member.pid, signal.SIGKILL)
        await member.expect(Lost)
        ticking.cancel()
        assert not alive(run)
        assert max(b - a for a, b in pairwise(ticks)) < 0.5

    before = len(os.listdir("/proc"))
    play(scene)


@linux_only
def test_it_starts_from_a_zip_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "app.pyz"
    with zipfile.ZipFile(archive, "w") as made:
        made.write(f"{ROOT}/ha_heartbeat/__init__.py", "ha_heartbeat/__init__.py")
        for source in Path(ROOT, "ha_heartbeat", "guardian").glob("*.py"):
            made.write(source, f"ha_heartbeat/guardian/{source.name}")
    monkeypatch.setattr(handle, "_ROOT", str(archive))

    async def scene(member: Member) -> None:
        member.guardian.run(shell("exit 4"))
        await member.expect(Started)
        assert (await member.expect(Ended)).status == 4

    play(scene)
