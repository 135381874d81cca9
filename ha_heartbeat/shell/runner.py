"""What a member needs of whatever starts and ends runs for it: the guardian, or the application."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, runtime_checkable

from ha_heartbeat.guardian.protocol import Run, Undo
from ha_heartbeat.shell.guardian import Event


class Runner(Protocol):
    """Starts runs, and sees that none outlives its lease. Nothing here blocks the event loop."""

    async def start(self) -> None:
        """Be ready for the first run. Raises GuardianError when that cannot be."""

    def run(self, order: Run) -> None:
        """Start a run; answered by Started or Failed."""

    def extend(self, term_at_ns: int, kill_at_ns: int) -> None:
        """The lease as it now stands; times on clock.now_ns()."""

    def stop(self, grace_s: float) -> None:
        """Ask everything to end, and see to it after the grace; answered by Gone."""

    def kill(self) -> None:
        """End everything now; answered by Gone."""

    async def end(self) -> None:
        """Return when nothing is left."""


@runtime_checkable
class CommandRunner(Runner, Protocol):
    """One whose runs are commands, with hooks around them. See `Guardian`."""

    def arm(self, undo: Undo | None, *, needs_set_up: bool, vips: Sequence[str] = ()) -> None:
        """What is done when a tree has ended for good; to be called before the start."""

    def begin_set_up(self) -> None:
        """The runs to come set up what the others need."""

    def cut(self, grace_s: float) -> None:
        """As stop, but nothing is undone; answered by Cleared, or by Lost."""

    def reap(self) -> None:
        """Reap what has become a child of the member by the death of its parent, and has ended."""


class MakeRunner(Protocol):
    """Makes one: see `Guardian` for what it is told."""

    def __call__(
        self,
        *,
        listeners: Sequence[int],
        stop_timeout_s: float,
        margin_s: float,
        on_event: Callable[[Event], None],
        spare: Callable[[], Collection[int]],
    ) -> Runner:
        """Make it; nothing is started yet."""
