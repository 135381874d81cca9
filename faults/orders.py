"""What an operator does, at the worst moment; and faults of the witness."""

from __future__ import annotations

import random
import signal
import time

from faults.blows import GOES_ON, Blow, Fault, Strike, any_time, beyond_lease, lasting, nothing
from faults.hosts import send
from faults.stage import Stage

SOON_S = 0.06
"""A hand-over is done within about this time: a second blow lands in it or shortly after."""


def hand_over(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """SIGTERM to the worker's member: the other takes over when the command has ended."""
    host = stage.hosts[worker]
    if host.is_up:
        send([host.pid], signal.SIGTERM)
    return Blow(
        f"SIGTERM to {worker}'s member",
        lasting(any_time(stage, dice) / 2),
        nothing,
        "process killed",
    )


def stop_supervisor(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """SIGTERM to the supervisor's member: nothing changes for the worker."""
    host = stage.hosts[stage.other(worker)]
    if host.is_up:
        send([host.pid], signal.SIGTERM)
    text = f"SIGTERM to {host.name}'s member, which supervises"
    return Blow(text, lasting(any_time(stage, dice) / 2), nothing, GOES_ON)


def stop_both(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """SIGTERM to both members, shortly after each other."""
    pids = [host.pid for host in stage.hosts.values() if host.is_up]
    dice.shuffle(pids)
    send(pids[:1], signal.SIGTERM)
    time.sleep(dice.uniform(0, SOON_S))
    send(pids[1:], signal.SIGTERM)
    return Blow("SIGTERM to both members", lasting(any_time(stage, dice) / 2))


def struck_hand_over(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """A hand-over, and in the midst of it the heir is killed, stopped in order, or cut off."""
    host, heir = stage.hosts[worker], stage.hosts[stage.other(worker)]
    if host.is_up:
        send([host.pid], signal.SIGTERM)
    time.sleep(dice.uniform(0, SOON_S))
    how = dice.choice(("killed", "killed whole", "cut off", "stopped in order", "old killed"))
    heal = nothing
    if how == "killed" and heir.is_up:
        send([heir.pid], signal.SIGKILL)
    elif how == "killed whole":
        heir.kill()
    elif how == "stopped in order" and heir.is_up:
        send([heir.pid], signal.SIGTERM)
    elif how == "old killed":
        host.kill()
    elif how == "cut off":
        stage.links.unplug(heir.name)

        def heal() -> None:
            stage.links.plug(heir.name)

    text = f"SIGTERM to {worker}'s member, and {heir.name} {how} meanwhile"
    return Blow(text, lasting(any_time(stage, dice)), heal)


def impatient(stage: Stage, dice: random.Random, worker: str) -> Blow:
    """A second SIGTERM before the first has been obeyed."""
    host = stage.hosts[worker]
    for _ in range(2):
        if host.is_up:
            send([host.pid], signal.SIGTERM)
        time.sleep(dice.uniform(0, SOON_S / 3))
    return Blow(f"SIGTERM twice to {worker}'s member", lasting(any_time(stage, dice) / 2))


# -- the witness -----------------------------------------------------------------------------------


def _witness_ends(*, wiped: bool, beyond: bool) -> Strike:
    def strike(stage: Stage, dice: random.Random, worker: str) -> Blow | None:
        witness = stage.witness
        if witness is None or not stage.has_witness():
            return None
        witness.close()

        def heal() -> None:
            witness.start_again(wiped=wiped)
            witness.wait_until_it_answers()

        hold_s = beyond_lease(stage, dice) if beyond else 0.0
        text = f"witness killed and {'wiped' if wiped else 'restarted'}"
        return Blow(text, lasting(hold_s), heal, GOES_ON)

    return strike


def witness_stopped(stage: Stage, dice: random.Random, worker: str) -> Blow | None:
    """The witness stands still: it accepts and does not answer."""
    witness = stage.witness
    if witness is None or not stage.has_witness():
        return None
    send([witness.pid], signal.SIGSTOP)
    hold = lasting(any_time(stage, dice))
    return Blow("witness stopped", hold, lambda: send([witness.pid], signal.SIGCONT), GOES_ON)


FAULTS = (
    Fault("hand-over by SIGTERM", "hand-overs", hand_over, 5),
    Fault("supervisor stopped by SIGTERM", "hand-overs", stop_supervisor, 2),
    Fault("both stopped by SIGTERM", "hand-overs", stop_both, 2),
    Fault("hand-over struck midway", "hand-overs", struck_hand_over, 6, parts_hosts=True),
    Fault("SIGTERM twice", "hand-overs", impatient, 2),
    Fault("witness restarted", "witness", _witness_ends(wiped=False, beyond=False), 2),
    Fault("witness lost for a while", "witness", _witness_ends(wiped=False, beyond=True), 2),
    Fault("witness wiped", "witness", _witness_ends(wiped=True, beyond=False), 2),
    Fault("witness stopped", "witness", witness_stopped, 2),
)
