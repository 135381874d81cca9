"""Gets the programs of the comparison from Debian and PyPI, and says what cannot be had.

Nothing that is installed here is started as a service: Debian asks /usr/sbin/policy-rc.d first
(deb-systemd-invoke(1p), invoke-rc.d(8)), and for the time of the installation that says no.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(_ROOT, ".venv-peers")
_POLICY = "/usr/sbin/policy-rc.d"
_NO_START = "#!/bin/sh\nexit 101\n"


class InstallError(Exception):
    """What is needed cannot be had; the text says what and why."""


def debian_version(package: str) -> str:
    """The installed version of a Debian package. Raises CalledProcessError or OSError."""
    words = ("dpkg-query", "-W", "-f", "${Version}", package)
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def pip_version(package: str) -> str:
    """The version in the environment of the peers. Raises CalledProcessError or OSError."""
    program = f"import importlib.metadata as m; print(m.version({package!r}))"
    words = (os.path.join(VENV, "bin", "python"), "-c", program)
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def install(debian: Sequence[str], pip: Sequence[str]) -> None:
    """Install what is missing of these. Raises InstallError."""
    if missing := [name for name in debian if not _has_debian(name)]:
        _install_debian(missing)
    if missing := [name for name in pip if not _has_pip(name)]:
        if not os.path.exists(os.path.join(VENV, "bin", "python")):
            _do((sys.executable, "-m", "venv", VENV))
        _do((os.path.join(VENV, "bin", "python"), "-m", "pip", "install", "--quiet", *missing))


def _has_debian(package: str) -> bool:
    words = ("dpkg-query", "-W", "-f", "${db:Status-Status}", package)
    try:
        return subprocess.run(words, capture_output=True, check=False).stdout == b"installed"
    except OSError:
        return False


def _has_pip(package: str) -> bool:
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return bool(pip_version(package))
    return False


def _install_debian(packages: Sequence[str]) -> None:
    names = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise InstallError(f"{names}: there is no apt-get here")
    if os.geteuid():
        raise InstallError(f"{names}: apt-get needs root")
    with _nothing_started():
        _do(("apt-get", "update", "-qq"))
        _do(("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages))


@contextlib.contextmanager
def _nothing_started() -> Iterator[None]:
    """Have Debian start no service meanwhile."""
    if os.path.exists(_POLICY):  # somebody has decided that already
        yield
        return
    with open(_POLICY, "w") as file:
        file.write(_NO_START)
    os.chmod(_POLICY, 0o755)
    try:
        yield
    finally:
        os.remove(_POLICY)


def _do(words: Sequence[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it gave no reason"]
        raise InstallError(f"{' '.join(words[:3])} failed: {said[-1]}")
