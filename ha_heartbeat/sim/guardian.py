"""A guardian and its command, as the core sees them: runs that end, linger, or ignore SIGTERM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ha_heartbeat.core.types import Event, Expired, RunEnded, RunFailed, TreeGone, UndoEnded
from ha_heartbeat.core.votes import undo_reserve_s

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
        "is_hook",
        "kill_at",
        "latest",
        "leftovers",
        "present",
        "run",
        "steps",
        "stopping",
        "term_at",
        "undo_owed",
        "undoing",
        "untold",
    )

    def __init__(self, host: Host, command: Command) -> None:
        self.host = host
        self.command = command
        self.run = self.latest = ""
        self.is_hook = False  # the run is one
        self.leftovers = 0
        self.generation = 0  # what was planned for an earlier one is void
        self.term_at = self.kill_at = 0.0
        self.stopping = False
        self.steps = 0  # that have succeeded since anything was undone
        self.untold = False  # the member does not know yet that its lease ran out
        self.undo_owed = False  # something was run, and is not undone
        self.undoing: tuple[Event, ...] = ()  # what is told when that has ended
        self.present = True  # the member starts another one when it knows of the loss

    @property
    def alive(self) -> bool:
        """Whether any process of the tree exists."""
        return self.run != "" or self.leftovers > 0 or bool(self.undoing)

    def start(self, run: str, *, is_hook: bool = False) -> None:
        """Start a run or a hook, which ends by itself after its time."""
        if not self.present:
            reason = "there is no guardian at the moment"
            self.host.tell_later(RunFailed(run, reason, tried=False))
            return
        world = self.host.world
        if self.undoing or (self.untold and not is_hook):
            self.host.tell_later(RunFailed(run, "what was set up for it is undone", tried=False))
            return
        if self.run:
            world.checker.fail(f"run {run} is started while {self.run} is alive")
        if not is_hook and self.steps < len(self.host.settings.steps):
            world.checker.fail(f"run {run} is started before the hooks have succeeded")
        self.run = self.latest = run
        self.stopping = False
        self.generation += 1
        self.is_hook = is_hook
        self.undo_owed = self.host.settings.leaves_traces
        lasts_s = self._hook_s() if is_hook else self.command.lasts_s
        if self.command.varies and not is_hook:
            lasts_s *= world.rng.choice((0.1, 1, 10))
        world.timeline.at(world.now + lasts_s, self._finish, self.generation)
        self.watch_deadline()
        world.checker.lives(self.host)

    def _hook_s(self) -> float:
        """A hook is quick or slow; where the command does badly it may hang."""
        choices = (0.0, 5.0) if self.host.ill else (0.0, 0.5, 0.9)
        return self.host.settings.hook_timeout_s * self.host.world.rng.choice(choices)

    def _finish(self, generation: int) -> None:
        if generation != self.generation or not self.run:
            return
        if self.host.frozen:
            self.host.on_thaw(self._finish, generation)
            return
        run, self.run = self.run, ""
        if not self.is_hook and self.host.world.rng.random() < self.command.leaves:
            self.leftovers += 1
        status = 1 if self.host.ill else 0
        if self.is_hook and not status:
            self.steps += 1
        if self.stopping and self.undo_owed and not self.leftovers:
            self.clear(TreeGone())  # before the port could be seen free
        self.host.tell(RunEnded(run, status, 0, self.leftovers))

    def extend(self, term_at: float, kill_at: float) -> None:
        """Move the deadline (the host's clock)."""
        self.term_at, self.kill_at = term_at, kill_at

    def watch_deadline(self) -> None:
        """Look again when the lease is over."""
        host = self.host
        host.world.timeline.at(host.clock.world(self.kill_at), self._deadline, self.generation)

    def _deadline(self, generation: int) -> None:
        """At the deadline the tree is dead; if that has moved meanwhile, look again then."""
        if generation != self.generation or not (self.alive or self.undo_owed):
            return
        host = self.host
        if host.frozen:
            host.on_thaw(self._deadline, generation)
        elif self.undoing:
            return  # it has a limit of its own
        elif host.clock.local(host.world.now) >= self.kill_at - 1e-9:
            self.untold = bool(host.settings.steps)
            self.clear(Expired(self.latest))
        else:
            self.watch_deadline()

    def stop(self, grace_s: float) -> None:
        """SIGTERM, the grace, SIGKILL; then `TreeGone`."""
        if self.undoing:
            self.undoing = (*self.undoing, TreeGone())
            return
        if not self.alive:
            self.clear(TreeGone())
            return
        self.stopping = True
        host = self.host
        wait_s = min(self.command.ends_s, grace_s, self.kill_at - host.clock.local(host.world.now))
        host.world.timeline.at(host.world.now + max(0.0, wait_s), self._ended, self.generation)

    def cut(self, grace_s: float) -> None:
        """SIGTERM, the grace, SIGKILL; then `TreeGone`, with nothing undone."""
        host = self.host
        wait_s = min(self.command.ends_s, grace_s, self.kill_at - host.clock.local(host.world.now))
        when = host.world.now + max(0.0, wait_s)
        host.world.timeline.at(when, self._ended, self.generation, False)

    def kill(self) -> None:
        """SIGKILL; then `TreeGone`."""
        if self.undoing:
            self.undoing = (*self.undoing, TreeGone())
        else:
            self._ended(self.generation)

    def _ended(self, generation: int, for_good: bool = True) -> None:
        if generation != self.generation:
            return
        if self.host.frozen:
            self.host.on_thaw(self._ended, generation, for_good)
            return
        if self.run:
            self.host.tell_later(RunEnded(self.run, -1, 15, 0))
        if for_good:
            self.clear(TreeGone())
        else:
            stopping = self.stopping
            self._end_all()
            self.host.tell_later(TreeGone(undone=False))
            self._deadline(self.generation)
            if stopping:
                self.clear(TreeGone())

    def clear(self, told: Event) -> None:
        """Nothing is left: undo what was set up, if there is time for it, and tell."""
        host = self.host
        owed, self.undo_owed = self.undo_owed, False
        self.steps = 0
        local = host.clock.local(host.world.now)
        limit_s = min(
            host.settings.hook_timeout_s,
            self.kill_at + undo_reserve_s(host.settings) - local,
        )
        if not owed or not host.settings.has_undo or limit_s <= 0:
            self._end_all()
            host.tell_later(told)
            return
        self.run = ""
        self.leftovers = 0
        self.stopping = False
        self.generation += 1
        self.undoing = (told,)
        takes_s = self._hook_s()
        ended = UndoEnded(0, 0) if takes_s < limit_s else UndoEnded(-1, 9)
        when = host.world.now + min(takes_s, limit_s)
        host.world.timeline.at(when, self._undone, self.generation, ended)

    def _undone(self, generation: int, ended: UndoEnded) -> None:
        if generation != self.generation:
            return
        if self.host.frozen:
            self.host.on_thaw(self._undone, generation, ended)
            return
        told, self.undoing = self.undoing, ()
        self._end_all()
        for event in (ended, *told):
            self.host.tell_later(event)

    def _end_all(self) -> None:
        self.run = ""
        self.leftovers = 0
        self.stopping = False
        self.undoing = ()
        self.generation += 1
        self.host.tree_ended()

    def orphaned(self) -> None:
        """The member died: SIGTERM, the stop timeout or the deadline, SIGKILL."""
        if self.undo_owed and not self.alive:
            self.clear(TreeGone())
        elif self.alive and not self.stopping and not self.undoing:
            self.stop(self.host.settings.stop_timeout_s)

    def vanish(self) -> None:
        """Everything is gone at once: the power was cut, or the guardian was killed."""
        self.steps = 0
        self.undo_owed = False
        self._end_all()
