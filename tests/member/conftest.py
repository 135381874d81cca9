"""Rigs for each test, a fair judge of their histories, and the certainty that nothing is left.

Tests that mostly wait are run a few at a time, if their module is marked `side_by_side`: the first
of them starts all, and each waits for its own. Nothing else about them is different. A module may
have a `rigs_in` of its own.
"""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.member.rig import Rig

AT_ONCE = 4
"""How many tests run at the same time; each has two or three members, which need their leases."""

MakeRigs: TypeAlias = Callable[[int], list[Rig]]
Results: TypeAlias = dict[str, Future[None]]
RESULTS = pytest.StashKey[dict[str, Results]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "side_by_side: may run while other such tests do")


@contextlib.contextmanager
def rigs_in(top: Path) -> Iterator[MakeRigs]:
    """Makes rigs that are strangers to each other.

    Whatever the test was about: no overlap, epochs that grow, and nothing left behind.
    """
    if sys.platform != "linux":
        pytest.skip("looks at processes in /proc, and needs all of 127.0.0.0/8")
    made: list[Rig] = []

    def make(count: int) -> list[Rig]:
        for _ in range(count):
            place = top / f"rig-{len(made)}"
            place.mkdir()
            made.append(Rig(place, uuid.uuid4().hex))
        return made[-count:]

    try:
        yield make
        for rig in made:
            rig.ask_to_end()
        for rig in made:
            rig.finish()
            rig.judge()
    except BaseException as error:
        for rig in made:
            error.add_note(rig.logs())
        raise
    finally:
        for rig in made:
            rig.destroy()


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[MakeRigs]:
    """For what can be waited for side by side within a test."""
    with rigs_in(tmp_path) as make:
        yield make


@pytest.fixture
def rig(rigs: MakeRigs) -> Rig:
    """One of them."""
    return rigs(1)[0]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not _is_one_of_many(pyfuncitem):
        return None
    started = pyfuncitem.session.stash.setdefault(RESULTS, {})
    name = pyfuncitem.module.__name__
    if name not in started:
        started[name] = _start_all(pyfuncitem)
    started[name][pyfuncitem.nodeid].result()
    return True


def _is_one_of_many(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and item.get_closest_marker("side_by_side") is not None


def _start_all(first: pytest.Function) -> Results:
    """Start whatever of the module of this test is going to be run."""
    factory: pytest.TempPathFactory = first._request.getfixturevalue("tmp_path_factory")
    pool = ThreadPoolExecutor(AT_ONCE)
    found = {
        item.nodeid: pool.submit(_run, item, factory.mktemp(item.name[:30]))
        for item in first.session.items
        if _is_one_of_many(item)
        and isinstance(item, pytest.Function)
        and item.module is first.module
    }
    pool.shutdown(wait=False)
    return found


def _run(item: pytest.Function, place: Path) -> None:
    make_rigs = getattr(item.module, "rigs_in", rigs_in)
    with make_rigs(place) as make:
        arguments: dict[str, Any] = dict(item.callspec.params) if hasattr(item, "callspec") else {}
        names = item._fixtureinfo.argnames
        if "rigs" in names:
            arguments["rigs"] = make
        if "rig" in names:
            arguments["rig"] = make(1)[0]
        item.obj(**arguments)
