"""Rigs for each test, a fair judge of their histories, and the certainty that nothing is left."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.member.rig import Rig


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[Callable[[int], list[Rig]]]:
    """Makes rigs that are strangers to each other, for what can be waited for side by side.

    Whatever the test was about: no overlap, epochs that grow, and nothing left behind.
    """
    if sys.platform != "linux":
        pytest.skip("looks at processes in /proc, and needs all of 127.0.0.0/8")
    made: list[Rig] = []

    def make(count: int) -> list[Rig]:
        for _ in range(count):
            place = tmp_path / f"rig-{len(made)}"
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
    finally:
        for rig in made:
            rig.destroy()


@pytest.fixture
def rig(rigs: Callable[[int], list[Rig]]) -> Rig:
    """One of them."""
    return rigs(1)[0]
