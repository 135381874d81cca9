"""A witness in a file on a share that the machines have mounted.

The file is replaced as a whole, under a lock on a second file beside it (`<file>.lock`), and it
carries a checksum: what is torn, stale beyond sense or somebody else's is an error, never an empty
record. A version is a counter and a random number, so that it does not come back when the file is
deleted or restored from a copy.

What is relied on, and what a share can get wrong:

- Close-to-open consistency (nfs(5), "DATA AND METADATA COHERENCE"): the file is opened anew for
  each read, and closed before the lock is given back.
- Names are cached longer than that: another machine's first record may be missed for as long as the
  share caches absent names (mount with `lookupcache=positive` to shorten that). So the first record
  is made with link(2), which the server refuses when there is one, whatever is cached here.
- A call to a hung share cannot be interrupted, not even by a signal. Calls therefore run in a
  daemon thread, one at a time, and are left behind at the time limit. A swap that was left behind
  stops before it replaces the file, unless it hangs in just that call.
- An NFS server takes a lock from a machine that it has not heard of for a lease (90 s by default),
  and then that machine may wake up between its comparing and its replacing. So whoever has the lock
  first removes the temporary files of all others: without its source, a late rename does nothing.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import os
import random
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from ha_heartbeat.witnesses import locks
from ha_heartbeat.witnesses.bounded import Bounded, BusyError, OverdueError
from ha_heartbeat.witnesses.register import (
    MAX_VALUE_BYTES,
    ConflictError,
    Stored,
    UnknownOutcomeError,
    WitnessError,
    WitnessUrlError,
    check_timeout,
    check_value,
)

FORMAT = 1
MAX_FILE_BYTES = 4 * MAX_VALUE_BYTES
LOCK_RETRY_S = (0.002, 0.02)  # between two tries to get the lock; random, so that none is starved
STALE_RETRIES = 3

_VERSION = re.compile(r"[1-9][0-9]{0,15}-[0-9a-f]{16}")
# link(2) on file systems that have no hard links.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
# fsync of a directory where there is no such thing.
_NO_DIRECTORY_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}

_T = TypeVar("_T")

# A POSIX lock excludes other processes only, and is lost when any descriptor of the file is closed;
# so within this process the registers of one file take turns. Keyed by the file's real path.
_turns: dict[str, threading.Lock] = {}
_turns_guard = threading.Lock()


class NoLocksError(WitnessError):
    """The place cannot be a witness, now or later: its locks do not keep others out."""


def read_path(url: str) -> str:
    """The path in a file URL: absolute, and on this machine. Raises WitnessUrlError."""
    parts = urlsplit(url)
    path = url2pathname(parts.path) if sys.platform == "win32" else unquote(parts.path)
    wrong = ""
    if parts.netloc not in ("", "localhost"):
        wrong = "has a host in it"
    elif parts.query or parts.fragment:
        wrong = "has a query or a fragment"
    elif "\0" in path or not os.path.isabs(path) or path.endswith(("/", os.sep)):
        wrong = "is not the absolute path of a file"
    if wrong:
        raise WitnessUrlError(
            f"the witness {url!r} {wrong}; mount the share and give three slashes and the path, "
            "for example file:///mnt/share/ha/web.witness"
        )
    return os.path.normpath(path)


class FileRegister:
    """A Register in the file that `url` names; the directory must exist and lie on the share.

    `cluster` is kept in the file, and another cluster's file is an error. `timeout_s` is above 0.
    The place is proved once (see `prove`), at the latest by the first call. Raises WitnessUrlError
    and ValueError for arguments that cannot be used.
    """

    def __init__(self, url: str, cluster: str, timeout_s: float) -> None:
        check_timeout(timeout_s)
        self.path = read_path(url)
        self._lock_path = f"{self.path}.lock"
        self._cluster = cluster
        self._timeout_s = timeout_s
        self._bounded = Bounded("witness-file")
        self._proved = False

    def prove(self) -> None:
        """Check the place. Raises NoLocksError when it will never do, WitnessError for trouble.

        Checked are: that the directory is not the mount point itself, since then an unmounted share
        would look like an empty one and each machine would have a witness of its own; that no mount
        option keeps locks to this machine; that a child process cannot take the lock which this
        process has.
        """
        self._run(lambda deadline_s: self._prove(deadline_s))

    def read(self) -> Stored | None:
        """See Register."""
        return self._run(self._read)

    def swap(self, expected: str | None, value: bytes) -> str:
        """See Register; a version is a counter and 16 hexadecimal digits."""
        check_value(value)
        if expected is not None and not _VERSION.fullmatch(expected):
            raise ValueError(f"{expected!r} is no version of this kind of witness")
        try:
            return self._run(lambda deadline_s: self._swap(expected, value, deadline_s))
        except _OverdueWitnessError as error:
            raise UnknownOutcomeError(f"{error}, with a swap under way") from None

    def close(self) -> None:
        """See Register; nothing is held between calls."""

    # -- in the daemon thread ----------------------------------------------------------------------

    def _run(self, call: Callable[[float], _T]) -> _T:
        deadline_s = time.monotonic() + self._timeout_s
        try:
            return self._bounded.run(lambda: self._explained(call, deadline_s), deadline_s)
        except BusyError:
            raise self._error("was not asked: an earlier call to it still hangs") from None
        except OverdueError:
            raise _OverdueWitnessError(
                f"the witness {self.path} did not answer within {self._timeout_s:g} s; "
                "see whether the share hangs"
            ) from None

    def _explained(self, call: Callable[[float], _T], deadline_s: float) -> _T:
        try:
            return call(deadline_s)
        except OSError as error:
            raise self._error(self._why(error)) from error

    def _why(self, error: OSError) -> str:
        folder = os.path.dirname(self.path)
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return (
                f"cannot be used: there is no directory {folder}; "
                "mount the share, and make the directory on it once"
            )
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return f"cannot be written: {error.strerror}; make {folder} writable for this user"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"cannot be written: {error.strerror}; make room on its share"
        return f"cannot be used: {error.strerror or error}"

    def _prove(self, deadline_s: float) -> None:
        if self._proved:
            return
        folder = os.path.dirname(self.path)
        option = locks.kept_to_this_machine(folder)
        if option:
            raise NoLocksError(
                f"the witness {self.path} is on a share mounted with {option}, so its locks do not "
                "reach other machines; mount it without"
            )
        if os.path.ismount(folder):
            raise NoLocksError(
                f"the witness {self.path} lies directly in the mount point {folder}, so an "
                "unmounted share would look like an empty one; make a directory on the share and "
                "put the file there"
            )
        with self._locked(deadline_s) as descriptor:
            if not locks.excludes_others(self._lock_path, descriptor):
                raise NoLocksError(
                    f"the witness {self.path} is on a file system without working locks: two "
                    "processes could lock the same file; use another share, or another witness"
                )
        self._proved = True

    def _read(self, deadline_s: float) -> Stored | None:
        self._prove(deadline_s)
        return self._read_file()

    def _read_file(self) -> Stored | None:
        for left in range(STALE_RETRIES, -1, -1):
            try:
                with open(self.path, "rb") as file:
                    raw = file.read(MAX_FILE_BYTES + 1)
                return self._decode(raw)
            except FileNotFoundError:
                os.stat(os.path.dirname(self.path))  # no directory means no share, not no record
                return None
            except OSError as error:
                if error.errno != getattr(errno, "ESTALE", None) or not left:
                    raise
                # NFS: another machine replaced the file between our looking it up and reading it.
        raise AssertionError("unreachable")

    def _swap(self, expected: str | None, value: bytes, deadline_s: float) -> str:
        self._prove(deadline_s)
        with self._locked(deadline_s):
            # Made before the record is looked at: changing the directory drops cached names of it.
            temporary = f"{self.path}.{secrets.token_hex(8)}.tmp"
            try:
                descriptor = os.open(
                    temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
                )
                with open(descriptor, "wb") as file:
                    self._remove_others_temporaries(temporary)
                    found = self._read_file()
                    if (found.version if found else None) != expected:
                        raise ConflictError(f"the witness {self.path} has another version by now")
                    version = _next_version(found)
                    file.write(self._encode(version, value))
                    file.flush()
                    os.fsync(file.fileno())
                self._put_in_place(temporary, expected, deadline_s)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
        return version

    def _remove_others_temporaries(self, own: str) -> None:
        """Remove what a crash left behind, and the means of one who has lost the lock unawares."""
        folder, name = os.path.split(self.path)
        for other in os.listdir(folder):
            if (
                other.startswith(f"{name}.")
                and other.endswith(".tmp")
                and other != os.path.basename(own)
            ):
                try:
                    os.unlink(os.path.join(folder, other))
                except FileNotFoundError:
                    pass
                except PermissionError:
                    if sys.platform != "win32":  # there, a file that is open cannot be removed
                        raise

    def _put_in_place(self, temporary: str, expected: str | None, deadline_s: float) -> None:
        if time.monotonic() >= deadline_s:
            raise self._error("was too slow: the time limit passed before the file was replaced")
        try:
            if expected is None:
                _place_first(temporary, self.path)
            else:
                os.replace(temporary, self.path)
            _sync_directory(os.path.dirname(self.path))
        except FileExistsError:
            raise ConflictError(f"the witness {self.path} has a record by now") from None
        except OSError as error:
            raise UnknownOutcomeError(
                f"the witness {self.path} {self._why(error)}; it may have been replaced"
            ) from error

    @contextlib.contextmanager
    def _locked(self, deadline_s: float) -> Iterator[int]:
        """The lock, among this process's threads and among processes, until the deadline."""
        turn = _turn_for(self._lock_path)
        if not turn.acquire(timeout=max(deadline_s - time.monotonic(), 0.0)):
            raise self._error("was locked by another thread of this process for too long")
        try:
            descriptor = self._lock_file(deadline_s)
            try:
                yield descriptor
            finally:
                os.close(descriptor)  # gives the lock back
        finally:
            turn.release()

    def _lock_file(self, deadline_s: float) -> int:
        while True:
            descriptor = os.open(
                self._lock_path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666
            )
            try:
                if locks.try_lock(descriptor) and _is_same(descriptor, self._lock_path):
                    return descriptor
            except OSError as error:
                os.close(descriptor)
                if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
                    raise NoLocksError(
                        f"the witness {self.path} is on a file system without working locks "
                        f"({error.strerror}); use another share, or another witness"
                    ) from error
                raise
            os.close(descriptor)
            if time.monotonic() >= deadline_s:
                raise self._error("was locked by somebody else until the time limit")
            time.sleep(random.uniform(*LOCK_RETRY_S))

    # -- the file's content ------------------------------------------------------------------------

    def _encode(self, version: str, value: bytes) -> bytes:
        content = {
            "format": FORMAT,
            "cluster": self._cluster,
            "version": version,
            "value": base64.b64encode(value).decode("ascii"),
        }
        return json.dumps({**content, "sha256": _digest(content)}, indent=1).encode() + b"\n"

    def _decode(self, raw: bytes) -> Stored:
        if len(raw) > MAX_FILE_BYTES:
            raise self._error(f"has more than {MAX_FILE_BYTES} bytes, so it is no witness's file")
        try:
            content: dict[str, Any] = json.loads(raw)
            written = content.pop("sha256")
            if content["format"] == FORMAT and written == _digest(content):
                cluster, version = str(content["cluster"]), str(content["version"])
                value = base64.b64decode(content["value"], validate=True)
            elif content["format"] != FORMAT:
                raise self._error(f"has format {content['format']!r}, and this knows {FORMAT}")
            else:
                raise ValueError("wrong checksum")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise self._error(
                "is torn or is not a witness's file; if that stays so, restore it from a copy, or "
                "stop all members and delete it"
            ) from None
        if cluster != self._cluster:
            raise self._error(
                f"belongs to the cluster {cluster!r}, not to {self._cluster!r}; "
                "give each cluster a file of its own"
            )
        return Stored(value, version)

    def _error(self, what: str) -> WitnessError:
        return WitnessError(f"the witness {self.path} {what}")


class _OverdueWitnessError(WitnessError):
    """The call was left behind at the time limit."""


def _next_version(found: Stored | None) -> str:
    count = int(found.version.partition("-")[0]) if found else 0
    return f"{count + 1}-{secrets.token_hex(8)}"


def _digest(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _place_first(temporary: str, path: str) -> None:
    """Give the file its name unless that name is taken. Raises FileExistsError when it is."""
    if sys.platform == "win32":
        os.rename(temporary, path)  # refuses to overwrite there
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        # NFS repeats a request whose answer was lost, and then it is our own link that exists.
        if os.stat(temporary).st_nlink != 2:
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from None
        os.replace(temporary, path)


def _sync_directory(folder: str) -> None:
    if sys.platform == "win32":
        return  # a directory cannot be opened there, and NTFS keeps a journal of names
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_FSYNC:
            raise
    finally:
        os.close(descriptor)


def _is_same(descriptor: int, path: str) -> bool:
    """Whether the locked file is still the one of that name, not one deleted meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _turn_for(path: str) -> threading.Lock:
    with _turns_guard:
        return _turns.setdefault(os.path.realpath(path), threading.Lock())
