"""What keeps a member from starting: one sentence on stderr, exit status 1, and soon."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import pytest

from ha_heartbeat.config import Address
from ha_heartbeat.shell.state import StateFile

pytestmark = pytest.mark.skipif(
    find_spec("ha_heartbeat.shell.member") is None,
    reason="there is no ha_heartbeat.shell.member yet",
)

Refused: TypeAlias = Callable[..., str]
AT_ONCE_S = 60.0


@pytest.fixture
def ports() -> tuple[int, int]:
    """Two ports that nothing listens on now."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


@pytest.fixture
def here(ports: tuple[int, int], tmp_path: Path) -> list[str]:
    """Options of a member that would start if nothing else was wrong."""
    return [
        *("-l", f"127.0.0.1:{ports[0]}"),
        *("-r", f"127.0.0.1:{ports[1]}"),
        *("--state-dir", str(tmp_path / "state")),
    ]


@pytest.fixture
def soon() -> Iterator[None]:
    """The test ends at once, without any of the waiting that a network invites to."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < AT_ONCE_S


@pytest.mark.usefixtures("soon")
def test_the_port_is_in_use(refused: Refused, here: list[str], ports: tuple[int, int]) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", ports[0]))
        other.listen()
        result = refused(*here, "-w", "0", "true", status=1)
    assert f"127.0.0.1:{ports[0]}" in result
    assert "is held" in result


@pytest.mark.usefixtures("soon")
def test_the_state_directory_is_below_a_file(
    refused: Refused, here: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file" / "state")
    sentence = refused(*here, "--state-dir", place, "true", status=1)
    assert f"the state directory {place}" in sentence
    assert "--state-dir" in sentence


@pytest.mark.usefixtures("soon")
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc")
def test_the_state_directory_cannot_be_made(refused: Refused, here: list[str]) -> None:
    assert "the state directory /proc/" in refused(
        *here, "--state-dir", "/proc/x", "true", status=1
    )


@pytest.mark.usefixtures("soon")
def test_the_state_file_is_damaged(
    refused: Refused, here: list[str], ports: tuple[int, int], tmp_path: Path
) -> None:
    local = Address("127.0.0.1", ports[0])
    kept = StateFile.open(str(tmp_path / "state"), "default", local, "m1")
    kept.save(7, 9)
    path = Path(kept.path)
    for damage in (b"", path.read_bytes()[:-20], path.read_bytes().replace(b"7", b"8")):
        path.write_bytes(damage)
        assert f"the state file {path} " in refused(*here, "true", status=1)
        assert path.read_bytes() == damage


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("option", ["-l", "-r"])
def test_a_name_that_does_not_resolve(refused: Refused, here: list[str], option: str) -> None:
    sentence = refused(*here, option, "no-such-host.invalid:22221", "true", status=1)
    assert "no-such-host.invalid" in sentence


@pytest.mark.usefixtures("soon")
def test_an_address_of_another_machine(refused: Refused, here: list[str]) -> None:
    sentence = refused(*here, "-l", "192.0.2.1:22221", "-w", "0", "true", status=1)
    assert "192.0.2.1:22221" in sentence


def test_a_member_with_a_broken_stderr_runs(
    checkout: Path, here: list[str], tmp_path: Path
) -> None:
    """The peer is refused, so the member becomes worker and runs; then it is told to stop."""
    reader, writer = os.pipe()
    os.close(reader)
    ran = tmp_path / "ran"
    member = subprocess.Popen(
        [sys.executable, str(checkout / "ha_heartbeat.py"), *here, "-v", f"echo x > '{ran}'"],
        stderr=writer,
    )
    os.close(writer)
    try:
        deadline = time.monotonic() + AT_ONCE_S
        while not ran.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert ran.exists()
        assert member.poll() is None
        member.terminate()
        assert member.wait(AT_ONCE_S) == 0
    finally:
        member.kill()
        member.wait()
