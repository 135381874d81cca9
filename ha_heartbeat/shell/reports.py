"""What a guardian reports, in the words of the core."""

from __future__ import annotations

from ha_heartbeat.core import types as core
from ha_heartbeat.guardian import protocol
from ha_heartbeat.shell.guardian import Event as GuardianEvent
from ha_heartbeat.shell.guardian import Lost


class RunNames:
    """The guardian counts runs, the core names them."""

    def __init__(self) -> None:
        self.count = 0
        self.latest = ""

    def number(self, name: str) -> int:
        """The number of a new run."""
        self.count += 1
        self.latest = name
        return self.count

    def name(self, number: int) -> str:
        """Its name; "" for one that is not the latest: the core has done with it."""
        return self.latest if number == self.count else ""


def from_guardian(event: GuardianEvent, runs: RunNames) -> core.Event | None:
    """What a report of the guardian is for the core."""
    match event:
        case protocol.Started(run=run):
            return core.RunStarted(runs.name(run))
        case protocol.Failed(run=run, reason=reason, tried=tried):
            return core.RunFailed(runs.name(run), reason, tried=bool(tried))
        case protocol.Ended(run=run, status=status, signal=number, leftovers=leftovers):
            return core.RunEnded(runs.name(run), status, number, leftovers)
        case protocol.Leftovers(number=number):
            return core.Leftovers(number)
        case protocol.Expired(latest=latest):
            return core.Expired(runs.name(latest))
        case protocol.Gone():
            return core.TreeGone()
        case protocol.Cleared():
            return core.TreeGone(undone=False)
        case protocol.Undone(status=status, signal=number):
            return core.UndoEnded(status, number)
        case Lost(reason=reason):
            return core.GuardianLost(reason)
        case _:
            return None
