"""How long the hosts' processes waited for a processor, all along a chapter.

Others use the machine, too. A start of an interpreter that takes a tenth of a second on an idle
machine takes one on a busy machine, and neither is the program's doing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from faults.groups import Group

LOOK_S = 0.02

Samples = dict[str, list[tuple[int, int]]]
"""For each host the moments looked at, and how long had been waited in all until then, in ns."""


class Pressure:
    """Looks now and then, in a thread, until it is closed."""

    def __init__(self, groups: Mapping[str, Group]) -> None:
        self.samples: Samples = {name: [] for name in groups}
        self._groups = groups
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.is_set():
            for name, group in self._groups.items():
                self.samples[name].append((time.monotonic_ns(), group.waited_ns()))
            self._ended.wait(LOOK_S)

    def close(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()
