"""What systemd is told, and that telling it never hinders."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from ha_heartbeat.shell import notify
from ha_heartbeat.shell.notify import Notifier, take

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such sockets")

PATIENCE_S = 20.0


class Manager:
    """The other end: what systemd would hear."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self.socket.settimeout(PATIENCE_S)

    def hear(self) -> dict[str, str]:
        """The next datagram."""
        lines = self.socket.recv(4096).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def heard(self) -> list[dict[str, str]]:
        """All that are there."""
        self.socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(self.hear())
        except BlockingIOError:
            return found
        finally:
            self.socket.settimeout(PATIENCE_S)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("the abstract namespace is Linux's")
    address = (
        str(tmp_path / "s") if request.param == "path" else f"@ha-heartbeat-{os.urandom(8).hex()}"
    )
    made = Manager(address)
    yield made
    made.socket.close()


def test_everything_is_said_in_order(manager: Manager) -> None:
    async def scene() -> None:
        notifier = Notifier(manager.address, 0)
        notifier.status("waiting for\nthe port")
        notifier.ready(lambda: True)
        notifier.stopping()
        notifier.close()
        notifier.status("too late")

    asyncio.run(scene())
    assert manager.heard() == [
        {"STATUS": "waiting for the port"},
        {"READY": "1"},
        {"STOPPING": "1"},
    ]


def test_signs_of_life_while_all_is_well(manager: Manager) -> None:
    async def scene() -> None:
        well = True
        notifier = Notifier(manager.address, 0.04)
        notifier.ready(lambda: well)
        loop = asyncio.get_running_loop()
        for _ in range(3):
            said = await loop.run_in_executor(None, manager.hear)
            assert said in ({"READY": "1"}, {"WATCHDOG": "1"})
        well = False
        await asyncio.sleep(0)
        manager.heard()
        await asyncio.sleep(0.2)
        assert not manager.heard()
        well = True
        assert await loop.run_in_executor(None, manager.hear) == {"WATCHDOG": "1"}
        notifier.close()

    asyncio.run(scene())


def fill(address: str, senders: list[socket.socket]) -> bool:
    """Send all that one more sender can; whether that was anything."""
    senders.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    senders[-1].setblocking(False)
    for sent in count():
        try:
            senders[-1].sendto(b"X=1", address)
        except BlockingIOError:
            return sent > 0
    raise AssertionError("a queue has an end")


def test_a_full_queue_loses_nothing_that_counts(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "RETRY_S", 0.01)

    async def scene() -> None:
        full = (
            manager.address.replace("@", "\0", 1) if manager.address[0] == "@" else manager.address
        )
        floods: list[socket.socket] = []
        while fill(full, floods):  # as long as a new sender still gets something in
            pass
        notifier = Notifier(manager.address, 0)
        notifier.status("one")
        notifier.ready(lambda: True)
        notifier.status("two")
        loop = asyncio.get_running_loop()
        while (said := await loop.run_in_executor(None, manager.hear)) == {"X": "1"}:
            pass
        assert said == {"STATUS": "two", "READY": "1"}
        notifier.close()
        for flood in floods:
            flood.close()

    asyncio.run(scene())


def test_nobody_there(tmp_path: Path) -> None:
    async def scene() -> None:
        for address in ("", str(tmp_path / "none"), "@", "/", "vsock:2:9", f"@{'x' * 300}"):
            notifier = Notifier(address, 0.02)
            notifier.ready(lambda: True)
            notifier.status("so what")
            await asyncio.sleep(0.03)
            notifier.close()

    asyncio.run(scene())


def test_a_long_status_is_cut(manager: Manager) -> None:
    notifier = Notifier(manager.address, 0)
    notifier.status("x" * 1000)
    notifier.close()
    assert len(manager.hear()["STATUS"]) == notify.MAX_STATUS_CHARS


def environ(**more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": "/run/s", "WATCHDOG_USEC": "4000000", "PATH": "/bin", **more}


@pytest.mark.parametrize(
    ("given", "half_s"),
    [
        (environ(), 2.0),
        (environ(WATCHDOG_PID=str(os.getpid())), 2.0),
        (environ(WATCHDOG_PID="1"), 0.0),
        (environ(WATCHDOG_USEC="soon"), 0.0),
        (environ(WATCHDOG_USEC="²"), 0.0),
        (environ(NOTIFY_SOCKET=""), 0.0),
    ],
)
def test_the_variables_are_taken_out(given: dict[str, str], half_s: float) -> None:
    assert take(given).half_s == half_s
    assert given == {"PATH": "/bin"}
