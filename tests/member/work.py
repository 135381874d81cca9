"""The command that the members of these tests run: it writes what it does to a file they share.

    work.py FILE SECONDS [ignore-term]

Each line is one appending write: what happened, the epoch, the member, the run, the process, and
CLOCK_MONOTONIC in nanoseconds. 0 seconds means without an end (of its own).
"""

import os
import signal
import sys
import time

TICK_S = 0.02
FOR_EVER_S = 600.0


def main() -> None:
    path, seconds, *flags = sys.argv[1:]
    out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    names = ("HA_HEARTBEAT_EPOCH", "HA_HEARTBEAT_MEMBER", "HA_HEARTBEAT_RUN")
    who = " ".join(os.environ[name] for name in names)

    def say(what: str) -> None:
        os.write(out, f"{what} {who} {os.getpid()} {time.monotonic_ns()}\n".encode())

    def terminated(*_: object) -> None:
        if "ignore-term" in flags:
            say("ignored")
            return
        say("terminated")
        os._exit(0)

    signal.signal(signal.SIGTERM, terminated)
    say("start")
    end_s = time.monotonic() + (float(seconds) or FOR_EVER_S)
    while (left_s := end_s - time.monotonic()) > 0:
        time.sleep(min(TICK_S, left_s))
        say("tick")
    say("end")


main()
