"""All that is compared, and what is measured of each."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.peers import etcdctl, faults, keepalived, own, pacemaker, single_beat
from benchmarks.peers.faults import Strike
from benchmarks.peers.peer import Program, Settings

PROGRAMS: dict[str, Program] = {
    module.PROGRAM.key: module.PROGRAM
    for module in (own, keepalived, etcdctl, single_beat, pacemaker)
}


class Measure(NamedTuple):
    """One kind of trial: its heading, how it strikes, and whether only silence tells of it."""

    title: str
    strike: Strike | None
    by_silence: bool


MEASURES: dict[str, Measure] = {
    "crash-main": Measure("Crash: kill -9 of the agent's main process", faults.kill_main, False),
    "crash-agent": Measure(
        "Crash: kill -9 of all processes of the agent, not of the command",
        faults.kill_agents,
        False,
    ),
    "crash-all": Measure(
        "Crash: kill -9 of all processes of the agent and of the command", faults.kill_all, False
    ),
    "stop": Measure("Planned stop, from the old command's last tick", faults.stop, False),
    "cold": Measure("Cold start of both, to the first instruction", None, False),
    "host": Measure("Host lost: everything killed, cable pulled", faults.lose_host, True),
    "partition": Measure("Partition: the worker's cable pulled", faults.cut, True),
    "pause": Measure("Pause: the worker's host stands still", faults.freeze, True),
    "memory": Measure("Memory of an idle host, in how many processes", None, False),
    "idle": Measure("Processor of an idle host, of one core", None, False),
}
SLOW_S = 0.9


def is_slow(program: Program, settings: Settings, measure: Measure) -> bool:
    """Whether a trial takes seconds, so that it may share the machine with others like it."""
    return settings.silence_s >= SLOW_S and (measure.by_silence or not program.is_prompt)


def settings_of(program: Program, key: str) -> Settings:
    """The settings of that name."""
    return next(settings for settings in program.settings if settings.key == key)
