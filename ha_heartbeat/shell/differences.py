"""Says which services only one of two members carries, a little after it was noticed.

Two files are seldom changed in the same moment, so what is set right soon is not said at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

SAY_S: Final = 2.0
"""How long a difference has to last before it is said."""

MAX_NAMES: Final = 10
MAX_UNKNOWN: Final = 2000


class Differences:
    """Of this member and `peer`."""

    def __init__(self, peer: str, on_notice: Callable[[str], None]) -> None:
        self._peer = peer
        self._on_notice = on_notice
        self._lacking: set[str] = set()  # it does not carry
        self._unknown: set[str] = set()  # we do not carry
        self._said: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
        self._timer: asyncio.TimerHandle | None = None

    def carried(self, service: str) -> None:
        """This member carries it now."""
        self._unknown.discard(service)
        self._look()

    def dropped(self, service: str) -> None:
        """It does so no more."""
        self._lacking.discard(service)
        self._look()

    def found(self, service: str) -> None:
        """The peer carries it."""
        if service in self._lacking:
            self._lacking.discard(service)
            self._look()

    def lacking(self, service: str) -> None:
        """The peer says that it does not."""
        self._lacking.add(service)
        self._look()

    def unknown(self, service: str) -> None:
        """The peer asks for what is not carried here."""
        if len(self._unknown) < MAX_UNKNOWN:
            self._unknown.add(service)
            self._look()

    def close(self) -> None:
        """Say nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._said = frozenset(self._lacking), frozenset(self._unknown)

    def _look(self) -> None:
        now = frozenset(self._lacking), frozenset(self._unknown)
        if self._timer is None and self._said != now:
            self._timer = asyncio.get_running_loop().call_later(SAY_S, self._say)

    def _say(self) -> None:
        self._timer = None
        lacked, unknown = self._said
        self._said = frozenset(self._lacking), frozenset(self._unknown)
        if new := self._lacking - lacked:
            self._on_notice(
                f"the peer at {self._peer} does not carry {_names(new)}: nobody takes over from "
                "this member there; add to its file what is missing, and reload it"
            )
        if new := self._unknown - unknown:
            self._on_notice(
                f"the peer at {self._peer} carries {_names(new)}, which this member does not: "
                "nobody takes over here; add to its file what is missing, and reload it"
            )
        if (lacked or unknown) and not self._lacking and not self._unknown:
            self._on_notice(f"this member and the peer at {self._peer} carry the same services")


def _names(names: set[str]) -> str:
    some = sorted(names)[:MAX_NAMES]
    more = len(names) - len(some)
    what = "the service" if len(names) == 1 else "the services"
    return f"{what} {', '.join(some)}" + (f" and {more} more" if more else "")
