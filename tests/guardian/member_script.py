"""A member in a process of its own, to be killed: `member_script.py VARIANT STOP_TIMEOUT_S`.

Prints a line a report, and takes orders from its standard input: the literal of one tuple a line.
"""

from __future__ import annotations

import ast
import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from ha_heartbeat.guardian.protocol import Run
from ha_heartbeat.shell.guardian import Event, Guardian
from tests.guardian.rig import listen


def tell(event: Event) -> None:
    print(repr((type(event).__name__, *event)), flush=True)


async def main() -> None:
    with listen() as listener:
        guardian = Guardian(
            listeners=[listener.fileno()],
            stop_timeout_s=float(sys.argv[2]),
            margin_s=0.05,
            on_event=tell,
            variant=sys.argv[1],
        )
        print(listener.getsockname()[1], flush=True)
        await guardian.start()
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            name, *fields = ast.literal_eval(line)
            if name == "Run":
                guardian.run(Run(*fields))
            else:
                await getattr(guardian, name)(*fields)


if __name__ == "__main__":
    asyncio.run(main())
