"""Daemonises NUMBER times by the book (fork, setsid, fork), and returns when all of them live.

    daemons.py DIRECTORY NUMBER [ignore-term]

Each leaves a file named after its process in DIRECTORY/daemons.
"""

import os
import signal
import sys
import time

LIFE_S = 300


def main() -> None:
    place, number, *flags = sys.argv[1:]
    place = os.path.join(place, "daemons")
    os.makedirs(place, exist_ok=True)
    if flags:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(int(number)):
        reader, writer = os.pipe()
        if not os.fork():
            os.setsid()
            if os.fork():
                os._exit(0)
            open(os.path.join(place, str(os.getpid())), "w").close()
            os.write(writer, b".")
            os.close(writer)
            os.close(reader)
            time.sleep(LIFE_S)
            os._exit(0)
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)
        os.wait()


main()
