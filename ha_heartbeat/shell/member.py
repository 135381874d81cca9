"""A running member: its port, its link, and the services that it carries.

What belongs to each service is in `service`. A member started from the command line carries one;
one started from a file carries those of the file, and changes them when the file is read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, TypeAlias

from ha_heartbeat import __version__
from ha_heartbeat.config import Address, Config
from ha_heartbeat.core import types as core
from ha_heartbeat.plan import Plan
from ha_heartbeat.shell.aside import aside
from ha_heartbeat.shell.beat import Beat
from ha_heartbeat.shell.control import Control
from ha_heartbeat.shell.counter import Counter
from ha_heartbeat.shell.errors import StartError
from ha_heartbeat.shell.exchange import Exchange
from ha_heartbeat.shell.guardian import GuardianError
from ha_heartbeat.shell.link import Link
from ha_heartbeat.shell.log import Log, Speaker
from ha_heartbeat.shell.notify import Notifier
from ha_heartbeat.shell.recorder import Recorder
from ha_heartbeat.shell.reload import Reload, Reread
from ha_heartbeat.shell.runner import MakeRunner
from ha_heartbeat.shell.service import Common, Service
from ha_heartbeat.shell.state import StateFile, directory_of, make_directory
from ha_heartbeat.shell.trunk import Trunk

if TYPE_CHECKING:
    from ha_heartbeat.shell.guardians import Guardians

StopOn: TypeAlias = Callable[[Callable[[], object]], AbstractContextManager[None]]
"""Has a stop of the member call a function for as long as the context lasts."""

STARTS_AT_ONCE: Final = 8
"""How many services get ready side by side."""


class Member:
    """One running member. Made for one `live`."""

    def __init__(
        self,
        plan: Plan,
        log: Speaker,
        notice: Callable[[str], None],
        notifier: Notifier,
        reread: Reread | None,
        sockets: list[socket.socket],
        make_runner: MakeRunner,
    ) -> None:
        self.plan = plan
        self.services: dict[str, Service] = {}
        self.notice = notice
        self._log = log
        self._notifier = notifier
        self._sockets = sockets
        self._is_shared = reread is not None
        self._beat = Beat(lambda: notifier.half_s, in_step=self._is_shared)
        self._writer = ThreadPoolExecutor(1, "disk") if self._is_shared else None
        only = "" if self._is_shared else plan.services[0].service
        directory = directory_of(plan.state_dir, only, plan.local)
        if self._is_shared:
            make_directory(os.path.abspath(directory))
        self._recorder = Recorder(
            directory, plan.member, plan.journal_days, plan.journal_mib, notice
        )
        self._link = self._trunk = self._exchange = None
        if plan.remote is not None:
            self._make_link(plan.remote)
        self._guardians = self._make_guardians() if self._is_shared else None
        self._common = Common(
            trunk=self._trunk,
            beat=self._beat,
            recorder=self._recorder,
            writer=self._writer,
            guardians=self._guardians,
            make_runner=make_runner,
            listeners=tuple(sock.fileno() for sock in sockets),
            on_role=self._show_role,
            on_exit=self._look_for_end,
            on_fault=self._fail,
        )
        self._end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._is_stopping = False
        self._reload = Reload(self, reread) if reread is not None else None
        self._counter = Counter(self.services, self._reload) if self._reload else None
        handlers = self._counter.handlers if self._counter is not None else {}
        self._control = Control(directory, handlers)

    _link: Link | None
    _trunk: Trunk | None
    _exchange: Exchange | None

    def _make_guardians(self) -> Guardians:
        from ha_heartbeat.shell.guardians import Guardians  # for those who have many

        listeners = [sock.fileno() for sock in self._sockets]
        return Guardians(listeners=listeners, spare=self._bystanders)

    def _make_link(self, peer: Address) -> None:
        plan = self.plan
        self._trunk = trunk = Trunk(
            str(peer),
            is_shared=self._is_shared,
            on_notice=self.notice,
            on_live=lambda link: exchange.answered(link),
            on_gone=lambda conn: exchange.gone(conn),
            on_other_question=lambda conn, other: exchange.hear_question(conn, other),
            on_other_answer=lambda link, other: exchange.hear_answer(link, other),
        )
        self._link = link = Link(
            local=plan.local,
            peer=peer,
            links=plan.links,
            on_event=trunk.hear,
            on_notice=self.notice,
            connect_timeout_s=max(config.interval_test_s for config in plan.services),
            on_other_question=trunk.hear_question,
            on_other_answer=trunk.hear_answer,
            on_stranger=trunk.hear_stranger,
            on_unknown=trunk.unknown,
            on_stranger_gone=trunk.forget_stranger,
        )
        trunk.ride(link)
        self._exchange = exchange = Exchange(self._recorder, link.send_line, link.answer_line)

    # -- its life ----------------------------------------------------------------------------------

    async def live(self, states: Mapping[str, StateFile], stop_on: StopOn) -> int:
        """Start, live, and end in good order; the exit status. Raises StartError."""
        for config in self.plan.services:
            self.services[config.service] = self.make(config, states[config.service])
        await self._prepare()
        self._log.say(core.Say(core.Level.INFO, _greeting(self.plan, self._is_shared)))
        await self._open_control()
        self._recorder.start(self._recalls())
        with stop_on(self._stop), self._on_hangup():
            if self._link is not None:
                self._link.serve(self._sockets)
            self._notifier.status(core.Phase.LOOKING.value)
            for service in [*self.services.values()]:
                self.begin(service)
            self._notifier.ready(self._beat.is_well)
            try:
                return await self._end
            finally:
                await self._leave()

    async def _prepare(self) -> None:
        """Get all services ready, some at a time. Raises StartError."""
        if self._guardians is not None:
            try:
                await self._guardians.start()
            except GuardianError as error:
                raise StartError(str(error)) from error
        limit = asyncio.Semaphore(STARTS_AT_ONCE)

        async def prepare(service: Service) -> None:
            async with limit:
                await service.prepare()

        starting = [asyncio.ensure_future(prepare(s)) for s in self.services.values()]
        try:
            await asyncio.gather(*starting)
        except BaseException:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            raise

    async def _open_control(self) -> None:
        if self._counter is None:
            (only,) = self.services.values()
            self._control.handlers.update(only.desk.handlers)
        try:
            if problem := await self._control.open():
                self.notice(problem)
        except asyncio.CancelledError:
            await self._control.close()
            await self._end_runs()
            raise

    async def _end_runs(self) -> None:
        await asyncio.gather(*(service.end_runs() for service in self.services.values()))
        if self._guardians is not None:
            await self._guardians.end()

    async def _leave(self) -> None:
        """Say what is left to say, then let go of the port."""
        self._notifier.stopping()
        if self._reload is not None:
            await self._reload.close(at_once=not self._is_stopping)
        services = [*self.services.values()]
        if self._exchange is not None:
            self._exchange.close()
        if self._trunk is not None:
            self._trunk.close()
        if self._link is not None:
            await self._link.close()
        await self._end_runs()
        if self._link is not None:
            self._link.close_listeners()
        for service in services:
            service.end_commands()
        await self._control.close()
        await self._recorder.close()
        for service in services:
            await service.close()
        if self._writer is not None:
            with ThreadPoolExecutor(1) as thread:
                await aside(thread, self._writer.shutdown)
        self._log.flush()

    # -- services ----------------------------------------------------------------------------------

    def make(self, config: Config, state: StateFile) -> Service:
        """A service of this member, not yet prepared. Raises StartError."""
        log, notice = self._log, self.notice
        if self._is_shared and isinstance(log, Log):
            log = voice = log.voice(config.service)

            def notice(text: str) -> None:
                voice.say(core.Say(core.Level.WARNING, as_sentence(text)))

        return Service(config, log, state, notice, self._common)

    def begin(self, service: Service) -> None:
        """Let a service that is prepared begin."""
        if self._is_shared:
            self._recorder.recall(service.config.service, service.memory.recall)
        service.start()

    async def remove(self, name: str) -> None:
        """Stop one service in good order, while the others go on.

        One that cannot be stopped whole is a fault, and ends the member: nothing of it may be left
        beside another life of it.
        """
        service = self.services[name]
        try:
            await service.leave()
            service.unplug()
            await service.end_runs()
            service.end_commands()
            await service.close()
        except Exception as error:
            self._fail(error)
            raise
        del self.services[name]

    async def remove_unbegun(self, name: str) -> None:
        """Let go of a service that is prepared and has not begun: the member ends."""
        service = self.services.pop(name)
        await service.end_runs()
        service.end_commands()
        await service.close()

    def say(self, text: str) -> None:
        """A line of the log that is about the member."""
        self._log.say(core.Say(core.Level.INFO, text))

    @property
    def is_ending(self) -> bool:
        """Whether it was told to stop, or has to."""
        return self._is_stopping or self._end.done()

    def _recalls(self) -> Callable[..., None]:
        if self._is_shared:
            return lambda change, run: None  # each service asks for its own
        (only,) = self.services.values()
        return only.memory.recall

    def _bystanders(self) -> Collection[int]:
        """What lives on when a guardian or their keeper is lost."""
        return [pid for service in self.services.values() for pid in service.bystanders]

    # -- what happens ------------------------------------------------------------------------------

    def _stop(self) -> None:
        self._is_stopping = True
        for service in [*self.services.values()]:
            service.tell(core.StopRequested())
        self._look_for_end()

    def _look_for_end(self) -> None:
        """A member ends with its last service, if it was told to, or carries that one only."""
        wanted = self._is_stopping or not self._is_shared
        if not wanted or self._end.done():
            return
        if all(service.has_exited for service in self.services.values()):
            self._end.set_result(0)

    def _fail(self, error: Exception) -> None:
        if not self._end.done():
            self._end.set_exception(error)

    def _show_role(self, changed: core.RoleChanged) -> None:
        if not self._is_shared:
            self._notifier.status(f"{changed.phase.value}, epoch {changed.epoch}")
            return
        workers = sum(
            service.core.state.phase is core.Phase.WORKER for service in self.services.values()
        )
        self._notifier.status(f"worker of {workers} of {len(self.services)} services")

    @contextlib.contextmanager
    def _on_hangup(self) -> Iterator[None]:
        """SIGHUP reads the file again; a member without one is stopped by it."""
        if sys.platform == "win32" or self._reload is None:  # there is no such signal there
            yield
            return
        loop = asyncio.get_running_loop()
        reload = self._reload
        signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(reload.on_signal))
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _greeting(plan: Plan, is_shared: bool) -> str:
    """The first line of a member's log."""
    peer = f"its peer is {plan.remote}" if plan.remote else "it has no peer"
    first = plan.services[0]
    if is_shared:
        names = ", ".join(config.service for config in plan.services[:10])
        more = len(plan.services) - 10
        judge = names + (f" and {more} more" if more > 0 else "")
    else:
        judge = "the witness decides" if first.witness else f"--takeover {first.takeover.value}"
    return f"ha-heartbeat {__version__} listens on {plan.local}; {peer} ({judge})."


def as_sentence(text: str) -> str:
    """The text with a full stop, and a capital letter unless it begins with a name."""
    first = text.split(" ", 1)[0]
    if first.isalpha():
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
