"""Addresses that nobody else uses, and a place for state."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ha_heartbeat.library.election import Options

Pair = Callable[..., Options]
"""The options of member 1 or 2 of a pair; more can be given by name."""


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    if sys.platform != "linux":
        pytest.skip("needs all of 127.0.0.0/8")
    seed = random.Random(os.urandom(8))
    net = f"127.{seed.randrange(2, 250)}.{seed.randrange(256)}"

    def options(number: int, **more: object) -> Options:
        addresses = [f"{net}.{n}:{22220 + n}" for n in (number, 3 - number)]
        made = {
            "local": addresses[0],
            "remote": addresses[1],
            "member": f"m{number}",
            "state_dir": str(tmp_path / "state"),
            "interval_test_s": 0.5,
            "stop_timeout_s": 2,
            **more,
        }
        if "witness" in more:
            del made["remote"]
        return made  # type: ignore[return-value]

    return options
