"""What must be so before a service can start, at the member's own start and at a reload alike."""

from __future__ import annotations

import asyncio

from ha_heartbeat.config import Config
from ha_heartbeat.shell.errors import StartError
from ha_heartbeat.shell.state import StateFile
from ha_heartbeat.shell.vip import objection


def open_state(config: Config) -> StateFile:
    """Its state file, with its witness's URL looked at. Raises StartError."""
    state = StateFile.open(config.state_dir, config.service, config.local, config.member)
    if config.witness:
        from ha_heartbeat.shell.witness import check_url  # its weight is for those who use it

        check_url(config.witness, config.service)
    return state


async def look_at_addresses(config: Config) -> None:
    """Raises StartError if it cannot have its virtual addresses here."""
    if config.vip and (problem := await asyncio.to_thread(objection, config)):
        raise StartError(problem)
