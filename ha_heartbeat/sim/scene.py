"""What a world begins with: two members' settings, their command, and their clocks."""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from ha_heartbeat.core.state import FOREVER
from ha_heartbeat.core.types import Cadence, Mode, Settings, TakeoverPolicy
from ha_heartbeat.sim.clock import LocalClock
from ha_heartbeat.sim.guardian import DEAF, Command

QUICK: Final = Command(0.0, 0.0, 0.0)
"""A command that ends at once and leaves nothing."""

EXACT: Final = LocalClock(1.0, 0.0), LocalClock(1.0, 0.0)


class Scene(NamedTuple):
    """The hosts, as they are before anything happens."""

    settings: tuple[Settings, ...]
    command: Command
    clocks: tuple[LocalClock, ...]


def plain_scene(
    *,
    takeover: TakeoverPolicy = TakeoverPolicy.SILENCE,
    modes: tuple[Mode, Mode] = (Mode.SUPERVISOR, Mode.SUPERVISOR),
    fallbacks: tuple[bool, bool] = (False, False),
    intervals_test_s: tuple[float, float] = (10.0, 10.0),
    check_count: int = 3,
    interval_commands_s: float = 30.0,
    cadence: Cadence = Cadence.RESTART,
    stop_timeout_s: float = 10.0,
    run_timeout_s: float = FOREVER,
    fallback_delay_s: float = 0.0,
    max_failures: int = 0,
    steps: tuple[str, ...] = (),
    has_undo: bool = False,
    hook_timeout_s: float = 5.0,
    has_check: bool = False,
    check_interval_s: float = 10.0,
    check_failures: int = 3,
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
            cadence=cadence,
            stop_timeout_s=stop_timeout_s,
            run_timeout_s=run_timeout_s,
            fallback_delay_s=fallback_delay_s,
            max_failures=max_failures,
            steps=steps,
            has_undo=has_undo,
            hook_timeout_s=hook_timeout_s,
            has_check=has_check,
            check_interval_s=check_interval_s,
            check_failures=check_failures,
            takeover=takeover,
            distrust_refused=distrust_refused,
            has_fence=has_fence,
            has_witness=has_witness,
            command="true",
            rank=i,
        )

    return Scene((settings(0), settings(1)), command, clocks)


def random_scene(rng: Random) -> Scene:
    """A pair more often than a cluster whose members have nothing but a witness."""
    return _random_cluster(rng) if rng.random() < CLUSTERS else _random_pair(rng)


def with_options(scene: Scene, rng: Random) -> Scene:
    """The same members, some of them with what an operator may add around the command.

    Drawn apart, so that a seed without any of it is the world that it was before there were any.
    """
    if rng.random() < 0.7:
        return scene
    settings = scene.settings
    interval_s = settings[0].interval_test_s
    model = settings[0]._replace(
        run_timeout_s=interval_s * rng.choice((FOREVER, FOREVER, 0.5, 5.0)),
        fallback_delay_s=interval_s * rng.choice((0.0, 0.5, 3.0)),
        cadence=rng.choice(tuple(Cadence)),
        max_failures=rng.choice((0, 0, 1, 3)),
        has_check=rng.random() < 0.5,
        check_interval_s=interval_s * rng.choice((0.2, 1.0, 3.0)),
        check_failures=rng.choice((1, 2, 3)),
        steps=rng.choice(((), (), ("on-worker",), ("vip", "on-worker"))),
        has_undo=rng.random() < 0.5,
        hook_timeout_s=interval_s * rng.choice((0.1, 0.5, 2.0)),
    )
    lasts_s = scene.command.lasts_s * (10 if scene.command.varies else 1)
    if lasts_s + scene.command.ends_s >= model.run_timeout_s:
        model = model._replace(max_failures=0)  # else it would do badly everywhere, always
    taken = {name: getattr(model, name) for name in OPTIONS}
    return scene._replace(settings=tuple(s._replace(**taken) for s in settings))


OPTIONS: Final = (
    "run_timeout_s",
    "fallback_delay_s",
    "cadence",
    "max_failures",
    "steps",
    "has_undo",
    "hook_timeout_s",
    "has_check",
    "check_interval_s",
    "check_failures",
)
"""What `with_options` gives to all members alike."""


CLUSTERS: Final = 0.15
"""How many of the seeds are clusters."""


def _random_cluster(rng: Random) -> Scene:
    """Two to five members without a peer, which compete for the witness's vote."""
    one = _random_pair(rng, has_witness=True)
    settings = tuple(
        one.settings[0]._replace(
            member=f"m{i + 1}",
            local=f"m{i + 1}",
            peer="",
            mode=Mode.SUPERVISOR,
            fallback=False,
            has_fence=False,
            distrust_refused=False,
            rank=0,
        )
        for i in range(rng.choice((2, 3, 4, 5)))
    )
    return Scene(settings, one.command, tuple(_clock(rng) for _ in settings))


def _random_pair(rng: Random, *, has_witness: bool = False) -> Scene:
    """Any two members that an operator may start, on clocks that differ by less than 1 %."""
    interval_s = rng.choice((0.1, 1.0, 10.0, 60.0))
    pairs = ((0, 0), (0, 0), (1, 0), (0, 1), (1, 1))
    modes, fallbacks = rng.choice(pairs), rng.choice(pairs)
    has_witness = has_witness or rng.random() < 0.5
    check_count = rng.choice((2, 3, 3, 3, 5) if has_witness else (1, 2, 3, 3, 3, 5))
    other_interval_s = interval_s * rng.choice((1, 1, 1, 1, 1, 1, 1, 2))
    if has_witness and check_count == 2:
        other_interval_s = interval_s  # else a lease of one is no longer than a check of the other
    policies = (TakeoverPolicy.SILENCE, TakeoverPolicy.PROOF)
    return plain_scene(
        takeover=TakeoverPolicy.PROOF if has_witness else rng.choice(policies),
        has_witness=has_witness,
        modes=(_mode(modes[0]), _mode(modes[1])),
        fallbacks=(bool(fallbacks[0]), bool(fallbacks[1])),
        intervals_test_s=(interval_s, other_interval_s),
        check_count=check_count,
        interval_commands_s=3 * interval_s,
        stop_timeout_s=rng.choice((0.1, 1.0, 10.0)) * interval_s,
        distrust_refused=rng.random() < 0.1,
        has_fence=rng.random() < 0.2,
        command=Command(
            lasts_s=rng.choice((0.0, 0.3, 3.0, 1e9, 1e9)) * interval_s,
            ends_s=rng.choice((0.0, 0.0, 0.3 * interval_s, DEAF)),
            leaves=rng.choice((0.0, 0.5)),
            varies=rng.random() < 0.5,
        ),
        clocks=_clocks(rng),
    )


def _mode(worker: int) -> Mode:
    return Mode.WORKER if worker else Mode.SUPERVISOR


def _clocks(rng: Random) -> tuple[LocalClock, LocalClock]:
    """Often as different as they may be."""
    rate = rng.choice((0.0, -0.0049, 0.0049))
    if not rate:
        return _clock(rng), _clock(rng)
    return LocalClock(1 + rate, rng.uniform(0, 1e5)), LocalClock(1 - rate, rng.uniform(0, 1e5))


def _clock(rng: Random) -> LocalClock:
    rate = rng.choice((rng.uniform(-1, 1), -1, 1))
    return LocalClock(1 + 0.0049 * rate, rng.uniform(0, 1e5))
