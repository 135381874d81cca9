"""Faults of processes and of whole hosts: killed, stopped, frozen."""

from __future__ import annotations

import itertools
import random
import signal
import time

from faults.blows import Blow, Fault, any_time, beyond_lease, either, lasting
from faults.history import Pause
from faults.hosts import Host, send, stop_all
from faults.stage import Stage

WATCHERS = ("member", "keeper", "guardian")
HOST_LOST, PROCESS_KILLED = "host lost", "process killed"


def _choose(stage: Stage, dice: random.Random, host: Host) -> dict[str, int]:
    """Some of the host's processes: each combination is as likely."""
    parts = host.parts()
    sets = [
        chosen
        for size in range(1, len(parts) + 1)
        for chosen in itertools.combinations(sorted(parts), size)
    ]
    if not sets:
        return {}
    return {name: parts[name] for name in dice.choice(sets)}


def kill(stage: Stage, dice: random.Random, worker: str) -> Blow | None:
    """SIGKILL to any combination of member, keeper, guardian and command of one host."""
    name = either(stage, dice, worker)
    host = stage.hosts[name]
    chosen = _choose(stage, dice, host)
    watchers = [part for part in host.parts() if part in WATCHERS]
    if stage.chapter.leaves_orphans and all(part in chosen for part in watchers):
        return None  # nobody is left to end what lives on: docs/guarantees.md, "All killed at once"
    if stage.chapter.command == "bomb" and list(chosen) == ["command"]:
        return None  # what it leaves is the command, too, and leaves no room for another run
    order = list(chosen.items())
    dice.shuffle(order)
    send([pid for _part, pid in order], signal.SIGKILL)
    text = f"kill -9 {', '.join(part for part, _pid in order)} of {name}"
    serves = "" if "member" not in chosen or name != worker else PROCESS_KILLED
    return Blow(text, lasting(any_time(stage, dice) / 2), serves=serves)


def stop(stage: Stage, dice: random.Random, worker: str) -> Blow | None:
    """SIGSTOP to any combination of member, keeper, guardian and command of one host."""
    name = either(stage, dice, worker)
    host = stage.hosts[name]
    parts = host.parts()
    chosen = _choose(stage, dice, host)
    watchers = [part for part in parts if part in WATCHERS]
    pids = list(chosen.values())
    everything = all(part in chosen for part in watchers) and (
        stage.chapter.leaves_orphans  # which nobody could end: docs/guarantees.md, as above
        or "command" in chosen
    )
    dice.shuffle(pids)
    stop_all(pids)
    while everything and (more := set(host.group.processes()) - set(pids)):  # it may be forking
        stop_all(list(more))
        pids += more
    from_ns = time.monotonic_ns()
    wakes_first = pids[:]
    dice.shuffle(wakes_first)

    def heal() -> None:
        to_ns = time.monotonic_ns()
        send(wakes_first, signal.SIGCONT)
        stage.pauses.append(Pause(name, from_ns, to_ns, frozenset(pids), everything))

    what = "everything" if everything else ", ".join(chosen)
    text = f"SIGSTOP {what} of {name}"
    return Blow(text, lasting(any_time(stage, dice)), heal)


def crash(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """Every process of a host killed at once; its kernel lives and refuses."""
    name = either(stage, dice, worker)
    stage.hosts[name].kill()
    serves = PROCESS_KILLED if name == worker else "goes on"
    return Blow(f"{name} killed whole", lasting(any_time(stage, dice)), serves=serves)


def power_loss(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """A host is gone without a word, and comes back after a while with its disk."""
    name = either(stage, dice, worker)
    stage.links.unplug(name)
    stage.hosts[name].kill()
    serves = HOST_LOST if name == worker else "goes on"
    hold_s = beyond_lease(stage, dice)
    return Blow(
        f"power of {name} lost", lasting(hold_s), lambda: stage.links.plug(name), serves=serves
    )


def power_loss_of_both(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """Both hosts are gone."""
    for name, host in stage.hosts.items():
        stage.links.unplug(name)
        host.kill()

    def heal() -> None:
        for name in stage.hosts:
            stage.links.plug(name)

    return Blow("power of both lost", lasting(any_time(stage, dice) / 2), heal)


def freeze(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """A host stands still as a whole, as a machine that sleeps, and wakes up."""
    name = either(stage, dice, worker)
    host = stage.hosts[name]
    host.group.freeze()
    from_ns = time.monotonic_ns()
    pids = frozenset(host.group.processes())

    def heal() -> None:
        to_ns = time.monotonic_ns()
        host.group.thaw()
        stage.pauses.append(Pause(name, from_ns, to_ns, pids, True))

    hold_s = any_time(stage, dice)
    serves = HOST_LOST if name == worker else "goes on"
    return Blow(f"{name} frozen for {hold_s:.2f} s", lasting(hold_s), heal, serves)


FAULTS = (
    Fault("kill -9 of any combination", "processes", kill, 10),
    Fault("SIGSTOP of any combination", "processes", stop, 10, parts_hosts=True),
    Fault("host killed whole", "hosts", crash, 4),
    Fault("host loses its power", "hosts", power_loss, 5, parts_hosts=True),
    Fault("both hosts lose their power", "hosts", power_loss_of_both, 2),
    Fault("host frozen", "hosts", freeze, 6, parts_hosts=True),
)
