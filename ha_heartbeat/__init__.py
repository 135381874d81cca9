"""ha-heartbeat: two machines, one command, and the command runs on exactly one of them."""

__version__ = "1.0.0.dev0"
