#!/usr/bin/env python3
"""Start a member from a plain checkout: `python3 ha_heartbeat.py [options] command...`.

This script only finds the package `ha_heartbeat/` beside it and hands over to `ha_heartbeat.cli`.
Both have the same name: in one folder Python prefers a package to a module, so `import
ha_heartbeat` means the package, here and everywhere else.
"""

import os
import sys

# No annotations and no new syntax in this file: a Python that is too old must get as far as this.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.stderr.write(
        "ha-heartbeat: needs Python 3.11 or newer, and this is Python {}.{}; "
        "start it with a newer one, as in: python3.11 ha_heartbeat.py\n".format(*sys.version_info)
    )
    sys.exit(1)

if __name__ == "__main__":
    # First on the path whatever the current directory, a symlink, -P or -I did to sys.path[0].
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
    try:
        from ha_heartbeat.cli import main

        status = main()
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
