"""What a witness is: a compare-and-swap register, as an interface and its errors.

Nothing here or in the kinds beside it knows what a lease is; that is decided in the core. Every
method blocks, keeps the time limit that the register was opened with, and may be called from any
thread; calls wait for each other.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

MAX_VALUE_BYTES = 16_384
MAX_VERSION_CHARS = 256


class WitnessError(Exception):
    """The witness did not answer, or what it says cannot be read right.

    Never to be taken for "there is no record". The text is one sentence for the operator: it names
    the witness, says what is wrong and, where that helps, what to do; no full stop at its end.
    """


class UnknownOutcomeError(WitnessError):
    """The swap was sent, and nobody can tell whether it was done, or will be: read again."""


class ConflictError(Exception):
    """The record had another version than expected, so this swap wrote nothing.

    A proxy between here and the witness may have sent the same request twice, in which case the
    first one wrote it and the second one is what was answered. So read again before giving up.
    """


class WitnessUrlError(ValueError):
    """The URL names no witness that can be used; its text is one sentence for the operator."""


class Stored(NamedTuple):
    """A record: `value` has 1..MAX_VALUE_BYTES bytes, `version` 1..MAX_VERSION_CHARS characters.

    No two writes of one register ever get the same version, not even after it was wiped.
    """

    value: bytes
    version: str


class Register(Protocol):
    """One record that changes only for those who know its version.

    Write a value only once (a counter in it does), so that after an UnknownOutcomeError reading
    one's own value back means that it was written.
    """

    def read(self) -> Stored | None:
        """Return the record, None when there is none. Raises WitnessError."""
        ...

    def swap(self, expected: str | None, value: bytes) -> str:
        """Replace the record of version `expected`, or make the first one (None).

        Returns the new version. Raises ConflictError when the record has another version, is
        missing or, for None, exists; UnknownOutcomeError when it may have been written all the
        same; WitnessError when it was certainly not; ValueError for a value of the wrong size and
        a version that no register of this kind gives.
        """
        ...

    def close(self) -> None:
        """Give back what is held. Never waits for the witness; may be called more than once."""
        ...


def check_value(value: bytes) -> None:
    """Raise ValueError unless `value` has 1..MAX_VALUE_BYTES bytes."""
    if not 1 <= len(value) <= MAX_VALUE_BYTES:
        raise ValueError(f"a record has 1 to {MAX_VALUE_BYTES} bytes, and this one {len(value)}")


def check_timeout(timeout_s: float) -> None:
    """Raise ValueError unless `timeout_s` is a finite number of seconds above 0."""
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        raise ValueError(f"a time limit is a number of seconds above 0, not {timeout_s}")
