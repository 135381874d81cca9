"""The log: one line to stderr for each thing said, and a broken stderr is never the member's end.

Lines are written with one write each, so that they do not mix with the command's. What cannot be
written now waits, up to a limit, and is written before the next line that can be. Levels and
sentences come from the core; nothing here decides what is said.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections import deque
from typing import Protocol, TypeAlias

from ha_heartbeat.config import LogFormat
from ha_heartbeat.core.types import Level, RoleChanged, Say

MAX_LINE_BYTES = 4096  # PIPE_BUF on Linux: longer writes to a pipe may be torn, or block
MAX_BYTES_PER_CHAR = 12  # an escaped surrogate pair in JSON
MAX_WAITING_LINES = 1000
MAX_FIELD_CHARS = 300
ROLE_AT_START = "starting"

Field: TypeAlias = str | int | float | bool | None


class Speaker(Protocol):
    """Where a member says what it has to say: its own log, or an application's. Never raises."""

    def say(self, say: Say, **fields: Field) -> None:
        """Say one sentence, with more for programs in `fields`."""

    def role_changed(self, changed: RoleChanged) -> None:
        """Show this role and epoch from now on."""

    @property
    def waiting(self) -> bool:
        """Whether something could not be said yet."""

    def flush(self) -> bool:
        """Say what waits, as far as that is possible; whether all is said."""


class Log:
    """The log of one member. To be used from one thread.

    `waiting` tells whether lines wait for stderr to work again; the owner then calls `flush` from
    time to time. Nothing here raises or blocks on account of stderr.
    """

    def __init__(
        self,
        member: str,
        service: str,
        log_format: LogFormat = LogFormat.TEXT,
        *,
        verbose: bool = False,
        descriptor: int = 2,
    ) -> None:
        """Write to `descriptor`; lines of level CHECK only when `verbose`."""
        self._member = member
        self._service = service
        self._format = log_format
        self._verbose = verbose
        self._descriptor = descriptor
        self._role = ROLE_AT_START
        self._epoch = 0
        self._waiting: deque[bytes] = deque()
        self._torn = b""  # the rest of a line of which a part has been written
        self._lost = 0

    def say(self, say: Say, **fields: Field) -> None:
        """Log one sentence; `fields` are shown by the JSON format only."""
        if say.level is Level.CHECK and not self._verbose:
            return
        self._enqueue(self._line(say, fields))
        self.flush()

    def role_changed(self, changed: RoleChanged) -> None:
        """Show this role and epoch from now on; an epoch of 0 is none and not shown."""
        self._role = changed.phase.value
        self._epoch = changed.epoch

    @property
    def waiting(self) -> bool:
        """Whether something has not been written yet."""
        return bool(self._torn or self._waiting or self._lost)

    def flush(self) -> bool:
        """Write what waits, as far as stderr takes it now; return whether all is written."""
        while self.waiting:
            if not self._torn:
                self._torn = self._next()
            if not self._write_some():
                return False
        return True

    def _enqueue(self, line: bytes) -> None:
        self._waiting.append(line)
        while len(self._waiting) > MAX_WAITING_LINES:
            self._waiting.popleft()
            self._lost += 1

    def _next(self) -> bytes:
        """Take the next line to write: what was lost is older than what waits."""
        if not self._lost:
            return self._waiting.popleft()
        text = f"lines of this log lost here, since stderr took none: {self._lost}"
        self._lost = 0
        return self._line(Say(Level.WARNING, text), {})

    def _write_some(self) -> bool:
        """Write what is left of a line; return whether stderr took some of it."""
        try:
            if not _takes_a_line(self._descriptor):
                return False
            written = os.write(self._descriptor, self._torn)
        except (OSError, ValueError):
            return False
        self._torn = self._torn[written:]
        return written > 0

    def _line(self, say: Say, fields: dict[str, Field]) -> bytes:
        now_ns = time.time_ns()
        make = self._json if self._format is LogFormat.JSON else self._text
        line = make(now_ns, say, fields)
        if len(line) <= MAX_LINE_BYTES:
            return line
        text = say.text[:MAX_LINE_BYTES]
        while len(line := make(now_ns, Say(say.level, text + "..."), {})) > MAX_LINE_BYTES and text:
            # A character takes at most MAX_BYTES_PER_CHAR, so this never cuts more than it must.
            text = text[: -((len(line) - MAX_LINE_BYTES) // MAX_BYTES_PER_CHAR + 1)]
        return line

    def _text(self, now_ns: int, say: Say, _fields: dict[str, Field]) -> bytes:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now_ns // 10**9))
        who = f"{self._member} {self._role}" + (f" {self._epoch}" if self._epoch else "")
        line = f"{when}.{_milliseconds(now_ns):03d} {who}: {say.text}"
        return escaped(line).encode() + b"\n"

    def _json(self, now_ns: int, say: Say, fields: dict[str, Field]) -> bytes:
        import json  # only here: the text format does without

        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ns // 10**9))
        line: dict[str, Field] = {
            name: value[:MAX_FIELD_CHARS] if isinstance(value, str) else value
            for name, value in fields.items()
        }
        # After the extra fields, so that none of them takes the place of one of these.
        line |= {
            "time": f"{when}.{_milliseconds(now_ns):03d}Z",
            "level": say.level.value,
            "member": self._member,
            "service": self._service,
            "role": self._role,
            "epoch": self._epoch or None,
            "text": say.text,
        }
        return json.dumps(line).encode("ascii") + b"\n"


def escaped(text: str) -> str:
    """The text on one line: whatever could not be seen, or would move the cursor, as an escape."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def _milliseconds(now_ns: int) -> int:
    return now_ns // 10**6 % 1000


def _takes_a_line(descriptor: int) -> bool:
    """Whether a write of MAX_LINE_BYTES would not block, as far as the system can tell.

    A reader that has stopped reading (a paused terminal, a hung log shipper) would otherwise stop
    the member with its pipe. A broken pipe says yes here; the write then says what is wrong.
    """
    if sys.platform == "win32":  # select knows sockets only
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))
