"""A rig for each test, a fair judge of its history, and the certainty that nothing is left."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.member.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Whatever the test was about: no overlap, epochs that grow, and nothing left behind."""
    if sys.platform != "linux":
        pytest.skip("looks at processes in /proc, and needs all of 127.0.0.0/8")
    rig = Rig(tmp_path, uuid.uuid4().hex)
    try:
        yield rig
        rig.finish()
        rig.judge()
    finally:
        rig.destroy()
