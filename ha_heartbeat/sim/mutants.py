"""`make sim-mutants`: the simulator finds each safety rule that is taken out of the core.

Every rule of `rules.MUTANTS` is removed in turn, and seeds are run until one shows two live
commands or a wrong epoch. One that survives its limit is a scenario that the simulator lacks.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from itertools import count
from typing import Final, NamedTuple

from ha_heartbeat.sim.checker import ViolationError
from ha_heartbeat.sim.rules import MUTANTS, REDUNDANT, Mutant, removed
from ha_heartbeat.sim.world import World

LIMIT_S: Final = 60.0


class Caught(NamedTuple):
    """What became of a mutant; `seed` is -1 for one that survived."""

    mutant: Mutant
    seed: int
    what: str
    took_s: float


def catch(mutant: Mutant, limit_s: float = LIMIT_S) -> Caught:
    """Run seeds without the rule until an invariant is violated or the time is over."""
    began = time.perf_counter()
    gc.disable()  # as in `run_batch`
    try:
        for seed in count(mutant.first):
            with removed(mutant):
                what = violation(seed)
            took_s = time.perf_counter() - began
            if what and not violation(seed):  # the rule it was, and nothing else
                return Caught(mutant, seed, what, took_s)
            if took_s > limit_s:
                break
            if seed % 50 == 0:
                gc.collect()
    finally:
        gc.enable()
    return Caught(mutant, -1, "", time.perf_counter() - began)


def violation(seed: int) -> str:
    """What a seed violates, "" for nothing; failing to settle is no matter of safety."""
    world = World.from_seed(seed)
    world.checker.safety_only = True
    try:
        world.run()
    except ViolationError as e:
        return str(e)
    except Exception as e:  # a crash of the core
        return f"{type(e).__name__}: {e}"
    return ""


def line(caught: Caught) -> str:
    """One row of the table."""
    seed = str(caught.seed) if caught.seed >= 0 else "none"
    what = caught.what or "SURVIVED"
    return f"{caught.mutant.name:26} {seed:>6} {caught.took_s:6.1f}  {what}"


def main() -> int:
    """Exit status 0 if every mutant was caught, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python3 -m ha_heartbeat.sim.mutants")
    parser.add_argument("names", nargs="*", help="the mutants to run (all)")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds each (%(default)s)")
    options = parser.parse_args()
    chosen = [m for m in (*MUTANTS, *REDUNDANT) if m.name in options.names] or MUTANTS
    print(f"{'rule removed':26} {'seed':>6} {'s':>6}  violated")
    survivors = []
    for mutant in chosen:
        try:
            caught = catch(mutant, options.limit)
        except LookupError as e:
            print(e)
            survivors.append(mutant.name)
            continue
        print(line(caught), flush=True)
        if caught.seed < 0:
            survivors.append(mutant.name)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} rules are missed when removed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
