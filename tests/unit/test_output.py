"""The pipes of kept output: everything goes through, and no descriptor stays open."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from ha_heartbeat.shell.output import Output
from tests.guardian.rig import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_is_printed_is_carried_on_and_kept(capfd: pytest.CaptureFixture[str]) -> None:
    before = descriptors()
    output = Output(4)
    output.start()
    stdout, _ = output.streams
    os.write(stdout, b"hello")
    output.close()
    wait_for(lambda: descriptors() == before)
    assert output.cut() == "ello"
    assert capfd.readouterr().out == "hello"


def test_without_a_thread_it_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before, start, started = descriptors(), threading.Thread.start, 0

    def one_only(thread: threading.Thread) -> None:
        nonlocal started
        started += 1
        if started > 1:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", one_only)
    with pytest.raises(RuntimeError):
        Output(4).start()
    wait_for(lambda: descriptors() == before)
