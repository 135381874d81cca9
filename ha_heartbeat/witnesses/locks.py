"""Locks on a file that exclude other processes, and whether a file system has them.

POSIX record locks (fcntl), which NFS carries to the server, and LockFile of Windows, which SMB
carries. `flock` would not do: NFS and other shares keep it to one machine, or ignore it.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys

PROBE_CHILD_S = 20.0  # an interpreter's start on a slow machine; the caller's limit comes first
LOCKED, NOT_LOCKED = 3, 4

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# What lock calls say when somebody else has it: POSIX allows the first two, Windows the last two.
_TAKEN = {errno.EAGAIN, errno.EACCES, errno.EDEADLK, getattr(errno, "EDEADLOCK", errno.EDEADLK)}

_CHILD = f"""
import errno, sys
file = open(sys.argv[1], "r+b", buffering=0)
try:
    if sys.platform == "win32":
        import msvcrt
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl
        fcntl.lockf(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    sys.exit({LOCKED})
sys.exit({NOT_LOCKED})
"""


def try_lock(descriptor: int) -> bool:
    """Lock the file for this process, without waiting; False when another process has it.

    Closing any descriptor of the same file gives the lock back (POSIX), and within one process it
    excludes nobody. Raises OSError when the file cannot be locked at all.
    """
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


def excludes_others(path: str, descriptor: int) -> bool:
    """Whether the lock that this process has on `descriptor` of `path` keeps another one out.

    Exactly this is tested: a child process opens the file and tries the same lock. That says
    nothing about other machines; see `kept_to_this_machine` for what can be known of them. Raises
    OSError when the child could not be run.
    """
    child = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _CHILD, path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=PROBE_CHILD_S,
        check=False,
    )
    if child.returncode not in (LOCKED, NOT_LOCKED):
        raise OSError(f"the test of its locks ended with status {child.returncode}")
    return child.returncode == LOCKED


def kept_to_this_machine(path: str, mounts: str = "/proc/self/mountinfo") -> str:
    """The mount option that keeps locks from reaching the file server, "" when none is seen.

    nfs(5): `nolock`, `local_lock=posix` and `local_lock=all`. cifs(8): `nobrl`. Only Linux tells.
    """
    if sys.platform != "linux":
        return ""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(mounts, encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return ""
    for fields in lines:
        if len(fields) > 2 and fields[2] == number:
            options = fields[-1].split(",")
            for option in ("nolock", "local_lock=posix", "local_lock=all", "nobrl"):
                if option in options:
                    return option
    return ""
