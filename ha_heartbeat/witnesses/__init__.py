"""Witnesses: a third voter on neither machine, as a compare-and-swap register and nothing more."""

from ha_heartbeat.witnesses.opening import open_register
from ha_heartbeat.witnesses.register import (
    MAX_VALUE_BYTES,
    ConflictError,
    Register,
    Stored,
    UnknownOutcomeError,
    WitnessError,
    WitnessUrlError,
)

__all__ = [
    "MAX_VALUE_BYTES",
    "ConflictError",
    "Register",
    "Stored",
    "UnknownOutcomeError",
    "WitnessError",
    "WitnessUrlError",
    "open_register",
]
