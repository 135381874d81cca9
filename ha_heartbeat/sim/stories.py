"""Faults in an order that hurts: each story aims at one kind of rule, with random times.

Single faults, drawn at random, seldom meet in the few milliseconds or leases in which a rule is
all that stands between two workers. Here they do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ha_heartbeat.core.types import Phase

if TYPE_CHECKING:
    from ha_heartbeat.sim.host import Host
    from ha_heartbeat.sim.nemesis import Nemesis


class Stories:
    """What happens to two hosts and their witness, if there is one, one thing after another."""

    def __init__(self, nemesis: Nemesis) -> None:
        self.nemesis = nemesis
        self.world = nemesis.world
        self.rng = nemesis.rng
        self.lease_s = min(h.settings.lease_s for h in self.world.hosts)
        if not self.world.hosts[0].settings.peer:
            self.all = [self.stalled, self.stalled]
            if not nemesis.trusty:
                self.all = [self.stalled, self.slow_witness, self.frozen_claim]
            return
        self.all = [
            self.frozen_at_start,
            self.frozen_at_refusal,
            self.late_refusal,
            self.stalled,
            self.taking_turns,
        ]
        if self.world.hosts[0].settings.has_witness and not nemesis.trusty:
            self.all += [
                self.lonely_voter,
                self.lonely_voter,
                self.forgotten_vote,
                self.slow_witness,
                self.frozen_claim,
                self.meeting_while_claiming,
            ]
        if self.world.hosts[0].settings.has_witness:
            self.all += [self.missed_terms, self.short_term, self.short_term]
            if any(host.settings.has_fence for host in self.world.hosts):
                self.all += [self.outlived_fence, self.outlived_fence]

    def tell(self) -> None:
        """One of them."""
        self.world.disturbed_at = self.world.now + 10 * self.lease_s
        self.rng.choice(self.all)()

    # -- means -------------------------------------------------------------------------------------

    def leases(self, least: float, most: float) -> None:
        """Some leases pass."""
        self.wait_s(self.lease_s * self.rng.uniform(least, most))

    def moment(self) -> None:
        """A few flights of a message."""
        self.wait_s(self.rng.random() * 0.003)

    def wait_s(self, seconds: float) -> None:
        """Time passes."""
        self.world.timeline.run_until(self.world.now + seconds)

    def worker_first(self) -> tuple[Host, Host]:
        """The worker, or any, and its peer."""
        hosts = self.world.hosts
        for host in hosts:
            if _is_worker(host):
                return host, host.peer
        host = self.rng.choice(hosts)
        return host, host.peer

    def part(self) -> None:
        """The two members do not hear each other any more."""
        self.nemesis._cut((0, 1), (1, 0))

    def join(self) -> None:
        """They do again."""
        self.world.network.mend()
        self.nemesis._note("the two hear each other again")

    def blind(self, host: Host) -> None:
        """A host loses the witness."""
        self.world.witness.cut_off(host)
        self.nemesis._note(f"{host.settings.member} is cut off from the witness")

    def late_line(self) -> None:
        """Messages are late, and now and then lost."""
        self.world.network.lateness = 0.5
        self.world.network.loss = self.rng.choice((0.0, 0.1))

    # -- stories -----------------------------------------------------------------------------------

    def frozen_at_start(self) -> None:
        """Of two that start together one stands still in the middle of a question."""
        for host in self.world.hosts:
            host.crash()
        self.leases(0.0, 0.5)
        first, second = self.rng.sample(self.world.hosts, 2)
        first.boot()
        self.moment()
        second.boot()
        self.moment()
        self.rng.choice((first, second)).freeze()
        self.leases(0.5, 2.5)
        first.thaw()
        second.thaw()
        self.leases(0.0, 0.2)

    def frozen_at_refusal(self) -> None:
        """A member stands still while its peer's death is reported, and the peer comes back."""
        worker, other = self.worker_first()
        worker.crash()
        self.moment()
        other.freeze()
        self.leases(0.0, 0.1)
        worker.boot()
        self.leases(0.8, 2.5)
        other.thaw()
        self.leases(0.0, 0.2)

    def late_refusal(self) -> None:
        """A refusal is under way while the one that it is about starts anew."""
        worker, other = self.worker_first()
        self.late_line()
        self.leases(0.0, 0.3)
        worker.crash()
        if self.rng.random() < 0.5:
            self.leases(0.0, 0.5)
            other.crash()
            self.moment()
            other.boot()
        self.wait_s(self.rng.random() * self.rng.choice((0.01, 0.3)))
        worker.boot()
        self.leases(0.2, 1.5)

    def stalled(self) -> None:
        """The worker's process is stopped until its guardian has acted, or nearly."""
        worker, _ = self.worker_first()
        worker.stall()
        self.leases(0.8, 1.5)
        worker.resume()
        self.leases(0.0, 0.3)

    def taking_turns(self) -> None:
        """One takes over from the other, and neither is told how far the other came."""
        worker, other = self.worker_first()
        worker.crash()
        self.leases(0.05, 0.5)
        other.crash()
        self.leases(0.0, 0.3)
        worker.boot()
        self.leases(0.0, 0.3)
        other.boot()

    def outlived_fence(self) -> None:
        """The role comes back, and its worker is lost again, while the fence command still runs."""
        worker, other = self.worker_first()
        for _ in range(2):
            self.part()
            self.blind(worker)
            self.leases(1.05, 1.3)
            self.join()
            self.world.witness.mend()
            self.leases(0.05, 0.2)
            if _is_worker(other):
                other.order_switchover()
                self.leases(0.05, 0.2)

    def missed_terms(self) -> None:
        """A member is down while its peer goes through more terms than its own epochs skip."""
        worker, other = self.worker_first()
        other.crash()
        for _ in range(self.rng.choice((2, 3))):
            self.leases(0.05, 0.3)
            worker.crash()
            self.leases(0.05, 0.3)
            worker.boot()
        self.leases(0.05, 0.3)
        worker.crash()
        self.leases(0.05, 0.3)
        other.boot()
        self.leases(0.05, 0.5)

    def short_term(self) -> None:
        """The preferred member gets the role back, dies at once, and its successor stands still."""
        preferred, keeper = self.worker_first()
        if preferred.core is not None and preferred.core.state.fallback:
            preferred, keeper = keeper, preferred
        preferred.crash()
        self.leases(0.3, 1.0)
        preferred.boot()
        self.world.timeline.run_until(
            self.world.now + 2 * self.lease_s, lambda: _is_worker(preferred)
        )
        self.moment()
        preferred.crash()
        self.moment()
        keeper.freeze()
        self.leases(0.0, 0.1)
        preferred.boot()
        self.leases(0.9, 2.5)
        keeper.thaw()
        self.leases(0.0, 0.2)

    def lonely_voter(self) -> None:
        """A worker lives on its peer's vote alone, and then on nothing."""
        worker, other = self.worker_first()
        if self.rng.random() < 0.7:
            self.blind(worker)
        if self.rng.random() < 0.5:
            self.late_line()
        self.leases(0.5, 2.0)
        self.part()
        self.blind(worker)
        if self.rng.random() < 0.3:
            other.crash()
            self.moment()
            other.boot()
        self.leases(1.0, 2.5)

    def forgotten_vote(self) -> None:
        """The record says that nobody runs, and the only voter who knows better forgets it."""
        first, second = self.worker_first()
        self.blind(second)
        first.stop()
        self.leases(0.05, 0.5)
        if self.rng.random() < 0.3:
            self.world.witness.wipe()
        first.boot()
        self.leases(0.05, 0.5)
        first.crash()
        self.moment()
        self.part()
        first.boot()
        self.leases(1.0, 2.5)

    def slow_witness(self) -> None:
        """A worker lives on late answers of the witness alone, and then on nothing."""
        worker, _ = self.worker_first()
        self.part()
        self.world.witness.slow_s = worker.settings.interval_test_s
        self.leases(0.5, 2.0)
        self.blind(worker)
        self.leases(1.0, 2.5)

    def frozen_claim(self) -> None:
        """A candidate stands still until the vote that it asked for has run out, and wakes up."""
        worker, other = self.worker_first()
        worker.power_off()
        self.world.witness.slow_s = other.settings.interval_test_s
        self.leases(1.0, 1.6)
        other.freeze()
        worker.power_on()
        self.leases(1.5, 3.5)
        other.thaw()
        self.leases(0.0, 0.2)

    def meeting_while_claiming(self) -> None:
        """Two that heard nobody for a lease meet while one of them asks the witness."""
        for host in self.world.hosts:
            host.crash()
        self.part()
        self.world.witness.slow_s = self.rng.choice((0.3, 1.0)) * self.lease_s
        for host in self.world.hosts:
            host.boot()
        self.leases(0.8, 2.0)
        self.join()
        self.leases(0.0, 1.0)


def _is_worker(host: Host) -> bool:
    return host.core is not None and host.core.state.phase is Phase.WORKER
