"""`python3 -m ha_heartbeat` does what `ha-heartbeat` does."""

from ha_heartbeat.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
