"""Puts virtual addresses on this host, after asking the network whether somebody has them.

A program of its own that the guardian runs in the command's tree, before the command: see
`ha_heartbeat.vip.main`. Only here is pyroute2 needed. What takes the addresses off again is
`ha_heartbeat.guardian.addresses`.
"""

from typing import Final

ANNOUNCEMENTS: Final = 3
"""How often the network is told of an address; RFC 4861 allows for three."""
