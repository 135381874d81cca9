"""Taking an address: not while another machine has it, nor where an operator has put it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from ha_heartbeat.guardian.clock import now_ns
from tests.vip.network import CLIENT, DEVICE, V4, V6, VIPS, Network

LEASE_S = 300


def run(network: Network, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return network.python("a", "-m", "ha_heartbeat.vip", *words, **environ)


def up(network: Network, *vips: str, lease_s: float = LEASE_S) -> str:
    """What was wrong; "" if nothing was."""
    done = run(network, "up", str(now_ns() + round(lease_s * 1e9)), *vips)
    assert (done.returncode == 0) == (done.stderr == ""), done
    assert done.stderr.count("\n") <= 1
    return done.stderr.strip()


def check(network: Network, *vips: str, **environ: str) -> str:
    done = run(network, "check", *vips, **environ)
    assert done.returncode == (1 if done.stderr else 0)
    return done.stderr.strip()


def guarded(network: Network, what: str, vips: Sequence[str] = VIPS) -> None:
    """Do that with the guardian's object for these, which finds nothing wrong."""
    code = (
        "from ha_heartbeat.guardian.addresses import LinuxAddresses\n"
        "from ha_heartbeat.guardian.clock import now_ns\n"
        f"addresses = LinuxAddresses({vips!r})\n"
        f"assert not {what}\n"
    )
    done = network.python("a", "-I", "-S", "-c", f"import sys; sys.path.insert(0, '.')\n{code}")
    assert done.returncode == 0, done.stderr


def left_s(network: Network, address: str) -> int:
    found = network.has("a", address)
    assert found is not None
    return int(found["valid_life_time"])


def test_it_ends_with_the_lease_and_is_extended_with_it(network: Network) -> None:
    routes = network.ip("a", "-6", "route", "show", "proto", "kernel")
    assert up(network, *VIPS) == ""
    for address in (V4, V6):
        assert LEASE_S * 3 / 4 - 1 <= left_s(network, address) <= LEASE_S - 1
    guarded(network, "addresses.extend(now_ns() + 900 * 10**9)")
    for address in (V4, V6):
        assert LEASE_S < left_s(network, address) <= 899
    found = network.has("a", V6)
    assert found is not None
    assert found["deprecated"], "connections would begin from it"
    assert network.ip("a", "-6", "route", "show", "proto", "kernel") == routes
    assert up(network, *VIPS) == "", "what is left from an earlier life is ours"
    guarded(network, "addresses.remove()")
    assert not network.has("a", V4)
    assert not network.has("a", V6)
    guarded(network, "addresses.extend(now_ns() + 900 * 10**9)")
    assert not network.has("a", V4), "what is not there is not added"


def test_two_of_a_network_of_their_own_go_together(network: Network) -> None:
    """The kernel takes the second off with the first, which is nothing to complain about."""
    vips = (f"198.51.100.1/24@{DEVICE}", f"198.51.100.2/24@{DEVICE}")
    assert up(network, *vips) == ""
    guarded(network, "addresses.remove()", vips)
    assert not network.has("a", "198.51.100.1")
    assert not network.has("a", "198.51.100.2")


def test_what_somebody_has_taken_off_is_added_again(network: Network) -> None:
    """Unless the lease is over, or a configured one has come in its place."""
    assert up(network, *VIPS) == ""
    delete = f"__import__('os').system('ip address del {VIPS[0].replace('@', ' dev ')}')"
    lapse = "addresses.lapse()"
    extend = "addresses.extend(now_ns() + 900 * 10**9)"
    guarded(network, f"({extend} or {delete} or {extend} != {VIPS[0]!r})")
    assert left_s(network, V4) > LEASE_S
    for instead in ("addresses.extend(now_ns() - 1)", f"addresses.extend(now_ns() - 1) or {lapse}"):
        guarded(network, f"({extend} or {delete} or {instead})")
        assert not network.has("a", V4)
        assert up(network, *VIPS) == ""
    add = delete.replace("del", "add")
    guarded(network, f"({extend} or {delete} or {add} or {extend})")
    assert left_s(network, V4) == 2**32 - 1
    guarded(network, f"({extend} or {lapse})")
    assert network.has("a", V6), "the lease lasts"


@pytest.mark.parametrize(("address", "vip"), [(V4, VIPS[0]), (V6, VIPS[1])])
def test_another_machine_has_it(network: Network, address: str, vip: str) -> None:
    network.ip(CLIENT, "address", "add", f"{address}/32", "dev", DEVICE, *nodad(address))
    assert f"in use by {network.mac(CLIENT)}" in up(network, *VIPS)
    assert not network.has("a", V4), "one of two is none"
    assert not network.has("a", V6)
    network.ip(CLIENT, "address", "del", f"{address}/32", "dev", DEVICE)
    assert up(network, vip) == ""


def nodad(address: str) -> tuple[str, ...]:
    return ("nodad",) if ":" in address else ()


def test_what_an_operator_has_configured_is_left_alone(network: Network) -> None:
    for vip, address in zip(VIPS, (V4, V6), strict=True):
        where = (vip.partition("@")[0], "dev", DEVICE)
        network.ip("a", "address", "add", *where, *nodad(address))
        sentence = f"this host already has {vip}, which was not added by a member"
        assert sentence in up(network, vip)
        assert sentence in check(network, vip)
    for what in ("addresses.extend(now_ns() + 900 * 10**9)", "addresses.remove()"):
        guarded(network, what)
        for address in (V4, V6):
            found = network.has("a", address)
            assert found is not None
            assert found["valid_life_time"] == 2**32 - 1
    network.ip("a", "address", "del", f"{V4}/24", "dev", DEVICE)
    network.ip("a", "address", "add", f"{V4}/32", "dev", "lo")
    assert f"this host already has {V4}/32@lo" in up(network, VIPS[0])


def test_a_lease_that_is_over_adds_nothing(network: Network) -> None:
    assert "the lease ended before" in up(network, *VIPS, lease_s=-1)
    assert not network.has("a", V4)


def test_an_address_without_an_end_is_not_kept(network: Network) -> None:
    """As from a version of pyroute2 that does not understand what it is asked for."""
    code = (
        "import sys, pyroute2\n"
        "from ha_heartbeat.vip.main import main\n"
        "class Other:\n"
        "    def __init__(self): self.true = true()\n"
        "    def __enter__(self): return self\n"
        "    def __exit__(self, *_): self.true.close()\n"
        "    def __getattr__(self, name): return getattr(self.true, name)\n"
        "    def addr(self, command, **told):\n"
        "        for name in ('valid', 'preferred', 'cacheinfo'):\n"
        "            told.pop(name, None)\n"
        "        return self.true.addr(command, **told)\n"
        "true, pyroute2.IPRoute = pyroute2.IPRoute, Other\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = network.python("a", "-c", code, "up", str(now_ns() + LEASE_S * 10**9), *VIPS)
    assert (done.returncode, done.stdout) == (1, "")
    assert "this version of pyroute2 gives addresses no lifetime" in done.stderr
    assert not network.has("a", V4)


def test_where_it_cannot_be_taken(network: Network, tmp_path: Path) -> None:
    assert check(network, *VIPS) == ""
    told = check(network, f"{V4}/24@eth7")
    assert f"--vip {V4}/24@eth7: there is no interface eth7 here; give one of: {DEVICE}" in told
    assert "the interface lo is no Ethernet with ARP" in check(network, f"{V4}/24@lo")
    network.ip("a", "link", "set", DEVICE, "down")
    assert f"the interface {DEVICE} is down" in check(network, VIPS[0])
    (tmp_path / "pyroute2.py").write_text("raise ImportError('there is none')\n")
    told = check(network, VIPS[0], PYTHONPATH=str(tmp_path))
    assert "needs the package pyroute2" in told
    assert "pip install 'ha-heartbeat[vip]'" in told


def test_a_member_does_not_start_where_it_could_not_take_it(
    network: Network, tmp_path: Path
) -> None:
    words = ("-l", "192.0.2.1:22221", "-r", "192.0.2.2:22221", "--state-dir", str(tmp_path))
    for more in ((), ("--check-config",)):
        line = ("ha_heartbeat.py", *words, *more, "--vip", f"{V4}/24@eth7", "true")
        done = network.python("a", "-S", "-E", *line)
        assert done.returncode == 1
        sentence = f"ha-heartbeat: --vip {V4}/24@eth7: there is no interface eth7 here"
        assert done.stderr.startswith(sentence)
        assert done.stderr.count("\n") == 1
        assert ("up to 5 s each" in " ".join(done.stdout.split())) == bool(more)


def test_without_the_right_to(network: Network) -> None:
    code = (
        "import ctypes, os, sys\n"
        "PR_CAPBSET_DROP, CAP_NET_ADMIN = 24, 12\n"
        "assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_NET_ADMIN, 0, 0, 0) == 0\n"
        f"words = ['-m', 'ha_heartbeat.vip', 'check', {VIPS[0]!r}]\n"
        "os.execv(sys.executable, [sys.executable, *words])"
    )
    done = network.python("a", "-c", code)
    assert done.returncode == 1
    assert "CAP_NET_ADMIN and CAP_NET_RAW" in done.stderr
