"""A term: the time in which this process, and no other, may do the work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Final

from ha_heartbeat.guardian.clock import now_ns

LOGGER: Final = logging.getLogger("ha_heartbeat")


class TermLostError(Exception):
    """The term was lost before its block was left; the text is a sentence that says why."""


class Term:
    """The right to do the work, from the election to the end of the `with` block, or its loss.

    It may be read from any thread. Nobody but the application can stop its work: when `lost` is
    set, that has to end, and by `deadline_s` it has to have ended. Another member may start right
    after that.

    epoch: the fencing token, which grows with every new worker; let a store refuse lower ones.
    run: the epoch and a number, for logs. member, peer, service: as they were configured.
    """

    def __init__(self, environ: Mapping[str, str], kill_at_ns: int) -> None:
        self.epoch = int(environ["HA_HEARTBEAT_EPOCH"])
        self.run = environ["HA_HEARTBEAT_RUN"]
        self.member = environ["HA_HEARTBEAT_MEMBER"]
        self.peer = environ["HA_HEARTBEAT_PEER"]
        self.service = environ["HA_HEARTBEAT_SERVICE"]
        self.lost: Final = threading.Event()
        self._environ = dict(environ)
        self._deadline_ns = kill_at_ns
        self._reason = ""
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[Term], object]] = []

    @property
    def environ(self) -> dict[str, str]:
        """HA_HEARTBEAT_EPOCH and the like, as a command has them: for a process that you start."""
        return dict(self._environ)

    @property
    def deadline_s(self) -> float:
        """By when the work has to have ended, in seconds on `ha_heartbeat.now_s()`.

        It moves on while the lease is renewed; once the term is lost it only comes nearer.
        """
        return self._deadline_ns / 1e9

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline, as it stands now; 0 when it has passed."""
        return max(0.0, (self._deadline_ns - now_ns()) / 1e9)

    @property
    def reason(self) -> str:
        """Why the term was lost, as a sentence; "" while it is not."""
        return self._reason

    def raise_if_lost(self) -> None:
        """For work that goes on step by step. Raises TermLostError."""
        if self.lost.is_set():
            raise TermLostError(self._reason)

    def on_lost(self, callback: Callable[[Term], object]) -> None:
        """Have `callback(term)` called once when the term is lost; at once if it is already.

        It is called in a thread of its own, so it may block; what it raises is logged.
        """
        with self._lock:
            if not self.lost.is_set():
                self._callbacks.append(callback)
                return
        self._call([callback])

    # What follows is for the holder alone.

    def move_deadline(self, kill_at_ns: int) -> None:
        """The deadline is then, on clock.now_ns()."""
        self._deadline_ns = kill_at_ns

    def lose(self, reason: str) -> None:
        """The term is lost; only the first time counts."""
        with self._lock:
            if self.lost.is_set():
                return
            self._reason = reason
            self.lost.set()
            callbacks, self._callbacks = self._callbacks, []
        LOGGER.warning("%s: the term of epoch %d is lost: %s", self.member, self.epoch, reason)
        self._call(callbacks)

    def _call(self, callbacks: list[Callable[[Term], object]]) -> None:
        if callbacks:
            threading.Thread(
                target=self._call_each, args=(callbacks,), name="ha-heartbeat-lost", daemon=True
            ).start()

    def _call_each(self, callbacks: list[Callable[[Term], object]]) -> None:
        for callback in callbacks:
            try:
                callback(self)
            except Exception:
                LOGGER.exception("%s: a callback for a lost term failed", self.member)
