"""Starts a member: what must be so before it lives, and what may stop it then and later."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Final

from ha_heartbeat.config import Config
from ha_heartbeat.core import types as core
from ha_heartbeat.plan import Plan
from ha_heartbeat.shell.errors import StartError
from ha_heartbeat.shell.guardian import Guardian
from ha_heartbeat.shell.listen import bind, explain_loopback
from ha_heartbeat.shell.log import Log, Speaker
from ha_heartbeat.shell.member import Member, StopOn, as_sentence
from ha_heartbeat.shell.notify import Notifier, take
from ha_heartbeat.shell.preconditions import look_at_addresses, open_state
from ha_heartbeat.shell.reload import Reread
from ha_heartbeat.shell.resolve import resolve_now
from ha_heartbeat.shell.runner import MakeRunner

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def run_plan(plan: Plan, reread: Reread | None) -> int:
    """Run a member with these services until it is told to stop; returns its exit status.

    reread: reads the file of the plan again and raises ConfigError; None if it has none. Raises
    StartError when it cannot start, with a sentence for the operator.
    """
    service = "" if reread is not None else plan.services[0].service
    log = Log(plan.member, service, plan.log_format, verbose=plan.verbose)
    return asyncio.run(live_plan(plan, log, take(os.environ), reread=reread))


async def run_one(
    config: Config,
    log: Speaker,
    notifier: Notifier,
    *,
    make_runner: MakeRunner = Guardian,
    stop_on: StopOn | None = None,
) -> int:
    """Start a member with one service, live and end; the exit status. Raises StartError.

    stop_on: has what would stop the member call something else, for as long as its context lasts;
    by default SIGTERM, SIGINT and SIGHUP. A stop before the member lives ends the start in good
    order, too.
    """
    return await live_plan(Plan((config,)), log, notifier, make_runner=make_runner, stop_on=stop_on)


async def live_plan(
    plan: Plan,
    log: Speaker,
    notifier: Notifier,
    *,
    reread: Reread | None = None,
    make_runner: MakeRunner = Guardian,
    stop_on: StopOn | None = None,
) -> int:
    """As `run_one`, with the services of a plan."""
    stop_on = stop_on or stop_signals
    life = _start_and_live(plan, log, notifier, reread, make_runner, stop_on)
    starting = asyncio.ensure_future(life)
    with stop_on(starting.cancel):
        try:
            return await starting
        except asyncio.CancelledError:
            return 0
        finally:
            notifier.close()


@contextlib.contextmanager
def stop_signals(on_stop: Callable[[], object]) -> Iterator[None]:
    """Have SIGTERM and SIGINT call `on_stop` in the loop, and nothing once this is over.

    So does the first SIGHUP: the terminal is gone. It often comes twice, from the kernel and from
    the shell, which is no impatience. Where it is ignored it stays so, as nohup(1) wants it. A
    member with a file has another use for it (`Member`).
    """
    loop = asyncio.get_running_loop()
    numbers: list[signal.Signals] = [*STOP_SIGNALS]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    has_hung_up = False

    def stop(number: int, _frame: object) -> None:
        nonlocal has_hung_up
        if number not in STOP_SIGNALS:
            if has_hung_up:
                return
            has_hung_up = True
        loop.call_soon_threadsafe(on_stop)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        # One that comes in the last moments must not spoil the exit status.
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)


async def _start_and_live(
    plan: Plan,
    log: Speaker,
    notifier: Notifier,
    reread: Reread | None,
    make_runner: MakeRunner,
    stop_on: StopOn,
) -> int:
    def notice(text: str) -> None:
        log.say(core.Say(core.Level.WARNING, as_sentence(text)))

    def waiting(text: str) -> None:
        notice(text)
        notifier.status(text)

    for config in plan.services:  # before the port is waited for
        open_state(config)
        await look_at_addresses(config)
    addresses = (plan.remote, *plan.links) if plan.remote else ()
    peers = [peer for address in addresses for peer in await resolve_now(*address)]
    sockets = await bind(plan.local, wait_s=plan.wait_for_serversocket_s, on_waiting=waiting)
    try:
        for peer in peers:
            if trap := explain_loopback(plan.local, sockets, str(peer.sockaddr[0])):
                raise StartError(trap)
        # Again: the member that held the port until now may have written to it.
        states = {config.service: open_state(config) for config in plan.services}
        member = Member(plan, log, notice, notifier, reread, sockets, make_runner)
        return await member.live(states, stop_on)
    finally:
        for sock in sockets:
            sock.close()
