"""What goes wrong: faults of every kind, alone and together, drawn from the world's seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ha_heartbeat.core.types import Phase
from ha_heartbeat.sim.stories import Stories

if TYPE_CHECKING:
    from ha_heartbeat.sim.host import Host
    from ha_heartbeat.sim.world import World


STORIES: Final = 0.25
"""How many of the episodes follow a plan."""


class Nemesis:
    """Strikes with one to four faults, some of which overlap, and heals everything after."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng
        self.episode = 0
        self.count = 0
        self.trusty = self.rng.random() < 0.3  # the witness is never struck
        self.stories = Stories(self)
        alone: tuple[Callable[[Host], None], ...] = (
            self.crash,
            self.crash,
            self.crash_guardian,
            self.crash_both,
            self.crash_all,
            self.power_cut,
            self.restart,
            self.restart,
            self.freeze,
            self.stall,
        )
        between = (self.cut_both_ways, self.cut_one_way, self.bad_line)
        orders = (self.switch_over, self.switch_over, self.pause, self.run_now)
        pair = between + orders
        self.faults = alone + (pair if world.hosts[0].settings.peer else (self.pause, self.run_now))
        if world.can_be_ill:
            self.faults += (self.fall_ill, self.fall_ill)
        if world.hosts[0].settings.has_witness and not self.trusty:
            self.faults += (
                self.cut_off_all,
                self.cut_off_all,
                self.cut_off_witness,
                self.witness_down,
                self.witness_wiped,
                self.witness_slow,
            )

    def strike(self) -> None:
        """Let some faults happen, and time pass."""
        world = self.world
        if self.rng.random() < STORIES:
            if self._wanted():
                self.stories.tell()
            return
        for _ in range(self.rng.choice((1, 1, 1, 2, 3, 4))):
            host = self._victim()
            fault = self.rng.choice(self.faults)
            if self._wanted():
                fault(host)
            world.timeline.run_until(world.now + self._pause_s(host))

    def _wanted(self) -> bool:
        """Whether the next fault is to happen: a shrunk world leaves some out."""
        self.count += 1
        return self.count - 1 not in self.world.skipped

    def _victim(self) -> Host:
        """The worker more often than not: that is where it hurts."""
        hosts = self.world.hosts
        if self.rng.random() < 0.6:
            for host in hosts:
                if host.core is not None and host.core.state.phase is Phase.WORKER:
                    return host
        return self.rng.choice(hosts)

    def _pause_s(self, host: Host) -> float:
        """From nothing to more than two leases; often a little more or less than one."""
        lease_s = host.settings.lease_s
        scale = self.rng.choice((0.001, 0.01, 0.1, 0.3, 1.0, 1.0, 2.5))
        return lease_s * scale * (0.5 + self.rng.random())

    def heal(self) -> None:
        """Everything works again, and every member is started."""
        world = self.world
        self.episode += 1  # what was planned for later was meant for this one
        world.healed_at = world.now
        network = world.network
        if any(map(any, network.cut)) or network.loss or network.lateness:
            world.disturbed_at = world.now
        network.heal()
        world.witness.heal()
        if world.tracing:
            world.trace_all("everything is healed")
        for host in world.hosts:
            if host.frozen or host.stalled or not host.powered:
                world.disturbed_at = world.now
            host.power_on()
            host.thaw()
            host.end_orphans()
            host.ill = False
            host.resume()
            host.boot()
        self._end_pauses()

    def _end_pauses(self) -> None:
        """The operator resumes whatever is paused, also what is still down."""
        for host in self.world.hosts:
            if host.hold.on:
                host.order_pause(False)
                host.hold = host.hold._replace(on=False)
                self._disturb(self.world.now + 2 * host.settings.lease_s)

    def _disturb(self, until: float = 0.0) -> None:
        self.world.disturbed_at = max(self.world.disturbed_at, self.world.now, until)

    def _later(self, host: Host, call: Callable[[], None]) -> float:
        """Undo a fault some time later, if it was not healed by then."""
        when = self.world.now + self._pause_s(host)
        self.world.timeline.at(when, self._unless_healed, self.episode, call)
        return when

    def _unless_healed(self, episode: int, call: Callable[[], None]) -> None:
        if episode == self.episode:
            call()

    # -- faults ------------------------------------------------------------------------------------

    def crash(self, host: Host) -> None:
        """A kill -9 of the member; it may be started again."""
        host.crash()
        if self.rng.random() < 0.7:
            self._later(host, host.boot)
        if host.settings.distrust_refused:
            self._disturb(self.world.now + 2 * host.settings.lease_s)  # taken for silence

    def crash_guardian(self, host: Host) -> None:
        """A kill -9 of the guardian."""
        host.crash_guardian()

    def crash_both(self, host: Host) -> None:
        """A kill -9 of member and guardian, of which the keeper is left."""
        host.crash_both()
        if self.rng.random() < 0.7:
            self._later(host, host.boot)
        if host.settings.distrust_refused:
            self._disturb(self.world.now + 2 * host.settings.lease_s)

    def crash_all(self, host: Host) -> None:
        """A kill -9 of all that watches; orphans may hold the port for longer than a lease."""
        host.crash_all()
        if host.guardian.alive or host.settings.distrust_refused:
            self._disturb(self.world.now + 4 * host.settings.lease_s)
        self._later(host, host.boot)

    def restart(self, host: Host) -> None:
        """SIGTERM, perhaps a second one, and a new start."""
        host.stop()
        if self.rng.random() < 0.2:
            self._later(host, host.stop)
        if self.rng.random() < 0.7:
            self._later(host, host.boot)

    def switch_over(self, host: Host) -> None:
        """The operator moves the role, once or there and back."""
        host.order_switchover()
        if self.rng.random() < 0.3:
            self._later(host, host.order_switchover)

    def pause(self, host: Host) -> None:
        """The operator pauses, and resumes some time later; silence is judged after it."""
        host.order_pause(True)
        until = self._later(host, lambda: host.order_pause(False))
        self._disturb(until + 2 * host.settings.lease_s)

    def run_now(self, host: Host) -> None:
        """The operator wants a run at once."""
        host.order_run()

    def power_cut(self, host: Host) -> None:
        """The machine is off, and comes back."""
        host.power_off()
        self._disturb(self._later(host, host.power_on))

    def freeze(self, host: Host) -> None:
        """The machine stands still, for longer than a lease or not."""
        host.freeze()
        self._disturb(self._later(host, host.thaw))

    def stall(self, host: Host) -> None:
        """The member's process alone stands still."""
        host.stall()
        self._disturb(self._later(host, host.resume))

    def fall_ill(self, host: Host) -> None:
        """The command does badly here: its health checks fail, and so do its runs."""
        host.ill = True
        self._note(f"the command fails on {host.settings.member}")
        if self.rng.random() < 0.5:
            self._later(host, lambda: setattr(host, "ill", False))

    def cut_both_ways(self, host: Host) -> None:
        """The cable is pulled."""
        self._cut((0, 1), (1, 0))
        self._disturb(self._later(host, self._mend))

    def cut_one_way(self, host: Host) -> None:
        """One hears the other, but not the other way round."""
        self._cut((host.index, host.peer.index))
        self._disturb(self._later(host, self._mend))

    def _cut(self, *ways: tuple[int, int]) -> None:
        for a, b in ways:
            self.world.network.cut[a][b] = True
            if self.world.tracing:
                self.world.trace_all(f"cut from m{a + 1} to m{b + 1}")

    def _mend(self) -> None:
        self.world.network.mend()
        self.world.witness.mend()
        if self.world.tracing:
            self.world.trace_all("mended")

    def cut_off_all(self, host: Host) -> None:
        """The machine's own cable: neither its peer nor the witness is in reach."""
        self._cut((0, 1), (1, 0))
        self.world.witness.cut_off(host)
        self._note(f"{host.settings.member} is cut off from everything")
        self._disturb(self._later(host, self._mend))

    def cut_off_witness(self, host: Host) -> None:
        """One of the two loses the witness."""
        self.world.witness.cut_off(host)
        self._note(f"{host.settings.member} is cut off from the witness")
        self._disturb(self._later(host, self._mend))

    def witness_down(self, host: Host) -> None:
        """The witness is stopped, and started again with what it knew."""
        self.world.witness.down = True
        self._note("the witness is down")
        self._disturb(self._later(host, self.world.witness.heal))

    def witness_wiped(self, host: Host) -> None:
        """The witness has forgotten everything."""
        self.world.witness.wipe()
        self._note("the witness is wiped")

    def witness_slow(self, host: Host) -> None:
        """The witness takes longer than an interval for some answers, and loses others."""
        self.world.witness.slow_s = 2 * host.settings.interval_test_s
        self.world.witness.forgetful = 0.3
        self._note("the witness is slow, and loses answers")
        self._disturb(self._later(host, self.world.witness.heal))

    def _note(self, text: str) -> None:
        if self.world.tracing:
            self.world.trace_all(text)

    def bad_line(self, host: Host) -> None:
        """Messages are lost, doubled, or late and out of order."""
        network = self.world.network
        network.loss = self.rng.choice((0.0, 0.1, 0.5))
        network.doubling = self.rng.choice((0.0, 0.3))
        network.lateness = self.rng.choice((0.0, 0.3))
        self._disturb(self._later(host, self._good_line))

    def _good_line(self) -> None:
        network = self.world.network
        network.loss = network.doubling = network.lateness = 0.0
