"""The control group: only where it is ours, and missed by nobody where it is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ha_heartbeat.guardian import cgroup
from ha_heartbeat.guardian.protocol import Ended, Gone, Kill, Started
from tests.guardian.rig import Rig, linux_only, marked, shell, wait_for

pytestmark = linux_only
Maker = Callable[..., Rig]


@pytest.fixture
def own() -> str:
    """The folder in which a guardian may make its group here."""
    if sys.platform != "linux":
        pytest.skip("needs Linux")
    folder = cgroup.own_folder()
    if not (folder and cgroup.is_ours(folder)):
        pytest.skip("no delegated cgroup v2 here")
    group = cgroup.Group.make(os.getpid())
    if not os.path.exists(cgroup.folder_for(os.getpid())):
        pytest.skip("no group can be made here, or it has no cgroup.kill")
    group.remove()
    return folder


def fake(monkeypatch: pytest.MonkeyPatch, groups: str, mounts: str) -> None:
    files = {"/proc/self/cgroup": groups, "/proc/self/mountinfo": mounts}
    monkeypatch.setattr(cgroup, "read", lambda path: files[path].encode())


MOUNT = "41 31 0:38 {root} {point} rw,relatime shared:9 - {kind} cgroup2 rw\n"


@pytest.mark.parametrize(
    ("groups", "mounts", "folder"),
    [
        ("0::/\n", MOUNT.format(root="/", point="/sys/fs/cgroup", kind="cgroup2"),
         "/sys/fs/cgroup"),
        ("9:name=systemd:/\n0::/a.slice/b.service\n",
         MOUNT.format(root="/", point="/sys/fs/cgroup/unified", kind="cgroup2"),
         "/sys/fs/cgroup/unified/a.slice/b.service"),
        ("0::/box/app\n", MOUNT.format(root="/box", point="/sys/fs/cgroup", kind="cgroup2"),
         "/sys/fs/cgroup/app"),
        ("0::/box\n", MOUNT.format(root="/box", point="/sys/fs/cgroup", kind="cgroup2"),
         "/sys/fs/cgroup"),
        ("0::/boxer\n", MOUNT.format(root="/box", point="/sys/fs/cgroup", kind="cgroup2"), ""),
        ("0::/../x\n", MOUNT.format(root="/", point="/sys/fs/cgroup", kind="cgroup2"), ""),
        ("0::/x\n", MOUNT.format(root="/", point="/sys/fs/cgroup", kind="cgroup"), ""),
        ("5:cpu:/x\n", MOUNT.format(root="/", point="/sys/fs/cgroup", kind="cgroup2"), ""),
        ("", "", ""),
    ],
)  # fmt: skip
def test_the_own_group_is_found_where_it_is_mounted(
    monkeypatch: pytest.MonkeyPatch, groups: str, mounts: str, folder: str
) -> None:
    fake(monkeypatch, groups, mounts)
    assert cgroup.own_folder() == folder
    assert cgroup.folder_for(7) == (f"{folder}/ha-heartbeat-7" if folder else "")


def test_a_group_is_ours_when_delegated_or_without_systemd(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    systemd = tmp_path / "systemd"
    monkeypatch.setattr(os, "getxattr", lambda path, name: marks[name])
    marks: dict[str, bytes] = {}

    def getxattr(path: str, name: str) -> bytes:
        if name not in marks:
            raise OSError("no such attribute")
        return marks[name]

    monkeypatch.setattr(os, "getxattr", getxattr)
    assert cgroup.is_ours(str(tmp_path), str(systemd))
    systemd.mkdir()
    assert not cgroup.is_ours(str(tmp_path), str(systemd))
    marks["user.delegate"] = b"0"
    assert not cgroup.is_ours(str(tmp_path), str(systemd))
    marks["trusted.delegate"] = b"1"
    assert cgroup.is_ours(str(tmp_path), str(systemd))


def test_a_group_that_cannot_be_made_is_done_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cgroup, "own_folder", lambda: str(tmp_path))
    monkeypatch.setattr(cgroup, "is_ours", lambda folder: True)
    group = cgroup.Group.make(os.getpid())  # a folder without cgroup.kill, as before Linux 5.14
    group.adopt(os.getpid())
    group.kill()
    group.remove()
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(cgroup, "own_folder", lambda: str(tmp_path / "missing"))
    cgroup.Group.make(os.getpid()).kill()


def test_a_run_is_in_the_group_of_its_guardian_which_goes_with_it(own: str, rig: Maker) -> None:
    member = rig("linux")
    member.say(
        shell(
            "until grep -q ha-heartbeat /proc/self/cgroup; do :; done; "
            "setsid sleep 600 & cat /proc/self/cgroup"
        )
    )
    member.expect(Started)
    member.expect(Ended)
    folder = Path(cgroup.folder_for(member.keeper))
    assert len((folder / "cgroup.procs").read_text().split()) == 1
    member.say(Kill())
    member.expect(Gone)
    assert not (folder / "cgroup.procs").read_text()
    member.leave()
    lines = member.text().splitlines()
    assert any(line.startswith("0::") and line.endswith(folder.name) for line in lines)
    member.process.wait(20)
    assert not folder.exists()


def test_without_it_a_run_is_where_its_guardian_is(own: str, rig: Maker) -> None:
    member = rig("linux-sweep")
    member.say(shell("cat /proc/self/cgroup"))
    member.expect(Started)
    member.expect(Ended)
    member.leave()
    assert member.text() == Path("/proc/self/cgroup").read_text()


def test_a_group_taken_away_is_done_without(own: str, rig: Maker, mark: str) -> None:
    member = rig("linux")
    os.rmdir(cgroup.folder_for(member.keeper))
    member.say(shell("setsid sleep 600 & sleep 600"))
    member.expect(Started)
    wait_for(lambda: len(marked(mark)) == 5)
    member.say(Kill())
    assert member.expect(Ended).signal == signal.SIGKILL
    member.expect(Gone)
    assert sorted(marked(mark)) == [member.keeper, member.pid]


def test_the_group_of_a_guardian_killed_earlier_is_tidied_away(own: str, rig: Maker) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    stale = cgroup.folder_for(ended.pid)
    of_the_living = cgroup.folder_for(os.getpid())
    os.mkdir(stale)
    os.mkdir(of_the_living)
    try:
        rig("linux")
        assert not os.path.exists(stale)
        assert os.path.exists(of_the_living)
    finally:
        os.rmdir(of_the_living)
