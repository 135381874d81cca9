"""What the guardian needs of a platform, and which variant gives it."""

from __future__ import annotations

import sys

from ha_heartbeat.guardian.light import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from ha_heartbeat.guardian.protocol import Run

VARIANTS = ("linux", "linux-sweep", "posix", "windows")


class StartError(Exception):
    """A run could not be started; the text is a sentence for a human."""


class Launched(NamedTuple):
    """The program of the run is executing."""

    pid: int


class NotLaunched(NamedTuple):
    """The run came to nothing; the reason is a sentence for a human."""

    reason: str


class Exited(NamedTuple):
    """The run's main process ended: exit status from 0, or -1 and the signal that ended it."""

    status: int
    signal: int


class Stirred(NamedTuple):
    """Some other process of the tree ended."""


Outcome = Launched | NotLaunched | Exited | Stirred

if TYPE_CHECKING:

    class Addresses(Protocol):
        """What the host has under the lease beside processes. Nothing here blocks or raises."""

        def extend(self, until_ns: int) -> str:
            """The lease ends then, and so do those that are there; which had to be added again."""

        def lapse(self) -> None:
            """Take them off if the lease is over."""

        def remove(self) -> str:
            """Take them off; what was wrong, if anything."""

    class Tree(Protocol):
        """All processes that came from the runs, and the channel to the member beside them.

        One object has both, because one wait must cover both. No method but `wait` blocks, and
        none raises because a process has ended or may not be signalled.
        """

        @property
        def announces_end(self) -> bool:
            """Whether `wait` returns when the last process ends; else somebody must look."""

        def wait(self, until_ns: int | None) -> None:
            """Sleep until the member says something, something happened, or that time came."""

        def receive(self) -> tuple[bytes, bool]:
            """What the member has said by now, and whether it has hung up."""

        def send(self, data: bytes) -> None:
            """Queue bytes for the member; lost when it has hung up."""

        @property
        def unsent(self) -> bool:
            """Whether the member is behind in reading."""

        def start(self, order: Run) -> None:
            """Begin a run; its outcome comes from `happened`. Raises CannotStart."""

        def happened(self) -> list[Outcome]:
            """What happened since the last call."""

        def empty(self) -> bool:
            """Whether nothing of the tree is left, as of the last `happened`."""

        def leftovers(self) -> int:
            """How many processes (POSIX: groups) are not below the running main process."""

        def answer_for(self, until_ns: int, *, striking: bool) -> None:
            """Say by when this guardian will have acted, to whoever acts if it has not.

            NEVER_NS while nothing is alive; striking: it is killing, and tries again then.
            """

        def soft(self, again: bool) -> None:
            """Ask every process of the tree to end, each once.

            Again: only what was left behind since by processes that have ended. What a process
            starts in order to end well is its own affair for as long as it lives.
            """

        def hard(self) -> None:
            """Kill every process of the tree that can be seen now."""

        def close(self) -> None:
            """Remove what was made outside this process; the tree is empty."""


def default_variant() -> str:
    """The variant for this platform."""
    if sys.platform == "linux":
        return "linux"
    return "windows" if sys.platform == "win32" else "posix"


def make_addresses(words: Sequence[str]) -> Addresses | None:
    """The virtual addresses, if there are any.

    Raises ValueError or OSError for one that is none, or where there can be none.
    """
    if not words:
        return None
    if sys.platform == "linux":
        from ha_heartbeat.guardian.addresses import LinuxAddresses

        return LinuxAddresses(words)
    raise ValueError(f"there are no virtual addresses on {sys.platform}")


def make(
    variant: str,
    control: int,
    listeners: Sequence[int],
    margin_ns: int,
    addresses: Addresses | None = None,
) -> Tree:
    """The tree of that variant. Raises ValueError when this platform cannot have it.

    control and listeners are the inherited file descriptors, on Windows socket handles; margin_ns
    is the time from a lease's SIGKILL to its end. addresses: what a keeper takes off, too.
    """
    if sys.platform == "win32":
        if variant == "windows":
            from ha_heartbeat.guardian.windows import WindowsTree

            return WindowsTree(control, listeners)
    else:
        if sys.platform == "linux" and variant in ("linux", "linux-sweep"):
            from ha_heartbeat.guardian.keeper import split
            from ha_heartbeat.guardian.linux import LinuxTree

            notes = split(control, listeners, margin_ns, addresses)
            return LinuxTree(control, listeners, notes, use_cgroup=variant == "linux")
        if variant == "posix":
            from ha_heartbeat.guardian.posix import PosixTree

            return PosixTree(control, listeners)
    raise ValueError(f"there is no guardian of kind {variant} on {sys.platform}")
