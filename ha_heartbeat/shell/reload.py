"""Reads a member's file again, and brings the member from the plan it carries to the new one.

A file with mistakes changes nothing. Services that are the same in both are not touched. Those
that are gone or have changed are stopped as by an operator: their peer may take over; then the
changed ones begin anew. One that could not be started is none that is carried: the next reload
tries it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from ha_heartbeat.config import Config, ConfigError
from ha_heartbeat.core import bounds
from ha_heartbeat.plan import Changes, Plan, changes
from ha_heartbeat.shell.control import Reply
from ha_heartbeat.shell.errors import StartError
from ha_heartbeat.shell.preconditions import look_at_addresses, open_state

if TYPE_CHECKING:
    from ha_heartbeat.shell.member import Member

ENDING: Final = "the member is ending"

Reread: TypeAlias = Callable[[], Plan]
"""Reads the file of the plan again. Raises ConfigError."""


class Reload:
    """Of one member. Reloads that are asked for while one is under way follow it, in order."""

    def __init__(self, member: Member, reread: Reread) -> None:
        self._member = member
        self._reread = reread
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def on_signal(self) -> None:
        """SIGHUP: what comes of it is in the log."""
        self.on_request(lambda answer: None)

    def on_request(self, reply: Reply) -> None:
        """An operator asks: he is told when everything is done, or what is wrong."""
        task = asyncio.get_running_loop().create_task(self._reload(reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, *, at_once: bool) -> None:
        """The member ends: what is under way comes to a point where it can end, or just ends."""
        for task in self._tasks if at_once else ():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _reload(self, reply: Reply) -> None:
        async with self._lock:
            if self._member.is_ending:
                reply({"ok": False, "error": ENDING})
                return
            try:
                new = await asyncio.to_thread(self._reread)
                _check(new)
                await self._lead_to(new, reply)
            except ConfigError as error:
                self._refuse(reply, error.sentences)
            except Exception as error:  # the next one is to find a member that can be mended
                text = f"the reload could not be completed: {_fault(error)}; try again"
                self._member.notice(text)
                reply({"ok": False, "error": text})

    async def _lead_to(self, new: Plan, reply: Reply) -> None:
        """From what is carried now, whatever could not be started before."""
        member = self._member
        carried = [service.config for service in member.services.values()]
        found = changes(member.plan, new, carried)
        problems = [*found.restart, *await self._apply(found)]
        for problem in problems:
            member.notice(problem)
        text = _summary(found, problems)
        member.say(f"The file was read again: {text}.")
        reply({"ok": not problems, "text": text, "error": "; ".join(problems), **_names(found)})

    def _refuse(self, reply: Reply, mistakes: tuple[str, ...]) -> None:
        for mistake in mistakes:
            self._member.notice(mistake)
        n = len(mistakes)
        what = "a mistake" if n == 1 else f"{n} mistakes"
        text = f"the file has {what}, and nothing was changed"
        self._member.notice(text)
        reply({"ok": False, "error": text, "mistakes": list(mistakes)})

    async def _apply(self, found: Changes) -> list[str]:
        """Stop what has to stop, and begin what has to begin; what could not be done."""
        member = self._member
        changed = [config.service for config in found.changed]
        stopping = [member.remove(name) for name in (*found.removed, *changed)]
        await asyncio.gather(*stopping)
        problems = []
        for config in (*found.changed, *found.added):
            if member.is_ending:
                problems.append(f"the service {config.service} was not started: {ENDING}")
                break
            if problem := await self._begin(config):
                problems.append(f"the service {config.service} was not started: {problem}")
            await asyncio.sleep(0)  # the services that go on have their leases to renew
        return problems

    async def _begin(self, config: Config) -> str:
        """Start a service; "" or why it could not be: the next reload tries it again."""
        member = self._member
        try:
            state = await asyncio.to_thread(open_state, config)  # a disk may take its time
            await look_at_addresses(config)
            service = member.make(config, state)
        except Exception as error:
            return _fault(error)
        try:
            await service.prepare()
        except Exception as error:
            service.discard()
            return _fault(error)
        member.services[config.service] = service
        if member.is_ending:
            await member.remove_unbegun(config.service)
        else:
            member.begin(service)
        return ""


def _check(plan: Plan) -> None:
    """What a start would refuse, a reload does, too. Raises ConfigError."""
    for config in plan.services:
        settings = config.settings()
        if settings.has_witness and (found := bounds.objections(settings)):
            raise ConfigError(f"{config.service}: {found[0]}")


def _fault(error: Exception) -> str:
    """What went wrong, for an operator."""
    return str(error) if isinstance(error, StartError) else f"{type(error).__name__}: {error}"


def _names(found: Changes) -> dict[str, list[str]]:
    return {
        "added": [config.service for config in found.added],
        "removed": list(found.removed),
        "changed": [config.service for config in found.changed],
    }


def _summary(found: Changes, problems: list[str]) -> str:
    parts = [f"{what} {', '.join(names)}" for what, names in _names(found).items() if names]
    if problems:
        parts.append("not all could be done")
    return "; ".join(parts) or "nothing has changed"
