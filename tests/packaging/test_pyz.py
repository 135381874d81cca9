"""The zipapp: copied to a host, it is all that is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.member.conftest import rigs_in
from tests.member.rig import ROOT, Rig, title, wait_for


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that has left its checkout."""
    made = tmp_path_factory.mktemp("host") / "ha_heartbeat.pyz"
    subprocess.run(
        [sys.executable, str(ROOT / "packaging" / "pyz.py"), str(made)],
        check=True,
        capture_output=True,
    )
    return made


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rigs_in(tmp_path) as make:
        yield make(1)[0]


def run(*words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words],
        cwd="/",
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_two_members_from_it(rig: Rig, pyz: Path) -> None:
    rig.program = pyz
    worker, other = rig.pair()
    assert str(pyz) in title(worker.pid)
    assert str(pyz) in title(worker.guardian)
    guardian, keeper = worker.guardian, worker.keeper
    worker.kill()
    rig.works(other)
    wait_for(lambda: not any(str(pyz) in title(pid) for pid in (guardian, keeper)), "them to end")
    assert other.said("its process tree is gone") == 1
    assert other.stop() == 0


def test_the_same_sources_give_the_same_bytes(pyz: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    for name in ("ha_heartbeat", "packaging"):
        shutil.copytree(ROOT / name, copy / name, copy_function=shutil.copyfile)
    for name in ("ha_heartbeat.py", "LICENSE"):
        shutil.copyfile(ROOT / name, copy / name)
    for number, path in enumerate(sorted(copy.rglob("*.py"), reverse=True)):
        os.utime(path, (number * 1e6, number * 1e6))
        path.chmod(0o600)
    made = run(sys.executable, copy / "packaging" / "pyz.py")
    assert made.returncode == 0, made.stderr
    assert (copy / "dist" / "ha_heartbeat.pyz").read_bytes() == pyz.read_bytes()


def test_it_is_a_program(pyz: Path) -> None:
    from ha_heartbeat import __version__

    assert run(sys.executable, "-I", pyz, "--version").stdout == f"ha-heartbeat {__version__}\n"
    assert run(sys.executable, "-I", pyz, "-x").returncode == 2
    pyz.chmod(0o755)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    assert run(pyz, "--help", PATH=path).stdout.startswith("usage: ha-heartbeat")


def test_its_unit_starts_it(pyz: Path) -> None:
    made = run(sys.executable, "-m", "ha_heartbeat.install", "member", "ls", PYTHONPATH=str(pyz))
    assert f"{sys.executable} {pyz} --state-dir /var/lib/ha-heartbeat ls\n" in made.stdout


def test_nothing_in_it_but_what_runs(pyz: Path) -> None:
    names = zipfile.ZipFile(pyz).namelist()
    assert names == sorted(names)
    assert not [name for name in names if "__pycache__" in name or "/sim/" in name]
    assert "ha_heartbeat/guardian/keeper.py" in names
