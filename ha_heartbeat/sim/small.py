"""A small world that can be copied: two members, their trees, what is in flight, and a witness.

Time moves by whole checks, a third of the lease, and only when nothing is in flight but what a
fault holds back. In between everything that is in flight may happen in any order.
"""

from __future__ import annotations

from copy import copy
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final, NamedTuple

from ha_heartbeat.core import types as t
from ha_heartbeat.core.machine import Core
from ha_heartbeat.core.state import State
from ha_heartbeat.sim.scene import plain_scene

TICK_S: Final = 1.0
WITNESS: Final = 2
"""The index of the witness, after the two members."""

KEY: Final = attrgetter(
    *(f.name for f in fields(State) if f.name not in ("settings", "terms", "out"))
)


class Item(NamedTuple):
    """Something that is about to happen at `to`, in its life `life`; `what` says what."""

    to: int
    life: int
    what: Any
    sender: int
    held: bool = False

    def __str__(self) -> str:
        what = self.what
        if isinstance(what, t.Asked):
            return f"asked: {what.ask.wants.value}, by a {what.ask.view.phase.value}"
        if isinstance(what, t.Answered):
            answer = what.answer
            said = [w for w, on in (("vote", answer.vote), ("released", answer.released)) if on]
            return f"answered: {answer.view.phase.value} {' '.join(said) or 'no vote'}"
        if isinstance(what, t.WitnessRead):
            holder = f"{what.record.holder} holds" if what.record else "empty"
            return f"read the witness: {holder}"
        return type(what).__name__


class Member(NamedTuple):
    """A host: its member (None: not running), its tree, its ends of connections, its disk."""

    state: State | None
    life: int
    run: str = ""
    latest: str = ""
    kill_at: float = 0.0
    stopped: bool = False
    inbound: frozenset[int] = frozenset()
    disk: tuple[int, int] = (0, 0)

    @property
    def port_held(self) -> bool:
        """By the member and its tree."""
        return self.state is not None or self.run != ""


class Small(NamedTuple):
    """Everything, as a value; `path` is how it was reached, the latest first."""

    now: float
    members: tuple[Member, Member]
    flight: tuple[Item, ...]
    version: int
    record: t.Record | None
    witness_down: bool
    cut: bool
    faults: int
    epochs: frozenset[tuple[int, int, int]]
    path: Any
    settings: tuple[t.Settings, ...]

    def key(self) -> int:
        """The same for worlds with the same future.

        Times stay as they are: numbers of messages, which grow with them, keep worlds of different
        times apart in any case.
        """
        hosts = tuple((KEY(m.state) if m.state is not None else None, *m[1:]) for m in self.members)
        return hash((hosts, frozenset(self.flight), self.now, *self[3:9]))


def beginning(*, has_witness: bool, faults: int) -> Small:
    """Two hosts with nothing started yet; `--takeover proof` if there is no witness."""
    scene = plain_scene(
        takeover=t.TakeoverPolicy.PROOF,
        intervals_test_s=(TICK_S, TICK_S),
        interval_commands_s=1000.0,
        stop_timeout_s=0.5,
        has_witness=has_witness,
    )
    off = Member(None, 0)
    nobody: frozenset[tuple[int, int, int]] = frozenset()
    return Small(0.0, (off, off), (), 0, None, False, False, faults, nobody, None, scene.settings)


class BrokenError(Exception):
    """Two live commands, or an epoch used twice."""


class Step:
    """One step from a world to the next: holds what changes while it is taken."""

    def __init__(self, world: Small) -> None:
        self.world = world
        self.members = list(world.members)
        self.flight = list(world.flight)
        self.version = world.version
        self.record = world.record
        self.epochs = world.epochs

    def done(self, note: str, lane: int, **changes: Any) -> Small:
        """The next world; raises `BrokenError` if it should not be."""
        path = (self.world.path, (self.world.now, lane, note))
        first, second = self.members
        after = self.world._replace(
            members=(first, second),
            flight=tuple(self.flight),
            version=self.version,
            record=self.record,
            epochs=self.epochs,
            path=path,
            **changes,
        )
        if first.run and second.run:
            raise BrokenError("two live commands", after)
        return after

    def change(self, index: int, **changes: Any) -> None:
        """One host is another now."""
        self.members[index] = self.members[index]._replace(**changes)

    def send(self, sender: int, to: int, what: Any) -> None:
        """Put something in flight between two hosts, if the way is open."""
        if not (self.world.cut and sender != to):
            self.flight.append(Item(to, self.members[to].life, what, sender))

    def tell(self, index: int, event: t.Event, now: float) -> None:
        """A step of the core, and what it asks for."""
        member = self.members[index]
        if member.state is None:
            return
        core = Core.__new__(Core)
        core.strict = False
        core.state = copy(member.state)
        core.state.out = []
        effects = core.step(event, now, 1.0)
        self.change(index, state=core.state)
        for effect in effects:
            do = getattr(self, "_" + type(effect).__name__.lower(), None)
            if do is not None:
                do(index, effect)
        due = core.wake_at() <= now and core.state.phase is not t.Phase.STOPPED
        if due and not any(i.to == index and type(i.what) is t.Tick for i in self.flight):
            self.flight.append(Item(index, self.members[index].life, t.Tick(), index))

    # -- effects -----------------------------------------------------------------------------------

    def _connect(self, index: int, effect: t.Connect) -> None:
        self._close_outbound(index)
        self.send(index, 1 - index, effect)

    def _conn(self, index: int, link: int) -> int:
        return self.members[index].life * 1000 + link

    def _sendask(self, index: int, effect: t.SendAsk) -> None:
        self.send(index, 1 - index, t.Asked(self._conn(index, effect.link), effect.ask))

    def _sendanswer(self, index: int, effect: t.SendAnswer) -> None:
        client_life, link = divmod(effect.conn, 1000)
        if self.members[1 - index].life == client_life:
            self.send(index, 1 - index, t.Answered(link, effect.answer))

    def _startrun(self, index: int, effect: t.StartRun) -> None:
        self.change(index, run=effect.run, latest=effect.run)

    def _extendlease(self, index: int, effect: t.ExtendLease) -> None:
        self.change(index, kill_at=effect.kill_at)

    def _killtree(self, index: int, effect: t.KillTree) -> None:
        self.change(index, run="")
        self.send(index, index, t.TreeGone())

    def _stoptree(self, index: int, effect: t.StopTree) -> None:
        self.send(index, index, effect)

    def _remember(self, index: int, effect: t.Remember) -> None:
        self.change(index, disk=(effect.epoch_seen, effect.epoch_reserved))

    def _readwitness(self, index: int, effect: t.ReadWitness) -> None:
        self._ask_witness(index, effect)

    def _swapwitness(self, index: int, effect: t.SwapWitness) -> None:
        self._ask_witness(index, effect)

    def _ask_witness(self, index: int, effect: t.ReadWitness | t.SwapWitness) -> None:
        life = self.members[index].life
        if self.world.witness_down:
            self.flight.append(Item(index, life, t.WitnessFailed(effect.op, "down"), WITNESS))
        else:
            self.flight.append(Item(WITNESS, life, effect, index))

    def _rolechanged(self, index: int, effect: t.RoleChanged) -> None:
        if effect.phase is t.Phase.WORKER:
            life = self.members[index].life
            if any(e == effect.epoch and (i, n) != (index, life) for e, i, n in self.epochs):
                raise BrokenError(f"epoch {effect.epoch} is used again", self.world)
            self.epochs |= {(effect.epoch, index, life)}

    # -- what is in flight arrives -----------------------------------------------------------------

    def arrive(self, item: Item) -> None:
        """It happens."""
        self.flight.remove(item)
        if item.to == WITNESS:
            self._at_witness(item)
        elif isinstance(item.what, t.Connect):
            self._at_port(item)
        elif self.members[item.to].life != item.life:
            if isinstance(item.what, t.Asked):
                self._hang_up(item)
        elif isinstance(item.what, t.StopTree):
            self.change(item.to, run="")
            if self.members[item.to].state is None:
                self._close_inbound(item.to)
            self.tell(item.to, t.TreeGone(), self.world.now)
        elif isinstance(item.what, t.Asked) and item.what.conn not in self.members[item.to].inbound:
            self._hang_up(item)
        else:
            if isinstance(item.what, t.InboundClosed):
                inbound = self.members[item.to].inbound - {item.what.conn}
                self.change(item.to, inbound=inbound)
            self.tell(item.to, item.what, self.world.now)

    def _hang_up(self, item: Item) -> None:
        self.send(item.to, item.sender, t.LinkBroken(item.what.conn % 1000, "reset"))

    def _at_port(self, item: Item) -> None:
        """The port is held, or refuses."""
        link = item.what.link
        if self.members[item.to].port_held:
            conn = self._conn(item.sender, link)
            self.change(item.to, inbound=self.members[item.to].inbound | {conn})
            self.send(item.to, item.sender, t.Connected(link))
        else:
            self.send(item.to, item.sender, t.Refused(link))

    def _at_witness(self, item: Item) -> None:
        effect = item.what
        version = str(self.version) if self.record is not None else ""
        answer: t.Event
        if isinstance(effect, t.ReadWitness):
            answer = t.WitnessRead(effect.op, version, self.record)
        elif effect.expected != version:
            answer = t.WitnessConflict(effect.op)
        else:
            self.version += 1
            self.record = effect.record
            answer = t.WitnessSwapped(effect.op, str(self.version))
        if self.members[item.sender].life == item.life:
            self.flight.append(Item(item.sender, item.life, answer, WITNESS))

    # -- life and death ----------------------------------------------------------------------------

    def boot(self, index: int) -> None:
        """A member starts on a free port."""
        life = self.members[index].life + 1
        state = Core(self.world.settings[index]).state
        self.change(index, state=state, life=life, stopped=False, inbound=frozenset())
        self.tell(index, t.Started(f"{index}.{life}", *self.members[index].disk), self.world.now)

    def crash(self, index: int) -> None:
        """A kill -9 of the member; its guardian ends the tree, and then the port is free."""
        self.change(index, state=None, stopped=False)
        self._close_outbound(index)
        if self.members[index].run:
            self.send(index, index, t.StopTree(0.0))
        else:
            self._close_inbound(index)

    def _close_outbound(self, index: int) -> None:
        """The peer reads the end of our connections to it."""
        life = self.members[index].life
        for conn in sorted(self.members[1 - index].inbound):
            if conn // 1000 == life:
                self.send(index, 1 - index, t.InboundClosed(conn))

    def _close_inbound(self, index: int) -> None:
        """The peer's connections to us are reset."""
        for conn in sorted(self.members[index].inbound):
            self.send(index, 1 - index, t.LinkBroken(conn % 1000, "reset"))
        self.change(index, inbound=frozenset())

    def advance(self) -> float:
        """A third of a lease passes: guardians end what is due, timers fire."""
        now = self.world.now + TICK_S
        for index, member in enumerate(self.members):
            if member.run and now >= member.kill_at:
                self.change(index, run="")
                self.send(index, index, t.Expired(member.latest))
            if not member.stopped:
                self.wake(index, now)
        return now

    def wake(self, index: int, now: float) -> None:
        """The member's timer fires if it is due."""
        state = self.members[index].state
        if state is not None:
            core = Core.__new__(Core)
            core.state = state
            if core.wake_at() <= now:
                self.flight.append(Item(index, self.members[index].life, t.Tick(), index))
