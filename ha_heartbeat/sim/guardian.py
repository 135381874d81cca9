"""A guardian and its command, as the core sees them: runs that end, linger, or ignore SIGTERM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ha_heartbeat.core.types import Expired, RunEnded, RunFailed, TreeGone

if TYPE_CHECKING:
    from ha_heartbeat.sim.host import Host

DEAF: Final = float("inf")
"""How long a command that ignores SIGTERM takes to end on it."""


class Command(NamedTuple):
    """How long a run lasts, how long it takes to end on SIGTERM (s), how likely it leaves more.

    One that varies lasts for a tenth or ten times as long now and then.
    """

    lasts_s: float
    ends_s: float
    leaves: float
    varies: bool = False


class Guardian:
    """Holds at most one run and what earlier ones left behind; ends them when told or when due."""

    __slots__ = (
        "command",
        "generation",
        "host",
        "kill_at",
        "latest",
        "leftovers",
        "present",
        "run",
        "stopping",
        "term_at",
    )

    def __init__(self, host: Host, command: Command) -> None:
        self.host = host
        self.command = command
        self.run = self.latest = ""
        self.leftovers = 0
        self.generation = 0  # what was planned for an earlier one is void
        self.term_at = self.kill_at = 0.0
        self.stopping = False
        self.present = True  # the member starts another one when it knows of the loss

    @property
    def alive(self) -> bool:
        """Whether any process of the tree exists."""
        return self.run != "" or self.leftovers > 0

    def start(self, run: str) -> None:
        """Start a run, which ends by itself after its time."""
        if not self.present:
            self.host.tell_later(RunFailed(run, "There is no guardian at the moment."))
            return
        world = self.host.world
        if self.run:
            world.checker.fail(f"run {run} is started while {self.run} is alive")
        self.run = self.latest = run
        self.stopping = False
        self.generation += 1
        lasts_s = self.command.lasts_s
        if self.command.varies:
            lasts_s *= world.rng.choice((0.1, 1, 10))
        world.timeline.at(world.now + lasts_s, self._finish, self.generation)
        self._watch_deadline()
        world.checker.lives(self.host)

    def _finish(self, generation: int) -> None:
        if generation != self.generation or not self.run:
            return
        if self.host.frozen:
            self.host.on_thaw(self._finish, generation)
            return
        run, self.run = self.run, ""
        if self.host.world.rng.random() < self.command.leaves:
            self.leftovers += 1
        status = 1 if self.host.ill else 0
        self.host.tell(RunEnded(run, status, 0, self.leftovers))

    def extend(self, term_at: float, kill_at: float) -> None:
        """Move the deadline (the host's clock)."""
        self.term_at, self.kill_at = term_at, kill_at

    def _watch_deadline(self) -> None:
        host = self.host
        host.world.timeline.at(host.clock.world(self.kill_at), self._deadline, self.generation)

    def _deadline(self, generation: int) -> None:
        """At the deadline the tree is dead; if that has moved meanwhile, look again then."""
        if generation != self.generation or not self.alive:
            return
        host = self.host
        if host.frozen:
            host.on_thaw(self._deadline, generation)
        elif host.clock.local(host.world.now) >= self.kill_at - 1e-9:
            self._end_all()
            host.tell(Expired(self.latest))
        else:
            self._watch_deadline()

    def stop(self, grace_s: float) -> None:
        """SIGTERM, the grace, SIGKILL; then `TreeGone`."""
        if not self.alive:
            self.host.tell_later(TreeGone())
            return
        self.stopping = True
        host = self.host
        wait_s = min(self.command.ends_s, grace_s, self.kill_at - host.clock.local(host.world.now))
        host.world.timeline.at(host.world.now + max(0.0, wait_s), self._ended, self.generation)

    def kill(self) -> None:
        """SIGKILL; then `TreeGone`."""
        self._ended(self.generation)

    def _ended(self, generation: int) -> None:
        if generation != self.generation:
            return
        if self.host.frozen:
            self.host.on_thaw(self._ended, generation)
            return
        run = self.run
        self._end_all()
        if run:
            self.host.tell_later(RunEnded(run, -1, 15, 0))
        self.host.tell_later(TreeGone())

    def _end_all(self) -> None:
        self.run = ""
        self.leftovers = 0
        self.stopping = False
        self.generation += 1
        self.host.tree_ended()

    def orphaned(self) -> None:
        """The member died: SIGTERM, the stop timeout or the deadline, SIGKILL."""
        if self.alive and not self.stopping:
            self.stop(self.host.settings.stop_timeout_s)

    def vanish(self) -> None:
        """Everything is gone at once: the power was cut, or the guardian was killed."""
        self._end_all()
