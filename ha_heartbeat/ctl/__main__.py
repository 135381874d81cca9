"""`python3 -m ha_heartbeat.ctl`, for those who have the program in one file."""

import sys

from ha_heartbeat.ctl.main import main

sys.exit(main())
