"""Group commit: swaps that arrive within a few milliseconds share one transaction and one fsync."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ha_heartbeat.witness_server.store import Outcome, Refused, Store, Swap

GATHER_S = 0.02
"""How long the first swap of a batch waits for others; costs that much latency, saves fsyncs."""
MAX_BATCH = 2_000
MAX_WAITING = 20_000

Done = Callable[[Outcome], None]


class GroupCommit:
    """Hands batches of swaps to the store in a thread of its own; used from one event loop.

    While a batch is being written the next one gathers, so a slow disk makes larger batches.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="witness-store")
        self._waiting: list[tuple[Swap, Done]] = []
        self._scheduled = False
        self._writing_since_s: float | None = None

    @property
    def writing_for_s(self) -> float:
        """How long the batch being written has been so, in seconds; 0 when there is none."""
        since_s = self._writing_since_s
        return 0.0 if since_s is None else asyncio.get_running_loop().time() - since_s

    def submit(self, swap: Swap, done: Done) -> None:
        """Do the swap, and call `done` after its transaction is on disk."""
        if len(self._waiting) >= MAX_WAITING:
            done(Refused("the witness has more to write than its disk can take", busy=True))
            return
        self._waiting.append((swap, done))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(GATHER_S, self._start_batch)

    def close(self) -> None:
        """Wait for the batch being written; blocks as long as the disk does."""
        self._thread.shutdown()

    def _start_batch(self) -> None:
        batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        swaps = [swap for swap, _done in batch]
        loop = asyncio.get_running_loop()
        self._writing_since_s = loop.time()
        written = loop.run_in_executor(self._thread, self._store.commit, swaps)
        written.add_done_callback(lambda ended: self._end_batch(batch, ended))

    def _end_batch(
        self, batch: list[tuple[Swap, Done]], ended: asyncio.Future[list[Outcome]]
    ) -> None:
        self._writing_since_s = None
        error = ended.exception()
        outcomes: Sequence[Outcome] = (
            ended.result()
            if error is None
            else [Refused(f"the witness failed: {error!r}")] * len(batch)
        )
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            wait_s = 0.0 if len(self._waiting) >= MAX_BATCH else GATHER_S
            asyncio.get_running_loop().call_later(wait_s, self._start_batch)
        for (_swap, done), outcome in zip(batch, outcomes, strict=True):
            done(outcome)
