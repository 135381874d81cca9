"""The keeper waits for the end of its guardian, and does nothing meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the keeper is Linux's")

WATCHED_S = 0.3


def test_a_guardian_that_takes_its_time_to_end_costs_nothing() -> None:
    """Its pipe closes before it is gone: a long exit, as of a large process, or one with a core."""
    from ha_heartbeat.guardian.clock import NEVER_NS
    from ha_heartbeat.guardian.keeper import _Keeper

    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.close(writer)
    with subprocess.Popen(["sleep", "60"]) as guardian:
        pid = os.fork()
        if pid == 0:
            try:
                deadline = memoryview(bytearray(NEVER_NS.to_bytes(8, sys.byteorder))).cast("q")
                _Keeper(guardian.pid, deadline, reader, [], 5_000_000, None)._watch()
                os._exit(0)
            finally:  # or two copies of the tests would go on
                os._exit(1)
        try:
            time.sleep(WATCHED_S)
            with open(f"/proc/{pid}/schedstat") as file:
                used_s = int(file.read().split()[0]) / 1e9
        finally:
            guardian.kill()
            os.close(reader)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert used_s < WATCHED_S / 2
    assert guardian.returncode == -signal.SIGKILL
