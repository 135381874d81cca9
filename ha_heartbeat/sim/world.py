"""A world from one seed: two hosts with random settings, a network, and a nemesis."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from ha_heartbeat.core.types import Effect, Event, Mode, Say, Settings, TakeoverPolicy
from ha_heartbeat.sim.checker import Checker
from ha_heartbeat.sim.clock import LocalClock, Timeline
from ha_heartbeat.sim.guardian import DEAF, Command
from ha_heartbeat.sim.host import Host
from ha_heartbeat.sim.nemesis import Nemesis
from ha_heartbeat.sim.network import Network

EPISODES: Final = 8
"""Bursts of faults in one seed; after each everything is healed and has to settle."""


class World:
    """Everything there is. The same seed gives the same world, to the last step."""

    def __init__(self, seed: int, *, tracing: bool = False) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.tracing = tracing
        self.lines: list[str] = []
        self.timeline = Timeline()
        self.network = Network(self.timeline, self.rng)
        self.checker = Checker(self)
        self.disturbed_at = float("-inf")
        self.healed_at = 0.0
        self.policy = self.rng.choice((TakeoverPolicy.SILENCE, TakeoverPolicy.PROOF))
        self.hosts = self._hosts()
        self.nemesis = Nemesis(self)

    @property
    def now(self) -> float:
        """The world's time, in seconds."""
        return self.timeline.now

    def _hosts(self) -> tuple[Host, Host]:
        rng = self.rng
        interval_s = rng.choice((0.1, 1.0, 10.0))
        count = rng.choice((1, 2, 3, 3, 3, 5))
        modes = rng.choice(((0, 0), (0, 0), (1, 0), (0, 1), (1, 1)))
        fallbacks = rng.choice(((0, 0), (0, 0), (1, 0), (0, 1), (1, 1)))
        fence = rng.random() < 0.2
        distrust = rng.random() < 0.1
        stop_s = rng.choice((0.1, 1.0, 10.0)) * interval_s
        differ = rng.random() < 0.1
        command = Command(
            lasts_s=rng.choice((0.0, 0.3, 3.0, 1e9)) * interval_s,
            ends_s=rng.choice((0.0, 0.0, 0.3 * interval_s, DEAF)),
            leaves=rng.choice((0.0, 0.0, 0.5)),
        )
        hosts = []
        for i in (0, 1):
            settings = Settings(
                member=f"m{i + 1}",
                service="sim",
                peer=f"m{2 - i}",
                mode=Mode.WORKER if modes[i] else Mode.SUPERVISOR,
                fallback=bool(fallbacks[i]),
                interval_test_s=interval_s * (2 if differ and i else 1),
                check_count=count,
                interval_commands_s=3 * interval_s,
                stop_timeout_s=stop_s,
                takeover=self.policy,
                distrust_refused=distrust,
                has_fence=fence,
                command="true",
                rank=i,
            )
            clock = LocalClock(1 + rng.uniform(-0.0049, 0.0049), rng.uniform(0, 1e5))
            hosts.append(Host(self, i, settings, command, clock))
        hosts[0].peer, hosts[1].peer = hosts[1], hosts[0]
        return hosts[0], hosts[1]

    # -- the course of it --------------------------------------------------------------------------

    def run(self) -> None:
        """Live through all episodes; raises `ViolationError` at the first step that is wrong."""
        first, second = self.rng.sample(self.hosts, 2)
        lease_s = max(h.settings.lease_s for h in self.hosts)
        first.boot()
        lag_s = self.rng.random() * self.rng.choice((0.0, 0.001, 2 * lease_s))
        self.timeline.at(lag_s, second.boot)
        self.settle("start")
        for _ in range(EPISODES):
            self.nemesis.strike()
            self.nemesis.heal()
            self.settle("healing")
            self.stay()

    def settle(self, after: str) -> None:
        """One worker and one supervisor again, within the bound."""
        bound_s = self.bound_s()
        if not self.timeline.run_until(self.now + bound_s, self.checker.settled):
            states = ", ".join(
                f"{h.settings.member} {h.core.state.phase.value if h.core else 'down'}"
                for h in self.hosts
            )
            self.checker.fail(f"not settled {bound_s:g} s after {after}: {states}")

    def bound_s(self) -> float:
        """The longest that settling may take: leases to run out, trees to end, checks to come.

        Two leases (one of abstention or of a promise, one of silence), the preferred peer's time at
        the start, a hand-over (the run's time and the tree's), and the checks in between.
        """
        s = max(h.settings.lease_s for h in self.hosts)
        i = max(h.settings.interval_test_s for h in self.hosts)
        stop_s = max(h.settings.stop_timeout_s for h in self.hosts)
        return 4 * s + 4 * stop_s + 6 * i + 1.0

    def stay(self) -> None:
        """A settled pair never switches."""
        interval_s = max(h.settings.interval_test_s for h in self.hosts)
        changes = self.checker.changes
        self.timeline.run_until(self.now + self.rng.random() * 2 * interval_s)
        if self.checker.changes != changes:
            self.checker.fail("a settled pair switched")

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
