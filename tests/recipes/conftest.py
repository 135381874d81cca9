"""Rigs for recipes that are commands, addresses for those that are programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.member.conftest import rigs_in
from tests.member.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rigs_in(tmp_path) as make:
        yield make(1)[0]
