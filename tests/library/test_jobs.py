"""Periodic jobs: on one of two, from start to start, and what a job does to the others."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from ha_heartbeat import ConfigError, PeriodicJobs, Term
from tests.library.conftest import Pair
from tests.member.rig import wait_for

PATIENCE_S = 30.0


async def until(condition: object, what: str) -> None:
    assert callable(condition)
    await asyncio.to_thread(wait_for, condition, what)


def test_on_one_of_two(pair: Pair) -> None:
    runs: list[tuple[str, int]] = []

    def side(number: int) -> PeriodicJobs:
        jobs = PeriodicJobs(**pair(number))

        @jobs.every(0.02)
        async def job(term: Term) -> None:
            runs.append((term.member, term.epoch))

        return jobs

    async def scene() -> None:
        tasks = {f"m{number}": asyncio.create_task(side(number).run()) for number in (1, 2)}
        await until(lambda: len(runs) > 3, "a few runs")
        first = runs[0][0]
        assert {member for member, _ in runs} == {first}
        tasks.pop(first).cancel()
        await until(lambda: runs[-1][0] != first, "the other to run")
        for task in tasks.values():
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(scene())
    changes = [after for before, after in pairwise(runs) if before[0] != after[0]]
    assert len(changes) == 1
    assert changes[0][1] > runs[0][1]


def test_each_has_its_own_pace_and_failures(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    runs: Counter[str] = Counter()
    jobs = PeriodicJobs(**pair(1))

    @jobs.every(0.01)
    async def failing(_term: Term) -> None:
        runs["failing"] += 1
        raise ValueError("no")

    @jobs.every(0.01)
    def blocking(_term: Term) -> None:
        assert threading.current_thread().name.startswith("ha-heartbeat-job")
        time.sleep(0.05)
        runs["blocking"] += 1

    @jobs.every(1000)
    def seldom(_term: Term) -> None:
        runs["seldom"] += 1

    async def scene() -> None:
        task = asyncio.create_task(jobs.run())
        await until(lambda: runs["blocking"] >= 3 and runs["failing"] >= 3, "all to run")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
    assert runs["seldom"] == 1
    assert runs["failing"] > runs["blocking"]
    assert "the job test_each_has_its_own_pace_and_failures.<locals>.failing failed" in caplog.text


def test_a_term_is_lost_and_another_comes(pair: Pair, tmp_path: Path) -> None:
    """A plain function cannot be interrupted: the role is kept until it returns."""
    share = tmp_path / "share"
    share.mkdir()
    lost: list[Term] = []
    jobs = PeriodicJobs(
        **pair(1, witness=f"file://{share}/web", stop_timeout_s=0.3), on_lost=lost.append
    )
    epochs: list[int] = []
    cancelled: list[int] = []
    returned: list[int] = []

    @jobs.every(0.01)
    async def waits(term: Term) -> None:
        epochs.append(term.epoch)
        try:
            await asyncio.sleep(PATIENCE_S)
        except asyncio.CancelledError:
            cancelled.append(term.epoch)
            raise

    @jobs.every(0.01)
    def looks(term: Term) -> None:
        term.lost.wait(PATIENCE_S)
        time.sleep(0.1)
        returned.append(term.epoch)

    async def scene() -> None:
        task = asyncio.create_task(jobs.run())
        await until(lambda: epochs, "the first term")
        share.rename(tmp_path / "gone")
        await until(lambda: returned, "its end")
        (tmp_path / "gone").rename(share)
        await until(lambda: len(epochs) == 2, "the second term")
        task.cancel()
        share.rename(tmp_path / "gone")  # so that its lease ends, and `looks` with it
        await asyncio.wait([task])

    asyncio.run(scene())
    assert epochs[0] < epochs[1]
    assert cancelled == returned == epochs
    assert [term.epoch for term in lost] == epochs


def test_what_cannot_be(pair: Pair) -> None:
    with pytest.raises(ConfigError, match=r"^check_count"):
        PeriodicJobs(**pair(1, check_count=0))
    jobs = PeriodicJobs(**pair(1))
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="out of range"):
            jobs.every(seconds)
