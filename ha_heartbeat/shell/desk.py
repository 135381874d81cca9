"""The operator's desk: what the control socket is asked, and who answers.

Questions are answered from the member's state. Orders go to the core as events, and its `Replied`
is the answer: nothing is decided here.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from ha_heartbeat.core import hooks
from ha_heartbeat.core import types as core
from ha_heartbeat.core.machine import Core
from ha_heartbeat.guardian.clock import now_s
from ha_heartbeat.shell import status
from ha_heartbeat.shell.control import Handler, Reply, Request, RequestError, text_of
from ha_heartbeat.shell.memory import Memory
from ha_heartbeat.shell.recorder import Recorder

Settled: TypeAlias = Callable[[Callable[[bool], None]], None]
"""Calls what it is given as soon as all is on disk, or cannot be, with which of the two it is."""

MAX_REASON_CHARS: Final = 200
MAX_NAME_CHARS: Final = 255

NOT_KEPT: Final = (
    "It is not on disk, and would be forgotten at a restart: the state file cannot be written, and "
    "the log says why."
)


class Desk:
    """Answers for one service. `tell` gives the core an event; `vips` are its virtual addresses."""

    def __init__(
        self,
        brain: Core,
        memory: Memory,
        recorder: Recorder,
        tell: Callable[[core.Event], None],
        vips: Sequence[str] = (),
    ) -> None:
        self._vips = vips
        self._core = brain
        self._memory = memory
        self._recorder = recorder
        self._tell = tell
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Reply] = {}
        self.handlers: dict[str, Handler] = {
            "status": self._status,
            "explain": self._explain,
            "switchover": self._switchover,
            "pause": self._pause,
            "resume": self._resume,
            "run": self._run,
        }

    def replied(self, effect: core.Replied, settled: Settled | None = None) -> None:
        """The core has answered a request.

        settled: by this it is known whether an order that is to outlast a restart is on disk.
        """
        reply = self._waiting.pop(effect.request, None)
        if reply is None:
            return

        def answer(is_kept: bool) -> None:
            text = effect.text if is_kept else f"{effect.text} {NOT_KEPT}"
            reply({"ok": effect.done, "text" if effect.done else "error": text})

        if settled is None:
            answer(True)
        else:
            settled(answer)

    # -- questions ---------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What is told of this service."""
        told = status.status(self._core.state, now_s(), self._memory.change)
        return {"ok": True, **told, **self._addresses(), **self._journal()}

    def _status(self, request: Request, reply: Reply) -> None:
        reply(self.status())

    def _explain(self, request: Request, reply: Reply) -> None:
        told = status.explain(self._core.state, now_s(), self._memory.change)
        reply({"ok": True, **told, **self._addresses(), **self._journal()})

    def _addresses(self) -> dict[str, Any]:
        """The virtual addresses, and whether they are here now."""
        here = hooks.has_taken(self._core.state, core.VIP)
        return {"virtual_addresses": list(self._vips), "has_virtual_addresses": here}

    def _journal(self) -> dict[str, Any]:
        """What the journal adds: the last run here and there, and whether it is written."""
        service = self._core.state.settings.service
        here, there = self._memory.run, self._recorder.peer_runs.get(service)
        return {
            "last_run": here._asdict() if here else None,
            "peer_last_run": there._asdict() if there else None,
            "journal": {"failing": self._recorder.problem or None, "lost": self._recorder.lost},
        }

    # -- orders ------------------------------------------------------------------------------------

    def _order(self, reply: Reply, make: Callable[[int], core.Event]) -> None:
        number = next(self._numbers)
        self._waiting[number] = reply
        self._tell(make(number))
        if number in self._waiting:  # the member is past its end
            del self._waiting[number]
            reply({"ok": False, "error": "the member is ending"})

    def _switchover(self, request: Request, reply: Reply) -> None:
        to = text_of(request, "to", MAX_NAME_CHARS)
        self._order(reply, lambda number: core.SwitchoverRequested(number, to))

    def _pause(self, request: Request, reply: Reply) -> None:
        reason = text_of(request, "reason", MAX_REASON_CHARS).strip()
        if not reason:
            raise RequestError("a pause needs a reason: whoever finds it has to know why")
        self._order(reply, lambda n: core.PauseRequested(n, True, reason, round(time.time(), 3)))

    def _resume(self, request: Request, reply: Reply) -> None:
        self._order(reply, lambda n: core.PauseRequested(n, False, "", round(time.time(), 3)))

    def _run(self, request: Request, reply: Reply) -> None:
        self._order(reply, core.RunRequested)
