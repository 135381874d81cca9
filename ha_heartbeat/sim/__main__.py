"""`python3 -m ha_heartbeat.sim`: run many seeds, or replay one with its trace."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
from typing import Final, NamedTuple

from ha_heartbeat.sim.checker import ViolationError
from ha_heartbeat.sim.clock import EndlessError
from ha_heartbeat.sim.shrink import lanes, shrink
from ha_heartbeat.sim.world import World

SHOWN: Final = 20
"""How many violations are printed as they are found; all of them are counted."""


class Outcome(NamedTuple):
    """What a batch of seeds gave."""

    seeds: int
    failovers: int
    overlaps: int
    steps: int
    violations: tuple[tuple[int, str], ...]


def run_batch(seeds: range) -> Outcome:
    """Run some seeds in this process."""
    gc.disable()  # a world is one large cycle, and is thrown away whole
    failovers = overlaps = steps = 0
    violations = []
    for seed in seeds:
        world = World.from_seed(seed)
        try:
            world.run()
        except ViolationError as e:
            violations.append((seed, str(e)))
        except Exception as e:  # a crash of the core is a violation like any other
            violations.append((seed, f"{type(e).__name__}: {e}"))
        failovers += world.checker.failovers
        overlaps += world.checker.overlaps
        steps += world.timeline.steps
        if seed % 50 == 0:
            gc.collect()
    return Outcome(len(seeds), failovers, overlaps, steps, tuple(violations))


def replay(seed: int) -> int:
    """Run one seed and print all of it."""
    world = World.from_seed(seed, tracing=True)
    error = ""
    try:
        world.run()
    except (ViolationError, EndlessError) as e:
        error = str(e)
    finally:
        print("\n".join(world.lines))
    print(f"seed {seed}: {error or 'no violation'}; {world.checker.failovers} failovers")
    return 1 if error else 0


def replay_short(seed: int) -> int:
    """Leave out of one seed what its failure does not need, and print what is left."""
    shrunk = shrink(seed)
    if shrunk is None:
        print(f"seed {seed}: no violation")
        return 0
    print(lanes(shrunk.world))
    print(f"seed {seed}, with {shrunk.faults} faults or stories: {shrunk.what}")
    return 1


def run_many(first: int, runs: int, jobs: int) -> int:
    """Run `runs` seeds from `first` on `jobs` processes, and print one line in the end."""
    began = time.perf_counter()
    batch = max(1, min(200, runs // jobs))
    batches = [range(n, min(n + batch, first + runs)) for n in range(first, first + runs, batch)]
    total = [0, 0, 0, 0]
    violations: list[tuple[int, str]] = []
    with multiprocessing.Pool(jobs) as pool:
        for outcome in pool.imap_unordered(run_batch, batches):
            for i in range(4):
                total[i] += outcome[i]  # type: ignore[operator]
            for seed, what in outcome.violations[: max(0, SHOWN - len(violations))]:
                print(f"seed {seed}: {what}", flush=True)
            violations += outcome.violations
    took_s = time.perf_counter() - began
    print(
        f"{total[0]} seeds, {total[1]} failovers, {total[3]} steps, {total[2]} overlaps under "
        f"--takeover silence, {len(violations)} violations; {took_s:.1f} s, "
        f"{total[1] / took_s / jobs:.0f} failovers a second and core"
    )
    if violations:
        print(f"replay one with: make sim SEED={min(violations)[0]}")
    return 1 if violations else 0


def main() -> int:
    """Exit status 0 if no invariant was violated, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python3 -m ha_heartbeat.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this seed, and print its trace")
    parser.add_argument("--runs", type=int, default=1000, help="number of seeds (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (%(default)s)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)"
    )
    parser.add_argument("--shrink", action="store_true", help="with --seed: a short trace")
    options = parser.parse_args()
    if options.seed is not None:
        return (replay_short if options.shrink else replay)(options.seed)
    return run_many(options.first, options.runs, options.jobs)


if __name__ == "__main__":
    sys.exit(main())
