"""What can be done to the cables: of each host and the witness, with `ip` and nftables.

The namespaces and the bridge are the benchmark's. Each host's own packet filter does what a real
network would do on the way, so that each direction and each pair can be cut by itself.
"""

from __future__ import annotations

import subprocess

from benchmarks.network import ADDRESSES, Namespaces

_TABLE = """table inet faults {
 chain in {
  type filter hook input priority -10; policy accept;
 }
 chain out {
  type filter hook output priority -10; policy accept;
 }
}
"""


ASK_AGAIN_MS = 20
"""How soon a host asks again for an address on its link (arp(7), retrans_time_ms).

A second by default: so long a network may stay dead when it has been healed, several leases of a
campaign.
"""


class LinkError(Exception):
    """A fault could not be made; the text has the tool's own words."""


class Links:
    """The ways between a, b and the witness."""

    def __init__(self, network: Namespaces) -> None:
        """Raises LinkError when there is no packet filter."""
        self._network = network
        for host in ADDRESSES:
            self._filter(host, _TABLE)
            again = f"echo {ASK_AGAIN_MS} >/proc/sys/net/ipv4/neigh/cable/retrans_time_ms"
            _run(*network.inside(host), "sh", "-c", again)

    def unplug(self, host: str) -> None:
        """Silence in both directions, and no side is told, as with a dead switch."""
        self._network.cut(host)

    def plug(self, host: str) -> None:
        """Undo `unplug`."""
        self._network.heal(host)

    def set_link(self, host: str, state: str) -> None:
        """The link `down` or `up`; the host itself is told, as when its own cable is pulled."""
        _run("ip", "-n", self._network.namespace(host), "link", "set", "cable", state)

    def drop(self, here: str, there: str, *, to: bool, from_: bool) -> None:
        """Throw away what this host sends to that one, or what it gets from it, or both."""
        address = ADDRESSES[there]
        rules = [f"add rule inet faults out ip daddr {address} drop\n"] if to else []
        rules += [f"add rule inet faults in ip saddr {address} drop\n"] if from_ else []
        self._filter(here, "".join(rules))

    def lose(self, here: str, percent: int) -> None:
        """Lose that many of a hundred packets in each direction, by chance."""
        chance = f"numgen random mod 100 < {percent} drop"
        self._filter(here, f"add rule inet faults in {chance}\nadd rule inet faults out {chance}\n")

    def refuse(self, here: str, there: str) -> None:
        """Answer that host with a reset, in the name of this one: what a bad firewall does."""
        rule = f"ip saddr {ADDRESSES[there]} meta l4proto tcp reject with tcp reset"
        self._filter(here, f"add rule inet faults in {rule}\n")

    def clear(self, host: str) -> None:
        """No filter any more at this host."""
        self._filter(host, "flush chain inet faults in\nflush chain inet faults out\n")

    def _filter(self, host: str, rules: str) -> None:
        _run(*self._network.inside(host), "nft", "-f", "-", text=rules)


def _run(*words: str, text: str = "") -> None:
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    except OSError as error:
        raise LinkError(f"{words[0]}: {error.strerror}") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise LinkError(f"{' '.join(words[-3:])}: {said[0]}")
