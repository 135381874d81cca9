"""A network for each test, with a rig in it whose members have virtual addresses."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.vip.network import NetRig, Network, Watch, networks


@pytest.fixture
def network() -> Iterator[Network]:
    with networks() as made:
        yield made


@pytest.fixture
def rig(network: Network, tmp_path: Path) -> Iterator[NetRig]:
    """Whatever the test was about: no overlap of commands or addresses, and nothing left behind."""
    made = NetRig(tmp_path, uuid.uuid4().hex, network)
    watch = Watch(network)
    try:
        yield made
        made.finish()
        made.judge()
        assert not watch.wrong
    finally:
        watch.close()
        made.destroy()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """What the members said, for whoever reads why a test failed."""
    try:
        return (yield)
    except BaseException as error:
        rig = pyfuncitem.funcargs.get("rig")
        if isinstance(rig, NetRig):
            error.add_note(rig.logs())
        raise
