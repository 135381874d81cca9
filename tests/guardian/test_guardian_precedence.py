"""Guardian and keeper go before the command, which is an ordinary process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ha_heartbeat.guardian.protocol import Started
from tests.guardian.rig import Rig, linux_only, order

pytestmark = linux_only
TRY = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"


def _may_have_real_time() -> bool:
    if sys.platform != "linux" or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    return subprocess.run([sys.executable, "-c", TRY], capture_output=True).returncode == 0


def policy(pid: int) -> int:
    return os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.skipif(not _may_have_real_time(), reason="real-time priority is not permitted here")
def test_they_have_it_and_the_command_has_not(rig: Callable[..., Rig]) -> None:
    member = rig("linux")
    member.say(order(("sleep", "600")))
    run = member.expect(Started).pid
    guardian = parent_of(run)
    assert policy(guardian) == policy(parent_of(guardian)) == os.SCHED_FIFO
    assert policy(run) == os.SCHED_OTHER


@pytest.mark.skipif(not _may_have_real_time(), reason="real-time priority is not permitted here")
def test_another_policy_of_the_member_is_left_to_its_command(rig: Callable[..., Rig]) -> None:
    before = os.sched_getscheduler(0)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        member = rig("linux")
    finally:
        os.sched_setscheduler(0, before, os.sched_param(0))
    member.say(order(("sleep", "600")))
    run = member.expect(Started).pid
    assert policy(run) == policy(parent_of(run)) == os.SCHED_BATCH
