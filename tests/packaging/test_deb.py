"""The Debian package: built, looked into, installed, run and removed again."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ha_heartbeat import __version__
from tests.install.systemd import parse
from tests.member.rig import ROOT

pytestmark = pytest.mark.skipif(
    shutil.which("dpkg-deb") is None, reason="dpkg-deb is missing (Debian package dpkg)"
)
VERSION = __version__.replace(".dev", "~dev")


def run(*words: str | Path, **environ: str) -> str:
    result = subprocess.run(
        [str(word) for word in words],
        cwd="/",
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    return Path(run(sys.executable, ROOT / "packaging" / "deb.py", folder).strip())


@pytest.fixture(scope="module")
def tree(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it was unpacked."""
    folder = tmp_path_factory.mktemp("root")
    run("dpkg", "-x", deb, folder)
    return folder


def program(tree: Path, name: str, *words: str) -> str:
    """What an installed program says, run by this Python from where it was unpacked."""
    packages = tree / "usr/lib/python3/dist-packages"
    return run(sys.executable, tree / "usr/bin" / name, *words, PYTHONPATH=str(packages))


def test_what_it_is(deb: Path) -> None:
    assert deb.name == f"ha-heartbeat_{VERSION}_all.deb"
    fields = run("dpkg-deb", "--field", deb, "Version", "Architecture", "Depends").splitlines()
    assert fields == [f"Version: {VERSION}", "Architecture: all", "Depends: python3 (>= 3.11)"]


def test_what_is_in_it(deb: Path) -> None:
    names = {line.split()[5]: line for line in run("dpkg", "-c", deb).splitlines()}
    for name in (
        "./usr/bin/ha-heartbeat",
        "./usr/bin/ha-heartbeat-witness",
        "./usr/lib/python3/dist-packages/ha_heartbeat/guardian/keeper.py",
        "./usr/share/doc/ha-heartbeat/docs/operating.md",
        "./usr/share/doc/ha-heartbeat/copyright",
        "./usr/share/doc/ha-heartbeat/changelog.gz",
        "./usr/share/doc/ha-heartbeat/examples/ha-heartbeat.service",
        "./usr/share/man/man8/ha-heartbeat.8.gz",
    ):
        assert name in names
    assert all(" root/root " in line for line in names.values())
    assert names["./usr/bin/ha-heartbeat"].startswith("-rwxr-xr-x")
    assert not [name for name in names if "__pycache__" in name or "/sim/" in name]


def test_it_runs(tree: Path) -> None:
    assert program(tree, "ha-heartbeat", "--version") == f"ha-heartbeat {__version__}\n"
    said = program(tree, "ha-heartbeat", "-l", "m1:1", "-r", "m2:2", "--check-config", "ls")
    assert "After a crash or a stop at most one command runs" in said
    assert "--listen HOST:PORT" in program(tree, "ha-heartbeat-witness", "--help")


def test_the_example_units_start_what_is_installed(tree: Path) -> None:
    examples = tree / "usr/share/doc/ha-heartbeat/examples"
    for name in ("ha-heartbeat", "ha-heartbeat-witness"):
        lines = (examples / f"{name}.service").read_text().splitlines()
        line = next(line for line in lines if line.startswith("ExecStart="))
        assert parse(line.removeprefix("ExecStart="))[0] == f"/usr/bin/{name}".encode()


def test_the_manual_page_has_every_option(tree: Path) -> None:
    from ha_heartbeat import cli

    page = gzip.decompress((tree / "usr/share/man/man8/ha-heartbeat.8.gz").read_bytes()).decode()
    for option in cli.OPTIONS:
        assert f"--{option.long}".replace("-", "\\-") in page


def test_the_same_sources_give_the_same_bytes(deb: Path, tmp_path: Path) -> None:
    again = Path(run(sys.executable, ROOT / "packaging" / "deb.py", tmp_path).strip())
    assert again.read_bytes() == deb.read_bytes()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="dpkg installs for root only")
def test_installed_and_removed(deb: Path, tmp_path: Path) -> None:
    """Into a root of its own, with its scripts."""
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").touch()
    dpkg = ("dpkg", f"--root={tmp_path}", "--force-depends", "--force-script-chrootless")
    run(*dpkg, "--force-not-root", "--install", deb)
    package = tmp_path / "usr/lib/python3/dist-packages/ha_heartbeat"
    assert program(tmp_path, "ha-heartbeat", "--version") == f"ha-heartbeat {__version__}\n"
    run(sys.executable, "-m", "compileall", "-q", package)
    assert (package / "__pycache__").is_dir()
    run(*dpkg, "--remove", "ha-heartbeat")
    assert not package.exists()


@pytest.mark.skipif(shutil.which("lintian") is None, reason="lintian is not installed")
def test_lintian_finds_nothing(tmp_path: Path) -> None:
    script = ROOT / "packaging" / "deb.py"
    mine = run(sys.executable, script, tmp_path, DEBEMAIL="me@debian.org").strip()
    run("lintian", "--allow-root", "--fail-on=error,warning", "--tag-display-limit=0", mine)
