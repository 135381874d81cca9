"""The same as payload.c, for a machine without a C compiler: slower to start, else alike."""

import time

BEGAN_NS = time.monotonic_ns()

# What comes now is late on purpose: the clock is read before anything else.
import mmap  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import struct  # noqa: E402
import sys  # noqa: E402


def main() -> None:
    asked_to_end = []
    signal.signal(signal.SIGTERM, lambda *_: asked_to_end.append(True))
    folder, member, mode = sys.argv[1:]
    epoch = int(os.environ.get("HA_HEARTBEAT_EPOCH", "0"))
    hidden = f"{folder}/.{os.getpid()}"
    with open(hidden, "w+b") as file:
        file.write(struct.pack("=4q", BEGAN_NS, BEGAN_NS, 0, epoch))
        file.flush()
        record = mmap.mmap(file.fileno(), 32)
    os.rename(hidden, f"{folder}/{BEGAN_NS}.{member}.{os.getpid()}")
    while mode != "quick" and not asked_to_end:
        struct.pack_into("=q", record, 8, time.monotonic_ns())
        time.sleep(0.001 if mode == "lasting" else 1.0)
    ended_ns = time.monotonic_ns()
    struct.pack_into("=2q", record, 8, ended_ns, ended_ns)


main()
