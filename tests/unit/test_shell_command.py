"""A fence or a check: whatever becomes of it, its end is told, and nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from ha_heartbeat.config import Config
from ha_heartbeat.shell import shell_command as module
from ha_heartbeat.shell.shell_command import ShellCommand

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="written for a POSIX shell")

PATIENCE_S = 30.0
CONFIG = Config(service="web", command=("serve",), state_dir="/x", member="m1")


def outcome(
    command: str,
    limit_s: float = PATIENCE_S,
    meanwhile: Callable[[ShellCommand], None] = lambda shell: None,
) -> tuple[bool, str]:
    """Run it once; what was told of its end."""

    async def life() -> tuple[bool, str]:
        told: asyncio.Future[tuple[bool, str]] = asyncio.get_running_loop().create_future()
        shell = ShellCommand(CONFIG, command, limit_s, lambda *end: told.set_result(end))
        shell.run()
        async with asyncio.timeout(PATIENCE_S):
            while not (shell.pids() or told.done()):
                await asyncio.sleep(0.001)
            meanwhile(shell)
            end = await told
        assert not shell.pids()
        return end

    return asyncio.run(life())


def has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


ENDS = [
    ("exit 0", (True, "exit status 0")),
    ("sleep 0.1; exit 3", (False, "exit status 3")),
    ("kill -9 $$", (False, "killed by signal 9")),
]


@pytest.mark.parametrize(("command", "end"), ENDS)
def test_how_it_ended(command: str, end: tuple[bool, str]) -> None:
    assert outcome(command) == end


@pytest.mark.parametrize(("command", "end"), ENDS)
def test_where_no_end_is_shown(
    command: str, end: tuple[bool, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_pid: int) -> int:
        raise OSError("no pidfd here")

    monkeypatch.setattr(os, "pidfd_open", none, raising=False)
    assert outcome(command) == end


def test_one_that_takes_too_long_is_killed() -> None:
    assert outcome("sleep 600", 0.05) == (False, "it took longer than 0.05 s")


def test_it_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is out of processes may have one for the command, and none for a thread."""

    def out_of_processes(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", out_of_processes)
    assert outcome("exit 3") == (False, "exit status 3")
    assert outcome("sleep 600", 0.05) == (False, "it took longer than 0.05 s")


def test_what_cannot_be_started_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_words: object, **_options: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(subprocess, "Popen", broken)
    assert outcome("exit 0") == (False, "it could not be run, RuntimeError: out of luck")


def test_what_cannot_be_waited_for_is_killed_and_has_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look, looks = module._look_at, iter([MemoryError()])

    def broken(process: subprocess.Popen[bytes]) -> int | None:
        for error in looks:
            raise error
        return look(process)

    def no_end_shown(_pid: int) -> int:
        raise OSError("no pidfd here")

    monkeypatch.setattr(os, "pidfd_open", no_end_shown, raising=False)
    monkeypatch.setattr(module, "_look_at", broken)
    assert outcome("sleep 600") == (False, "it could not be run, MemoryError: ")
    assert not has_children()


def test_an_exit_status_that_is_taken_by_somebody_else_is_no_success() -> None:
    def take(shell: ShellCommand) -> None:
        (pid,) = shell.pids()
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    assert outcome("sleep 600", meanwhile=take) == (False, "exit status 255")


def test_one_that_is_closed_is_killed_and_tells_nothing() -> None:
    async def life() -> None:
        told: list[tuple[bool, str]] = []
        shell = ShellCommand(CONFIG, "sleep 600", PATIENCE_S, lambda *end: told.append(end))
        shell.run()
        async with asyncio.timeout(PATIENCE_S):
            while not shell.pids():
                await asyncio.sleep(0.001)
            shell.close()
            while shell.pids():
                await asyncio.sleep(0.001)
        assert not told
        assert not has_children()

    asyncio.run(life())
