"""Faults of the network."""

from __future__ import annotations

import random
import time

from benchmarks.network import MEMBERS, WITNESS
from faults.blows import GOES_ON, Blow, Fault, any_time, beyond_lease, either, lasting
from faults.stage import Stage

CUT_OFF = "worker cut from everything"


def _serves_if_cut(stage: Stage, name: str, worker: str) -> str:
    """With a witness a worker that is cut off is replaced; the other one is not missed."""
    if name != worker:
        return GOES_ON
    return CUT_OFF


def unplugged(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """A host hears nobody and is heard by nobody, and nothing tells it so."""
    name = either(stage, dice, worker)
    stage.links.unplug(name)
    serves = _serves_if_cut(stage, name, worker)
    return Blow(
        f"{name} cut off silently",
        lasting(any_time(stage, dice)),
        lambda: stage.links.plug(name),
        serves,
    )


def link_down(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """The same, and the host's own kernel knows that its cable is out."""
    name = either(stage, dice, worker)
    stage.links.set_link(name, "down")
    serves = _serves_if_cut(stage, name, worker)
    return Blow(
        f"link of {name} down",
        lasting(any_time(stage, dice)),
        lambda: stage.links.set_link(name, "up"),
        serves,
    )


def all_cut(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """Nobody hears anybody."""
    for name in MEMBERS:
        stage.links.unplug(name)

    def heal() -> None:
        for name in MEMBERS:
            stage.links.plug(name)

    return Blow("both cut off", lasting(any_time(stage, dice)), heal)


def between_members(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """The two do not hear each other; each hears the witness."""
    stage.links.drop("a", "b", to=True, from_=True)
    return Blow(
        "a and b cut from each other",
        lasting(beyond_lease(stage, dice)),
        lambda: stage.links.clear("a"),
        GOES_ON,
    )


def one_way(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """One of the two hears the other and is not heard."""
    deaf = dice.choice(MEMBERS)
    stage.links.drop(deaf, stage.other(deaf), to=False, from_=True)
    return Blow(
        f"{deaf} does not hear {stage.other(deaf)}",
        lasting(any_time(stage, dice)),
        lambda: stage.links.clear(deaf),
        GOES_ON,
    )


def one_way_all(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """A host hears everybody and is not heard, or the other way round."""
    name = either(stage, dice, worker)
    mute = dice.random() < 0.5
    for there in (stage.other(name), WITNESS):
        stage.links.drop(name, there, to=mute, from_=not mute)
    text = f"{name} is {'not heard by anybody' if mute else 'deaf'}"
    serves = _serves_if_cut(stage, name, worker)
    hold = lasting(any_time(stage, dice))
    return Blow(text, hold, lambda: stage.links.clear(name), serves)


def from_witness(stage: Stage, dice: random.Random, worker: str) -> Blow | None:
    """A host does not reach the witness, in one direction or both."""
    if not stage.has_witness():
        return None
    name = dice.choice(MEMBERS)
    to, from_ = dice.choice(((True, True), (True, False), (False, True)))
    stage.links.drop(name, WITNESS, to=to, from_=from_)
    return Blow(
        f"{name} cut from the witness",
        lasting(any_time(stage, dice)),
        lambda: stage.links.clear(name),
        GOES_ON,
    )


def loss(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """Some packets of a host are lost."""
    name, percent = either(stage, dice, worker), dice.choice((5, 20, 50, 80))
    stage.links.lose(name, percent)
    return Blow(
        f"{percent} % loss at {name}",
        lasting(beyond_lease(stage, dice)),
        lambda: stage.links.clear(name),
    )


def flapping(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """A link goes down and up again, and again."""
    name = either(stage, dice, worker)
    silent = dice.random() < 0.5

    def cut() -> None:
        if silent:
            stage.links.unplug(name)
        else:
            stage.links.set_link(name, "down")

    def restore() -> None:
        if silent:
            stage.links.plug(name)
        else:
            stage.links.set_link(name, "up")

    def last() -> None:
        for _ in range(dice.randint(2, 5)):
            restore()
            time.sleep(dice.uniform(0.0, 0.4) * stage.chapter.lease_s)
            cut()
            time.sleep(dice.uniform(0.0, 0.7) * stage.chapter.lease_s)

    cut()
    return Blow(f"link of {name} flaps", last, restore)


def refusal(stage: Stage, dice: random.Random, worker: str) -> Blow | None:
    """A firewall refuses in a host's name, which members are told to distrust."""
    if not stage.chapter.distrust:
        return None
    name = dice.choice(MEMBERS)
    stage.links.refuse(name, stage.other(name))
    return Blow(
        f"{name}'s firewall resets what {stage.other(name)} sends",
        lasting(any_time(stage, dice)),
        lambda: stage.links.clear(name),
        GOES_ON,
    )


def delay(stage: Stage, dice: random.Random, worker: str) -> Blow | None:
    """All that a host or the witness sends and gets takes longer."""
    relay = stage.relay
    if relay is None:
        return None
    name = dice.choice((*MEMBERS, WITNESS))
    delay_ms = int(dice.uniform(0.05, 1.5) * stage.chapter.interval_s * 1000)
    relay.delay(name, delay_ms, dice.choice((0, delay_ms)))
    return Blow(
        f"{delay_ms} ms of delay each way at {name}",
        lasting(beyond_lease(stage, dice)),
        lambda: relay.undo(name),
    )


FAULTS = (
    Fault("host cut off silently", "network", unplugged, 6, parts_hosts=True),
    Fault("link down", "network", link_down, 5, parts_hosts=True),
    Fault("everybody cut off", "network", all_cut, 2, parts_hosts=True),
    Fault("members cut from each other", "network", between_members, 3, parts_hosts=True),
    Fault("one member deaf to the other", "network", one_way, 3, parts_hosts=True),
    Fault("one member deaf or mute to all", "network", one_way_all, 4, parts_hosts=True),
    Fault("member cut from witness", "network", from_witness, 3),
    Fault("packets lost", "network", loss, 3, parts_hosts=True),
    Fault("link flaps", "network", flapping, 4, parts_hosts=True),
    Fault("refusal by a firewall", "network", refusal, 8, parts_hosts=True),
    Fault("packets delayed", "network", delay, 3, parts_hosts=True),
)
