"""A failing seed made short: faults that it does not need are left out, and the trace has lanes.

Leaving a fault out changes what chance brings after it, so another violation may appear instead;
any will do, the one with the fewest faults is kept.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ha_heartbeat.sim.checker import ViolationError
from ha_heartbeat.sim.clock import EndlessError
from ha_heartbeat.sim.world import World

LANE: Final = 44
TELLING: Final = ("  ! ", "  --  ", "  < StopRequested", "> StartRun", "Becoming", "upervising")
"""What a line of a trace holds that is worth a line of a short one."""


class Shrunk(NamedTuple):
    """A world that fails, the number of faults in it, and how it fails."""

    world: World
    faults: int
    what: str


def attempt(seed: int, skipped: frozenset[int]) -> Shrunk | None:
    """Live through a seed without some of its faults; None if it holds."""
    world = World.from_seed(seed, tracing=True)
    world.skipped = skipped
    try:
        world.run()
    except (ViolationError, EndlessError) as e:
        struck = world.nemesis.count if world.nemesis is not None else 0
        return Shrunk(world, struck - sum(n < struck for n in skipped), str(e))
    return None


def shrink(seed: int) -> Shrunk | None:
    """The same seed with as few faults as greed finds; None if it does not fail at all."""
    best = attempt(seed, frozenset())
    if best is None:
        return None
    skipped: frozenset[int] = frozenset()
    n = 0
    while best.world.nemesis is not None and n < best.world.nemesis.count:
        shorter = attempt(seed, skipped | {n})
        if shorter is not None and shorter.faults <= best.faults:
            best, skipped = shorter, skipped | {n}
        n += 1
    return best


def lanes(world: World) -> str:
    """The telling lines of a trace, a column for each member."""
    names = [h.settings.member for h in world.hosts]
    rows = [f"{'s':>12}  " + "".join(f"{name:{LANE}}" for name in names)]
    for line in world.lines:
        if not any(word in line for word in TELLING):
            continue
        time_s, name, text = line[:12], line[14:].split()[0], line[16:].strip()
        if name in names:
            text = text.removeprefix("! ").removeprefix("> ")
            lane = " " * LANE * names.index(name)
            rows.append(f"{time_s}  {lane}{text[: LANE - 2]}")
        else:
            rows.append(f"{time_s}  {text.removeprefix('-- ')}")
    return "\n".join(row.rstrip() for row in rows)
