"""A witness in a file: torn, foreign, full, hung and lockless places are errors, never empty."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_heartbeat.witnesses import (
    ConflictError,
    UnknownOutcomeError,
    WitnessError,
    WitnessUrlError,
    locks,
    open_register,
)
from ha_heartbeat.witnesses import file as file_kind
from ha_heartbeat.witnesses.file import FileRegister, NoLocksError
from tests.witnesses.rig import PATIENCE_S

LIMIT_S = 10.0


@pytest.fixture
def register(tmp_path: Path) -> FileRegister:
    return FileRegister(f"file://{tmp_path}/record", "web", LIMIT_S)


def test_nothing_is_left_but_the_record_and_its_lock(
    register: FileRegister, tmp_path: Path
) -> None:
    version = register.swap(None, b"one")
    with pytest.raises(ConflictError):
        register.swap(None, b"two")
    register.swap(version, b"two")
    assert sorted(os.listdir(tmp_path)) == ["record", "record.lock"]


@pytest.mark.parametrize("kept", [0, 1, 60, -1])
def test_a_torn_file_is_an_error(register: FileRegister, kept: int) -> None:
    version = register.swap(None, b"one")
    path = Path(register.path)
    path.write_bytes(path.read_bytes().rstrip()[:kept])
    with pytest.raises(WitnessError, match="torn"):
        register.read()
    for expected in (None, version):
        with pytest.raises(WitnessError, match="torn"):
            register.swap(expected, b"two")


def test_a_changed_value_is_an_error(register: FileRegister) -> None:
    register.swap(None, b"one")
    path = Path(register.path)
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, "value": "dHdv"}))
    with pytest.raises(WitnessError, match="torn"):
        register.read()


@pytest.mark.parametrize("raw", [b"null", b"[]", b"7", b"{}", b'{"sha256": 1}', b"[" * 60_000])
def test_other_files_are_errors(register: FileRegister, raw: bytes) -> None:
    Path(register.path).write_bytes(raw)
    with pytest.raises(WitnessError, match="torn"):
        register.read()


def test_a_file_that_is_far_too_long_is_an_error(register: FileRegister) -> None:
    Path(register.path).write_bytes(b" " * 1_000_000)
    with pytest.raises(WitnessError, match="more than"):
        register.read()


def test_another_clusters_file_is_an_error(register: FileRegister) -> None:
    FileRegister(f"file://{register.path}", "mail", LIMIT_S).swap(None, b"one")
    with pytest.raises(WitnessError, match=r"cluster 'mail', not to 'web'"):
        register.read()


def test_a_deleted_file_is_another_one_even_at_the_same_count(register: FileRegister) -> None:
    version = register.swap(None, b"one")
    os.unlink(register.path)
    with pytest.raises(ConflictError):
        register.swap(version, b"two")
    assert register.swap(None, b"one") != version
    with pytest.raises(ConflictError):
        register.swap(version, b"two")


def test_a_missing_directory_is_an_error_and_may_come_later(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/share/record"
    register = open_register(url, "web", LIMIT_S)
    for _ in range(2):
        with pytest.raises(WitnessError, match="mount the share"):
            register.read()
    (tmp_path / "share").mkdir()
    assert register.read() is None


def test_a_directory_that_goes_away_is_no_empty_record(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    register = FileRegister(f"file://{tmp_path}/share/record", "web", LIMIT_S)
    register.swap(None, b"one")
    (tmp_path / "share").rename(tmp_path / "unmounted")
    with pytest.raises(WitnessError, match="mount the share"):
        register.read()


@contextlib.contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own, or the reason why not."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a file system needs root on Linux")
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "witness-test", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.root
def test_a_full_share(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "share", "size=64k") as share:
        (share / "ha").mkdir()
        register = FileRegister(f"file://{share}/ha/record", "web", LIMIT_S)
        version = register.swap(None, b"one")
        with contextlib.suppress(OSError), open(share / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        with pytest.raises(WitnessError, match="make room") as caught:
            register.swap(version, b"two" * 2000)
        assert not isinstance(caught.value, UnknownOutcomeError)
        assert register.read() == (b"one", version)
        os.unlink(share / "filler")
        register.swap(version, b"two")


@pytest.mark.root
def test_a_read_only_share(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "share", "size=64k") as share:
        (share / "ha").mkdir()
        register = FileRegister(f"file://{share}/ha/record", "web", LIMIT_S)
        version = register.swap(None, b"one")
        subprocess.run(["mount", "-o", "remount,ro", str(share)], check=True)
        with pytest.raises(WitnessError, match=r"make .* writable"):
            register.swap(version, b"two")
        assert register.read() == (b"one", version)


@pytest.mark.root
def test_a_file_directly_in_the_mount_point_is_refused(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "share", "size=64k") as share:  # noqa: SIM117
        with pytest.raises(NoLocksError, match="directly in the mount point"):
            open_register(f"file://{share}/record", "web", LIMIT_S)


def test_a_file_system_whose_locks_keep_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "try_lock", lambda _descriptor: True)  # says yes and does nothing
    with pytest.raises(NoLocksError, match="without working locks"):
        open_register(f"file://{tmp_path}/record", "web", LIMIT_S)


def test_a_file_system_that_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_args: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with pytest.raises(NoLocksError, match="No locks available"):
        open_register(f"file://{tmp_path}/record", "web", LIMIT_S)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("rw,vers=3,nolock,local_lock=all", "nolock"),
        ("rw,vers=4.2,local_lock=posix", "local_lock=posix"),
        ("rw,vers=4.2,local_lock=none", ""),
        ("rw,nobrl", "nobrl"),
    ],
)
def test_mount_options_that_keep_locks_to_one_machine(
    tmp_path: Path, options: str, found: str
) -> None:
    device = os.stat(tmp_path).st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"36 35 {os.major(device)}:{os.minor(device)} / /mnt rw - nfs s:/x {options}\n"
    )
    assert locks.kept_to_this_machine(str(tmp_path), str(mounts)) == found


def test_a_lock_that_another_process_keeps_ends_in_an_error(tmp_path: Path) -> None:
    register = FileRegister(f"file://{tmp_path}/record", "web", 0.3)
    long = FileRegister(f"file://{tmp_path}/record", "web", LIMIT_S)
    version = long.swap(None, b"one")
    register.prove = lambda: None  # type: ignore[method-assign]
    register._proved = True
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, f"{tmp_path}/record.lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(WitnessError):
            register.swap(version, b"two")
        assert register.read() == (b"one", version)
        child.stdin.close()
    assert long.swap(version, b"two")


def test_a_share_that_hangs_does_not_hold_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = FileRegister(f"file://{tmp_path}/record", "web", LIMIT_S)
    version = register.swap(None, b"one")
    register._timeout_s = 0.3
    released, hung = threading.Event(), threading.Event()
    real = os.fsync

    def stuck(descriptor: int) -> None:
        hung.set()
        released.wait()
        real(descriptor)

    monkeypatch.setattr(file_kind.os, "fsync", stuck)
    try:
        began_s = time.monotonic()
        with pytest.raises(UnknownOutcomeError, match="share hangs"):
            register.swap(version, b"two")
        assert hung.is_set()
        with pytest.raises(WitnessError, match="still hangs"):
            register.read()
        assert time.monotonic() - began_s < 5.0
    finally:
        released.set()
    # What was left behind stops before it replaces the file, its time limit being over.
    register._timeout_s = PATIENCE_S
    assert register.read() == (b"one", version)


def test_who_lost_the_lock_unawares_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = FileRegister(f"file://{tmp_path}/record", "web", LIMIT_S)
    fast = FileRegister(f"file://{tmp_path}/record", "web", LIMIT_S)
    version = slow.swap(None, b"one")
    fast.read()
    replace = os.replace

    def lose_the_lock(source: str, target: str) -> None:
        """What an NFS server does to a machine that it has not heard of for too long."""
        monkeypatch.setattr(file_kind.os, "replace", replace)
        monkeypatch.setattr(file_kind, "_turns", {})
        monkeypatch.setattr(locks, "try_lock", lambda _descriptor: True)
        fast.swap(version, b"fast")
        replace(source, target)

    monkeypatch.setattr(file_kind.os, "replace", lose_the_lock)
    with pytest.raises(UnknownOutcomeError):
        slow.swap(version, b"slow")
    stored = fast.read()
    assert stored is not None
    assert stored.value == b"fast"


def test_without_hard_links_the_first_record_is_made_all_the_same(
    register: FileRegister, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(file_kind.os, "link", no_links)
    version = register.swap(None, b"one")
    assert register.read() == (b"one", version)
    with pytest.raises(FileExistsError):
        file_kind._place_first(register.path + ".lock", register.path)


@pytest.mark.parametrize(
    "url",
    ["file://host/x", "file:x", "file:///", "file:///x/", "file:///x?y", "file:///x#y", "file://"],
)
def test_urls_that_name_no_file(url: str) -> None:
    with pytest.raises(WitnessUrlError, match="three slashes"):
        FileRegister(url, "web", LIMIT_S)


def test_a_version_of_another_kind(register: FileRegister) -> None:
    with pytest.raises(ValueError, match="no version"):
        register.swap('"etag"', b"one")
