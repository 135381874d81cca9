"""A member that starts knows that its life before is over, and says so to its peer."""

from __future__ import annotations

from ha_heartbeat.core import witness
from ha_heartbeat.core.machine import Core
from ha_heartbeat.core.state import State, view
from ha_heartbeat.core.types import (
    Ask,
    Asked,
    Record,
    Started,
    Wants,
    WitnessRead,
)
from ha_heartbeat.sim.scene import plain_scene


def born(incarnation: str, former: str, i: int = 0) -> Core:
    settings = plain_scene().settings[i]._replace(has_witness=True)
    core = Core(settings, strict=True)
    core.step(Started(incarnation, 0, 0, former=former), 100.0)
    return core


def with_record_of(core: Core, incarnation: str) -> State:
    """It has read a record that this life of somebody has written a moment ago."""
    s = core.state
    cfg = s.settings
    record = Record(cfg.member, incarnation, 2, 7, cfg.lease_s, False, (cfg.member, cfg.peer))
    core.step(WitnessRead(s.op, "v7", record), 100.1)
    assert s.record == record
    return s


def test_the_record_of_its_own_former_life_is_free() -> None:
    assert witness.is_free(with_record_of(born("new", "old"), "old"), 100.2)


def test_that_of_any_other_life_has_to_stand_for_a_lease() -> None:
    s = with_record_of(born("new", "old"), "older")
    assert not witness.is_free(s, 100.2)
    assert witness.is_free(s, witness.free_at(s))


def test_so_is_that_of_the_former_life_of_the_peer_that_it_hears() -> None:
    core = born("new", "old")
    peer = born("peer new", "peer old", 1).state
    s = with_record_of(core, "peer old")
    assert not witness.is_free(s, 100.2)
    ask = Ask(s.settings.service, 1, view(peer, 100.2), Wants.NOTHING, s.settings.lease_s)
    core.step(Asked(1, ask), 100.2)
    assert witness.is_free(s, 100.3)


def test_a_life_that_is_heard_is_not_over_whatever_is_on_the_disk() -> None:
    """Two members that were given one state directory by mistake."""
    core = born("new", "peer new")
    peer = born("peer new", "", 1).state
    s = with_record_of(core, "peer new")
    ask = Ask(s.settings.service, 1, view(peer, 100.2), Wants.NOTHING, s.settings.lease_s)
    core.step(Asked(1, ask), 100.2)
    assert not witness.is_free(s, 100.3)
