"""The guardian stays light, and every module can be imported on any platform."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable

import pytest

from ha_heartbeat.guardian.protocol import VERSION, Ended, Gone, Started, Stop
from tests.guardian.rig import ROOT, Rig, linux_only, shell

HEAVY = {
    "asyncio",
    "collections.abc",
    "contextlib",
    "enum",
    "functools",
    "json",
    "logging",
    "re",
    "selectors",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "typing",
}
LOOK = f"""
import os, sys
sys.path.insert(0, {ROOT!r})
from ha_heartbeat.guardian import main
serve = main.Guard.serve
def look(guardian):
    serve(guardian)
    print(*sys.modules)
    sys.stdout.flush()
main.Guard.serve = look
main.main()
"""


@linux_only
def test_a_guardian_has_nothing_heavy_loaded(rig: Callable[..., Rig]) -> None:
    """Looked at when it has done what it can do, and its member has hung up."""
    member = rig("linux", program=LOOK)
    member.say(shell("sleep 600 &"))
    member.expect(Started)
    assert member.expect(Ended).leftovers == 1
    member.say(Stop(0))
    member.expect(Gone)
    member.leave()
    loaded = set(member.text().split())
    assert "ha_heartbeat.guardian.linux" in loaded
    # Some versions of Python have one or the other loaded from the start.
    bare = [sys.executable, "-I", "-S", "-E", "-c", "import sys, os, ctypes; print(*sys.modules)"]
    own = set(subprocess.run(bare, stdout=subprocess.PIPE, check=True).stdout.decode().split())
    assert not (loaded - own) & HEAVY
    assert not own & {"asyncio", "json", "socket", "subprocess", "threading"}
    ours = {name for name in loaded if name.startswith("ha_heartbeat.")}
    assert all(name.startswith("ha_heartbeat.guardian") for name in ours)


@pytest.mark.parametrize(
    "name",
    [*("addresses", "cgroup", "clock", "keeper", "launch", "light", "linux", "main"),
     *("many", "posix", "protocol", "sweep", "tree", "windows")],
)  # fmt: skip
def test_every_module_can_be_imported_here(name: str) -> None:
    assert importlib.import_module(f"ha_heartbeat.guardian.{name}").__doc__


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([str(VERSION), "posix", "0", "", "0", "0", "10.0.0/8@eth0"], "it cannot start: illegal"),
        ([], "not enough values"),
        (["99", "linux", "0", "", "0", "0"], "its member speaks version 99"),
        ([str(VERSION), "beos", "0", "", "0", "0"], "there is no guardian of kind beos"),
        ([str(VERSION), "posix", "99", "", "0", "0"], "Bad file descriptor"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_a_status(arguments: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from ha_heartbeat.guardian.main import main; main()", *arguments],
        capture_output=True,
        cwd=ROOT,
        check=False,
        text=True,
    )
    assert done.returncode == 64
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
