"""A witness in the simulated world: a register that may be slow, deaf, forgetful or wiped."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from ha_heartbeat.core.types import (
    Event,
    Record,
    SwapWitness,
    WitnessConflict,
    WitnessFailed,
    WitnessRead,
    WitnessSwapped,
)
from ha_heartbeat.sim.clock import Timeline

if TYPE_CHECKING:
    from ha_heartbeat.sim.host import Host


class Witness:
    """One record, and the ways to it. An answer that does not come in an interval is a failure."""

    def __init__(self, timeline: Timeline, rng: Random, hosts: int = 2) -> None:
        self.timeline = timeline
        self.rng = rng
        self.hosts = hosts
        self.record: Record | None = None
        self.serial = 0
        self.mend()
        self.down = False
        self.spotless = True  # never wiped, down, slow, or out of reach
        self.wiped_at = -1.0
        self.epoch = 0  # the highest that it was told of
        self.slow_s = 0.0
        self.forgetful = 0.0

    def mend(self) -> None:
        """No way to it is cut."""
        self.cut = [False] * self.hosts

    def cut_off(self, host: Host) -> None:
        """A host loses its way to it."""
        self.cut[host.index] = True
        host.struck_at = self.timeline.now

    def heal(self) -> None:
        """It answers everybody at once again, with what it knows."""
        if self.down or self.slow_s or self.forgetful or any(self.cut):
            self.spotless = False
        self.mend()
        self.down = False
        self.slow_s = self.forgetful = 0.0

    def wipe(self) -> None:
        """It has forgotten its record, and will never use a version again."""
        self.record = None
        self.wiped_at = self.timeline.now
        self.spotless = False
        self.serial += 1

    @property
    def version(self) -> str:
        """The version of the record, "" if there is none."""
        return str(self.serial) if self.record is not None else ""

    def read(self, host: Host, op: int) -> None:
        """A question of a host's sets out."""
        self._later(host, op, self._read)

    def swap(self, host: Host, effect: SwapWitness) -> None:
        """A swap of a host's sets out."""
        self._later(host, effect.op, self._swap, effect)

    def _later(self, host: Host, op: int, call: object, *args: object) -> None:
        arrives = self.timeline.now + self._flight_s()
        self.timeline.at(arrives, self._arrive, host, host.life, op, call, args)
        due = self.timeline.now + host.settings.interval_test_s
        self.timeline.at(due, self._give_up, host, host.life, op)

    def _flight_s(self) -> float:
        return self.rng.random() * (self.slow_s or 0.001)

    def _arrive(
        self, host: Host, life: int, op: int, call: object, args: tuple[object, ...]
    ) -> None:
        if self.down or self.cut[host.index] or not host.powered:
            return
        answer: Event = call(op, *args)  # type: ignore[operator]
        if self.forgetful and self.rng.random() < self.forgetful:
            return  # carried out, but nobody hears of it
        arrives = self.timeline.now + self._flight_s()
        self.timeline.at(arrives, self._answer, host, life, op, answer)

    def _answer(self, host: Host, life: int, op: int, answer: Event) -> None:
        if life == host.life and op > host.witness_op and not self.cut[host.index]:
            host.witness_op = op
            host.tell(answer)

    def _give_up(self, host: Host, life: int, op: int) -> None:
        """What the shell of a member does when its time is over."""
        if life == host.life and op > host.witness_op:
            host.witness_op = op
            self.spotless = False
            host.struck_at = self.timeline.now
            host.tell(WitnessFailed(op, "no answer"))

    def _read(self, op: int) -> Event:
        return WitnessRead(op, self.version, self.record)

    def _swap(self, op: int, effect: SwapWitness) -> Event:
        if effect.expected != self.version:
            return WitnessConflict(op)
        self.serial += 1
        self.record = effect.record
        self.epoch = max(self.epoch, effect.record.epoch)
        return WitnessSwapped(op, self.version)
