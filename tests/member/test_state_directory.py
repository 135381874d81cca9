"""The state directory while a member runs, and a damaged file when it starts."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.member.rig import ROOT, Rig, holds_for, wait_for


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own for the state of one member."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def kept(place: Path) -> dict[str, int]:
    """What the one state file below `place` says."""
    (path,) = place.glob("*/state.json")
    return dict(json.loads(path.read_text()))


def next_epoch(rig: Rig, last: int) -> int:
    """The epoch of the latest run if it is above `last`, otherwise 0."""
    epoch = rig.runs()[-1].epoch if rig.runs() else 0
    return epoch if epoch > last else 0


def fill(place: Path) -> None:
    """Not a byte is left."""
    with contextlib.suppress(OSError), (place / "filler").open("wb", buffering=0) as out:
        while out.write(b"x" * 4096):
            pass
    for number in range(100):
        with contextlib.suppress(OSError):
            (place / f"more-{number}").write_bytes(b"x")


def empty(place: Path) -> None:
    for path in place.iterdir():
        if path.is_file():
            path.unlink()


@pytest.mark.root
def test_an_order_that_cannot_be_kept_is_not_confirmed_as_if_it_were(rig: Rig, small: Path) -> None:
    def order(*words: str) -> str:
        command = [sys.executable, str(ROOT / "hbctl"), *words, "--state-dir", str(small)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
        return done.stdout

    member = rig.member(1, "--state-dir", str(small))
    rig.works(member)
    fill(small)
    assert "paused. It is not on disk" in order("pause", "--reason", "full")
    empty(small)
    member.hears("is written again")
    assert "not on disk" not in order("resume")


@pytest.mark.root
def test_it_cannot_be_written_for_a_while(rig: Rig, small: Path) -> None:
    """The member takes over all the same, says so once, and once more when it is over."""
    worker = rig.member(1)
    rig.works(worker)
    other = rig.member(2, "--state-dir", str(small))
    rig.settle(worker, other)
    fill(small)
    worker.kill()
    rig.works(other)
    wait_for(lambda: other.said("cannot be written"), "the complaint")
    again = rig.member(1)
    rig.settle(other, again)
    holds_for(1.5, lambda: other.said("cannot be written") == 1, "said once")
    assert not other.said("is written again")
    empty(small)
    other.hears("is written again")
    assert kept(small)["epoch_seen"] >= rig.runs()[-1].epoch
    assert other.is_worker
    other.stop()
    rig.works(again)  # whose epoch is higher: the rig's judge compares


@pytest.mark.side_by_side
def test_a_damaged_file(rig: Rig) -> None:
    """Exit 1 with one sentence, and the file is as it was."""
    first = rig.member(1)
    rig.works(first)
    assert first.stop() == 0
    path = next((rig.place / "state").glob("*/state.json"))
    whole = path.read_bytes()
    changed = whole.replace(b'"epoch_seen": ', b'"epoch_seen": 1')
    for damage in (b"", whole[: len(whole) // 2], changed):
        path.write_bytes(damage)
        again = rig.member(1)
        assert again.ended() == 1
        assert path.read_bytes() == damage
        (line,) = again.lines
        assert line.startswith(f"ha-heartbeat: the state file {path} ")
    assert len(rig.runs()) == 1


@pytest.mark.side_by_side
def test_the_epochs_are_on_disk_after_a_kill(rig: Rig) -> None:
    """Written ahead of need: a member killed in its first moments leaves nothing to be guessed."""
    last = 0
    for _ in range(3):
        member = rig.member(1)
        last = wait_for(lambda last=last: next_epoch(rig, last), "its first run")
        member.kill()
        assert kept(rig.place / "state")["epoch_reserved"] >= last
