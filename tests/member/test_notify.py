"""A member under systemd: what it says there, in whose name, and when it falls silent."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ha_heartbeat.shell.beat import Beat
from tests.member.rig import Rig, send, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
WATCHDOG_S = 1.0


class Manager:
    """Hears what the members of a test say, as systemd would."""

    def __init__(self) -> None:
        self.address = f"@ha-heartbeat-{os.urandom(8).hex()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(self.address.replace("@", "\0"))
        self._socket.setblocking(False)
        self.said: list[tuple[int, str]] = []

    def listen(self) -> list[tuple[int, str]]:
        """All that was said so far: who, and which line."""
        while True:
            try:
                data, extra, _, _ = self._socket.recvmsg(4096, 256)
            except BlockingIOError:
                return self.said
            pid = int.from_bytes(extra[0][2][:4], sys.byteorder)
            self.said += [(pid, line) for line in data.decode().splitlines()]

    def lines(self) -> list[str]:
        """Without the signs of life."""
        return [line for _, line in self.listen() if line != "WATCHDOG=1"]

    def signs(self) -> int:
        """How many signs of life there were."""
        return sum(line == "WATCHDOG=1" for _, line in self.listen())

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    made = Manager()
    monkeypatch.setenv("NOTIFY_SOCKET", made.address)
    monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_S * 1e6)))
    yield made
    made.close()


def hears(manager: Manager, line: str) -> None:
    wait_for(lambda: line in manager.lines(), f"systemd to hear {line}")


def test_from_the_start_to_the_end(rig: Rig, manager: Manager) -> None:
    variables = rig.place / "environ"
    tell = f"cat /proc/self/environ > {shlex.quote(str(variables))}; exec sleep 1000"
    with rig.free_port():
        one = rig.member(1, command=tell)
        hears(manager, "READY=1")
        hears(manager, "STATUS=worker, epoch 2")
        wait_for(lambda: manager.signs() >= 3, "signs of life")
        words = wait_for(lambda: variables.exists() and variables.read_bytes(), "the command")
        assert b"HA_HEARTBEAT_EPOCH=2" in words
        assert b"NOTIFY_SOCKET" not in words
        assert b"WATCHDOG" not in words
        assert one.stop() == 0
    lines = manager.lines()
    assert lines[0] == "STATUS=looking"
    assert lines.index("STATUS=stopping, epoch 2") > lines.index("READY=1")
    assert lines[-1] == "STOPPING=1"
    assert {pid for pid, _ in manager.said} == {one.pid}


def test_not_ready_while_it_waits_for_the_port(rig: Rig, manager: Manager) -> None:
    host, port = rig.address(1).split(":")
    with socket.create_server((host, int(port))), rig.free_port():
        rig.member(1)
        wait_for(manager.lines, "a word of systemd's")
        assert manager.lines()[0].startswith(f"STATUS=the port {host}:{port} is held")
        assert "READY=1" not in manager.lines()
    hears(manager, "READY=1")


def test_a_loop_that_does_not_turn_gives_no_sign(rig: Rig, manager: Manager) -> None:
    with rig.free_port():
        one = rig.member(1)
        wait_for(lambda: manager.signs() >= 2, "signs of life")
        send(one.pid, signal.SIGSTOP)
        manager.listen()
        before = manager.signs()
        # What systemd does when the signs fail to come, here and there.
        wait_for(lambda: not rig.is_running(one), "the guardian to end the command")
        assert manager.signs() == before
        one.kill()
        wait_for(lambda: one.processes() == [], "its guardian to end")


def test_a_core_that_is_not_woken_gives_no_sign() -> None:
    """The loop turns, but what the core waits for does not come."""

    class Asleep:
        due_s = float("inf")
        planned_s = float("inf")

        @property
        def core(self) -> Asleep:
            return self

        def limit_s(self) -> float:
            return float("inf")

        def wake_at(self) -> float:
            return self.due_s

    async def scene() -> list[bool]:
        sleeper: Any = Asleep()
        beat = Beat(lambda: 0.1, in_step=False)
        beat.plan(sleeper)
        loop = asyncio.get_running_loop()
        said = []
        said.append(beat.is_well())  # it waits for nothing
        Asleep.due_s = 1.0
        said.append(beat.is_well())  # it waits, and nobody will come
        beat._timer = loop.call_later(1000, list)
        said.append(beat.is_well())
        beat._timer.cancel()
        beat._timer = loop.call_at(loop.time() - 1, list)
        said.append(beat.is_well())
        beat._timer.cancel()
        return said

    assert asyncio.run(scene()) == [True, False, True, False]


def test_a_full_disk_is_no_reason_to_be_killed(rig: Rig, manager: Manager) -> None:
    """A member whose state cannot be written goes on, and would not start again."""
    with rig.free_port():
        rig.member(1)
        hears(manager, "STATUS=worker, epoch 2")
        state = next((rig.place / "state").iterdir())
        state.rename(rig.place / "gone")
        two = rig.member(2)
        wait_for(lambda: two.is_supervisor, "the supervisor")
        before = manager.signs()
        wait_for(lambda: manager.signs() >= before + 4, "signs of life")
        (rig.place / "gone").rename(state)
