"""`python3 -m ha_heartbeat.install`: see `ha_heartbeat.install.command`."""

import sys

from ha_heartbeat.install.command import main

sys.exit(main())
