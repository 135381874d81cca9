"""The recipe for nginx behind a virtual address, in namespaces, as a client sees it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.member.rig import Member, Rig, wait_for
from tests.recipes.recipe import code, command
from tests.vip.network import CLIENT, DEVICE, MEMBERS, V4, V6, NetRig, rigs_in

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
needs_nginx = pytest.mark.skipif(
    NGINX is None, reason="nginx is not installed (Debian package nginx-light)"
)
CONFIG = """
pid {place}/nginx.pid;
events {{}}
http {{
    access_log off;
    {temporary}
    include {place}/web.conf;
}}
"""
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=2).read())"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rigs_in(tmp_path) as make:
        yield make(1)[0]


def members(rig: Rig, service: str, words: list[str]) -> tuple[Member, Member]:
    """Both, with the options of the page; the worker first."""
    options, _ = command("nginx", service)
    options = [word.replace("@eth0", f"@{DEVICE}") for word in options]
    made = [rig.member(number, *options, command=tuple(words)) for number in (1, 2)]
    wait_for(lambda: sorted(one.role for one in made) == ["supervisor", "worker"], "two roles")
    return (made[0], made[1]) if made[0].is_worker else (made[1], made[0])


def side(member: Member) -> str:
    return MEMBERS[int(member.name[1])]


@needs_nginx
def test_a_client_is_served_by_whoever_has_the_address(rig: NetRig) -> None:
    (rig.place / "web.conf").write_text(code("nginx", "nginx", "listen"))
    temporary = " ".join(f"{what}_temp_path {rig.place}/{what};" for what in TEMPORARY)
    config = rig.place / "nginx.conf"
    config.write_text(CONFIG.format(place=rig.place, temporary=temporary))
    _, words = command("nginx", "web")
    assert words == ["nginx", "-g", "daemon off;"]
    words = [str(NGINX), "-e", "stderr", "-c", str(config), *words[1:]]

    def serves(address: str) -> bool:
        done = rig.network.python(CLIENT, "-I", "-S", "-c", FETCH, f"http://{address}/")
        return "it works" in done.stdout

    worker, other = members(rig, "web", words)
    for address in (V4, f"[{V6}]"):
        wait_for(lambda address=address: serves(address), "an answer")  # type: ignore[misc]
    assert rig.network.known_mac(V4) == rig.network.mac(side(worker))
    worker.kill()
    for address in (V4, f"[{V6}]"):
        wait_for(lambda address=address: serves(address), "an answer")  # type: ignore[misc]
    assert rig.network.known_mac(V4) == rig.network.mac(side(other))
    assert not rig.network.has(side(worker), V4)


def test_only_the_address_moves(rig: NetRig) -> None:
    _, words = command("nginx", "address")
    assert words == ["sleep", "infinity"]
    worker, other = members(rig, "address", words)
    wait_for(lambda: rig.network.has(side(worker), V4), "the address")
    assert worker.stop() == 0
    assert not rig.network.has(side(worker), V4)
    wait_for(lambda: rig.network.has(side(other), V4), "the address")
