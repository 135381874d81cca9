"""Makes the Debian package with dpkg-deb, from a staged tree and without a network.

Not with debhelper: that would bring a build system, a dozen packages and a `debian/` folder for
what is copying files. The package installs Python's sources for any version from 3.11 on, and has
py3compile make the byte code where it is installed, as Debian's policy for Python asks.

Whoever builds it is its maintainer: DEBFULLNAME and DEBEMAIL, as for Debian's own tools.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ha_heartbeat import __version__, cli
from ha_heartbeat.install import command

PACKAGE = "ha-heartbeat"
EPOCH = 315_532_800  # 1980-01-01: the same bytes from the same sources
LEFT_OUT = {"sim", "__pycache__"}
SCRIPT = """\
#!/usr/bin/python3
import sys

from {module} import {function}

sys.exit({function}())
"""
CONTROL = """\
Package: ha-heartbeat
Version: {version}
Section: admin
Priority: optional
Architecture: all
Maintainer: {maintainer}
Installed-Size: {size_kib}
Depends: python3 (>= 3.11)
Suggests: python3-httptools, python3-pyroute2, python3-uvloop
Description: run a command on exactly one of two machines
 Two machines are started with the same command, and it runs on one of them;
 the other takes over when that one is gone. No shared disk and no cluster
 manager is needed. A third machine, or a share, can be the witness that
 decides when the two cannot hear each other.
 .
 The server for such a witness, ha-heartbeat-witness, needs the packages
 python3-httptools and, to be fast, python3-uvloop.
"""
POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ] && [ -z "$DPKG_ROOT" ] && command -v py3compile >/dev/null 2>&1; then
    py3compile -p ha-heartbeat
fi
"""
PRERM = """\
#!/bin/sh
set -e
if [ -z "$DPKG_ROOT" ] && command -v py3clean >/dev/null 2>&1; then
    py3clean -p ha-heartbeat
else
    find "$DPKG_ROOT"/usr/lib/python3/dist-packages/ha_heartbeat -name __pycache__ -prune \\
        -exec rm -rf {} +
fi
"""
CHANGELOG = """\
ha-heartbeat ({version}) unstable; urgency=medium

  * What has changed is in CHANGELOG.md.

 -- {maintainer}  Tue, 01 Jan 1980 00:00:00 +0000
"""
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: ha-heartbeat

Files: *
Copyright: {holder}
License: Expat

License: Expat
{text}
"""


def debian_version(version: str) -> str:
    """The version as Debian orders it: what comes before a release is marked by a tilde."""
    return re.sub(r"\.?(dev|a|b|rc)(\d+)", r"~\1\2", version)


def stage(tree: Path) -> None:
    """Put everything into `tree` that is to be installed."""
    package = tree / "usr/lib/python3/dist-packages/ha_heartbeat"
    shutil.copytree(ROOT / "ha_heartbeat", package, ignore=shutil.ignore_patterns(*LEFT_OUT))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, entry in project["scripts"].items():
        module, _, function = entry.partition(":")
        script = SCRIPT.format(module=module, function=function)
        _write(tree / "usr/bin" / name, script, 0o755)
    documents = tree / "usr/share/doc" / PACKAGE
    shutil.copytree(ROOT / "docs", documents / "docs")
    for name in ("README.md", "CHANGELOG.md"):
        shutil.copyfile(ROOT / name, documents / name)
    _write(documents / "copyright", _copyright())
    entry = CHANGELOG.format(version=debian_version(__version__), maintainer=_maintainer())
    _gzip(documents / "changelog.gz", entry.encode())
    for name, text in _example_units():
        _write(documents / "examples" / name, text)
    for name, text in _manual_pages():
        _gzip(tree / "usr/share/man/man8" / f"{name}.8.gz", text.encode())
    _gzip(tree / "usr/share/man/man1/hbctl.1.gz", (ROOT / "docs/hbctl.1").read_bytes())


def _maintainer() -> str:
    name = os.environ.get("DEBFULLNAME", "the ha-heartbeat authors")
    return f"{name} <{os.environ.get('DEBEMAIL', 'ha-heartbeat@localhost')}>"


def _copyright() -> str:
    head, _, text = (ROOT / "LICENSE").read_text().partition("\n\n")
    holder = re.search(r"Copyright \(c\) (.*)", text)
    assert "MIT" in head
    assert holder
    body = "\n".join(f" {line}" if line.strip() else " ." for line in text.strip().splitlines()[2:])
    return COPYRIGHT.format(holder=holder[1], text=body)


def _example_units() -> Iterator[tuple[str, str]]:
    """The units that `python3 -m ha_heartbeat.install` makes of the examples in the README."""
    member = ["-i", "10", "-t", "5", "-l", "m1:22221", "-r", "m2:22222", "ls -l"]
    yield (
        "ha-heartbeat.service",
        command.unit_for(["--program", "/usr/bin/ha-heartbeat", "member", *member]).text,
    )
    yield (
        "ha-heartbeat-witness.service",
        command.unit_for(
            ["--program", "/usr/bin/ha-heartbeat-witness", "witness", "--listen", "m3:22220"]
        ).text,
    )


def _manual_pages() -> Iterator[tuple[str, str]]:
    """Manual pages out of --help, which says it all."""
    from ha_heartbeat.witness_server.cli import _parser

    for name, what, text in (
        ("ha-heartbeat", "run a command on exactly one of two machines", cli.help_text()),
        ("ha-heartbeat-witness", "the third voter of two members", _parser().format_help()),
    ):
        usage, _, rest = text.partition("\n")
        literal = rest.strip("\n").replace("\\", "\\e").replace("-", "\\-")
        literal = re.sub(r"^([.'])", r"\\&\1", literal, flags=re.MULTILINE)
        yield (
            name,
            (
                f'.TH {name.upper()} 8 "" "ha\\-heartbeat {__version__}"\n'
                f".SH NAME\n{name} \\- {what}\n"
                f".SH SYNOPSIS\n{usage.removeprefix('usage: ')}\n"
                f".SH DESCRIPTION\n.nf\n{literal}\n.fi\n"
                f".SH SEE ALSO\n/usr/share/doc/{PACKAGE}/docs/operating.md\n"
            ),
        )


def control(tree: Path) -> None:
    """Add what dpkg wants to know."""
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    sums = "".join(
        f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n"
        for path in files
    )
    size_kib = sum(-(-path.stat().st_size // 1024) for path in files)
    folder = tree / "DEBIAN"
    words = {"version": debian_version(__version__), "maintainer": _maintainer()}
    _write(folder / "control", CONTROL.format(size_kib=size_kib, **words))
    _write(folder / "md5sums", sums)
    _write(folder / "postinst", POSTINST, 0o755)
    _write(folder / "prerm", PRERM, 0o755)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _gzip(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(data)


def build(folder: Path) -> Path:
    """Make the package in `folder`; returns its path. Raises OSError and CalledProcessError."""
    target = folder / f"{PACKAGE}_{debian_version(__version__)}_all.deb"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place) / "tree"
        stage(tree)
        control(tree)
        for path in [tree, *tree.rglob("*")]:
            executable = path.is_dir() or (os.access(path, os.X_OK) and "bin" in path.parts)
            if path.parent.name != "DEBIAN":
                path.chmod(0o755 if executable else 0o644)
        subprocess.run(
            [
                "dpkg-deb",
                "--root-owner-group",
                "--uniform-compression",
                "-Zxz",
                "--build",
                tree,
                target,
            ],
            env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
    return target


def main() -> int:
    """Make it, in dist/ unless another folder is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist")
    if shutil.which("dpkg-deb") is None:
        print("dpkg-deb is missing: make the package on Debian or one of its kind", file=sys.stderr)
        return 1
    print(build(parser.parse_args().folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
