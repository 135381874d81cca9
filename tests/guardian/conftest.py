"""A guardian for each test, and the certainty that nothing of it is left afterwards."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator

import pytest

from ha_heartbeat.guardian.linux import PR_SET_CHILD_SUBREAPER
from tests.guardian.rig import MARK, Rig, marked, settle, variants


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A word in the environment of everything that the test starts; all of it must be gone."""
    word = uuid.uuid4().hex
    monkeypatch.setenv(MARK, word)
    yield word
    left = settle(word)
    assert not left, f"processes were left behind: {left}"
    assert not marked(word)


@pytest.fixture
def no_subreaper() -> Iterator[None]:
    """What a handle makes of its process must not outlast the test: nobody here reaps orphans."""
    yield
    if sys.platform == "linux":
        from ha_heartbeat.guardian.linux import prctl

        prctl(PR_SET_CHILD_SUBREAPER, 0)


@pytest.fixture(params=variants())
def variant(request: pytest.FixtureRequest) -> str:
    """Each variant that this platform has."""
    return str(request.param)


@pytest.fixture
def rig(mark: str) -> Iterator[Callable[..., Rig]]:
    """Makes guardians; they are ended with the test."""
    made: list[Rig] = []

    def make(variant: str, stop_timeout_s: float = 5.0, **kwargs: str) -> Rig:
        made.append(Rig(variant, stop_timeout_s, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.finish()
