"""What happened here lately, as the core's events and effects tell it: changes of role, and runs.

It lives in memory, so that a status costs nothing, and goes to the journal as it happens. Times of
day are seconds since 1970; they order nothing and decide nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from ha_heartbeat.core import types as core
from ha_heartbeat.core.state import State
from ha_heartbeat.journal import Change, Entry, Run

OUTPUT_S: Final = 0.1
"""What a thread gets to carry the last words of a run from the pipe, when it is already over."""


class Memory:
    """The latest change and the latest run of one member; `record` gets each entry for the journal.

    `change` and `run` may be those of an earlier life, as the journal tells them.
    """

    def __init__(
        self,
        service: str,
        member: str,
        record: Callable[[Entry], None],
        cut_output: Callable[[], str] | None = None,
    ) -> None:
        self._cut_output = cut_output
        self._late: Run | None = None  # has ended, and its last output may still be on its way
        self._timer: asyncio.TimerHandle | None = None
        self._service = service
        self._member = member
        self._record = record
        self._wall_s = 0.0  # of the step that is being noted
        self._started_s = 0.0  # of the run under way, on the member's clock
        self._open: Run | None = None
        self.change: Change | None = None
        self.run: Run | None = None

    def recall(self, change: Change | None, run: Run | None) -> None:
        """What the journal knows of an earlier life, unless this one has something newer."""
        self.change = self.change or change
        self.run = self.run or run

    def note(
        self,
        state: State,
        event: core.Event,
        effects: Sequence[core.Effect],
        now_s: float,
        wall_s: float,
    ) -> None:
        """One step of the core, taken at `now_s` on the member's clock and `wall_s` of the day.

        That is before its effects: what the peer did because of them comes after it.
        """
        self._wall_s = wall_s
        kind = type(event)
        if kind is core.RunEnded or kind is core.RunFailed:
            self._ended(event, now_s)
        elif self._open is not None and not state.run:
            self._lost(event, now_s)
        words = [e for e in effects if type(e) is core.Say and e.level is not core.Level.CHECK]
        for effect in effects:
            if type(effect) is core.StartRun:
                self._started(effect, now_s)
            elif type(effect) is core.RoleChanged:
                text = " ".join(say.text for say in words)
                evidence = effect.evidence.value if effect.evidence else ""
                self._change("role", effect.phase.value, effect.epoch, evidence, text)
            elif type(effect) is core.RecordOverlap:
                text = f"{effect.peer} (epoch {effect.peer_epoch}) was worker, too."
                self._change("overlap", "", effect.own_epoch, "", text, effect.seconds)
            elif type(effect) is core.KeepHold:
                hold = effect.hold
                what = "pause" if hold.on else "resume"
                reason = f": {hold.reason}" if hold.on else ""
                self._change(what, "", state.epoch_seen, "", f"by {hold.by}{reason}")

    def _change(
        self, kind: str, role: str, epoch: int, evidence: str, text: str, seconds: float = 0.0
    ) -> None:
        made = Change(
            self._service, self._member, kind, self._wall_s, role, epoch, evidence, text, seconds
        )
        if kind == "role":
            self.change = made
        self._record(made)

    # -- runs --------------------------------------------------------------------------------------

    def make_way(self) -> None:
        """A run is about to be started: what was printed until now is not its own."""
        self.flush()
        if self._cut_output is not None:
            self._cut_output()

    def _started(self, effect: core.StartRun, now_s: float) -> None:
        self._started_s = now_s
        self._open = Run(self._service, self._member, effect.run, effect.epoch, self._wall_s)
        self.run = self._open
        self._record(self._open)

    def _ended(self, event: core.Event, now_s: float) -> None:
        run = self._open
        if run is None or not isinstance(event, core.RunEnded | core.RunFailed):
            return
        if event.run != run.run:
            return
        if isinstance(event, core.RunEnded):
            status = event.status if not event.signal else None
            run = run._replace(
                status=status, signal=event.signal or None, leftovers=event.leftovers
            )
        else:
            run = run._replace(note=f"could not be started: {event.reason}")
        self._close(run, now_s)

    def _lost(self, event: core.Event, now_s: float) -> None:
        """The tree went without a word on how the run ended."""
        if self._open is not None:
            if isinstance(event, core.Expired):
                why = "ended by its guardian as the lease ran out"
            else:
                lost = isinstance(event, core.GuardianLost)
                why = "lost with its guardian" if lost else "ended with its tree"
            self._close(self._open._replace(note=why), now_s)

    def _close(self, run: Run, now_s: float) -> None:
        took_s = max(0.0, now_s - self._started_s)
        self._open = None
        self.run = run._replace(ended=run.started + took_s, took_s=round(took_s, 6))
        if self._cut_output is None:
            self._record(self.run)
            return
        self._late = self.run
        self._timer = asyncio.get_running_loop().call_later(OUTPUT_S, self.flush)

    def flush(self) -> None:
        """Hand over a run that waits for the rest of its output; before the next one prints."""
        if self._timer is not None:
            self._timer.cancel()
        if self._late is not None and self._cut_output is not None:
            self._record(self._late._replace(output=self._cut_output()))
        self._late = self._timer = None
