"""What a world begins with: two members' settings, their command, and their clocks."""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from ha_heartbeat.core.types import Mode, Settings, TakeoverPolicy
from ha_heartbeat.sim.clock import LocalClock
from ha_heartbeat.sim.guardian import DEAF, Command

QUICK: Final = Command(0.0, 0.0, 0.0)
"""A command that ends at once and leaves nothing."""

EXACT: Final = LocalClock(1.0, 0.0), LocalClock(1.0, 0.0)


class Scene(NamedTuple):
    """The two hosts, as they are before anything happens."""

    settings: tuple[Settings, Settings]
    command: Command
    clocks: tuple[LocalClock, LocalClock]


def plain_scene(
    *,
    takeover: TakeoverPolicy = TakeoverPolicy.SILENCE,
    modes: tuple[Mode, Mode] = (Mode.SUPERVISOR, Mode.SUPERVISOR),
    fallbacks: tuple[bool, bool] = (False, False),
    intervals_test_s: tuple[float, float] = (10.0, 10.0),
    check_count: int = 3,
    interval_commands_s: float = 30.0,
    stop_timeout_s: float = 10.0,
    distrust_refused: bool = False,
    has_fence: bool = False,
    has_witness: bool = False,
    command: Command = QUICK,
    clocks: tuple[LocalClock, LocalClock] = EXACT,
) -> Scene:
    """Two members called m1 and m2 that differ only in what is given as a pair."""

    def settings(i: int) -> Settings:
        return Settings(
            member=f"m{i + 1}",
            service="sim",
            local=f"m{i + 1}",
            peer=f"m{2 - i}",
            mode=modes[i],
            fallback=fallbacks[i],
            interval_test_s=intervals_test_s[i],
            check_count=check_count,
            interval_commands_s=interval_commands_s,
            stop_timeout_s=stop_timeout_s,
            takeover=takeover,
            distrust_refused=distrust_refused,
            has_fence=has_fence,
            has_witness=has_witness,
            command="true",
            rank=i,
        )

    return Scene((settings(0), settings(1)), command, clocks)


def random_scene(rng: Random) -> Scene:
    """Any two members that an operator may start, on clocks that differ by less than 1 %."""
    interval_s = rng.choice((0.1, 1.0, 10.0))
    pairs = ((0, 0), (0, 0), (1, 0), (0, 1), (1, 1))
    modes, fallbacks = rng.choice(pairs), rng.choice(pairs)
    other_interval_s = interval_s * rng.choice((1, 1, 1, 1, 1, 1, 1, 1, 2, 0.5))
    has_witness = rng.random() < 0.5
    policies = (TakeoverPolicy.SILENCE, TakeoverPolicy.PROOF)
    return plain_scene(
        takeover=TakeoverPolicy.PROOF if has_witness else rng.choice(policies),
        has_witness=has_witness,
        modes=(_mode(modes[0]), _mode(modes[1])),
        fallbacks=(bool(fallbacks[0]), bool(fallbacks[1])),
        intervals_test_s=(interval_s, other_interval_s),
        check_count=rng.choice((2, 3, 3, 3, 5) if has_witness else (1, 2, 3, 3, 3, 5)),
        interval_commands_s=3 * interval_s,
        stop_timeout_s=rng.choice((0.1, 1.0, 10.0)) * interval_s,
        distrust_refused=rng.random() < 0.1,
        has_fence=rng.random() < 0.2,
        command=Command(
            lasts_s=rng.choice((0.0, 0.3, 3.0, 1e9, 1e9)) * interval_s,
            ends_s=rng.choice((0.0, 0.0, 0.3 * interval_s, DEAF)),
            leaves=rng.choice((0.0, 0.0, 0.5)),
        ),
        clocks=(_clock(rng), _clock(rng)),
    )


def _mode(worker: int) -> Mode:
    return Mode.WORKER if worker else Mode.SUPERVISOR


def _clock(rng: Random) -> LocalClock:
    rate = rng.choice((rng.uniform(-1, 1), -1, 1))
    return LocalClock(1 + 0.0049 * rate, rng.uniform(0, 1e5))
