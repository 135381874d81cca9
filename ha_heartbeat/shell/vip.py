"""A member's virtual addresses: what is run to take them, and what its log says of them.

What takes them is a program of its own (`ha_heartbeat.vip`), run in the command's tree as the first
step of a term. The guardian takes them off.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Final

from ha_heartbeat.config import Config
from ha_heartbeat.core.types import Level, Say
from ha_heartbeat.guardian.protocol import Ended, Expired, Gone
from ha_heartbeat.shell.guardian import Event, Lost
from ha_heartbeat.vip import ANNOUNCEMENTS
from ha_heartbeat.vip import __file__ as _vip_file

CHECK_LIMIT_S: Final = 20.0
"""A host on which a look at its addresses takes so long is in no state to start on."""
_ROOT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(_vip_file))))
_PROGRAM: Final = (
    "import sys; sys.path.insert(0, {root!r}); from ha_heartbeat.vip.main import main; "
    "sys.exit(main())"
)


def taking(vips: Sequence[str], until_ns: int) -> tuple[str, ...]:
    """The command that takes them, for a lease that ends then, on `clock.now_ns`."""
    return _command("up", str(until_ns), *vips)


def _command(*words: str) -> tuple[str, ...]:
    # With the site's packages, unlike the guardian, since one of them is needed; and without the
    # working directory, where anything may lie.
    return (sys.executable, "-P", "-c", _PROGRAM.format(root=_ROOT), *words)


def objection(config: Config) -> str:
    """Why a member could not have these virtual addresses here, in a sentence; "" if it can.

    Blocks for as long as a Python takes to start.
    """
    if not config.vip:
        return ""
    if sys.platform != "linux":
        return "--vip works on Linux only: leave it out, and move the address with --on-worker"
    try:
        done = subprocess.run(
            _command("check", *config.vip),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHECK_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"--vip cannot be checked here: {error}"
    if done.returncode == 0:
        return ""
    said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return said[-1].removeprefix("ha-heartbeat: ")


class VipLog:
    """Says when the addresses came and when they went."""

    def __init__(self, vips: Sequence[str], say: Callable[[Say], None]) -> None:
        self._names = " and ".join(vips)
        self._say = say
        self._run = -1
        self._up = False

    def begins(self, run: int) -> None:
        """The guardian's run of that number takes them."""
        self._run = run

    def hear(self, event: Event) -> None:
        """Something that a guardian has told, or its loss."""
        if isinstance(event, Ended) and event.run == self._run and event.status == 0:
            self._up = True
            self._say(
                Say(
                    Level.INFO,
                    f"Virtual address {self._names}: nobody else had it, it was added, and "
                    f"announced {ANNOUNCEMENTS} times.",
                )
            )
        elif isinstance(event, Gone | Expired | Lost) and self._up:
            self._up = False
            self._say(Say(Level.INFO, f"Virtual address {self._names}: removed."))
