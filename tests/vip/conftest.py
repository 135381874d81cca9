"""A network of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vip.network import Network, networks


@pytest.fixture
def network() -> Iterator[Network]:
    with networks() as made:
        yield made
