"""What a chapter leaves to be judged: who lived when, what was done to them, and what may follow.

Nothing here is known from the program under test but the longest times that its own
`--check-config` names, which is what it is held to.
"""

from __future__ import annotations

from typing import NamedTuple

from faults.recorder import Life


class Pause(NamedTuple):
    """Processes that were stopped, from after it was done until before they were let go.

    `everything`: all of the host, its watchers included. Then nothing there can act at the
    moment of waking, and what ran may go on for as long as it takes to notice.
    """

    host: str
    from_ns: int
    to_ns: int
    pids: frozenset[int]
    everything: bool


class Step(NamedTuple):
    """One fault, or a few at once, from the first blow until everything was settled again.

    `serves_s`: while it lasts, nobody may run for at most this long; None: nothing is promised.
    `keeps`: the run that was going on has to go on.
    `apart`: two may run until the step is over, as the mode allows in a partition.
    `settled_ns` is 0 where it did not settle.
    """

    name: str
    families: tuple[str, ...]
    text: str
    began_ns: int
    healed_ns: int
    settled_ns: int
    serves_s: float | None
    keeps: bool
    apart: bool


class Limits(NamedTuple):
    """What the program promises with a chapter's settings, and what the harness adds.

    `lease_s`: how long a vote lasts; what a fault kept from being renewed shows within that time.
    `recovers_s`: the longest takeover that the settings allow for, whatever the failure.
    `starts_s`: for the start of processes and round trips, which come on top of each time.
    `every_s`: from start to start of a command that ends by itself, 0 for one that does not.
    `wakes_s`: how long what was paused as a whole may run beside its successor when it wakes.
    `hand_over_s`: how long nobody may run in a hand-over that nobody struck.
    """

    lease_s: float
    recovers_s: float
    starts_s: float
    every_s: float
    wakes_s: float
    hand_over_s: float


class History(NamedTuple):
    """All of one chapter.

    `stalls`: when an unrelated process on the same machine stood still: the machine's own doing.
    `waits`: for each host moments, and how long its processes had waited for a processor until
    then, in all.
    `strays`: processes of the command that were found when both members had been stopped in good
    order. `ended_ns`: when that was asked for; what follows is no part of any step.
    """

    lives: list[Life]
    pauses: list[Pause]
    steps: list[Step]
    stalls: list[tuple[int, int]]
    strays: list[str]
    flaws: list[str]
    limits: Limits
    ended_ns: int
    waits: dict[str, list[tuple[int, int]]]
