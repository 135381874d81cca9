"""A member in a process of its own, to be killed: `member_script.py VARIANT STOP_TIMEOUT_S`.

The variant `many` is one service of many.

Prints a line a report, and takes orders from its standard input: the literal of one tuple a line.
"""

from __future__ import annotations

import ast
import asyncio
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from ha_heartbeat.guardian.protocol import Run
from ha_heartbeat.shell.guardian import Event, Guardian
from ha_heartbeat.shell.guardians import Guardians, LazyGuardian
from tests.guardian.rig import listen

KEPT: list[object] = []


def tell(event: Event) -> None:
    print(repr((type(event).__name__, *event)), flush=True)


async def alone(listener: int) -> Guardian:
    guardian = Guardian(
        listeners=[listener],
        stop_timeout_s=float(sys.argv[2]),
        margin_s=0.05,
        on_event=tell,
        variant=sys.argv[1],
    )
    await guardian.start()
    return guardian


async def one_of_many(listener: int) -> Guardian | LazyGuardian:
    """The guardian of one service, beside another one that runs something."""
    guardians = Guardians(listeners=[listener])
    await guardians.start()
    times: dict[str, Any] = {"stop_timeout_s": float(sys.argv[2]), "margin_s": 0.05}
    other = guardians.make_runner(on_event=lambda event: None, **times)
    other.run(Run(1, 2**62, 2**62, True, ("setsid sleep 600 & exec sleep 600",), ()))
    one = guardians.make_runner(on_event=tell, **times)
    one.begin_set_up()  # which needs a guardian, and is a run's due
    KEPT.extend((guardians, other))
    return one


async def main() -> None:
    with listen() as listener:
        print(listener.getsockname()[1], flush=True)
        guardian = await (one_of_many if sys.argv[1] == "many" else alone)(listener.fileno())
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            name, *fields = ast.literal_eval(line)
            if name == "Run":
                guardian.run(Run(*fields))
            else:
                await getattr(guardian, name)(*fields)


if __name__ == "__main__":
    asyncio.run(main())
