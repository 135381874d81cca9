"""What undoes a term: run once, whenever a tree ends for good, before that is told or seen."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ha_heartbeat.guardian.protocol import (
    Cleared,
    Cut,
    End,
    Ended,
    Expired,
    Extend,
    Failed,
    Gone,
    Kill,
    SetUp,
    Started,
    Stop,
    Undo,
    Undone,
)
from tests.guardian.rig import FAR_NS, Rig, lease, refused, shell, wait_for

S = 1_000_000_000


def undo(line: str, *, limit_s: float = 20, reserve_s: float = 10, owed: bool = False) -> Undo:
    return Undo(round(limit_s * S), round(reserve_s * S), owed, True, (line,), (("WHO", "me"),))


def working(rig: Rig, line: str = "exec sleep 600", **times: int) -> None:
    rig.say(shell(line, **times))
    rig.expect(Started)


def test_it_is_run_before_the_end_is_told(
    rig: Callable[..., Rig], variant: str, tmp_path: Path
) -> None:
    one = rig(variant)
    place = tmp_path / "undone"
    one.say(undo(f'echo "$WHO" >> {place}'))
    for number, order in enumerate((Stop(20 * S), Kill()), 1):
        working(one)
        one.say(order)
        one.expect(Ended)
        assert one.expect(Undone) == Undone(0, 0)
        one.expect(Gone)
        assert place.read_text() == "me\n" * number
    one.say(Kill())  # nothing was run since
    one.expect(Gone)
    assert place.read_text() == "me\n" * 2


def test_a_cut_undoes_nothing(rig: Callable[..., Rig], variant: str, tmp_path: Path) -> None:
    one = rig(variant)
    place = tmp_path / "undone"
    one.say(undo(f"echo >> {place}"))
    working(one)
    one.say(Cut(20 * S))
    one.expect(Ended)
    one.expect(Cleared)
    assert not place.exists()
    one.say(Stop(0))
    one.expect(Undone)
    one.expect(Gone)


def test_what_fails_or_hangs_is_told(rig: Callable[..., Rig], variant: str) -> None:
    one = rig(variant)
    told = {"exit 3": Undone(3, 0), "sleep 600 & exec sleep 600": Undone(-1, signal.SIGKILL)}
    for line, expected in told.items():
        one.say(undo(line, limit_s=0.3))
        working(one)
        one.say(Kill())
        one.expect(Ended)
        assert one.expect(Undone) == expected
        one.expect(Gone)


def test_it_has_its_time_at_the_end_of_a_lease(
    rig: Callable[..., Rig], variant: str, tmp_path: Path
) -> None:
    one = rig(variant)
    one.say(undo(f"sleep 0.1; echo > {tmp_path / 'undone'}; exec sleep 600", reserve_s=1))
    working(one, **lease(0.1, 0.2))
    one.expect(Ended)
    assert one.expect(Undone) == Undone(-1, signal.SIGKILL)
    one.expect(Expired)
    assert (tmp_path / "undone").exists()


def test_a_lease_that_is_long_over_leaves_no_time(
    rig: Callable[..., Rig], variant: str, tmp_path: Path
) -> None:
    one = rig(variant)
    one.say(undo(f"echo > {tmp_path / 'undone'}", reserve_s=0))
    working(one, **lease(0.1, 0.2))
    one.expect(Ended)
    if one.expect(Undone) == Undone(-1, 0):
        assert not (tmp_path / "undone").exists()


def test_the_port_is_held_until_it_has_ended(
    rig: Callable[..., Rig], variant: str, tmp_path: Path
) -> None:
    """The member is gone, and so is the command: nobody else may start yet."""
    one = rig(variant)
    go, begun = tmp_path / "go", tmp_path / "begun"
    one.say(undo(f"echo > {begun}; until test -e {go}; do sleep 0.02; done"))
    working(one)
    one.leave()
    wait_for(begun.exists)
    assert not refused(one.port)
    go.touch()
    wait_for(lambda: refused(one.port))


def test_a_guardian_that_is_told_to_end_sees_to_it(
    rig: Callable[..., Rig], variant: str, tmp_path: Path
) -> None:
    one = rig(variant)
    one.say(undo(f"echo > {tmp_path / 'undone'}", owed=True), End())
    assert one.process.wait(20) == 0
    assert (tmp_path / "undone").exists()


def test_it_dies_with_its_guardian(rig: Callable[..., Rig], variant: str, tmp_path: Path) -> None:
    if variant == "posix":
        pytest.skip("nothing ends a run there when the guardian is killed")
    one = rig(variant)
    one.say(undo(f"echo $$ > {tmp_path / 'pid'}; exec sleep 600"))
    working(one)
    one.say(Kill())
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    os.kill(one.pid, signal.SIGKILL)
    one.leave()
    wait_for(lambda: refused(one.port))


def test_runs_wait_for_what_they_need(rig: Callable[..., Rig], variant: str) -> None:
    """A member that was stopped may ask for a run whose setting up was undone meanwhile."""
    one = rig(variant)
    one.say(SetUp(0), Extend(FAR_NS, FAR_NS), shell("true", 1))
    assert "what was set up for it is undone" in one.expect(Failed).reason
    one.say(SetUp(1), shell("true", 2))
    one.expect(Started)
    one.expect(Ended)
    one.say(shell("true", 3))
    one.expect(Started)
    one.expect(Ended)
    one.say(Kill(), shell("true", 4))
    one.expect(Gone)
    one.expect(Failed)


def test_what_was_set_up_is_undone_at_the_end_of_a_lease_with_nothing_running(
    rig: Callable[..., Rig], variant: str, tmp_path: Path
) -> None:
    """A member that was stopped between two runs may have a successor by then."""
    one = rig(variant)
    one.say(undo(f"echo > {tmp_path / 'undone'}"), shell("true"))
    one.expect(Started)
    one.expect(Ended)
    one.say(Extend(**lease(0.2, 0.3)))
    assert one.expect(Undone) == Undone(0, 0)
    one.expect(Expired)
    assert (tmp_path / "undone").exists()
