"""Where an operator asks about one of many services, or about all: who answers, and with what.

A request names its service; `Desk` of that service answers it. A status without one is about all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ha_heartbeat.shell.control import Handler, Reply, Request, RequestError, text_of
from ha_heartbeat.shell.desk import MAX_NAME_CHARS
from ha_heartbeat.shell.reload import Reload
from ha_heartbeat.shell.service import Service


class Reloads(Protocol):
    """Reads the file again for an operator."""

    def on_request(self, reply: Reply) -> None:
        """Answered when all is done that follows from it."""


DESK = ("explain", "switchover", "pause", "resume", "run")


class Counter:
    """Gives each request to the desk of the service that it names."""

    def __init__(self, services: Mapping[str, Service], reload: Reload) -> None:
        self._services = services
        self._reload: Reloads = reload
        self.handlers: dict[str, Handler] = {
            "status": self._status,
            "reload": self._on_reload,
            **dict.fromkeys(DESK, self._of_one),
        }

    def _status(self, request: Request, reply: Reply) -> None:
        if "service" in request:
            self._of_one(request, reply)
        else:
            told = [service.desk.status() for service in self._services.values()]
            reply({"ok": True, "members": told})

    def _of_one(self, request: Request, reply: Reply) -> None:
        name = text_of(request, "service", MAX_NAME_CHARS)
        service = self._services.get(name)
        if service is None:
            raise RequestError(f"this member does not carry the service {name}")
        service.desk.handlers[str(request["do"])](request, reply)

    def _on_reload(self, request: Request, reply: Reply) -> None:
        self._reload.on_request(reply)
