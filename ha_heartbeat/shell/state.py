"""What a member must not forget over a restart: epochs, overlaps, a pause, and who it was.

One small file for each service and local address, so that two members on one host do not meet in
it. It is replaced as a whole, and it carries a checksum: what cannot be read right is never taken
for empty and never overwritten. Nothing here decides what an epoch is or when to keep it.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import threading
import time
import zlib
from typing import Any, NamedTuple

from ha_heartbeat import places
from ha_heartbeat.config import Address
from ha_heartbeat.core.types import NO_HOLD, Hold
from ha_heartbeat.shell.errors import StartError

FORMAT = 1
MAX_OVERLAPS = 100
MAX_FILE_BYTES = 1_048_576
MAX_EPOCH = 2**53  # what a message can carry

# What fsync of a directory says on file systems that have no such thing: then os.replace is all.
_NO_DIRECTORY_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
_HOW_TO_GO_ON = (
    "restore it from a copy, or move it aside and start again; after that epochs start anew, "
    "and unless the peer is up and knows them, stores that compare epochs refuse this member's "
    "writes until its epochs have grown past the old ones"
)


class StateError(StartError):
    """The state directory or the file in it cannot be used; nothing in it was changed."""


class StateWriteError(Exception):
    """Something could not be kept now; it is still in memory, and the next save writes it, too."""


class Overlap(NamedTuple):
    """Both members were worker at once for at most `seconds`; `noted` is UTC, for people only."""

    noted: str
    peer: str
    own_epoch: int
    peer_epoch: int
    seconds: float


class _Content(NamedTuple):
    epoch_seen: int
    epoch_reserved: int
    overlaps: tuple[Overlap, ...]
    hold: Hold = NO_HOLD
    incarnation: str = ""
    host: str = ""


class StateFile:
    """The state of one member, in memory and on disk.

    Made by `open`. Every method may be called from any thread; writes wait for each other. Epochs
    only ever grow: saving a lower one keeps the higher.
    """

    def __init__(self, path: str, service: str, member: str, content: _Content) -> None:
        """Use `open`, which reads `content` and proves that `path` can be written."""
        self.path = path
        self._service = service
        self._member = member
        self._content = content
        self._unsaved = False
        self._lock = threading.Lock()

    @classmethod
    def open(cls, directory: str, service: str, local: Address, member: str) -> StateFile:
        """Make the directory if need be, prove that it can be written, and read what is there.

        A missing file is a fresh member: zeros. Raises StateError with a sentence for the operator.
        Leaves an existing file as it is, so opening while another member still uses it is harmless;
        open again once the port is bound, since the other may have written until then.
        """
        where = directory_of(directory, service, local)
        try:
            where = os.path.abspath(where)
            _make_directories(where)
            _prove_writable(where)
        except (OSError, ValueError) as error:
            raise StateError(
                f"the state directory {where} cannot be written: {_why(error)}; "
                "make it writable or give another one with --state-dir"
            ) from error
        path = os.path.join(where, places.STATE_FILE)
        return cls(path, service, member, _read(path, service))

    @property
    def epoch_seen(self) -> int:
        """The highest epoch known of; 0 when none is."""
        return self._content.epoch_seen

    @property
    def epoch_reserved(self) -> int:
        """The highest epoch that may have been used here; 0 when none was."""
        return self._content.epoch_reserved

    @property
    def overlaps(self) -> tuple[Overlap, ...]:
        """The last MAX_OVERLAPS overlaps, oldest first."""
        return self._content.overlaps

    @property
    def hold(self) -> Hold:
        """The latest order to pause or to resume; NO_HOLD when none was ever given."""
        return self._content.hold

    @property
    def former(self) -> str:
        """The incarnation of the life before, which is over; "" when none is known.

        Not one of another host: two that share a directory by mistake may both be alive.
        """
        return self._content.incarnation if self._content.host == socket.gethostname() else ""

    def begin(self, incarnation: str) -> None:
        """Another life begins, by this name: the next save writes it, and `former` has had its use.

        To be called once the port is bound, which proves that the life before is over.
        """
        with self._lock:
            self._content = self._content._replace(
                incarnation=incarnation, host=socket.gethostname()
            )

    @property
    def unsaved(self) -> bool:
        """Whether something in memory is not on disk, because a write failed."""
        return self._unsaved

    def save(self, epoch_seen: int, epoch_reserved: int) -> None:
        """Keep the epochs; when this returns, they and all before are on disk.

        Raises StateWriteError when they are not; they are remembered, and `flush` or the next save
        writes them.
        """
        with self._lock:
            old = self._content
            self._content = old._replace(
                epoch_seen=max(old.epoch_seen, epoch_seen),
                epoch_reserved=max(old.epoch_reserved, epoch_reserved),
            )
            self._unsaved = True
            self._write()

    def add_overlap(self, peer: str, own_epoch: int, peer_epoch: int, seconds: float) -> None:
        """Keep an overlap, dropping the oldest beyond MAX_OVERLAPS; raises as `save` does."""
        overlap = Overlap(_utc_now(), peer, own_epoch, peer_epoch, seconds)
        with self._lock:
            overlaps = (*self._content.overlaps, overlap)[-MAX_OVERLAPS:]
            self._content = self._content._replace(overlaps=overlaps)
            self._unsaved = True
            self._write()

    def keep_hold(self, hold: Hold) -> None:
        """Keep an order to pause or to resume; raises as `save` does."""
        with self._lock:
            self._content = self._content._replace(hold=hold)
            self._unsaved = True
            self._write()

    def flush(self) -> None:
        """Write what an earlier failure left unsaved, if anything; raises as `save` does."""
        with self._lock:
            if self._unsaved:
                self._write()

    def _write(self) -> None:
        try:
            _replace_file(self.path, self._bytes())
        except OSError as error:
            raise StateWriteError(
                f"the state file {self.path} cannot be written: {_why(error)}; "
                "the member carries on and tries again each second; free some space "
                "or mend the disk before it is restarted"
            ) from error
        self._unsaved = False

    def _bytes(self) -> bytes:
        body: dict[str, Any] = {
            "format": FORMAT,
            "service": self._service,
            "member": self._member,
            "written": _utc_now(),
            "epoch_seen": self._content.epoch_seen,
            "epoch_reserved": self._content.epoch_reserved,
            "overlaps": [overlap._asdict() for overlap in self._content.overlaps],
        }
        if self._content.hold.number:
            body["hold"] = self._content.hold._asdict()
        if self._content.incarnation:
            body["incarnation"] = self._content.incarnation
            body["host"] = self._content.host
        body["checksum"] = checksum(body)
        return (json.dumps(body, indent=2) + "\n").encode("ascii")


def make_directory(where: str) -> None:
    """Make a directory for a member's own files. Raises StateError."""
    try:
        _make_directories(where)
    except OSError as error:
        raise StateError(
            f"the directory {where} cannot be made: {_why(error)}; "
            "make it, or give another directory with --state-dir"
        ) from error


def directory_of(directory: str, service: str, local: Address) -> str:
    """The directory below `directory` that belongs to one service and local address."""
    return os.path.join(directory, places.directory_name(service, local.host, local.port))


def checksum(body: dict[str, Any]) -> str:
    """The checksum of a state file's content, its own field left out."""
    rest = {key: value for key, value in body.items() if key != "checksum"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return f"crc32:{zlib.crc32(canonical.encode('ascii')):08x}"


def _utc_now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _why(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return str(text).lower()


# -- reading ---------------------------------------------------------------------------------------


def _read(path: str, service: str) -> _Content:
    try:
        raw = _read_bytes(path)
    except FileNotFoundError:
        return _Content(0, 0, ())
    except OSError as error:
        raise StateError(
            f"the state file {path} cannot be read: {_why(error)}; "
            "make it readable, or give another directory with --state-dir"
        ) from error
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        size = "is empty" if not raw else "is not the JSON that was written"
        raise _damaged(path, size) from None
    return _checked(path, service, body)


def _read_bytes(path: str) -> bytes:
    """Read the file, at most one byte over the limit. Raises OSError, also for what is no file."""
    nonblocking = getattr(os, "O_NONBLOCK", 0)  # a FIFO in its place must not hang the start
    descriptor = os.open(path, os.O_RDONLY | nonblocking | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        chunks: list[bytes] = []
        left = MAX_FILE_BYTES + 1
        while left and (chunk := os.read(descriptor, left)):
            chunks.append(chunk)
            left -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(descriptor)


def _checked(path: str, service: str, body: object) -> _Content:
    if not isinstance(body, dict) or not _is_count(body.get("format")) or body["format"] < 1:
        raise _damaged(path, "names no format")
    if body["format"] > FORMAT:
        raise StateError(
            f"the state file {path} has format {body['format']}, and this version knows up to "
            f"{FORMAT}; start the newer version of ha-heartbeat that wrote it"
        )
    # A file without a checksum was edited on purpose: no damage removes just that line.
    if "checksum" in body and body["checksum"] != checksum(body):
        raise _damaged(
            path,
            "was changed since it was written (its checksum does not match; "
            "delete the checksum's line if you edited the file on purpose)",
        )
    if body.get("service", service) != service:
        raise _damaged(path, f"belongs to another service, {body['service']!r}")
    for name in ("epoch_seen", "epoch_reserved"):
        if not _is_count(body.get(name)):
            raise _damaged(path, f"has no usable {name}")
    try:
        overlaps = tuple(Overlap(**overlap) for overlap in body.get("overlaps", ()))
    except TypeError:
        raise _damaged(path, "has no usable list of overlaps") from None
    hold = _read_hold(path, body.get("hold"))
    incarnation, host = body.get("incarnation", ""), body.get("host", "")
    if not isinstance(incarnation, str) or not isinstance(host, str):
        raise _damaged(path, "has no usable incarnation and host")
    epochs = body["epoch_seen"], body["epoch_reserved"]
    return _Content(*epochs, overlaps[-MAX_OVERLAPS:], hold, incarnation, host)


def _read_hold(path: str, value: object) -> Hold:
    if value is None:
        return NO_HOLD
    try:
        hold = Hold(**value) if isinstance(value, dict) else None
    except TypeError:
        hold = None
    if hold is None or not _is_count(hold.number) or type(hold.on) is not bool:
        raise _damaged(path, "has no usable order to pause or to resume")
    return hold._replace(reason=str(hold.reason), by=str(hold.by), at=float(hold.at))


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_EPOCH


def _damaged(path: str, wrong: str) -> StateError:
    return StateError(f"the state file {path} {wrong}; {_HOW_TO_GO_ON}")


# -- writing ---------------------------------------------------------------------------------------


def _make_directories(where: str) -> None:
    """Make `where` and what is missing above it, private, and lasting over a loss of power."""
    if os.path.isdir(where):
        return
    above = os.path.dirname(where)
    if above != where:
        _make_directories(above)
    try:
        os.mkdir(where, 0o700)
    except FileExistsError:
        if not os.path.isdir(where):  # another member may have made it; a file is in the way
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    _sync_directory(above)


def _prove_writable(where: str) -> None:
    """Write and fsync a file of a state file's usual size, and remove it. Raises OSError."""
    probe = os.path.join(where, f"probe.{os.getpid()}.tmp")
    try:
        _write_synced(probe, b" " * 4096)
    finally:
        _remove(probe)
    _sync_directory(where)


def _replace_file(path: str, data: bytes) -> None:
    """Replace the file by one with `data`: after a crash it is the old one or the new one."""
    # The name carries the process's number, so that two members never write into one file.
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        _write_synced(temporary, data)
        os.replace(temporary, path)
    except OSError:
        _remove(temporary)
        raise
    _sync_directory(os.path.dirname(path))


def _write_synced(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: str) -> None:
    """Remove the file if it can be; one that stays is harmless and overwritten in time."""
    try:
        os.unlink(path)
    except OSError:
        return


def _sync_directory(path: str) -> None:
    """Make a new or renamed entry of the directory last over a loss of power, where that exists."""
    if os.name == "nt":  # a directory cannot be opened there
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # may be entered and written, but not read: nothing more can be done
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_FSYNC:
            raise
    finally:
        os.close(descriptor)
