"""The table is whole: every state against every event, with a reason on each row."""

from __future__ import annotations

from pathlib import Path

import pytest

from ha_heartbeat.core import picture
from ha_heartbeat.core.machine import Core, ImpossibleEventError
from ha_heartbeat.core.table import TABLE, Kind, always
from ha_heartbeat.core.types import Evidence, Level, Phase, RunEnded, Say, Started
from ha_heartbeat.sim.scene import plain_scene

CELLS = [(phase, kind) for phase in Phase for kind in Kind]


def test_every_state_is_written_out_against_every_event() -> None:
    assert set(TABLE) == set(Phase)
    for phase in Phase:
        assert set(TABLE[phase]) == set(Kind), phase


@pytest.mark.parametrize(("phase", "kind"), CELLS)
def test_a_cell_decides_whatever_happens(phase: Phase, kind: Kind) -> None:
    rows = TABLE[phase][kind]
    if not rows:
        return
    assert rows[-1].when is always, "the last row must hold always"
    assert all(row.when is not always for row in rows[:-1]), "a row after `always` is dead"
    assert all(len(row.why.split()) >= 3 for row in rows), "a reason is a sentence"
    assert all(row.when.__doc__ for row in rows)


def test_only_these_states_lead_to_the_role() -> None:
    sources = {
        phase
        for phase, cells in TABLE.items()
        for rows in cells.values()
        for row in rows
        if row.then is Phase.WORKER
    }
    assert sources == {Phase.LOOKING, Phase.SUPERVISOR, Phase.FENCING, Phase.HANDING_OVER}


def test_nothing_leads_out_of_stopped() -> None:
    assert all(row.then is None for rows in TABLE[Phase.STOPPED].values() for row in rows)


def test_an_impossible_pair_raises_under_test_and_is_survived_in_the_field() -> None:
    settings = plain_scene().settings[0]

    def stopped(*, strict: bool) -> Core:
        core = Core(settings, strict=strict)
        core.step(Started("a", 0, 0), 0.0)
        core.state.phase = Phase.STOPPED
        core.state.run = "1.1"
        return core

    ended = RunEnded("1.1", 0, 0, 0)
    with pytest.raises(ImpossibleEventError):
        stopped(strict=True).step(ended, 1.0)
    said = [e for e in stopped(strict=False).step(ended, 1.0) if isinstance(e, Say)]
    assert any(s.level is Level.ERROR and "survived" in s.text for s in said)


def test_the_picture_in_the_docs_is_this_table() -> None:
    states = Path(__file__).parents[2] / "docs" / "states.md"
    assert states.read_text(encoding="utf-8") == picture.page(), "run `make docs`"


def test_every_kind_of_evidence_has_its_row() -> None:
    named = {
        row.do.__name__
        for cells in TABLE.values()
        for rows in cells.values()
        for row in rows
        if row.then is Phase.WORKER
    }
    assert named == {
        "take_over_granted",  # RELEASED and VOTED
        "take_over_refused",
        "take_over_fenced",
        "take_over_silent",
        "take_over_unfenced",
        "take_over_outvoted",
        "undo_hand_over",
        "undo_for_pause",
    }
    assert len(Evidence) == 6
