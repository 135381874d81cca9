"""`python3 -m ha_heartbeat.vip`: see `ha_heartbeat.vip.main`."""

import sys

from ha_heartbeat.vip.main import main

sys.exit(main())
