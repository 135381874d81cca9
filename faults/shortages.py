"""Faults of what a host has: disk, descriptors, processes, processor; and of the time of day."""

from __future__ import annotations

import os
import random
import subprocess

from benchmarks.network import MEMBERS
from faults.blows import GOES_ON, Blow, Fault, any_time, beyond_lease, either, lasting
from faults.stage import Stage

HOUR_S = 3600


def disk_full(stage: Stage, dice: random.Random, worker: str) -> Blow | None:
    """No byte is left where the state is kept."""
    name = either(stage, dice, worker)
    try:
        stage.hosts[name].fill_disk()
    except OSError:  # it is read-only just now
        return None
    hold = lasting(any_time(stage, dice))
    return Blow(f"disk of {name} full", hold, stage.hosts[name].free_disk, GOES_ON)


def disk_read_only(stage: Stage, dice: random.Random, worker: str) -> Blow | None:
    """The state directory cannot be written."""
    name = either(stage, dice, worker)
    host = stage.hosts[name]
    try:
        host.make_immutable(immutable=True)
    except (OSError, subprocess.CalledProcessError):  # no chattr, or not on this file system
        return None
    return Blow(
        f"disk of {name} read-only",
        lasting(any_time(stage, dice)),
        lambda: host.make_immutable(immutable=False),
        GOES_ON,
    )


def no_files(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """The member cannot open another file or socket."""
    host = stage.hosts[either(stage, dice, worker)]
    spare = dice.choice((0, 0, 1, 2))
    host.limit_files(spare)
    return Blow(
        f"{host.name}'s member may open {spare} more files",
        lasting(any_time(stage, dice)),
        lambda: host.limit_files(None),
        GOES_ON,
    )


def no_processes(stage: Stage, dice: random.Random, worker: str) -> Blow | None:
    """The host cannot have another process or thread."""
    host = stage.hosts[either(stage, dice, worker)]
    if not host.group.has("pids") or stage.chapter.command == "bomb":
        return None
    more = dice.choice((0, 0, 1))
    host.group.limit_processes(more)
    return Blow(
        f"{host.name} may have {more} more processes",
        lasting(any_time(stage, dice)),
        lambda: host.group.limit_processes(None),
        "" if stage.chapter.command == "batch" else GOES_ON,  # each run is a process more
    )


def starved(stage: Stage, dice: random.Random, worker: str) -> Blow | None:
    """Busy loops of the highest ordinary priority want every processor."""
    return _loops(stage, "spin", "the highest priority", any_time(stage, dice))


def seized(stage: Stage, dice: random.Random, worker: str) -> Blow | None:
    """Busy loops of a real-time priority leave to all others a twentieth, if the kernel does."""
    return _loops(stage, "seize", "real-time priority", any_time(stage, dice))


def _loops(stage: Stage, mode: str, what: str, hold_s: float) -> Blow | None:
    count = 2 * (os.cpu_count() or 1)
    words = (stage.programs.command, mode, str(count), str(int(hold_s * 1000)))
    process = subprocess.Popen(words, start_new_session=True)

    def last() -> None:
        if process.wait():
            stage.logs.note("faults", f"no loops of {what}: not permitted")

    return Blow(f"{count} busy loops of {what} for {hold_s:.2f} s", last)


def throttled(stage: Stage, dice: random.Random, worker: str) -> Blow | None:
    """One host gets a few hundredths of a processor."""
    host = stage.hosts[either(stage, dice, worker)]
    if not host.group.has("cpu"):
        return None
    percent = dice.choice((1, 3, 10))
    host.group.throttle(percent)
    return Blow(
        f"{host.name} gets {percent} % of a processor",
        lasting(beyond_lease(stage, dice)),
        lambda: host.group.throttle(None),
    )


def wall_clock(stage: Stage, dice: random.Random, worker: str) -> Blow | None:
    """The time of day that the members see steps by an hour, forward or back, and back again."""
    if not stage.programs.wall_clock:
        return None
    names = dice.choice((("a",), ("b",), MEMBERS))
    step_s = dice.choice((HOUR_S, -HOUR_S))
    for name in names:
        stage.hosts[name].step_wall_clock(step_s)

    def heal() -> None:
        for name in names:
            stage.hosts[name].step_wall_clock(0)

    text = f"time of day of {' and '.join(names)} {step_s:+} s"
    return Blow(text, lasting(any_time(stage, dice)), heal, GOES_ON)


FAULTS = (
    Fault("disk full", "shortages", disk_full, 3),
    Fault("state directory read-only", "shortages", disk_read_only, 3),
    Fault("out of file descriptors", "shortages", no_files, 3),
    Fault("out of processes", "shortages", no_processes, 3),
    Fault("processors starved", "shortages", starved, 2, parts_hosts=True),
    Fault("processors seized", "shortages", seized, 2, parts_hosts=True),
    Fault("host throttled", "shortages", throttled, 2, parts_hosts=True),
    Fault("time of day stepped an hour", "clock", wall_clock, 3),
)
