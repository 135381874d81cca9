"""The judge: watches commands, epochs and roles from outside, and knows no rule of the core."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ha_heartbeat.core import health, hooks
from ha_heartbeat.core.types import Evidence, Phase, RoleChanged, TakeoverPolicy
from ha_heartbeat.core.votes import check_period_s, relied_on_s

if TYPE_CHECKING:
    from ha_heartbeat.sim.host import Host
    from ha_heartbeat.sim.world import World


class ViolationError(Exception):
    """An invariant does not hold; the message says which, when, and on whom."""


class Checker:
    """Raises `ViolationError` at the step that breaks an invariant.

    - `proof`: at most one live command, always.
    - `silence`: two live commands only after a takeover on silence, and that only after a
      disturbance that could cause it.
    - Both: every epoch is used once, and is above all that its worker can know of; no run starts
      outside the phase WORKER; in a pause none starts and nobody takes over, as far as the member
      knows of the pause. (Members without a peer whose witness was wiped may use an epoch
      again if nobody who knows of it has been up and in reach of the witness since then.)
    - With a witness that was always in reach and never wiped, every epoch is above all that it was
      told of, by whichever member.
    - Liveness: `World.bound_s` after everything was healed (four leases, four stop timeouts, six
      intervals, the delay of a fallback, the longest hold-down and a second), one member is worker
      and the others supervise it; then, while nothing else happens, the role does not move. Only
      `fail_liveness` speaks of these.
    - While the command does badly on one member or on both, the role moves no more often than ever
      longer hold-downs allow, and in the end it is on the one where the command does well.
    """

    def __init__(self, world: World, hosts: int) -> None:
        self.world = world
        self.epochs: dict[int, tuple[int, int]] = {}  # epoch -> the host and life that used it
        self.known = [0] * hosts  # the highest epoch that each host has heard of or used
        self.terms: list[tuple[int, Evidence | None]] = [(0, None)] * hosts
        self.evidence: list[Evidence | None] = [None] * hosts
        self.last_worker: tuple[int, int] | None = None
        self.failovers = 0
        self.changes = 0
        self.overlaps = 0
        self.recorded = [0] * hosts
        self.safety_only = False

    def live(self, host: Host) -> bool:
        """Whether anything of the host's command can do something now, or what it set up stands."""
        guardian = host.guardian
        # Where a guardian is lost beside a stopped member nobody can undo it: a limit that is told.
        stands = guardian.alive or (guardian.undo_owed and guardian.present)
        return stands and host.powered and not host.frozen

    def lives(self, host: Host) -> None:
        """A command has begun to live, or to live again, on `host`."""
        if not self.live(host):
            return
        for other in self.world.hosts:
            if other is not host and self.live(other):
                self._overlap(host, other)

    def _overlap(self, host: Host, peer: Host) -> None:
        if host.settings.has_witness and (host.orphans or peer.orphans):
            return  # nobody was left to end them with their lease: see docs/guarantees.md
        self.overlaps += 1
        silent = Evidence.SILENT in self.evidence
        if self.world.policy is TakeoverPolicy.PROOF or not silent:
            self.fail(f"two live commands: {host.settings.member} and {peer.settings.member}")

    def ends(self, host: Host) -> None:
        """Nothing of the command lives on `host`."""

    def starts(self, host: Host, epoch: int) -> None:
        """A run is about to start."""
        core = host.core
        if core is None or core.state.phase is not Phase.WORKER or core.state.epoch != epoch:
            self.fail(f"{host.settings.member} starts a run of epoch {epoch} without the role")
        elif core.state.hold.on:
            self.fail(f"{host.settings.member} starts a run in a pause")

    def becomes_worker(self, host: Host, change: RoleChanged) -> None:
        """A member has entered the phase WORKER (again, if it undid a hand-over)."""
        self.changes += 1
        worker = (host.index, host.life)
        if change.epoch in self.epochs:
            if self.epochs[change.epoch] != worker and not self._nobody_knows(host, change.epoch):
                self.fail(f"epoch {change.epoch} is used again by {host.settings.member}")
            return
        if host.core is not None and host.core.state.hold.on:
            self.fail(f"{host.settings.member} took over in a pause")
        self._epoch_grows(host, change.epoch)
        self.epochs[change.epoch] = worker
        self.terms[host.index] = (change.epoch, change.evidence)
        self.known[host.index] = change.epoch
        self.evidence[host.index] = change.evidence
        if self.last_worker is not None and self.last_worker != worker:
            self.failovers += 1
        self.last_worker = worker
        if change.evidence is Evidence.SILENT:
            self._silence_had_a_cause(host)

    def _nobody_knows(self, host: Host, epoch: int) -> bool:
        """Without a peer, whether the wiped witness could not be told of an epoch any more."""
        witness = self.world.witness
        if host.settings.peer or witness.wiped_at < 0.0:
            return False
        return not any(
            known >= epoch
            and other.struck_at < witness.wiped_at
            and other.is_well
            and not witness.cut[other.index]
            for other, known in zip(self.world.hosts, self.known, strict=True)
        )

    def hears(self, host: Host, epoch: int) -> None:
        """A message that names this epoch has reached `host`."""
        if epoch > self.known[host.index]:
            self.known[host.index] = epoch

    def _epoch_grows(self, host: Host, epoch: int) -> None:
        """Above all that this host knows of, and above a term that it voted for.

        Two machines without a witness cannot do better: a member that was down while its peer took
        over and died has no way to learn that peer's epoch.
        """
        if epoch <= self.known[host.index]:
            self.fail(f"epoch {epoch} is not above {self.known[host.index]}, heard of before")
        witness = self.world.witness
        if witness.spotless and epoch < witness.epoch:
            self.fail(f"epoch {epoch} is below {witness.epoch}, which the witness knows")
        if not host.settings.peer:
            return
        other, evidence = self.terms[host.peer.index]
        if epoch < other and evidence in (Evidence.VOTED, Evidence.RELEASED):
            self.fail(f"epoch {epoch} is below {other}, which {host.settings.member} voted for")

    def _silence_had_a_cause(self, host: Host) -> None:
        world = self.world
        if world.policy is TakeoverPolicy.PROOF:
            self.fail(f"{host.settings.member} acted on silence under --takeover proof")
        if host.peer.core is None or host.core is None:
            return
        since_s = world.now - world.disturbed_at
        if since_s > 2.5 * host.settings.lease_s:
            self.fail_liveness(
                f"{host.settings.member} took over on silence, {since_s:.3f} s after the last "
                f"disturbance"
            )

    def overlap_recorded(self, host: Host) -> None:
        """A member recorded an overlap."""
        self.recorded[host.index] += 1
        if self.world.policy is TakeoverPolicy.PROOF:
            self.fail(f"{host.settings.member} recorded an overlap under --takeover proof")

    def settled(self) -> bool:
        """Whether exactly one member is worker, the others supervise it, and all know."""
        phases = []
        for host in self.world.hosts:
            if host.core is None or host.fencing:
                return False
            s = host.core.state
            if s.tree_alive and s.phase is not Phase.WORKER:
                return False
            if s.paused or (s.phase is Phase.WORKER and s.fallback and self._falls_back(host)):
                return False  # it has to be resumed, or a hand-over is due
            if s.phase is Phase.WORKER and (health.is_failing(s) or not hooks.is_ready(s)):
                return False  # the same, or it does not run yet
            if host.clock.local(self.world.now) <= s.switch_until:
                return False  # the operator has asked for one
            heard_at = s.heard_at if s.settings.peer else s.read_at
            alone = s.phase is Phase.WORKER and not s.settings.peer
            if not alone and host.clock.world(heard_at) < self.world.healed_at:
                return False  # what it knows is of before
            if s.phase is Phase.WORKER and s.settings.has_witness:
                voted_at = s.lease_until - relied_on_s(s.settings.lease_s)
                if host.clock.world(voted_at) < self.world.healed_at:
                    return False  # its votes are of before, and may run out before they are renewed
                left_s = s.lease_until - host.clock.local(self.world.now)
                if left_s < check_period_s(s) * 1.1:
                    return False  # the next check comes too late for them
            phases.append(s.phase)
        workers = phases.count(Phase.WORKER)
        return workers == 1 and phases.count(Phase.SUPERVISOR) == len(phases) - 1

    def _falls_back(self, host: Host) -> bool:
        """Whether the role goes to the preferred peer, unless it was moved away from this life."""
        peer, core = host.peer.core, host.core
        return peer is None or core is None or core.state.moved_from != peer.state.incarnation

    def well_one_works(self, ill: Host) -> None:
        """The command does badly on one of two for long: the role is with the other."""
        if ill.settings.fallback or ill.peer.settings.fallback:
            return  # it is given back, and fails again, ever more seldom
        if ill.core is not None and ill.core.state.phase is Phase.WORKER:
            self.fail_liveness(f"{ill.settings.member} is worker, where the command does badly")

    def fail(self, what: str) -> None:
        """Raise the violation."""
        raise ViolationError(f"{what} (at {self.world.now:.4f} s)")

    def fail_liveness(self, what: str) -> None:
        """The same, for what should have happened and did not."""
        if not self.safety_only:
            self.fail(what)
