"""From a URL to a witness: the known schemes, strangers' ones, and what is said of the unknown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ha_heartbeat.witnesses import WitnessUrlError, open_register
from ha_heartbeat.witnesses.http import HttpRegister
from tests.witnesses.rig import ROOT

LIMIT_S = 1.0

STRANGER = """
from ha_heartbeat.witnesses import Stored
class Register:
    def __init__(self, *arguments): self.arguments = arguments
    def read(self): return Stored(b"from far", "1")
    def swap(self, expected, value): return "2"
    def close(self): pass
class Group:
    opener = staticmethod(Register)
def fails(url, cluster, timeout_s): raise RuntimeError("no such bucket")
def nothing(url, cluster, timeout_s): return 7
"""


def target_of(url: str, cluster: str = "web") -> tuple[str, str]:
    register = open_register(url, cluster, LIMIT_S)
    assert isinstance(register, HttpRegister)
    return register._target.shown, register._target.authorization


@pytest.mark.parametrize(
    ("url", "cluster", "shown"),
    [
        ("witness://m3:1234", "web", "http://m3:1234/v1/web"),
        ("witness://m3", "web", "http://m3:22220/v1/web"),
        ("WITNESS://[::1]:1/", "web", "http://[::1]:1/v1/web"),
        ("witness://m3", "wéb?#%", "http://m3:22220/v1/w%C3%A9b%3F%23%25"),
        ("http://m3:1/any/where", "web", "http://m3:1/any/where"),
        ("https://m3/x?y=z", "web", "https://m3/x?y=z"),
    ],
)
def test_where_a_url_leads(url: str, cluster: str, shown: str) -> None:
    assert target_of(url, cluster)[0] == shown


def test_a_user_in_a_witness_url_is_kept() -> None:
    assert target_of("witness://me:secret@m3")[1].startswith("Basic ")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("m3:22220", "unknown"),
        ("", "no scheme"),
        ("//m3", "no scheme"),
        ("gopher://m3", "install a package with the entry point 'gopher'"),
        ("witness://", "a host and a port and nothing more"),
        ("witness://m3/path", "a host and a port and nothing more"),
        ("witness://m3:port", "no URL"),
        ("witness://m3:0", "no usable host and port"),
    ],
)
def test_urls_that_name_no_witness(url: str, said: str) -> None:
    with pytest.raises(WitnessUrlError, match=said):
        open_register(url, "web", LIMIT_S)


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(WitnessUrlError, match="witness://, http://, https://, file://"):
        open_register("gopher://m3", "web", LIMIT_S)


@pytest.mark.parametrize("cluster", ["", "a b", "a/b", "a\\b", ".", "..", "a\n", "x" * 129])
def test_clusters_that_cannot_be(cluster: str) -> None:
    with pytest.raises(ValueError, match="cluster's name"):
        open_register("witness://m3", cluster, LIMIT_S)


@pytest.mark.parametrize("limit_s", [0.0, -1.0, float("nan"), float("inf")])
def test_time_limits_that_are_none(limit_s: float) -> None:
    with pytest.raises(ValueError, match="time limit"):
        open_register("witness://m3", "web", limit_s)


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package of somebody else, with entry points good and bad."""
    (tmp_path / "far_away.py").write_text(STRANGER)
    info = tmp_path / "far_away-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far-away\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[ha_heartbeat.witnesses]\n"
        "far = far_away:Register\nnested = far_away:Group.opener\nfails = far_away:fails\n"
        "nothing = far_away:nothing\nabsent = far_away:absent\nmissing = not_there_at_all:x\n"
        "http = far_away:fails\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "far_away", raising=False)
    return tmp_path


@pytest.mark.usefixtures("distribution")
@pytest.mark.parametrize("scheme", ["far", "FAR", "nested"])
def test_a_stranger_is_asked_for_its_scheme(scheme: str) -> None:
    url = f"{scheme}://bucket/key"
    register = open_register(url, "web", LIMIT_S)
    assert register.arguments == (url, "web", LIMIT_S)  # type: ignore[attr-defined]
    assert register.read() == (b"from far", "1")


@pytest.mark.usefixtures("distribution")
@pytest.mark.parametrize(
    ("scheme", "said"),
    [
        ("fails", "cannot be opened: RuntimeError: no such bucket"),
        ("nothing", "gave a int, which lacks"),
        ("absent", "cannot be loaded: AttributeError"),
        ("missing", "cannot be loaded: ModuleNotFoundError"),
        ("unknown", "file://, absent://, fails://, far://"),
    ],
)
def test_a_strangers_slips_are_sentences(scheme: str, said: str) -> None:
    with pytest.raises(WitnessUrlError, match=said):
        open_register(f"{scheme}://x", "web", LIMIT_S)


@pytest.mark.usefixtures("distribution")
def test_nobody_takes_our_own_schemes() -> None:
    assert isinstance(open_register("http://m3/", "web", LIMIT_S), HttpRegister)


def test_a_kind_is_loaded_only_when_it_is_named() -> None:
    code = (
        "import sys; import ha_heartbeat.witnesses as w; "
        "heavy = {'http.client', 'importlib.metadata', 'subprocess', 'sqlite3'}; "
        "print(sorted(heavy & set(sys.modules))); w.open_register('witness://m3', 'web', 1.0); "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["[]", "['http.client']"]
