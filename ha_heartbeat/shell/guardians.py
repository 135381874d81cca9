"""The guardians of a member with many services: one keeper, and one guardian a service that runs.

On Linux a guardian is a fork of the keeper (`guardian.many`), made when its service is first told
to run something, and ended again when nothing of it is here. Elsewhere it is a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Collection, Sequence

from ha_heartbeat.guardian.clock import now_ns
from ha_heartbeat.guardian.protocol import Cleared, Expired, Failed, Gone, Ready, Run, Undo
from ha_heartbeat.shell.guardian import Event, Guardian, GuardianError, take_off
from ha_heartbeat.shell.keeper import Keeper

LINGER_S = 1.0
"""How long a guardian stays when nothing of its service is left: the next run may be due."""


class Guardians:
    """All guardians of one member.

    listeners, spare, stdout, stderr and variant: as of `Guardian`.
    """

    def __init__(
        self,
        *,
        listeners: Sequence[int],
        spare: Callable[[], Collection[int]] = tuple,
        stdout: int | None = None,
        stderr: int | None = None,
        variant: str | None = None,
    ) -> None:
        self._listeners = tuple(listeners)
        self._spare = spare
        self._output = (stdout, stderr)
        self._variant = variant
        forks = sys.platform == "linux" and variant in (None, "linux", "linux-sweep")
        self._keeper = Keeper(self._listeners, spare, self._output)
        self._forks = forks

    @property
    def keeper_pid(self) -> int | None:
        """The process id of the keeper; None where there is none."""
        return self._keeper.pid

    async def start(self) -> None:
        """Start the keeper. Raises GuardianError when it does not start."""
        if self._forks:
            try:
                await self._keeper.start()
            except OSError as problem:
                raise GuardianError(f"the keeper could not be started: {problem}") from problem

    async def end(self) -> None:
        """Return when the keeper is gone; to be called after the end of every runner."""
        if self._forks:
            await self._keeper.end()

    def make_runner(
        self,
        *,
        stop_timeout_s: float,
        margin_s: float,
        on_event: Callable[[Event], None],
        stdout: int | None = None,
        stderr: int | None = None,
        keep_open: Sequence[int] = (),
    ) -> Guardian | LazyGuardian:
        """The runner of one service; arguments as of `Guardian`, output by default the member's."""
        output = (
            self._output[0] if stdout is None else stdout,
            self._output[1] if stderr is None else stderr,
        )

        def make(hear: Callable[[Event], None]) -> Guardian:
            return Guardian(
                listeners=self._listeners,
                stop_timeout_s=stop_timeout_s,
                margin_s=margin_s,
                on_event=hear,
                variant=self._variant,
                spare=self._spare,
                stdout=output[0],
                stderr=output[1],
                keep_open=keep_open,
                keeper=self._keeper if self._forks else None,
            )

        return LazyGuardian(make, on_event, self._keeper) if self._forks else make(on_event)


class LazyGuardian:
    """A runner that has a guardian only while it is needed; for the rest see `Guardian`."""

    def __init__(
        self,
        make: Callable[[Callable[[Event], None]], Guardian],
        on_event: Callable[[Event], None],
        keeper: Keeper,
    ) -> None:
        self._make = make
        self._on_event = on_event
        self._keeper = keeper
        self._guardian: Guardian | None = None
        self._up = False
        self._changing: asyncio.Task[None] | None = None
        self._waiting: list[Callable[[Guardian], None]] = []
        self._runs: list[int] = []  # asked for while it was not up
        self._lease_ns: tuple[int, int] | None = None
        self._armed: tuple[Undo | None, bool, tuple[str, ...]] = (None, False, ())
        self._linger: asyncio.TimerHandle | None = None
        self._ending = False

    @property
    def pid(self) -> int | None:
        """The guardian's process id; None while there is none."""
        return self._guardian.pid if self._guardian is not None else None

    @property
    def keeper_pid(self) -> int | None:
        """The process id of the keeper of all."""
        return self._keeper.pid

    def arm(self, undo: Undo | None, *, needs_set_up: bool, vips: Sequence[str] = ()) -> None:
        """As of `Guardian`."""
        self._armed = (undo, needs_set_up, tuple(vips))

    async def start(self) -> None:
        """Be ready: there is a keeper, and no guardian yet."""
        take_off(self._armed[2])
        self._on_event(Ready(self._keeper.pid or os.getpid()))

    def run(self, order: Run) -> None:
        """Start a run; answered by Started or Failed."""
        if not self._up:
            self._runs.append(order.run)
        self._do(lambda guardian: guardian.run(order))

    def begin_set_up(self) -> None:
        """The runs to come set up what the others need."""
        self._do(Guardian.begin_set_up)

    def extend(self, term_at_ns: int, kill_at_ns: int) -> None:
        """The lease as it now stands; times on clock.now_ns()."""
        self._lease_ns = (term_at_ns, kill_at_ns)
        if self._guardian is not None:
            self._do(lambda guardian: guardian.extend(term_at_ns, kill_at_ns))

    def stop(self, grace_s: float) -> None:
        """SIGTERM to the whole tree, SIGKILL after the grace; answered by Gone."""
        if self._idle():
            self._answer(Gone(now_ns()))
        else:
            self._do(lambda guardian: guardian.stop(grace_s))

    def kill(self) -> None:
        """SIGKILL to the whole tree; answered by Gone."""
        if self._idle():
            self._answer(Gone(now_ns()))
        else:
            self._do(Guardian.kill)

    def cut(self, grace_s: float) -> None:
        """As stop, but nothing is undone; answered by Cleared, or by Lost."""
        if self._idle():
            self._answer(Cleared(now_ns()))
        else:
            self._do(lambda guardian: guardian.cut(grace_s))

    def reap(self) -> None:
        """As of `Guardian`."""
        self._keeper.reap()

    async def end(self) -> None:
        """Kill what is left, and return when the guardian and all of its tree are gone."""
        self._ending = True
        if self._linger is not None:
            self._linger.cancel()
        if self._changing is not None:
            await self._changing
        if self._guardian is not None:
            await self._guardian.end()
            self._guardian, self._up = None, False

    def _idle(self) -> bool:
        return self._guardian is None and not self._waiting

    def _answer(self, event: Event) -> None:
        asyncio.get_running_loop().call_soon(self._on_event, event)

    def _do(self, call: Callable[[Guardian], None]) -> None:
        """Now, or when there is a guardian: in the order of the calls."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._up and self._guardian is not None:
            call(self._guardian)
            return
        self._waiting.append(call)
        if self._changing is None and not self._ending:
            self._changing = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        guardian = self._make(self._hear)
        undo, needs_set_up, vips = self._armed
        guardian.arm(undo, needs_set_up=needs_set_up, vips=vips)
        if self._lease_ns is not None:
            guardian.extend(*self._lease_ns)
        self._guardian = guardian
        reason = ""
        try:
            await guardian.start()
        except GuardianError as problem:
            reason = str(problem)
        self._changing = None
        waiting, self._waiting = self._waiting, []
        runs, self._runs = self._runs, []
        if not reason:
            self._up = True
            for call in waiting:
                call(guardian)
            return
        self._guardian = None
        for run in runs:
            self._on_event(Failed(run, reason, 0))
        if len(waiting) > len(runs):  # whatever else was asked, nothing is here
            self._on_event(Gone(now_ns()))

    def _hear(self, event: Event) -> None:
        if isinstance(event, Gone | Expired) and not self._is_spoken_for():
            if self._linger is not None:
                self._linger.cancel()
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(LINGER_S, self._retire)
        self._on_event(event)  # last: a run that is begun in it keeps the guardian

    def _is_spoken_for(self) -> bool:
        """Whether it is being ended in any case, or has a run that was on its way to it."""
        return self._ending or (self._guardian is not None and self._guardian.runs_something)

    def _retire(self) -> None:
        self._linger = None
        if self._changing is None and self._guardian is not None and not self._ending:
            self._changing = asyncio.get_running_loop().create_task(self._leave(self._guardian))

    async def _leave(self, guardian: Guardian) -> None:
        self._up = False
        await guardian.end()
        self._guardian = self._changing = None
        if self._waiting and not self._ending:
            self._changing = asyncio.get_running_loop().create_task(self._open())
