"""The state file keeps what it acknowledged, and never takes damage for a fresh start."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_heartbeat.config import Address
from ha_heartbeat.places import MAX_DIRECTORY_NAME_CHARS, directory_name
from ha_heartbeat.shell import state
from ha_heartbeat.shell.errors import StartError
from ha_heartbeat.shell.state import StateError, StateFile, StateWriteError

LOCAL = Address("m1", 22221)


def open_state(directory: Path, service: str = "web", local: Address = LOCAL) -> StateFile:
    return StateFile.open(str(directory), service, local, "m1")


def saved(directory: Path) -> tuple[Path, dict[str, Any]]:
    """A file with epochs 7 and 9, and what is in it."""
    kept = open_state(directory)
    kept.save(7, 9)
    path = Path(kept.path)
    return path, json.loads(path.read_text())


def test_fresh_then_kept(tmp_path: Path) -> None:
    fresh = open_state(tmp_path / "a" / "b")
    assert (fresh.epoch_seen, fresh.epoch_reserved, fresh.overlaps) == (0, 0, ())
    assert not Path(fresh.path).exists()
    fresh.save(7, 9)
    fresh.add_overlap("m2:22222", 7, 8, 1.5)
    again = open_state(tmp_path / "a" / "b")
    assert (again.epoch_seen, again.epoch_reserved) == (7, 9)
    assert [overlap[1:] for overlap in again.overlaps] == [("m2:22222", 7, 8, 1.5)]
    assert fresh.path == str(tmp_path / "a" / "b" / "web@m1_22221" / "state.json")


def test_the_life_before_is_known_by_its_name(tmp_path: Path) -> None:
    first = open_state(tmp_path)
    assert first.former == ""
    first.begin("one")
    first.save(1, 3)
    second = open_state(tmp_path)
    assert second.former == "one"
    second.begin("two")
    assert open_state(tmp_path).former == "one", "nothing was written yet"


def test_a_life_on_another_host_is_not_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_state(tmp_path)
    first.begin("one")
    first.save(1, 3)
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert open_state(tmp_path).former == ""


def test_the_file_is_readable_and_private(tmp_path: Path) -> None:
    path, body = saved(tmp_path / "new")
    assert body["format"] == 1
    assert (body["service"], body["member"]) == ("web", "m1")
    assert path.read_text().startswith('{\n  "format": 1,\n')
    assert os.listdir(path.parent) == ["state.json"]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_opening_changes_nothing(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    open_state(tmp_path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_epochs_never_shrink(tmp_path: Path) -> None:
    kept = open_state(tmp_path)
    kept.save(7, 9)
    kept.save(3, 12)
    assert (kept.epoch_seen, kept.epoch_reserved) == (7, 12)
    assert open_state(tmp_path).epoch_seen == 7


def test_only_the_last_hundred_overlaps_stay(tmp_path: Path) -> None:
    kept = open_state(tmp_path)
    for epoch in range(103):
        kept.add_overlap("m2:22222", epoch, epoch + 1, 0.1)
    assert [overlap.own_epoch for overlap in open_state(tmp_path).overlaps] == list(range(3, 103))


def test_services_and_addresses_do_not_meet(tmp_path: Path) -> None:
    open_state(tmp_path).save(7, 9)
    assert open_state(tmp_path, "mail").epoch_seen == 0
    assert open_state(tmp_path, local=Address("m1", 22222)).epoch_seen == 0


@given(
    st.lists(
        st.tuples(st.text(max_size=20), st.text(max_size=20), st.integers(1, 65535)),
        min_size=2,
        max_size=2,
        unique=True,
    )
)
def test_directory_names_never_collide(pair: list[tuple[str, str, int]]) -> None:
    one, two = (directory_name(service, host, port) for service, host, port in pair)
    assert one.lower() != two.lower()
    assert all(char.isalnum() or char in "%@._-#" for char in one)
    assert one.isascii()


def test_a_very_long_directory_name_is_cut_and_still_unique() -> None:
    one, two = (directory_name("é" * 64, "x" * 200 + end, 1) for end in "ab")
    assert one != two
    assert len(one) == len(two) == MAX_DIRECTORY_NAME_CHARS


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"", "is empty"),
        (b'{"format": 1, "epo', "is not the JSON"),
        (b"\0" * 400, "is not the JSON"),
        (b"\xff\xfe", "is not the JSON"),
        (b"[" * 100_000, "is not the JSON"),
        (b" " * state.MAX_FILE_BYTES + b"  {}", "is not the JSON"),
        (b"[]", "names no format"),
        (b"{}", "names no format"),
        (b'{"format": true}', "names no format"),
        (b'{"format": 0}', "names no format"),
        (b'{"format": 1}', "no usable epoch_seen"),
        (b'{"format": 1, "epoch_seen": -1, "epoch_reserved": 0}', "no usable epoch_seen"),
        (b'{"format": 1, "epoch_seen": 1, "epoch_reserved": 1.5}', "no usable epoch_reserved"),
        (b'{"format": 1, "epoch_seen": 1, "epoch_reserved": 1, "overlaps": [1]}', "overlaps"),
        (b'{"format": 1, "epoch_seen": 1, "epoch_reserved": 1, "overlaps": 1}', "overlaps"),
        (b'{"format": 1, "epoch_seen": 1, "epoch_reserved": 1, "incarnation": 1}', "incarnation"),
    ],
)
def test_damage_is_said_and_never_touched(tmp_path: Path, data: bytes, wrong: str) -> None:
    path, _ = saved(tmp_path)
    path.write_bytes(data)
    with pytest.raises(StateError) as refused:
        open_state(tmp_path)
    sentence = str(refused.value)
    assert str(path) in sentence
    assert wrong in sentence
    assert "restore it" in sentence
    assert "epochs start anew" in sentence
    assert "\n" not in sentence
    assert path.read_bytes() == data
    assert isinstance(refused.value, StartError)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_flipped_bit_is_taken_for_the_truth(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path, body = saved(tmp_path_factory.mktemp("state"))
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw)
    try:
        read = open_state(path.parent.parent)
    except StateError:
        return
    # Accepted only where the change means nothing (blanks between the fields), or where the word
    # "checksum" itself is gone, which is how a deliberate edit looks.
    assert (read.epoch_seen, read.epoch_reserved) == (7, 9)
    assert body["epoch_seen"] == 7


def test_an_edit_is_told_from_damage_and_can_be_meant(tmp_path: Path) -> None:
    path, body = saved(tmp_path)
    body["epoch_seen"] = 700
    path.write_text(json.dumps(body))
    with pytest.raises(StateError, match=r"was changed .* delete the checksum's line"):
        open_state(tmp_path)
    del body["checksum"]
    path.write_text(json.dumps(body))
    assert open_state(tmp_path).epoch_seen == 700


def test_a_newer_format_is_left_to_a_newer_version(tmp_path: Path) -> None:
    path, body = saved(tmp_path)
    path.write_text(json.dumps(body | {"format": 2}))
    with pytest.raises(StateError, match="has format 2, and this version knows up to 1; start"):
        open_state(tmp_path)


def test_the_file_of_another_service(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    other = Path(open_state(tmp_path, "mail").path)
    other.write_bytes(path.read_bytes())
    with pytest.raises(StateError, match="belongs to another service, 'web'"):
        open_state(tmp_path, "mail")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no FIFO")
def test_what_is_no_file_does_not_hang_the_start(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StateError, match="cannot be read: it is no regular file"):
        open_state(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(StateError, match="cannot be read"):
        open_state(tmp_path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/no-such-place")):
        with pytest.raises(
            StateError, match=r"the state directory .* cannot be written.*state-dir"
        ):
            open_state(place)
    with pytest.raises(StateError, match="cannot be written"):
        StateFile.open("a\0b", "web", LOCAL, "m1")


def test_a_disk_that_is_full_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_writing(monkeypatch)
    with pytest.raises(StateError, match="no space left on device"):
        open_state(tmp_path)


def break_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state.os, "write", full)


def test_what_could_not_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = open_state(tmp_path)
    kept.save(7, 9)
    with monkeypatch.context() as broken:
        break_writing(broken)
        with pytest.raises(StateWriteError, match=r"state\.json cannot be written: no space left"):
            kept.save(8, 10)
        with pytest.raises(StateWriteError):
            kept.add_overlap("m2:22222", 8, 9, 1.0)
        with pytest.raises(StateWriteError):
            kept.flush()
    assert kept.unsaved
    assert open_state(tmp_path).epoch_seen == 7
    assert os.listdir(Path(kept.path).parent) == ["state.json"]
    kept.flush()
    assert not kept.unsaved
    again = open_state(tmp_path)
    assert (again.epoch_seen, len(again.overlaps)) == (8, 1)


def test_threads_may_save(tmp_path: Path) -> None:
    kept = open_state(tmp_path)
    savers = [threading.Thread(target=kept.save, args=(n, 2 * n)) for n in range(1, 21)]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join()
    again = open_state(tmp_path)
    assert (again.epoch_seen, again.epoch_reserved) == (20, 40)
