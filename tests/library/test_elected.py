"""One term of an application: who has it, how it is lost, and by when the work has ended."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import ha_heartbeat
from ha_heartbeat import ConfigError, StartError, Term, TermLostError, elected
from tests.library.conftest import Pair
from tests.member.rig import ROOT, wait_for

PATIENCE_S = 30.0


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """A directory for a witness's file."""
    made = tmp_path / "share"
    made.mkdir()
    return made


# -- being elected ---------------------------------------------------------------------------------


def test_one_after_the_other(pair: Pair) -> None:
    async def scene() -> list[tuple[str, int]]:
        history: list[tuple[str, int]] = []
        inside = 0

        async def work(number: int) -> None:
            nonlocal inside
            async with elected(**pair(number)) as term:
                inside += 1
                assert inside == 1
                history.append((term.member, term.epoch))
                assert 0 < term.remaining_s < 1.5
                assert abs(term.deadline_s - term.remaining_s - ha_heartbeat.now_s()) < 0.5
                assert term.environ["HA_HEARTBEAT_EPOCH"] == str(term.epoch)
                assert term.run == f"{term.epoch}.1"
                assert (term.service, term.peer) == ("default", pair(number)["remote"])
                await asyncio.sleep(0.05)
                term.raise_if_lost()
                inside -= 1

        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(work(1), work(2))
        return history

    history = asyncio.run(scene())
    assert sorted(member for member, _ in history) == ["m1", "m2"]
    assert history[0][1] < history[1][1]


def test_without_an_event_loop(pair: Pair) -> None:
    with elected(**pair(1)) as term:
        first, deadline_s = term.epoch, term.deadline_s
        wait_for(lambda: term.deadline_s > deadline_s, "the lease to be renewed")
        assert not term.lost.is_set()
    with elected(**pair(1)) as term:
        assert term.epoch > first


def test_a_loop_that_is_blocked_keeps_its_term(pair: Pair) -> None:
    """As a command that hangs does: the member has a thread of its own."""

    async def scene() -> None:
        async with elected(**pair(1)) as term:
            time.sleep(2)
            assert not term.lost.is_set()
            assert term.remaining_s > 0

    asyncio.run(scene())


def port_is_free(address: str) -> bool:
    """Whether nobody listens there; without a connection, which would be a visitor."""
    host, port = address.split(":")
    packed = int.from_bytes(socket.inet_aton(host), sys.byteorder)
    listening = f" {packed:08X}:{int(port):04X} 00000000:0000 0A "
    return listening not in Path("/proc/net/tcp").read_text()


def test_given_up_while_it_waits(pair: Pair) -> None:
    async def scene() -> None:
        async with elected(**pair(1)):

            async def wait() -> None:
                async with elected(**pair(2)):
                    raise AssertionError("two are elected")

            waiting = asyncio.create_task(wait())
            await asyncio.to_thread(
                wait_for, lambda: not port_is_free(pair(2)["local"]), "the second to listen"
            )
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert port_is_free(pair(2)["local"])

    asyncio.run(scene())


def test_given_up_at_any_moment(pair: Pair) -> None:
    """Before it listens, while it looks, and when it is elected already."""

    async def enter() -> None:
        async with elected(**pair(1)):
            await asyncio.sleep(PATIENCE_S)

    async def scene() -> None:
        for turns in range(8):
            waiting = asyncio.create_task(enter())
            await asyncio.sleep(0.004 * turns)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()
            assert port_is_free(pair(1)["local"])

    asyncio.run(scene())


def test_what_is_raised_within_comes_out(pair: Pair) -> None:
    async def scene() -> None:
        async with elected(**pair(1)):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(scene())
    with pytest.raises(KeyError, match="mine"), elected(**pair(1)):
        raise KeyError("mine")


def test_a_cancellation_from_outside_stays_one(pair: Pair) -> None:
    async def scene() -> None:
        inside = asyncio.Event()

        async def work() -> None:
            async with elected(**pair(1)):
                inside.set()
                await asyncio.sleep(PATIENCE_S)

        task = asyncio.create_task(work())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert port_is_free(pair(1)["local"])

    asyncio.run(scene())


def test_nothing_is_left_of_it(pair: Pair) -> None:
    def one() -> None:
        with elected(**pair(1), on_overrun="exit"):
            pass

    one()
    before = set(os.listdir("/proc/self/fd")), threading.active_count()
    timers = Path("/proc/self/timers").read_text()
    for _ in range(3):
        one()
    assert (set(os.listdir("/proc/self/fd")), threading.active_count()) == before
    assert Path("/proc/self/timers").read_text() == timers


# -- what cannot be --------------------------------------------------------------------------------


def test_options_that_cannot_be_used(pair: Pair) -> None:
    with pytest.raises(ConfigError, match=r"^local: 'm1' has no port"):
        elected(local="m1")
    with pytest.raises(ConfigError, match=r"^interval_test_s: '-1' is out of range"):
        elected(**pair(1, interval_test_s=-1))
    with pytest.raises(ConfigError, match=r"^takeover: 'maybe' is unknown"):
        elected(**pair(1, takeover="maybe"))
    with pytest.raises(ConfigError, match=r"^on_overrun: 'panic' is unknown"):
        elected(on_overrun="panic")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="leaves after the next check"):
        elected(**pair(1, witness="witness://m3:1", stop_timeout_s=10))
    with pytest.raises(TypeError, match="there is no option 'retries'"):
        elected(**pair(1, retries=3))
    elected(**pair(1, fence=None))


def test_the_port_is_taken(pair: Pair) -> None:
    host, port = pair(1)["local"].split(":")
    with socket.create_server((host, int(port))):
        once = elected(**pair(1, wait_for_serversocket_s=0))
        with pytest.raises(StartError, match="is held"), once:
            raise AssertionError("elected without a port")
        with pytest.raises(RuntimeError, match="entered once"), once:
            raise AssertionError("entered twice")

        async def scene() -> None:
            async with elected(**pair(1, wait_for_serversocket_s=0)):
                raise AssertionError("elected without a port")

        with pytest.raises(StartError, match="is held"):
            asyncio.run(scene())


# -- losing it -------------------------------------------------------------------------------------


def witnessed(pair: Pair, share: Path) -> dict[str, object]:
    """Without a peer, the witness's vote is the whole right to work."""
    return dict(pair(1, witness=f"file://{share}/web", stop_timeout_s=0.3))


def take_away(share: Path) -> None:
    share.rename(share.with_name("gone"))


def test_lost_in_time(pair: Pair, share: Path, caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[Term, float]] = []

    async def scene() -> float:
        async with elected(
            **witnessed(pair, share),  # type: ignore[arg-type]
            on_lost=lambda term: told.append((term, term.remaining_s)),
        ) as term:
            take_away(share)
            try:
                await asyncio.sleep(PATIENCE_S)
            finally:
                assert term.lost.is_set()
                remaining_s = term.remaining_s
                with pytest.raises(TermLostError, match="not renewed in time"):
                    term.raise_if_lost()
        return remaining_s

    with (
        caplog.at_level(logging.INFO, "ha_heartbeat"),
        pytest.raises(TermLostError, match="not renewed in time"),
    ):
        asyncio.run(scene())
    ((term, remaining_s),) = told
    assert 0 < remaining_s < 0.5
    assert term.reason == "its lease was not renewed in time"
    assert any("Becoming worker" in record.message for record in caplog.records)
    assert [record.ha_epoch for record in caplog.records if "Becoming" in record.message] == [  # type: ignore[attr-defined]
        term.epoch
    ]


def test_lost_without_an_event_loop_and_elected_again(pair: Pair, share: Path) -> None:
    with elected(**witnessed(pair, share)) as term:  # type: ignore[arg-type]
        take_away(share)
        assert term.lost.wait(PATIENCE_S)
        late: list[Term] = []
        term.on_lost(late.append)
        wait_for(lambda: late == [term], "a callback that came late")
        first = term.epoch
    share.with_name("gone").rename(share)
    with elected(**witnessed(pair, share)) as term:  # type: ignore[arg-type]
        assert term.epoch > first


def test_a_callback_that_fails_is_logged(
    pair: Pair, share: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with elected(**witnessed(pair, share), on_lost=lambda _term: 1 / 0) as term:  # type: ignore[arg-type]
        take_away(share)
        assert term.lost.wait(PATIENCE_S)
        wait_for(lambda: "ZeroDivisionError" in caplog.text, "the failure in the log")


def test_a_hand_over_waits_for_the_block(pair: Pair) -> None:
    """The preferred member comes back, and is not elected before the work here has ended."""

    async def scene() -> None:
        elsewhere = asyncio.Event()

        async def preferred() -> None:
            async with elected(**pair(2, takeover="proof")):
                elsewhere.set()

        others: list[asyncio.Task[None]] = []

        async def given_up() -> None:
            async with elected(**pair(1, fallback=True, takeover="proof")) as term:
                others.append(asyncio.create_task(preferred()))
                try:
                    await asyncio.sleep(PATIENCE_S)
                except asyncio.CancelledError:
                    assert term.lost.is_set()
                    await asyncio.sleep(0.3)
                    assert not elsewhere.is_set()
                    raise

        with pytest.raises(TermLostError, match="handed over to the preferred member"):
            await given_up()
        async with asyncio.timeout(PATIENCE_S):
            await others[0]
        assert elsewhere.is_set()

    asyncio.run(scene())


def test_work_beyond_the_deadline_is_said(
    pair: Pair, share: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with elected(**witnessed(pair, share)) as term:  # type: ignore[arg-type]
        take_away(share)
        wait_for(lambda: "has not ended its term" in caplog.text, "the error")
        assert term.remaining_s == 0
    assert caplog.text.count("has not ended its term") == 1


def test_an_end_of_the_member_is_a_loss(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in the core ends the member; the work must not go on without one."""
    from ha_heartbeat.core.machine import Core

    async def scene() -> None:
        async with elected(**pair(1)):
            monkeypatch.setattr(Core, "step", lambda *_: 1 / 0)
            await asyncio.sleep(PATIENCE_S)

    with pytest.raises(TermLostError, match="the member has ended"):
        asyncio.run(scene())
    assert "internal error" in caplog.text


# -- processes -------------------------------------------------------------------------------------

WORKS = """
import json, logging, sys, time, ha_heartbeat
logging.basicConfig(level=logging.INFO)
options = json.loads(sys.argv[1])
with ha_heartbeat.elected(**options) as term:
    print(term.epoch, term.deadline_s, flush=True)
    while True:
        {work}
"""


def process(options: object, work: str = "time.sleep(0.01)") -> subprocess.Popen[str]:
    import json

    return subprocess.Popen(
        [sys.executable, "-c", WORKS.format(work=work), json.dumps(options)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def elected_in(started: subprocess.Popen[str]) -> int:
    assert started.stdout is not None
    line = started.stdout.readline()
    assert line, started.communicate()[1]
    return int(line.split()[0])


def test_a_process_that_is_killed_is_replaced_at_once(pair: Pair) -> None:
    with process(pair(1, takeover="proof")) as one:
        first = elected_in(one)
        with process(pair(2, takeover="proof")) as two:
            try:
                wait_for(lambda: not port_is_free(pair(2)["local"]), "the second to listen")
                time.sleep(0.3)
                one.kill()
                assert elected_in(two) > first
            finally:
                one.kill()
                two.kill()


@pytest.mark.parametrize("work", ["time.sleep(0.01)", "sum(range(10**6))"])
def test_a_process_that_does_not_stop_ends_by_its_deadline(
    pair: Pair, share: Path, work: str
) -> None:
    options = {**witnessed(pair, share), "on_overrun": "exit"}
    with process(options, work) as one:
        try:
            elected_in(one)
            take_away(share)
            _, errors = one.communicate(timeout=PATIENCE_S)
        finally:
            one.kill()
    if one.returncode == -signal.SIGKILL:  # no thread of it came to that in time
        assert work != "time.sleep(0.01)"
        return
    assert one.returncode == 70
    assert "has not ended its term of epoch" in errors
    assert "this process ends" in errors


def test_a_process_that_stands_still_is_killed_by_the_kernel(pair: Pair, share: Path) -> None:
    options = {**witnessed(pair, share), "on_overrun": "exit"}
    with process(options) as one:
        try:
            elected_in(one)
            one.send_signal(signal.SIGSTOP)
            lease_s = 1.5
            assert one.wait(lease_s + PATIENCE_S) == -signal.SIGKILL
        finally:
            one.kill()


def test_a_block_that_is_left_in_time_is_not_killed(pair: Pair, share: Path) -> None:
    work = """
        if term.lost.wait(0.01):
            break
time.sleep(2)
print("alive")
"""
    with process({**witnessed(pair, share), "on_overrun": "exit"}, work) as one:
        try:
            elected_in(one)
            take_away(share)
            output, _ = one.communicate(timeout=PATIENCE_S)
        finally:
            one.kill()
    assert (output, one.returncode) == ("alive\n", 0)
