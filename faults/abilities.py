"""What this machine allows to be made. What cannot be made is said and left out, never faked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

from benchmarks.groups import GroupError
from benchmarks.network import Namespaces, NetworkError
from faults.groups import Group
from faults.links import LinkError, Links

HERE = os.path.dirname(os.path.abspath(__file__))


class Programs(NamedTuple):
    """What was compiled: the command, and the library that steps the wall clock or ""."""

    command: str
    wall_clock: str


def what_is_missing() -> str:
    """Why no campaign can run here at all; "" if one can."""
    if sys.platform != "linux":
        return "hosts are Linux's network namespaces and control groups"
    for tool, package in (
        ("gcc", "gcc"),
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("nsenter", "util-linux"),
        ("mount", "mount"),
    ):
        if shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
            return f"{tool} is not installed (Debian's package {package})"
    if os.geteuid():
        return "network namespaces, control groups and mounts need root"
    try:
        group = Group(f"ha-faults-probe-{os.getpid()}")
    except GroupError as error:
        return f"no control groups: {error}"
    group.remove()
    try:
        network = Namespaces("ha-faults-probe")
    except (NetworkError, OSError) as error:
        return f"no network namespaces: {error}"
    try:
        Links(network)
    except LinkError as error:
        return f"no packet filter in a namespace: {error}"
    finally:
        network.close()
    return ""


def build(folder: str) -> Programs:
    """Compile the command and the library. Raises CalledProcessError for the command."""
    command = os.path.join(folder, "faults-command")
    source = os.path.join(HERE, "command.c")
    for flags in (("-static",), ()):
        words = ("gcc", "-O2", *flags, "-o", command, source)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
    else:
        raise subprocess.CalledProcessError(done.returncode, "gcc", stderr=done.stderr)
    library = os.path.join(folder, "wallclock.so")
    words = ("gcc", "-O2", "-shared", "-fPIC", "-o", library, os.path.join(HERE, "wallclock.c"))
    made = subprocess.run((*words, "-ldl"), capture_output=True, check=False).returncode == 0
    return Programs(
        command, library if made and _steps_the_wall_clock_only(folder, library) else ""
    )


def _steps_the_wall_clock_only(folder: str, library: str) -> bool:
    """Whether an interpreter with the library sees the hour in one clock, and in no other."""
    path = os.path.join(folder, "clock-probe")
    with open(path, "wb") as file:
        file.write((3600).to_bytes(8, sys.byteorder))
    code = "import time; print(time.time(), time.monotonic(), time.clock_gettime(7))"
    done = subprocess.run(
        (sys.executable, "-S", "-E", "-c", code),
        env=os.environ | {"LD_PRELOAD": library, "FAULTS_WALL_CLOCK": path},
        capture_output=True,
        text=True,
        check=False,
    )
    here = (time.time() + 3600, time.monotonic(), time.clock_gettime(7))
    seen = [float(word) for word in done.stdout.split()]
    return len(seen) == 3 and all(abs(a - b) < 60 for a, b in zip(seen, here, strict=True))
