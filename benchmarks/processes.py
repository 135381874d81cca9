"""The little that a benchmark asks of processes: children, what they have used, no interruption."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, NoReturn

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """What all threads of a process have used: processor time, and how often they went to sleep."""

    cpu_ns: int
    voluntary_switches: int


class Memory(NamedTuple):
    """Memory of some processes together, in KiB.

    `pss` shares each page among all processes that map it, on this machine and now. `alone` counts
    each page of a file once, as if nothing else on the machine used the same files: the most that
    these processes can cost.
    """

    pss_kib: int
    alone_kib: int


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off SIGINT and SIGTERM, so that what is made in here is also noted for its removal.

    Handlers and no mask, since a mask would be inherited by what is started.
    """
    came = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: came.append(True)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            raise KeyboardInterrupt


def exit_with(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Exit with what `main` makes of the arguments; SIGTERM ends it as Ctrl-C does, with 130."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def children(parent: int) -> list[int]:
    """The living children of a process."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(int(name))) and int(stat[1]) == parent:
            found.append(int(name))
    return [pid for pid in found if _stat(pid)[:1] not in ([], ["Z"])]


def descendants(pid: int) -> list[int]:
    """The process and all that are below it."""
    found = [pid]
    for each in found:  # grows as it is walked
        found += children(each)
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name; none when it has gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def usage(pid: int) -> Usage:
    """The sum over all threads, from schedstat: exact, where stat counts ticks of 10 ms."""
    cpu_ns = switches = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        folder = f"/proc/{pid}/task/{thread}"
        with open(f"{folder}/schedstat") as file:
            cpu_ns += int(file.read().split()[0])
        with open(f"{folder}/status") as file:
            told = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", file.read(), re.MULTILINE)
            switches += int(told.group(1)) if told else 0
    return Usage(cpu_ns, switches)


def memory(pids: list[int]) -> Memory:
    """The memory of these processes together."""
    pss = 0
    files: dict[tuple[str, str, str], int] = {}
    anonymous = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps") as file:
                text = file.read()
        except (FileNotFoundError, ProcessLookupError):  # a helper that has ended meanwhile
            continue
        for part in filter(None, re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", text)):
            values = {key: int(size) for key, size in re.findall(r"^(\w+):\s+(\d+) kB", part, re.M)}
            _range, _perms, offset, device, inode = part.split(maxsplit=5)[:5]
            pss += values["Pss"]
            anonymous += values["Anonymous"]
            shared = values["Rss"] - values["Anonymous"]
            key = (device, inode, offset)
            files[key] = max(files.get(key, 0), shared)
    return Memory(pss, anonymous + sum(files.values()))
