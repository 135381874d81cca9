"""One host: a member (the real core), its guardian, its port, its disk and its clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ha_heartbeat.core import health
from ha_heartbeat.core.machine import Core
from ha_heartbeat.core.types import (
    NO_HOLD,
    Answered,
    Asked,
    CheckDone,
    Connect,
    CutTree,
    Disconnect,
    Event,
    Exit,
    Expired,
    ExtendLease,
    FenceDone,
    GuardianLost,
    KeepHold,
    KillTree,
    PauseRequested,
    Phase,
    ReadWitness,
    RecordOverlap,
    Remember,
    Replied,
    RoleChanged,
    RunCheck,
    RunFence,
    RunRequested,
    Say,
    SendAnswer,
    SendAsk,
    Settings,
    Started,
    StartHook,
    StartRun,
    StopRequested,
    StopTree,
    SwapWitness,
    SwitchoverRequested,
    Tick,
    TreeGone,
    WitnessRead,
)
from ha_heartbeat.sim.clock import LocalClock
from ha_heartbeat.sim.guardian import Command, Guardian
from ha_heartbeat.sim.network import Connection

if TYPE_CHECKING:
    from ha_heartbeat.sim.world import World


class Host:
    """Carries out the effects of its core, and suffers what the nemesis does to it."""

    def __init__(
        self, world: World, index: int, settings: Settings, command: Command, clock: LocalClock
    ) -> None:
        self.world = world
        self.index = index
        self.settings = settings
        self.clock = clock
        self.peer: Host = self  # set by the world
        self.core: Core | None = None
        self.life = 0
        self.powered = True
        self.frozen = False  # the whole machine
        self.stalled = False  # the member's process alone
        self.guardian = Guardian(self, command)
        self.links: dict[str, Connection] = {}
        self.wanted_link = 0
        self.inbound: dict[int, Connection] = {}
        self.inbox: list[tuple[int, Event]] = []
        self.thawed: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.wake = float("inf")
        self.disk = (0, 0)
        self.former = ""  # on disk, too: the life that last wrote there
        self.hold = NO_HOLD  # on disk, too
        self.restart_wanted = False
        self.stop_sent = False
        self.fencing = False
        self.ill = False  # the command does badly here
        self.witness_op = 0  # the last question to the witness that has ended
        self.orphans = False  # alive with no guardian
        self.booted_at = 0.0
        self.struck_at = 0.0  # when it last was not up, or could not reach the witness

    @property
    def held_down_s(self) -> float:
        """For how long it may be held down next, or is now."""
        if self.core is None or not self.world.can_be_ill:
            return 0.0
        hold_downs = min(self.core.state.hold_downs, health.DOUBLINGS)
        return health.least_hold_down_s(self.settings) * 2.0**hold_downs

    # -- life and death ----------------------------------------------------------------------------

    @property
    def port_held(self) -> bool:
        """The port is held by the member and by every process of the tree."""
        return self.core is not None or self.guardian.alive

    @property
    def incarnation(self) -> str:
        """What its present life, or the last one, is called."""
        return f"{self.index}.{self.life}"

    @property
    def is_well(self) -> bool:
        """Whether its member is up and running."""
        return self.core is not None and not (self.frozen or self.stalled)

    def boot(self) -> None:
        """Start the member, as soon as the port is free."""
        if not self.powered or self.frozen or (self.core is not None and not self.stop_sent):
            return
        if self.port_held:
            self.restart_wanted = True
            return
        self.restart_wanted = False
        self.life += 1
        self.stalled = False
        self.stop_sent = False
        self.witness_op = 0
        self.inbox.clear()
        self.guardian.latest = ""
        self.guardian.present = True
        self.guardian.undo_owed = self.guardian.untold = False
        self.booted_at = self.struck_at = self.world.now
        self.core = Core(self.settings, strict=True)
        self.world.trace(self, "starts")
        self.tell(Started(self.incarnation, *self.disk, self.hold, self.former))

    def crash(self) -> None:
        """A kill -9 of the member: its connections end, its guardian ends the tree."""
        if self.core is None:
            return
        self.world.trace(self, "member killed")
        self._lose_member()
        self._hang_up()
        self.guardian.orphaned()
        self._release_port()

    def crash_guardian(self) -> None:
        """A kill -9 of the guardian: the kernel and the member end the tree."""
        if self.core is None or self.frozen or not self.guardian.present:
            return
        self.world.trace(self, "guardian killed")
        guardian = self.guardian
        owed = guardian.undo_owed or guardian.undoing != ()
        for_good = owed and (guardian.stopping or guardian.undoing != ())
        guardian.vanish()
        # An address goes with the guardian: its keeper and its member see to that.
        guardian.undo_owed = owed and self.settings.has_undo
        guardian.latest = ""
        guardian.present = False
        self.tell(GuardianLost("killed."))
        if for_good:  # the next one sees to it
            guardian.clear(TreeGone())
        elif guardian.undo_owed:
            guardian.watch_deadline()

    def crash_both(self) -> None:
        """A kill -9 of member and guardian: its keeper ends the tree at once."""
        if self.core is None or self.frozen:
            return
        self.world.trace(self, "member and guardian killed")
        self._lose_member()
        self._hang_up()
        self.guardian.vanish()

    def crash_all(self) -> None:
        """The same and the keeper, too: what the run left lives on, and holds the port."""
        if self.core is None:
            return
        self.world.trace(self, "member, guardian and keeper killed")
        guardian = self.guardian
        self._lose_member()
        self._hang_up()
        guardian.generation += 1  # it ends nothing any more
        guardian.run = ""
        guardian.stopping = False
        guardian.undoing = ()
        guardian.steps = 0
        guardian.undo_owed = False
        if guardian.leftovers:
            self.orphans = True
            self.world.timeline.at(
                self.world.now + self.world.rng.random() * 3 * self.settings.lease_s,
                self._orphans_due,
                self.life,
            )
        self._release_port()

    def _orphans_due(self, life: int) -> None:
        if self.life == life:
            self.end_orphans()

    def end_orphans(self) -> None:
        """What no guardian watches over ends by itself at last."""
        if self.core is None and self.orphans:
            self.orphans = False
            self.guardian.vanish()

    def power_off(self) -> None:
        """Everything ends, and nobody is told."""
        if not self.powered:
            return
        self.world.trace(self, "power off")
        self._lose_member()
        self.life += 1
        self.orphans = False
        self.powered = False
        self.frozen = False
        self.thawed.clear()
        self.links.clear()
        self.inbound.clear()
        self.guardian.vanish()

    def power_on(self) -> None:
        """The machine is back, and its member starts."""
        if not self.powered:
            self.world.trace(self, "power on")
            self.powered = True
            self.boot()

    def _lose_member(self) -> None:
        self.core = None
        self.struck_at = self.world.now
        self.fencing = False
        self.life += 1
        self.wake = float("inf")
        self.inbox.clear()

    def _hang_up(self) -> None:
        """The kernel closes the connections of a dead process."""
        network = self.world.network
        for connection in (*self.links.values(), *self.inbound.values()):
            network.close(connection, self)
        self.links.clear()
        if not self.guardian.alive:
            self.inbound.clear()

    def tree_ended(self) -> None:
        """Nothing of the tree exists any more."""
        if self.core is None:
            self.world.disturbed_at = max(self.world.disturbed_at, self.world.now)
        self.world.checker.ends(self)
        self._release_port()

    def _release_port(self) -> None:
        """The last holder of the port is gone: what waits in its backlog is reset."""
        if self.port_held:
            return
        for connection in self.inbound.values():
            self.world.network.close(connection, self)
        self.inbound.clear()
        if self.restart_wanted:
            self.boot()

    def stop(self) -> None:
        """SIGTERM to the member."""
        if self.core is not None:
            self.world.trace(self, "SIGTERM")
            self.stop_sent = True
            self.tell(StopRequested())

    # -- the operator ------------------------------------------------------------------------------

    def order_switchover(self) -> None:
        """The operator of this machine asks for the role to be moved."""
        if self.core is not None:
            self.tell(SwitchoverRequested(0, ""))

    def order_pause(self, on: bool) -> None:
        """The operator of this machine pauses or resumes."""
        if self.core is not None:
            self.world.trace(self, "operator pauses" if on else "operator resumes")
            self.tell(PauseRequested(0, on, "maintenance", self.world.now))

    def order_run(self) -> None:
        """The operator of this machine asks for a run now."""
        if self.core is not None:
            self.tell(RunRequested(0))

    # -- pauses ------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """The whole machine stands still; its clock does not."""
        if self.powered and not self.frozen:
            self.world.trace(self, "frozen")
            self.frozen = True
            self.struck_at = self.world.now
            self.world.checker.ends(self)

    def thaw(self) -> None:
        """It goes on where it was; what became due meanwhile comes first."""
        if not self.frozen:
            return
        self.world.trace(self, "thawed")
        self.frozen = False
        thawed, self.thawed = self.thawed, []
        for call, args in thawed:
            call(*args)
        if self.world.checker.live(self):
            self.world.checker.lives(self)
        self._catch_up()

    def on_thaw(self, call: Callable[..., None], *args: Any) -> None:
        """Do this when the machine goes on."""
        self.thawed.append((call, args))

    def stall(self) -> None:
        """SIGSTOP to the member alone: its guardian goes on."""
        if self.core is not None and not self.stalled:
            self.world.trace(self, "member stopped")
            self.stalled = True
            self.struck_at = self.world.now

    def resume(self) -> None:
        """SIGCONT."""
        if self.stalled:
            self.world.trace(self, "member continued")
            self.stalled = False
            self._catch_up()

    def _catch_up(self) -> None:
        """What came meanwhile is read in any order: a wake-up has no manners."""
        if self.frozen or self.stalled or self.core is None:
            return
        self.struck_at = self.world.now
        inbox, self.inbox = self.inbox, []
        if self.world.rng.random() < 0.5:
            self._tick(self.life)
        for life, event in inbox:
            if life == self.life:
                self.tell(event)
        if self.core is not None:
            self._tick(self.life)

    # -- the member --------------------------------------------------------------------------------

    def accept(self, connection: Connection) -> None:
        """The kernel accepts on a held port, whether anybody is there to read or not."""
        self.inbound[connection.conn] = connection

    def tell(self, event: Event) -> None:
        """Give an event to the core and do what it asks for."""
        core = self.core
        if core is None:
            return
        if self.frozen or self.stalled:
            self.inbox.append((self.life, event))
            return
        world = self.world
        kind = type(event)
        if kind is Asked:
            world.checker.hears(self, event.ask.view.epoch_seen)  # type: ignore[union-attr]
        elif kind is Answered:
            world.checker.hears(self, event.answer.view.epoch_seen)  # type: ignore[union-attr]
        elif kind is WitnessRead and event.record is not None:  # type: ignore[union-attr]
            world.checker.hears(self, event.record.epoch)  # type: ignore[union-attr]
        elif kind is GuardianLost:
            self.guardian.present = True
        elif kind is Expired:
            self.guardian.untold = False
        clock = self.clock
        now = clock.offset + world.timeline.now * clock.rate
        effects = core.step(event, now, world.rng.random())
        if world.tracing:
            world.trace_step(self, event, effects)
        life = self.life
        for effect in effects:
            do = DO[type(effect)]
            if do is not None:
                do(self, effect)
                if self.life != life:
                    return
        wake = core.wake_at()
        if wake < self.wake:
            self.wake = wake
            world.timeline.at(clock.world(wake) + 1e-6, self._due, life, wake)

    def tell_later(self, event: Event) -> None:
        """The same from within an effect: the core has to finish its step first."""
        self.world.timeline.at(self.world.now, self._tell_life, self.life, event)

    def _tell_life(self, life: int, event: Event) -> None:
        if life == self.life:
            self.tell(event)

    def _due(self, life: int, wake: float) -> None:
        if life != self.life or wake != self.wake:
            return
        self.wake = float("inf")
        self._tick(life)

    def _tick(self, life: int) -> None:
        if life == self.life and self.core is not None and not (self.frozen or self.stalled):
            self.wake = float("inf")
            self.tell(Tick())

    # -- effects -----------------------------------------------------------------------------------

    def _connect(self, effect: Connect) -> None:
        self._drop_link()
        self.wanted_link = effect.link
        self.world.network.connect(self, effect.link)

    def _disconnect(self, effect: Disconnect) -> None:
        self._drop_link()
        self.wanted_link = 0

    def _drop_link(self) -> None:
        connection = self.links.pop("out", None)
        if connection is not None:
            self.world.network.close(connection, self)

    def _send_ask(self, effect: SendAsk) -> None:
        connection = self.links.get("out")
        if connection is not None and connection.link == effect.link:
            self.world.network.send(connection, self, effect.ask)

    def _send_answer(self, effect: SendAnswer) -> None:
        connection = self.inbound.get(effect.conn)
        if connection is not None:
            self.world.network.send(connection, self, effect.answer)

    def _start_run(self, effect: StartRun) -> None:
        self.world.checker.starts(self, effect.epoch)
        self.guardian.start(effect.run)

    def _start_hook(self, effect: StartHook) -> None:
        self.world.checker.starts(self, effect.epoch)
        self.guardian.start(effect.run, is_hook=True)

    def _cut_tree(self, effect: CutTree) -> None:
        self.guardian.cut(effect.grace_s)

    def _extend(self, effect: ExtendLease) -> None:
        self.guardian.extend(effect.term_at, effect.kill_at)

    def _stop_tree(self, effect: StopTree) -> None:
        self.guardian.stop(effect.grace_s)

    def _kill_tree(self, effect: KillTree) -> None:
        self.guardian.kill()

    def _fence(self, effect: RunFence) -> None:
        """It ends the peer at some time or does not, and ends itself some time later."""
        world = self.world
        random = world.rng.random
        if self.fencing:
            world.checker.fail(f"{self.settings.member} starts a fence while one still runs")
        self.fencing = True
        lease_s = self.settings.lease_s
        acts_at = world.now + random() * lease_s
        works = random() < 0.5
        if works:
            world.timeline.at(acts_at, self._fence_acts, self.life)
        ends_at = acts_at + world.rng.choice((0.0, random(), 2 * random())) * lease_s
        world.timeline.at(ends_at, self._fenced, self.life, works)

    def _fence_acts(self, life: int) -> None:
        """If its member still lives, the peer is off, and boots again."""
        if life == self.life:
            peer = self.peer
            peer.power_off()
            boot_s = self.world.rng.random() * self.settings.lease_s
            self.world.timeline.at(self.world.now + boot_s, peer.power_on)

    def _fenced(self, life: int, works: bool) -> None:
        """The fence command ends, if its member still lives."""
        if life == self.life:
            self.fencing = False
            self.tell(FenceDone(works, f"exit status {0 if works else 1}"))

    def _check(self, effect: RunCheck) -> None:
        """It ends at once, or after an interval or so; by then the command may do otherwise."""
        takes_s = self.world.rng.choice((0.0, 1.2)) * self.world.rng.random()
        ends_at = self.world.now + takes_s * self.settings.check_interval_s
        self.world.timeline.at(ends_at, self._checked, self.life)

    def _checked(self, life: int) -> None:
        if life == self.life:
            self.tell(CheckDone(not self.ill, f"exit status {int(self.ill)}"))

    def _read_witness(self, effect: ReadWitness) -> None:
        self.world.witness.read(self, effect.op)

    def _swap_witness(self, effect: SwapWitness) -> None:
        self.world.witness.swap(self, effect)

    def _remember(self, effect: Remember) -> None:
        self.disk = (effect.epoch_seen, effect.epoch_reserved)
        self.former = self.incarnation

    def _keep_hold(self, effect: KeepHold) -> None:
        self.hold = effect.hold

    def _overlap(self, effect: RecordOverlap) -> None:
        self.world.checker.overlap_recorded(self)

    def _role(self, effect: RoleChanged) -> None:
        if effect.phase is Phase.WORKER:
            self.world.checker.becomes_worker(self, effect)

    def _exit(self, effect: Exit) -> None:
        self.world.trace(self, "exits")
        self._lose_member()
        self._hang_up()
        self._release_port()


DO: dict[type, Callable[[Host, Any], None] | None] = {
    Connect: Host._connect,
    Disconnect: Host._disconnect,
    SendAsk: Host._send_ask,
    SendAnswer: Host._send_answer,
    StartRun: Host._start_run,
    StartHook: Host._start_hook,
    CutTree: Host._cut_tree,
    ExtendLease: Host._extend,
    StopTree: Host._stop_tree,
    KillTree: Host._kill_tree,
    RunFence: Host._fence,
    RunCheck: Host._check,
    ReadWitness: Host._read_witness,
    SwapWitness: Host._swap_witness,
    Remember: Host._remember,
    KeepHold: Host._keep_hold,
    Replied: None,
    RecordOverlap: Host._overlap,
    RoleChanged: Host._role,
    Exit: Host._exit,
    Say: None,
}
