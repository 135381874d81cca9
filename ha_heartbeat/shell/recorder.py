"""Writes the journal in a thread of its own, so that a slow or full disk never holds up a member.

What cannot be written waits in memory, up to a limit; it is said once, tried again, and when more
is lost than can wait, the gap is recorded as soon as there is room. What is asked of the journal
meanwhile is answered then. A journal that is damaged is moved aside, and a new one begun.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

from ha_heartbeat import places
from ha_heartbeat.journal import SKIPPED_END, Batch, Change, Entry, Journal, JournalError, Run
from ha_heartbeat.shell.aside import aside

MAX_WAITING: Final = 2000
"""Entries that wait for a disk that takes none: a megabyte or so, with the output of their runs."""

MAX_WORKS: Final = 2000
"""Questions that wait for it, each with what it is about: of the peer, and of services."""

MAX_BATCH: Final = 500
MAX_QUEUED: Final = 5000
RETRY_S: Final = 5.0
PRUNE_EVERY: Final = 1000
"""Entries between two looks at the age and size of the journal."""

PRUNE_S: Final = 3600.0
MAX_PRUNE_ROUNDS: Final = 100
CLOSE_S: Final = 5.0

Recall: TypeAlias = Callable[[Change | None, Run | None], None]
Work: TypeAlias = Callable[[Journal], None]


class Recorder:
    """The journal of one member: entries go in from the event loop, and are written aside of it."""

    def __init__(
        self,
        directory: str,
        member: str,
        keep_days: float,
        keep_mib: float,
        on_notice: Callable[[str], None],
    ) -> None:
        self._path = os.path.join(directory, places.JOURNAL_FILE)
        self._member = member
        self._keep_s = keep_days * 86_400
        self._limit_bytes = int(keep_mib * 1_048_576)
        self._on_notice = on_notice
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[Entry | Work | None] = queue.SimpleQueue()
        self._waiting: list[Entry] = []  # of the thread
        self._works: list[Work] = []  # of the thread
        self._begun_anew = 0  # how often a damaged journal was moved aside
        self._gap: tuple[int, float] | None = None  # of the thread: entries lost, since when
        self._since_prune = PRUNE_EVERY
        self._pruned_s = 0.0
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._on_written: Callable[[], None] = lambda: None
        self._recall: Recall = lambda change, run: None
        self.problem = ""
        self.lost = 0
        self.peer_runs: dict[str, Run] = {}  # by service: the latest that the peer made

    def start(self, recall: Recall) -> None:
        """Begin; `recall` is told in the loop what the journal knows of an earlier life."""
        self._recall = recall
        try:
            self._thread.start()
        except RuntimeError as error:  # a host out of processes gives no thread either
            self.problem = f"the journal is not written: {error}"
            self._on_notice(self.problem)

    def recall(self, service: str, recall: Recall) -> None:
        """Tell, in the loop, what the journal knows of an earlier life of one of many services."""

        def find(journal: Journal) -> None:
            change = journal.last_change(self._member, service)
            run = journal.last_run(self._member, service)
            peers = journal.last_run_elsewhere(self._member, service)
            if peers is not None:
                self.peer_runs.setdefault(service, peers)
            self._tell(recall, change, run)

        self._inbox.put(find)

    def record(self, entry: Entry) -> None:
        """Write this, soon."""
        if self._inbox.qsize() < MAX_QUEUED:  # else the disk hangs, or the thread is gone
            self._inbox.put(entry)
        else:
            self.lost += 1

    def on_written(self, call: Callable[[], None]) -> None:
        """Have this called in the loop when something new is in the journal."""
        self._on_written = call

    def lacking(
        self, have: Mapping[str, int], limit_bytes: int, reply: Callable[[Batch | None], None]
    ) -> None:
        """Find what somebody lacks; `reply` gets it in the loop."""

        def find(journal: Journal) -> None:
            self._tell(reply, journal.lacking(have, limit_bytes))

        self._inbox.put(find)

    def have(self, reply: Callable[[dict[str, int]], None]) -> None:
        """Find how far the journal goes; `reply` gets it in the loop."""

        def find(journal: Journal) -> None:
            self._tell(reply, journal.have())

        self._inbox.put(find)

    def take(self, batch: Batch, reply: Callable[[], None]) -> None:
        """Keep what the peer has sent; `reply` is called in the loop when it is on disk.

        Or when there is another journal by now, which lacks what came before it.
        """
        begun_anew = self._begun_anew

        def keep(journal: Journal) -> None:
            if begun_anew == self._begun_anew:
                journal.take(batch)
                self._note_peer_runs(batch)
                self._since_prune += len(batch.rows)
            self._tell(reply)

        self._inbox.put(keep)

    async def close(self) -> None:
        """Return when what can be written is; a disk that hangs is not waited for."""
        if not self._thread.is_alive():
            return
        self._inbox.put(None)
        with ThreadPoolExecutor(1) as thread:
            await aside(thread, self._thread.join, CLOSE_S)

    # -- the thread --------------------------------------------------------------------------------

    def _tell(self, call: Callable[..., None], *values: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *values)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    def _work(self) -> None:
        try:
            self._serve()
        except Exception as error:  # a defect: the member goes on without a journal
            self.problem = f"internal error, {type(error).__name__}: {error}"
            self._tell(self._on_notice, f"the journal is not written any more: {self.problem}")

    def _serve(self) -> None:
        journal: Journal | None = None
        going = True
        while going:
            journal = journal or self._open()
            going = self._collect(journal is not None)
            if journal is None:
                self._shorten()
                continue
            try:
                self._write(journal)
                while self._works:
                    self._works[0](journal)
                    del self._works[0]
                self._prune(journal)
            except JournalError as error:
                self._failed(error)
                if error.damaged:
                    journal.close()
                    journal = None
                    self._move_aside()
            else:
                self._worked()
        if journal is not None:
            journal.close()

    def _open(self) -> Journal | None:
        try:
            journal = Journal.open(self._path, self._member)
            journal.close_runs(SKIPPED_END)
            self._tell(
                self._recall, journal.last_change(self._member), journal.last_run(self._member)
            )
            self._find_peer_run(journal)
        except JournalError as error:
            self._failed(error)
            if error.damaged:
                self._move_aside()
            return None
        return journal

    def _collect(self, is_open: bool) -> bool:
        """Wait for something to do, but not for ever when it goes badly; False at the end."""
        limit_s = RETRY_S if self.problem or not is_open else None
        try:
            item = self._inbox.get(timeout=limit_s)
        except queue.Empty:
            return True
        while True:
            if item is None:
                return False
            if isinstance(item, Run | Change):
                self._waiting.append(item)
            elif len(self._works) < MAX_WORKS:
                self._works.append(item)
            if len(self._waiting) >= MAX_BATCH or self._inbox.empty():
                return True
            item = self._inbox.get()

    def _write(self, journal: Journal) -> None:
        self._shorten()
        if not self._waiting:
            return
        entries = list(self._waiting)
        if self._gap is not None:
            entries.insert(0, self._gap_entry())
        journal.write(entries)
        self._since_prune += len(entries)
        self._waiting.clear()
        self._gap = None
        self._tell(self._on_written)

    def _shorten(self) -> None:
        """Only so much can wait: the oldest are lost, and counted."""
        too_many = len(self._waiting) - MAX_WAITING
        if too_many > 0:
            lost, since = self._gap or (0, _time_of(self._waiting[0]))
            self._gap = lost + too_many, since
            self.lost += too_many
            del self._waiting[:too_many]

    def _gap_entry(self) -> Change:
        lost, since = self._gap or (0, 0.0)
        first = self._waiting[0]
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
        text = f"{lost} entries from {when} on are lost: the journal could not be written."
        return Change(first.service, self._member, "gap", time.time(), "", 0, "", text, 0.0)

    def _prune(self, journal: Journal) -> None:
        """By age and size, a round at a time while nothing else waits."""
        due = self._since_prune >= PRUNE_EVERY or time.monotonic() - self._pruned_s > PRUNE_S
        for _ in range(MAX_PRUNE_ROUNDS if due else 0):
            if not self._inbox.empty():
                return
            if journal.prune(self._keep_s, self._limit_bytes):
                self._since_prune, self._pruned_s = 0, time.monotonic()
                return

    # -- trouble -----------------------------------------------------------------------------------

    def _failed(self, error: JournalError) -> None:
        if not self.problem:
            self._tell(
                self._on_notice,
                f"{error}; the member carries on, tries again every {RETRY_S:g} s, and keeps the "
                f"last {MAX_WAITING} entries in memory",
            )
        self.problem = str(error)

    def _worked(self) -> None:
        if self.problem:
            self.problem = ""
            lost = f"; {self.lost} entries are lost" if self.lost else ""
            self._tell(self._on_notice, f"the journal {self._path} is written again{lost}")

    def _move_aside(self) -> None:
        """Keep what is damaged for whoever wants to mend it, and begin anew."""
        self._begun_anew += 1
        aside = f"{self._path}.damaged-{int(time.time())}"
        for end in ("", "-wal", "-shm"):
            try:
                os.replace(self._path + end, aside + end)
            except OSError:
                continue
        self._tell(self._on_notice, f"the damaged journal is kept as {aside}; a new one is begun")

    # -- the peer's runs ---------------------------------------------------------------------------

    def _find_peer_run(self, journal: Journal) -> None:
        found = journal.select("run", "member <> ?", (self._member,), "started DESC", 1)
        for run in found:
            if isinstance(run, Run):
                self.peer_runs[run.service] = run

    def _note_peer_runs(self, batch: Batch) -> None:
        for table, _key, _seq, *values in batch.rows:
            run = Run(*values) if table == "run" else None
            if run is None or run.member == self._member:
                continue
            known = self.peer_runs.get(run.service)
            if known is None or run.started >= known.started:
                self.peer_runs[run.service] = run


def _time_of(entry: Entry) -> float:
    return entry.started if isinstance(entry, Run) else entry.at
