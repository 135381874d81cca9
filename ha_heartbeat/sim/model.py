"""`make model DEPTH=n`: every course that two members can take, up to a depth, checked.

The real core, in the small world of `small.py`: all orders of what is in flight, of timers and of
a few faults: a crash, a pause, a message lost or late, a cut, a witness that is down. Worlds that
were seen before are not looked at again. At most one command lives, and no epoch is used twice.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ha_heartbeat.core import types as t
from ha_heartbeat.core.types import Phase
from ha_heartbeat.sim.small import WITNESS, BrokenError, Item, Small, Step, beginning

LANES: Final = ("m1", "m2", "witness", "world")
WORLD: Final = 3


class Explored(NamedTuple):
    """What was looked at, and the course that breaks an invariant, if one does."""

    states: int
    steps: int
    depth: int
    took_s: float
    broken: str


# -- what may happen next --------------------------------------------------------------------------


def successors(world: Small) -> Iterator[Small]:
    """Every world that may come next; raises `BrokenError` if one may not be."""
    now = world.now
    ready = [i for i in world.flight if not i.held and not _waits(world, i)]
    for item in dict.fromkeys(i for i in world.flight if i.held or not _waits(world, i)):
        step = Step(world)
        step.arrive(item)
        yield step.done(f"{item}{' (late)' if item.held else ''}", item.to)
    if not ready:
        step = Step(world)
        then = step.advance()
        yield step.done("a third of a lease passes", WORLD, now=then)
    yield from _recoveries(world, now)
    if world.faults:
        yield from _faults(world)


def _waits(world: Small, item: Item) -> bool:
    """Whether nobody is there to read it, for now."""
    if item.to == WITNESS or isinstance(item.what, t.Connect | t.StopTree):
        return False
    return world.members[item.to].stopped


def _recoveries(world: Small, now: float) -> Iterator[Small]:
    """What may end a fault, at any time."""
    for index, member in enumerate(world.members):
        if not member.port_held:
            step = Step(world)
            step.boot(index)
            yield step.done("starts", index)
        if member.stopped:
            step = Step(world)
            step.change(index, stopped=False)
            step.wake(index, now)
            yield step.done("goes on", index)
    if world.cut:
        yield Step(world).done("the cut is mended", WORLD, cut=False)
    if world.witness_down:
        yield Step(world).done("is up", WITNESS, witness_down=False)


def _faults(world: Small) -> Iterator[Small]:
    """One of the faults that are left."""
    left = world.faults - 1
    for index, member in enumerate(world.members):
        if member.state is None:
            continue
        step = Step(world)
        step.crash(index)
        yield step.done("CRASHES", index, faults=left)
        if not member.stopped:
            step = Step(world)
            step.change(index, stopped=True)
            yield step.done("STOPS", index, faults=left)
    for item in dict.fromkeys(i for i in world.flight if not i.held and i.sender != i.to):
        step = Step(world)
        step.flight.remove(item)
        if item.to == WITNESS or item.sender == WITNESS:
            asker = item.sender if item.to == WITNESS else item.to
            failed = t.WitnessFailed(item.what.op, "lost")
            step.flight.append(Item(asker, item.life, failed, asker))
        yield step.done(f"LOST: {item}", item.to, faults=left)
        step = Step(world)
        step.flight[step.flight.index(item)] = item._replace(held=True)
        yield step.done(f"LATE: {item}", item.to, faults=left)
    if not world.cut:
        yield Step(world).done("THE TWO ARE CUT APART", WORLD, cut=True, faults=left)
    if not world.witness_down and world.settings[0].has_witness:
        yield Step(world).done("IS DOWN", WITNESS, witness_down=True, faults=left)


# -- where it begins -------------------------------------------------------------------------------


def cold(*, has_witness: bool, faults: int) -> Small:
    """Nothing is started."""
    return beginning(has_witness=has_witness, faults=faults)


def settled(*, has_witness: bool, faults: int) -> Small:
    """One is worker, the other supervises it, and nothing is in flight."""
    world = cold(has_witness=has_witness, faults=0)
    for _ in range(1000):
        world = next(successors(world)) if world.members[0].life else next(_recoveries(world, 0.0))
        if world.now >= 3.0 and not world.flight:
            break
        if not world.members[1].life and not world.flight:
            world = list(_recoveries(world, world.now))[-1]
    phases = {m.state.phase for m in world.members if m.state is not None}
    assert phases == {Phase.WORKER, Phase.SUPERVISOR}, "two members settle"
    return world._replace(faults=faults, path=None)


# -- looking at all of them ------------------------------------------------------------------------


def explore(start: Small, depth: int) -> Explored:
    """All that can be reached from `start` in `depth` steps."""
    began = time.perf_counter()
    seen = {start.key()}
    frontier = [start]
    steps = reached = 0
    try:
        while frontier and reached < depth:
            reached += 1
            found = []
            for world in frontier:
                for after in successors(world):
                    steps += 1
                    key = after.key()
                    if key not in seen:
                        seen.add(key)
                        found.append(after)
            frontier = found
    except BrokenError as e:
        broken = f"{e.args[0]}\n{lanes(e.args[1].path)}"
        return Explored(len(seen), steps, reached, time.perf_counter() - began, broken)
    return Explored(len(seen), steps, reached, time.perf_counter() - began, "")


def lanes(path: Any) -> str:
    """A course as text: a line a step, a column for each member, the witness and the world."""
    lines = []
    while path is not None:
        path, (now, lane, note) = path
        lines.append(f"{now:5.1f}  " + "".join(f"{note if n == lane else '':34}" for n in range(4)))
    head = "    s  " + "".join(f"{name:34}" for name in LANES)
    return "\n".join(line.rstrip() for line in (head, *reversed(lines)))


def main() -> int:
    """Exit status 0 if no course breaks an invariant, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python3 -m ha_heartbeat.sim.model")
    parser.add_argument("--depth", type=int, default=9, help="steps (%(default)s)")
    parser.add_argument("--faults", type=int, default=2, help="at most so many (%(default)s)")
    options = parser.parse_args()
    status = 0
    for begin in (cold, settled):
        for has_witness in (False, True):
            start = begin(has_witness=has_witness, faults=options.faults)
            found = explore(start, options.depth)
            print(
                f"{begin.__name__:8} {'witness' if has_witness else 'proof':8} "
                f"{found.states} states, {found.steps} steps, depth {found.depth}, "
                f"{found.took_s:.1f} s{': ' + found.broken if found.broken else ''}",
                flush=True,
            )
            status |= found.broken != ""
    return status


if __name__ == "__main__":
    sys.exit(main())
