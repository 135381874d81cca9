"""Many guardians of one keeper: each has its own tree; what strikes one strikes no other."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from ha_heartbeat.guardian.clock import now_ns
from ha_heartbeat.guardian.protocol import (
    Cleared,
    Ended,
    Expired,
    Gone,
    Leftovers,
    Ready,
    Started,
)
from ha_heartbeat.shell import guardians as module
from ha_heartbeat.shell import keeper as keepers
from ha_heartbeat.shell.guardian import Event, Lost
from ha_heartbeat.shell.guardians import Guardians, LazyGuardian
from tests.guardian.rig import (
    PATIENCE_S,
    alive,
    await_end,
    lease,
    linux_only,
    listen,
    marked,
    orphans,
    pid_from,
    refused,
    shell,
)

pytestmark = [linux_only, pytest.mark.usefixtures("mark", "no_subreaper")]
T = TypeVar("T")


class Service:
    """One service's runner, and what it was told."""

    def __init__(self, guardians: Guardians) -> None:
        self.heard: asyncio.Queue[Event] = asyncio.Queue()
        self.runner = guardians.make_runner(
            stop_timeout_s=5, margin_s=0.1, on_event=self.heard.put_nowait
        )

    async def expect(self, kind: type[T]) -> T:
        while True:
            event = await asyncio.wait_for(self.heard.get(), PATIENCE_S)
            if isinstance(event, kind):
                return event
            assert isinstance(event, Leftovers | Ready), event

    async def run(self, line: str, run: int = 1, **times: int) -> int:
        self.runner.run(shell(line, run, **times))
        return (await self.expect(Started)).pid

    @property
    def pid(self) -> int:
        assert self.runner.pid is not None
        return self.runner.pid


def play(
    scene: Callable[[Guardians, list[Service]], Awaitable[None]],
    number: int = 3,
    variant: str | None = None,
) -> None:
    """Run a scene with that many services, and end them in the end."""

    async def whole() -> None:
        with listen() as listener:
            port = listener.getsockname()[1]
            guardians = Guardians(listeners=[listener.fileno()], variant=variant)
            await guardians.start()
            services = [Service(guardians) for _ in range(number)]
            try:
                for service in services:
                    await service.runner.start()
                await scene(guardians, services)
            finally:
                for service in services:
                    await asyncio.wait_for(service.runner.end(), PATIENCE_S)
                await asyncio.wait_for(guardians.end(), PATIENCE_S)
        assert refused(port)

    asyncio.run(whole())


def test_each_service_has_its_runs_and_its_end() -> None:
    async def scene(_: Guardians, services: list[Service]) -> None:
        for code, service in enumerate(services):
            await service.run(f"exit {code}")
            assert (await service.expect(Ended)).status == code
        runs = [await service.run("exec sleep 600", 2) for service in services]
        services[0].runner.stop(60)
        await services[0].expect(Ended)
        await services[0].expect(Gone)
        assert list(map(alive, runs)) == [False, True, True]

    play(scene)


def test_an_idle_service_has_no_process_and_nothing_to_stop(
    monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    monkeypatch.setattr(module, "LINGER_S", 0.05)

    async def scene(guardians: Guardians, services: list[Service]) -> None:
        runner = services[0].runner
        runner.extend(1, 2)
        for order, answer in (
            (lambda: runner.stop(1), Gone),
            (runner.kill, Gone),
            (lambda: runner.cut(1), Cleared),
        ):
            order()
            await services[0].expect(answer)
        assert runner.pid is None
        assert marked(mark) == [guardians.keeper_pid]
        for run in (1, 2):
            await services[0].run("exec sleep 600", run)
            runner.kill()
            await services[0].expect(Ended)
            await services[0].expect(Gone)
            while runner.pid is not None:
                await asyncio.sleep(0.01)
        # One that comes while the guardian leaves has another.
        await services[0].run("true", 3)
        await services[0].expect(Ended)
        runner.kill()
        await services[0].expect(Gone)
        while getattr(runner, "_changing") is None:  # noqa: B009
            await asyncio.sleep(0.001)
        await services[0].run("true", 4)
        await services[0].expect(Ended)

    play(scene, 1)


def test_what_is_begun_as_a_tree_ends_keeps_the_guardian(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is begun in the very call that tells of the end, or was on its way before."""
    monkeypatch.setattr(module, "LINGER_S", 0.05)

    async def scene(_: Guardians, services: list[Service]) -> None:
        at_once, before, idle = services

        def begin(event: Event) -> None:
            at_once.heard.put_nowait(event)
            if isinstance(event, Gone):
                at_once.runner.run(shell("exec sleep 600", 2))

        monkeypatch.setattr(at_once.runner, "_on_event", begin)
        runs = [await service.run("exec sleep 600") for service in services]
        pids = [service.pid for service in services]
        at_once.runner.kill()
        await at_once.expect(Ended)
        await at_once.expect(Gone)
        runs[0] = (await at_once.expect(Started)).pid
        assert isinstance(before.runner, LazyGuardian)
        assert before.runner._guardian is not None
        before.runner._guardian._hear(Expired(0, now_ns()))
        await before.expect(Expired)
        idle.runner.kill()  # the last one, so the times of the others are over when its own is
        while idle.runner.pid is not None:
            await asyncio.sleep(0.01)
        for service, run, pid in zip((at_once, before), runs, pids, strict=False):
            assert service.pid == pid
            assert alive(run)
            service.runner.kill()
            await service.expect(Ended)
            await service.expect(Gone)

    play(scene)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_guardian_lost_or_late_takes_its_tree_along_and_no_other(
    how: signal.Signals, tmp_path: Path
) -> None:
    async def scene(guardians: Guardians, services: list[Service]) -> None:
        lines = [
            f"setsid sleep 600 & echo $! > {tmp_path}/{number}; exec sleep 600"
            for number in range(len(services))
        ]
        times = lease(0.6, 0.8) if how == signal.SIGSTOP else {}
        keeper = guardians.keeper_pid
        trees = []
        for number, service in enumerate(services):
            main = await service.run(lines[number], **(times if number == 0 else {}))
            trees.append((main, pid_from(tmp_path / str(number))))
        pids = [service.pid for service in services]
        os.kill(pids[0], how)
        await services[0].expect(Lost)
        assert not any(map(alive, trees[0]))
        assert (await services[0].expect(Ready)).pid != pids[0]
        for service, pid, tree in zip(services[1:], pids[1:], trees[1:], strict=True):
            assert service.pid == pid
            assert all(map(alive, tree))
            assert not any(isinstance(event, Lost) for event in list(service.heard._queue))  # type: ignore[attr-defined]
        assert guardians.keeper_pid == keeper
        await services[0].run("exec sleep 600", 2)

    play(scene)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_keeper_killed_loses_all_trees_and_is_replaced_and_one_stopped_loses_none(
    how: signal.Signals,
) -> None:
    async def scene(guardians: Guardians, services: list[Service]) -> None:
        runs = [await service.run("setsid sleep 600 & exec sleep 600") for service in services]
        keeper = guardians.keeper_pid
        assert keeper is not None
        os.kill(keeper, how)
        if how == signal.SIGKILL:
            for service, run in zip(services, runs, strict=True):
                while isinstance(await service.heard.get(), Ready | Started | Ended | Leftovers):
                    pass
                assert not alive(run)
            for service in services:
                await service.expect(Ready)
                await service.run("exec sleep 600", 2)
            assert guardians.keeper_pid != keeper
        else:
            services[0].runner.kill()
            await services[0].expect(Ended)
            assert list(map(alive, runs)) == [False, True, True]
            os.kill(keeper, signal.SIGCONT)

    play(scene)


@pytest.mark.parametrize("answers", [False, True])
def test_a_keeper_killed_after_its_guardian_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answers: bool
) -> None:
    """Whether it has still answered or not, what is left is killed as soon as it is gone."""
    monkeypatch.setattr(keepers, "_ANSWER_S", 2 * PATIENCE_S)

    async def scene(guardians: Guardians, services: list[Service]) -> None:
        line = f"setsid sleep 600 & echo $! > {tmp_path}/pid; exec sleep 600"
        tree = await services[0].run(line), pid_from(tmp_path / "pid")
        keeper, handle = guardians.keeper_pid, guardians._keeper
        assert keeper is not None
        os.kill(keeper, signal.SIGSTOP)  # so that the end of the guardian is seen first
        os.kill(services[0].pid, signal.SIGKILL)
        while not handle._pings:
            await asyncio.sleep(0.001)
        if answers:
            handle._take("pong", next(iter(handle._pings)), "")
            await asyncio.sleep(0)
        os.kill(keeper, signal.SIGKILL)
        await services[0].expect(Lost)
        assert not any(map(alive, tree))

    play(scene, 1)


def test_orphans_that_have_ended_are_reaped_and_no_keeper() -> None:
    async def scene(guardians: Guardians, services: list[Service]) -> None:
        left = orphans()
        keeper = guardians.keeper_pid
        assert keeper is not None
        os.kill(keeper, signal.SIGKILL)
        await_end(keeper)
        services[0].runner.reap()
        for pid in left:
            with pytest.raises(ChildProcessError):
                await_end(pid)
        await_end(keeper)

    play(scene, 1)


def test_all_start_at_once() -> None:
    async def scene(_: Guardians, services: list[Service]) -> None:
        for service in services:
            service.runner.run(shell("exec sleep 600"))
        for service in services:
            await service.expect(Started)

    play(scene, 60)


def test_without_a_keeper_each_service_has_a_guardian_process() -> None:
    async def scene(guardians: Guardians, services: list[Service]) -> None:
        assert guardians.keeper_pid is None
        for service in services:
            await service.run("exit 5")
            assert (await service.expect(Ended)).status == 5

    play(scene, 2, "posix")
