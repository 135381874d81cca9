"""`python -m ha_heartbeat.witness_server`: the same as `ha-heartbeat-witness`."""

import sys

from ha_heartbeat.witness_server.cli import main

sys.exit(main())
