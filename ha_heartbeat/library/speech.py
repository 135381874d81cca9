"""A member's log for a program that has its own: the logger `ha_heartbeat` of logging."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from ha_heartbeat.core.types import Level, Phase, RoleChanged, Say
from ha_heartbeat.library.term import LOGGER
from ha_heartbeat.shell.log import ROLE_AT_START, Field

LEVELS: Final = {
    Level.CHECK: logging.DEBUG,
    Level.INFO: logging.INFO,
    Level.WARNING: logging.WARNING,
    Level.ERROR: logging.ERROR,
}


class Speech:
    """Says what a member says; `on_hand_over` is called when a hand-over begins."""

    def __init__(self, member: str, on_hand_over: Callable[[], None]) -> None:
        self._member = member
        self._on_hand_over = on_hand_over
        self._role = ROLE_AT_START
        self._epoch = 0

    waiting = False
    """Nothing ever waits here: that is the handlers' affair."""

    def say(self, say: Say, **fields: Field) -> None:
        """Log one sentence; role, epoch and `fields` are attributes of the record, too."""
        who = f"{self._member} {self._role}" + (f" {self._epoch}" if self._epoch else "")
        extra = {"ha_member": self._member, "ha_role": self._role, "ha_epoch": self._epoch}
        extra |= {f"ha_{name}": value for name, value in fields.items()}
        LOGGER.log(LEVELS[say.level], "%s: %s", who, say.text, extra=extra)

    def role_changed(self, changed: RoleChanged) -> None:
        """Show this role and epoch from now on."""
        self._role, self._epoch = changed.phase.value, changed.epoch
        if changed.phase is Phase.HANDING_OVER:
            self._on_hand_over()

    def flush(self) -> bool:
        """Nothing waits."""
        return True
