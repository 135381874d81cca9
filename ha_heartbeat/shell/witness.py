"""The member's way to its witness: one call at a time, aside of the loop, reported as events.

A register of any kind (`ha_heartbeat.witnesses`) keeps bytes; here they become the core's record
and back. What cannot be read right is a failure, never an empty record.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from ha_heartbeat.core.types import (
    Event,
    ReadWitness,
    Record,
    SwapWitness,
    WitnessConflict,
    WitnessFailed,
    WitnessRead,
    WitnessSwapped,
)
from ha_heartbeat.shell.errors import StartError
from ha_heartbeat.witnesses import (
    ConflictError,
    Register,
    WitnessError,
    WitnessUrlError,
    open_register,
)

FORMAT: Final = 1
MAX_TEXT_CHARS: Final = 255
MAX_COUNT: Final = 2**53
MAX_LEASE_S: Final = 1e9


class WitnessOptionError(StartError):
    """--witness names nothing that can be used; the text is a sentence."""


def check_url(url: str, service: str) -> None:
    """Raise WitnessOptionError for a URL that will never do."""
    _open(url, service, timeout_s=1.0).close()


def _open(url: str, service: str, timeout_s: float) -> Register:
    try:
        return open_register(url, service, timeout_s)
    except (WitnessUrlError, WitnessError, ValueError) as error:
        raise WitnessOptionError(f"--witness: {error}") from error


class Witness:
    """Asks the register what the core wants to know."""

    def __init__(
        self, url: str, service: str, timeout_s: float, on_event: Callable[[Event], None]
    ) -> None:
        """Open the register. Raises WitnessOptionError for a URL that will never do."""
        self._register = _open(url, service, timeout_s)
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._caller = ThreadPoolExecutor(1, thread_name_prefix="witness")
        self._pending: set[asyncio.Future[Event]] = set()

    def read(self, effect: ReadWitness) -> None:
        """Read the record; the answer comes as an event."""
        self._call(_read, self._register, effect)

    def swap(self, effect: SwapWitness) -> None:
        """Swap the record; the answer comes as an event."""
        self._call(_swap, self._register, effect)

    async def close(self) -> None:
        """Let what is under way end, within its time limit: it may be the release of the vote."""
        if self._pending:
            await asyncio.wait(self._pending)
        self._register.close()
        self._caller.shutdown(wait=False)

    def _call(self, call: Callable[..., Event], *args: object) -> None:
        future = self._loop.run_in_executor(self._caller, call, *args)
        self._pending.add(future)
        future.add_done_callback(self._ended)

    def _ended(self, future: asyncio.Future[Event]) -> None:
        self._pending.discard(future)
        if not future.cancelled():
            self._on_event(future.result())


def _read(register: Register, effect: ReadWitness) -> Event:
    try:
        stored = register.read()
        if stored is None:
            return WitnessRead(effect.op, "", None)
        return WitnessRead(effect.op, stored.version, decode(stored.value))
    except (WitnessError, OSError, ValueError) as error:
        return WitnessFailed(effect.op, str(error))
    except Exception as error:  # a kind that others made may raise anything: it did not answer
        return WitnessFailed(effect.op, f"{type(error).__name__}: {error}")


def _swap(register: Register, effect: SwapWitness) -> Event:
    try:
        version = register.swap(effect.expected or None, encode(effect.record))
        return WitnessSwapped(effect.op, version)
    except ConflictError:
        return WitnessConflict(effect.op)
    except (WitnessError, OSError, ValueError) as error:
        return WitnessFailed(effect.op, str(error))
    except Exception as error:  # see _read
        return WitnessFailed(effect.op, f"{type(error).__name__}: {error}")


# -- the record as bytes ---------------------------------------------------------------------------


def encode(record: Record) -> bytes:
    """The record as one line of JSON, to be read with curl."""
    return json.dumps({"ha-heartbeat-record": FORMAT, **record._asdict()}).encode("ascii") + b"\n"


def decode(value: bytes) -> Record:
    """The record that these bytes are. Raises ValueError with a sentence for anything else."""
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("its record is not the JSON that a member writes") from None
    if not isinstance(fields, dict) or fields.get("ha-heartbeat-record") != FORMAT:
        raise ValueError("its record was not written by this version of ha-heartbeat")
    return Record(
        holder=_text(fields, "holder"),
        incarnation=_text(fields, "incarnation"),
        epoch=_count(fields, "epoch"),
        counter=_count(fields, "counter"),
        lease_s=_lease(fields),
        released=_flag(fields, "released"),
        members=_names(fields, "members"),
    )


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT_CHARS:
        raise ValueError(f"its record has no usable {name}")
    return value


def _count(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"its record has no usable {name}")
    return value


def _lease(fields: dict[str, Any]) -> float:
    value = fields.get("lease_s")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("its record has no usable lease_s")
    if not math.isfinite(value) or not 0 < value <= MAX_LEASE_S:
        raise ValueError("its record has no usable lease_s")
    return float(value)


def _flag(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    if not isinstance(value, bool):
        raise ValueError(f"its record has no usable {name}")
    return value


def _names(fields: dict[str, Any], name: str) -> tuple[str, ...]:
    value = fields.get(name)
    if not isinstance(value, list) or len(value) > 8 or not all(isinstance(v, str) for v in value):
        raise ValueError(f"its record has no usable {name}")
    return tuple(value)
