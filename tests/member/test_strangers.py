"""What is at the peer's address, or comes to ours, and is no peer."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.member import peers
from tests.member.rig import Member, Rig, holds_for, wait_for

QUICK = ("-t", "0.2", "--check-count", "3")
LEASE_S = 0.6


def resident_kib(member: Member) -> int:
    status = Path(f"/proc/{member.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


@pytest.mark.parametrize("behaviours", [peers.CALM, peers.FLOODS], ids=["calm", "floods"])
def test_in_the_peers_place(
    rigs: Callable[[int], list[Rig]], behaviours: tuple[peers.Behaviour, ...]
) -> None:
    """Something holds the port and says nothing valid: that is silence, whatever it says.

    Neither is it taken for a refusal, nor does the member spin, grow, or fill its log.
    """
    with contextlib.ExitStack() as stack:
        began_s = time.monotonic()
        found = []
        for rig, behave in zip(rigs(len(behaviours)), behaviours, strict=True):
            visits = stack.enter_context(peers.at(rig.free_port(), behave))
            found.append((rig, visits, rig.member(1, *QUICK)))
        for rig, _, alone in found:
            rig.works(alone)
            assert rig.runs()[0].first_s - began_s >= LEASE_S
            assert alone.said("proves nothing, but --takeover silence") == 1
        seen = [len(visits) for _, visits, _ in found]
        holds_for(0.6, lambda: all(alone.is_worker for _, _, alone in found), "the role")
        for (_, visits, alone), before in zip(found, seen, strict=True):
            assert len(visits) - before <= 30
            assert len(alone.lines) <= 7
            assert resident_kib(alone) < 60_000
    for _, _, alone in found:
        alone.terminate()
    for _, _, alone in found:
        assert alone.ended() == 0
        assert not alone.said("fault|Traceback|internal")


@pytest.mark.side_by_side
def test_proof_never_acts_on_a_stranger(rig: Rig) -> None:
    with peers.at(rig.free_port(), peers.resets):
        alone = rig.member(1, *QUICK, "--takeover", "proof")
        alone.hears("proves nothing, and --takeover proof does not act on it")
        holds_for(2 * LEASE_S, lambda: alone.is_supervisor, "it waits")
    rig.works(alone)  # now nothing listens there
    assert alone.said("refused the connection") == 1


@pytest.mark.side_by_side
def test_what_a_web_server_is_called(rig: Rig) -> None:
    """The line names the address and what to do about it is plain."""
    with peers.at(rig.free_port(), peers.speaks_http):
        alone = rig.member(1, *QUICK, "--takeover", "proof")
        alone.hears(f"{rig.address(2)} does not speak ha-heartbeat: ")


def test_a_thousand_idle_connections(rig: Rig) -> None:
    """Opened to both members at once: the pair goes on, and no role changes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2200:
        pytest.skip("this process may not open that many files")
    worker, other = rig.pair("-t", "0.5", "--check-count", "8")
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2200), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for number in (1, 2):
            host, port = rig.address(number).split(":")
            for _ in range(1000):
                stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
        holds_for(1.5, lambda: worker.is_worker and other.is_supervisor, "the roles")
        assert len(rig.runs()) == 1
        worker.kill()  # and a takeover is as good as ever
        rig.works(other)
    assert other.said("refused the connection") == 1


@pytest.mark.side_by_side
def test_garbage_sent_to_a_member(rig: Rig) -> None:
    """It closes that connection and nothing else, and is said once."""
    worker, other = rig.pair("-t", "1")
    host, port = rig.address(int(worker.name[1])).split(":")
    for piece in (b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01", b"{}\n", peers.OBJECT, peers.FLOOD):
        for _ in range(20):
            conn = socket.create_connection((host, int(port)), timeout=30)
            with conn, contextlib.suppress(OSError):
                conn.sendall(piece)
                wait_for(lambda conn=conn: not conn.recv(65536), "it to be closed")
    assert 1 <= worker.said("was turned away") <= 3
    assert worker.is_worker
    assert other.is_supervisor
    assert len(rig.runs()) == 1
