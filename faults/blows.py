"""What a fault is: something that is done to the stage, lasts, and is undone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NamedTuple

from faults.stage import Stage

GOES_ON = "goes on"
"""The worker's run has to go on through the fault."""


def nothing() -> None:
    """What there is to undo where nothing has to be undone."""


def lasting(seconds: float) -> Callable[[], None]:
    """Wait that long."""
    return lambda: time.sleep(seconds)


class Blow(NamedTuple):
    """A fault that has just struck.

    `last` returns when it is to be healed, `heal` undoes it. Members that have ended are started
    again afterwards by whoever looks after the pair, as a service manager would. `serves` is
    GOES_ON, or a row of `--check-config` whose time holds while the fault lasts, or "": nothing
    is promised before it is healed.
    """

    text: str
    last: Callable[[], None]
    heal: Callable[[], None] = nothing
    serves: str = ""


Strike = Callable[[Stage, random.Random, str], Blow | None]
"""Strikes, given the worker's host; None where this fault does not fit into this chapter."""


class Fault(NamedTuple):
    """One kind of fault.

    `weight`: how often it is drawn, against the others. `parts_hosts`: whether members may lose
    sight of each other by it, so that under `--takeover silence` both may run meanwhile.
    """

    name: str
    family: str
    strike: Strike
    weight: int = 2
    parts_hosts: bool = False


def within_lease(stage: Stage, dice: random.Random) -> float:
    """A time in seconds in which a lease does not run out, mostly."""
    return dice.uniform(0.0, 0.5) * stage.chapter.lease_s


def beyond_lease(stage: Stage, dice: random.Random) -> float:
    """A time in seconds after which a silent worker has been replaced."""
    return dice.uniform(1.05, 2.2) * stage.chapter.lease_s


def any_time(stage: Stage, dice: random.Random) -> float:
    """Shorter or longer than a lease."""
    return dice.choice((within_lease, beyond_lease))(stage, dice)


def either(stage: Stage, dice: random.Random, worker: str) -> str:
    """The worker's host mostly, else the other."""
    return worker if dice.random() < 0.7 else stage.other(worker)
