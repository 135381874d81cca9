"""A world from one seed: hosts with random settings, a network, and a nemesis."""

from __future__ import annotations

import math
from random import Random
from typing import Any, Final

from ha_heartbeat.core import health
from ha_heartbeat.core.types import Effect, Event, Say
from ha_heartbeat.sim.checker import Checker
from ha_heartbeat.sim.clock import Timeline
from ha_heartbeat.sim.host import Host
from ha_heartbeat.sim.nemesis import Nemesis
from ha_heartbeat.sim.network import Network
from ha_heartbeat.sim.scene import Scene, random_scene, with_options
from ha_heartbeat.sim.witness import Witness

EPISODES: Final = 8
"""Bursts of faults in one seed; after each everything is healed and has to settle."""

ILLNESS: Final = 30.0
"""For how many of the shortest hold-downs the command does badly in the end."""


class World:
    """Everything there is. The same seed gives the same world, to the last step."""

    def __init__(
        self, rng: Random, scene: Scene, *, tracing: bool = False, tangled: bool = False
    ) -> None:
        self.rng = rng
        self.tracing = tracing
        self.skipped: frozenset[int] = frozenset()  # faults that a shrunk world leaves out
        self.lines: list[str] = []
        self.timeline = Timeline()
        self.network = Network(self.timeline, rng, len(scene.settings))
        self.network.in_order = not tangled
        self.checker = Checker(self, len(scene.settings))
        self.witness = Witness(self.timeline, rng, len(scene.settings))
        self.disturbed_at = float("-inf")
        self.healed_at = 0.0
        self.nemesis: Nemesis | None = None
        self.policy = scene.settings[0].takeover
        self.hosts = tuple(
            Host(self, i, settings, scene.command, clock)
            for i, (settings, clock) in enumerate(zip(scene.settings, scene.clocks, strict=True))
        )
        for i, host in enumerate(self.hosts):
            host.peer = self.hosts[i - 1]  # where there are more than two it is only a neighbour

    @classmethod
    def from_seed(cls, seed: int, *, tracing: bool = False) -> World:
        """The world that this seed has always meant."""
        rng = Random(seed)
        scene = with_options(random_scene(rng), Random(-1 - seed))
        return cls(rng, scene, tracing=tracing, tangled=rng.random() < 0.3)

    @property
    def now(self) -> float:
        """The world's time, in seconds."""
        return self.timeline.now

    # -- the course of it --------------------------------------------------------------------------

    def run(self) -> None:
        """Live through all episodes; raises `ViolationError` at the first step that is wrong."""
        first, *others = self.rng.sample(self.hosts, len(self.hosts))
        lease_s = max(h.settings.lease_s for h in self.hosts)
        first.boot()
        for other in others:
            lag_s = self.rng.random() * self.rng.choice((0.0, 0.001, 2 * lease_s))
            self.timeline.at(lag_s, other.boot)
            self.disturbed_at = max(lag_s, self.disturbed_at)
        self.settle("start")
        nemesis = self.nemesis = Nemesis(self)
        for _ in range(EPISODES):
            nemesis.strike()
            nemesis.heal()
            self.settle("healing")
            self.stay()
        if self.can_be_ill:
            self.fall_ill()

    def settle(self, after: str) -> None:
        """One worker and supervisors again, within the bound."""
        bound_s = self.bound_s()
        if not self.timeline.run_until(self.now + bound_s, self.checker.settled):
            states = ", ".join(
                f"{h.settings.member} {h.core.state.phase.value if h.core else 'down'}"
                for h in self.hosts
            )
            self.checker.fail_liveness(f"not settled {bound_s:g} s after {after}: {states}")

    def bound_s(self) -> float:
        """The longest that settling may take: leases to run out, trees to end, checks to come.

        Two leases (one of abstention or of a promise, one of silence), the preferred peer's time at
        the start and its delay, a hand-over (the run's time and the tree's), and the checks in
        between.
        """
        s = max(h.settings.lease_s for h in self.hosts)
        i = max(h.settings.interval_test_s for h in self.hosts)
        stop_s = max(h.settings.stop_timeout_s for h in self.hosts)
        delay_s = max(h.settings.fallback_delay_s for h in self.hosts)
        held_s = max(h.held_down_s for h in self.hosts)
        hooks_s = max(
            (len(h.settings.steps) + h.settings.has_undo) * h.settings.hook_timeout_s
            for h in self.hosts
        )
        return 4 * s + 4 * stop_s + 4 * hooks_s + 6 * i + delay_s + held_s + 1.0

    def stay(self) -> None:
        """What is settled never switches."""
        interval_s = max(h.settings.interval_test_s for h in self.hosts)
        changes = self.checker.changes
        self.timeline.run_until(self.now + self.rng.random() * 2 * interval_s)
        if self.checker.changes != changes:
            self.checker.fail_liveness("the role moved though all was settled")

    @property
    def can_be_ill(self) -> bool:
        """Whether the members would notice that the command does badly."""
        cfg = self.hosts[0].settings
        return cfg.has_check or cfg.max_failures > 0 or cfg.steps != ()

    def fall_ill(self) -> None:
        """The command does badly on some members, and nothing else happens: no ping-pong.

        Each hold-down is twice the one before, so there are no more of them than fit into the time.
        A move that they allow may be followed by one back, to a preferred member.
        """
        ill = [host for host in self.hosts if self.rng.random() < 0.7]
        for host in ill:
            host.ill = True
        if self.tracing:
            self.trace_all(f"the command fails on {', '.join(h.settings.member for h in ill)}")
        cfg = self.hosts[0].settings
        least_s = min(health.least_hold_down_s(h.settings) for h in self.hosts)
        changes = self.checker.changes
        self.timeline.run_until(self.now + ILLNESS * least_s + self.bound_s())
        moved = self.checker.changes - changes
        allowed = len(self.hosts) * (math.log2(ILLNESS + self.bound_s() / least_s) + 1)
        if any(h.settings.fallback for h in self.hosts):
            allowed *= 2
        if moved > allowed:
            self.checker.fail(
                f"the role moved {moved} times where it does badly, not {allowed:.0f}"
            )
        if len(ill) == 1 and cfg.has_check and cfg.peer:
            self.checker.well_one_works(ill[0])
        for host in ill:
            host.ill = False
        self.healed_at = self.now
        self.settle("illness")

    # -- traces ------------------------------------------------------------------------------------

    def trace(self, host: Host, text: str) -> None:
        """Note what the nemesis did to a host."""
        if self.tracing:
            self.lines.append(f"{self.now:12.4f}  {host.settings.member}  ! {text}")

    def trace_all(self, text: str) -> None:
        """Note what happened to the world."""
        self.lines.append(f"{self.now:12.4f}  --  {text}")

    def trace_step(self, host: Host, event: Event, effects: list[Effect]) -> None:
        """Note one step of a core."""
        head = f"{self.now:12.4f}  {host.settings.member}"
        self.lines.append(f"{head}  < {_short(event)}")
        for effect in effects:
            said = effect.text if isinstance(effect, Say) else ""
            self.lines.append(f"{head}      {said}" if said else f"{head}    > {_short(effect)}")


def _short(item: Any) -> str:
    """A message or effect without the parts that never change."""
    fields = []
    for name, value in zip(item._fields, item, strict=True):
        if name in ("ask", "answer", "view"):
            fields.append(_short(value))
        elif name not in ("terms", "service", "mode", "fallback", "rank", "lease_s"):
            fields.append(f"{name}={getattr(value, 'value', value)}")
    return f"{type(item).__name__}({', '.join(fields)})"
