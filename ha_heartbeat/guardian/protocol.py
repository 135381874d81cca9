"""What a member and its guardian say to each other, and how it becomes bytes.

A frame is a length (4 bytes, big endian) and that many bytes: fields in UTF-8 with surrogateescape,
with a NUL between them, the first of which names the message. Arguments and environment can hold
no NUL (execve(2)), so nothing has to be quoted and no parser has to be loaded. Both ends come
from the same release; `VERSION` is compared when the guardian starts.

All times are absolute, in nanoseconds, on `clock.now_ns()`.
"""

from __future__ import annotations

from ha_heartbeat.guardian.light import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VERSION = 4
LIMIT_BYTES = 4 * 1024 * 1024
"""The longest payload; above what Linux takes as arguments and environment together by default."""

_HEAD_BYTES = 4
_INT_MAX = 2**63 - 1


class ProtocolError(ValueError):
    """Bytes that are no message, or a message that cannot be bytes."""


# Member to guardian.


class Run(NamedTuple):
    """Start a run. The lease holds from here: SIGTERM at the first time, SIGKILL at the second.

    With `shell`, argv is one shell command; without, a program and its arguments. `env` is added
    to the environment that the guardian was started in.
    """

    run: int
    term_at_ns: int
    kill_at_ns: int
    shell: bool
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]


class Extend(NamedTuple):
    """The lease as it now stands."""

    term_at_ns: int
    kill_at_ns: int


class Undo(NamedTuple):
    """What is run when a tree has ended for good, before that is told and the port is let go.

    For good: by Stop, Kill or End, at the deadline of its lease, or since the member is gone. It
    has `limit_ns` from its start; at the end of a lease `reserve_ns`, if that is less, from the
    time at which the tree is killed. Once for each time that anything was run, or if
    `owed` says that a guardian before this one has not. Otherwise as Run.
    """

    limit_ns: int
    reserve_ns: int
    owed: bool
    shell: bool
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]


class SetUp(NamedTuple):
    """Runs need something that is set up before; `begun`: and the runs that do so come now.

    Without it, or after a tree has ended for good, no run is started: a member that was stopped
    may not know yet that what it set up is undone.
    """

    begun: int


class Cut(NamedTuple):
    """As Stop, but not for good: nothing is undone; answered by Cleared."""

    grace_ns: int


class Stop(NamedTuple):
    """SIGTERM to the whole tree now, SIGKILL after the grace; answered by Gone."""

    grace_ns: int


class Kill(NamedTuple):
    """SIGKILL to the whole tree now; answered by Gone."""


class End(NamedTuple):
    """Start nothing any more, kill what is left, exit when nothing is."""


class Ping(NamedTuple):
    """Are you there? Answered by Pong."""

    number: int


# Guardian to member.


class Ready(NamedTuple):
    """The guardian listens; sent once."""

    pid: int


class Started(NamedTuple):
    """The run's program is executing; pid is that of its main process."""

    run: int
    pid: int
    at_ns: int


class Failed(NamedTuple):
    """The run did not start; the reason is a sentence for a human."""

    run: int
    reason: str


class Ended(NamedTuple):
    """The run's main process has ended: with an exit status, or -1 and by that signal.

    The status is 0 to 255 on POSIX, to 2**32 - 1 on Windows. `leftovers` descendants outlived it;
    they are part of the tree and hold the port.
    """

    run: int
    status: int
    signal: int
    at_ns: int
    leftovers: int


class Leftovers(NamedTuple):
    """The number of processes of the tree that are not below a running main process changed."""

    number: int


class Expired(NamedTuple):
    """The lease ran out, and the tree that it stopped is gone since at_ns.

    `latest` is the run that was started last, -1 for none. A member that was stopped meanwhile may
    have asked for another one before it reads this.
    """

    latest: int
    at_ns: int


class Gone(NamedTuple):
    """Answer to Stop and Kill: nothing of the tree is left. Orders given before it share one."""

    at_ns: int


class Cleared(NamedTuple):
    """Answer to Cut: nothing of the tree is left, and nothing was undone."""

    at_ns: int


class Undone(NamedTuple):
    """What Undo named has ended, with an exit status, or -1 and by that signal; 0: never begun."""

    status: int
    signal: int


class Pong(NamedTuple):
    """Answer to the Ping of that number."""

    number: int


Order = Run | Extend | Undo | SetUp | Cut | Stop | Kill | End | Ping
Report = Ready | Started | Failed | Ended | Leftovers | Expired | Gone | Cleared | Undone | Pong
Message = Order | Report

# Name on the wire, and the fields: i for an integer, s for text. Run and Undo have their own rule.
_SHAPES: tuple[tuple[Callable[..., Message], str, str], ...] = (
    (Extend, "extend", "ii"),
    (SetUp, "set-up", "i"),
    (Cut, "cut", "i"),
    (Stop, "stop", "i"),
    (Kill, "kill", ""),
    (End, "end", ""),
    (Ping, "ping", "i"),
    (Pong, "pong", "i"),
    (Ready, "ready", "i"),
    (Started, "started", "iii"),
    (Failed, "failed", "is"),
    (Ended, "ended", "iiiii"),
    (Leftovers, "leftovers", "i"),
    (Expired, "expired", "ii"),
    (Gone, "gone", "i"),
    (Cleared, "cleared", "i"),
    (Undone, "undone", "ii"),
)
_BY_NAME = {name: (made, shape) for made, name, shape in _SHAPES}
_NAMES = {made: name for made, name, _ in _SHAPES}


def encode(message: Message, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """One frame. Raises ProtocolError for a NUL in a field, a huge number or too long a frame."""
    if isinstance(message, Run | Undo):
        fields = _run_fields(message)
    else:
        fields = [_NAMES[type(message)], *(_written(field) for field in message)]
    for field in fields:
        if "\0" in field:
            raise ProtocolError("a NUL character cannot be passed to a program")
    try:
        payload = "\0".join(fields).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as problem:
        raise ProtocolError("a lone surrogate cannot be passed to a program") from problem
    if len(payload) > limit_bytes:
        raise ProtocolError(f"{len(payload)} bytes are more than the {limit_bytes} of a frame")
    return len(payload).to_bytes(_HEAD_BYTES, "big") + payload


def _run_fields(order: Run | Undo) -> list[str]:
    if isinstance(order, Run):
        fields = ["run", *map(_written, (order.run, order.term_at_ns, order.kill_at_ns))]
    else:
        fields = ["undo", *map(_written, (order.limit_ns, order.reserve_ns, int(order.owed)))]
    fields += ["1" if order.shell else "0", str(len(order.argv)), *order.argv]
    for name, value in order.env:
        fields += [name, value]
    return fields


def _written(value: int | str) -> str:
    if isinstance(value, int) and abs(value) > _INT_MAX:
        raise ProtocolError("a number is out of range")
    return str(value)


def decode(payload: bytes) -> Message:
    """The message of one frame's payload. Raises ProtocolError for anything else."""
    try:
        name, *fields = payload.decode("utf-8", "surrogateescape").split("\0")
    except UnicodeDecodeError as problem:  # surrogateescape takes any byte; kept for certainty
        raise ProtocolError("a frame is not text") from problem
    if name in ("run", "undo"):
        return _read_run(name, fields)
    if name not in _BY_NAME:
        raise ProtocolError(f"unknown message {name[:40]!a}")
    made, shape = _BY_NAME[name]
    if len(fields) != len(shape):
        raise ProtocolError(f"{name} has {len(fields)} fields instead of {len(shape)}")
    pairs = zip(shape, fields, strict=True)
    return made(*(field if kind == "s" else _number(field) for kind, field in pairs))


def _read_run(name: str, fields: list[str]) -> Run | Undo:
    if len(fields) < 5 or fields[3] not in ("0", "1"):
        raise ProtocolError(f"{name} is incomplete")
    argc, rest = _number(fields[4]), fields[5:]
    if not 1 <= argc <= len(rest) or (len(rest) - argc) % 2:
        raise ProtocolError(f"{name} has the wrong number of arguments")
    first, second, third = map(_number, fields[:3])
    shell, argv = fields[3] == "1", tuple(rest[:argc])
    env = tuple(zip(rest[argc::2], rest[argc + 1 :: 2], strict=True))
    if name == "run":
        return Run(first, second, third, shell, argv, env)
    return Undo(first, second, bool(third), shell, argv, env)


def _number(field: str) -> int:
    digits = field.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
        raise ProtocolError(f"{field[:40]!a} is not a number")
    value = int(field)
    if abs(value) > _INT_MAX:
        raise ProtocolError("a number is out of range")
    return value


class Decoder:
    """Collects bytes as they come and cuts them into messages."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._kept = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes; nothing is looked at yet."""
        self._kept += data

    def messages(self) -> Iterator[Message]:
        """The messages complete by now. Raises ProtocolError where the first bad one stands."""
        while len(self._kept) >= _HEAD_BYTES:
            size = int.from_bytes(self._kept[:_HEAD_BYTES], "big")
            if size > self._limit_bytes:
                raise ProtocolError(f"a frame of {size} bytes is too long")
            end = _HEAD_BYTES + size
            if len(self._kept) < end:
                return
            payload = bytes(self._kept[_HEAD_BYTES:end])
            del self._kept[:end]
            yield decode(payload)
