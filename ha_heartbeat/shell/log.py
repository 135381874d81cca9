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


class Who:
    """Whose line it is: a member, and where it carries one service the service's role and epoch."""

    __slots__ = ("epoch", "label", "role", "service")

    def __init__(self, label: str, service: str, role: str) -> None:
        self.label = label
        self.service = service
        self.role = role
        self.epoch = 0

    @property
    def text(self) -> str:
        """As the text format shows it; an epoch of 0 is none."""
        role = f" {self.role}" if self.role else ""
        return f"{self.label}{role}" + (f" {self.epoch}" if self.epoch else "")


class Log:
    """The log of one member. To be used from one thread.

    With a service, it is that one's log, too; without, each service has a `voice`.

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
        self._who = Who(member, service, ROLE_AT_START if service else "")
        self._format = log_format
        self._verbose = verbose
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._torn = b""  # the rest of a line of which a part has been written
        self._lost = 0

    def say(self, say: Say, **fields: Field) -> None:
        """Log one sentence; `fields` are shown by the JSON format only."""
        self.say_for(self._who, say, fields)

    def say_for(self, who: Who, say: Say, fields: dict[str, Field]) -> None:
        """Log one sentence of one service of this member."""
        if say.level is Level.CHECK and not self._verbose:
            return
        self._enqueue(self._line(who, say, fields))
        self.flush()

    def role_changed(self, changed: RoleChanged) -> None:
        """Show this role and epoch from now on; an epoch of 0 is none and not shown."""
        self._who.role = changed.phase.value
        self._who.epoch = changed.epoch

    def voice(self, service: str) -> Voice:
        """What one of many services has to say is said in this log, with its name."""
        return Voice(self, Who(f"{self._member}/{service}", service, ROLE_AT_START))

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
        return self._line(self._who, Say(Level.WARNING, text), {})

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

    def _line(self, who: Who, say: Say, fields: dict[str, Field]) -> bytes:
        now_ns = time.time_ns()
        make = self._json if self._format is LogFormat.JSON else self._text
        line = make(now_ns, who, say, fields)
        if len(line) <= MAX_LINE_BYTES:
            return line
        text = say.text[:MAX_LINE_BYTES]
        while (
            len(line := make(now_ns, who, Say(say.level, text + "..."), {})) > MAX_LINE_BYTES
            and text
        ):
            # A character takes at most MAX_BYTES_PER_CHAR, so this never cuts more than it must.
            text = text[: -((len(line) - MAX_LINE_BYTES) // MAX_BYTES_PER_CHAR + 1)]
        return line

    def _text(self, now_ns: int, who: Who, say: Say, _fields: dict[str, Field]) -> bytes:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now_ns // 10**9))
        line = f"{when}.{_milliseconds(now_ns):03d} {who.text}: {say.text}"
        return escaped(line).encode() + b"\n"

    def _json(self, now_ns: int, who: Who, say: Say, fields: dict[str, Field]) -> bytes:
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
            "service": who.service or None,
            "role": who.role or None,
            "epoch": who.epoch or None,
            "text": say.text,
        }
        return json.dumps(line).encode("ascii") + b"\n"


class Voice:
    """The part of one of many services in a member's log: its name, role and epoch are shown."""

    def __init__(self, log: Log, who: Who) -> None:
        self._log = log
        self._who = who

    def say(self, say: Say, **fields: Field) -> None:
        """Log one sentence; `fields` are shown by the JSON format only."""
        self._log.say_for(self._who, say, fields)

    def role_changed(self, changed: RoleChanged) -> None:
        """Show this role and epoch from now on; an epoch of 0 is none and not shown."""
        self._who.role = changed.phase.value
        self._who.epoch = changed.epoch

    @property
    def waiting(self) -> bool:
        """Whether something of the member's log has not been written yet."""
        return self._log.waiting

    def flush(self) -> bool:
        """Write what waits, as far as stderr takes it now; return whether all is written."""
        return self._log.flush()


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
