"""Makes the zipapp: the whole program in one file, which any Python from 3.11 on runs.

The same sources give the same bytes, wherever and whenever it is made: names in order, one date,
one mode, and nothing compressed, since compressors differ.
"""

from __future__ import annotations

import argparse
import io
import stat
import zipapp
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "ha_heartbeat.pyz"
DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can hold
INTERPRETER = "/usr/bin/env python3"
LEFT_OUT = {"sim", "__pycache__"}
"""The simulator is for developers, who have a checkout."""


def sources() -> list[tuple[str, Path]]:
    """What goes into it, by name, in order. The script of a checkout starts it."""
    package = ROOT / "ha_heartbeat"
    found = [
        (path.relative_to(ROOT).as_posix(), path)
        for path in package.rglob("*")
        if path.is_file() and not LEFT_OUT & set(path.relative_to(package).parts)
    ]
    found += [("LICENSE", ROOT / "LICENSE"), ("__main__.py", ROOT / "ha_heartbeat.py")]
    return sorted(found)


def make(target: Path) -> None:
    """Make the zipapp as `target`, executable. Raises OSError."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as made:
        for name, path in sources():
            entry = zipfile.ZipInfo(name, DATE)
            entry.create_system = 3  # Unix, on Windows as well
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            made.writestr(entry, path.read_bytes())
    archive.seek(0)
    zipapp.create_archive(archive, target, INTERPRETER)


def main() -> None:
    """Make it, in dist/ unless another file is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", nargs="?", type=Path, default=ROOT / "dist" / NAME)
    target = parser.parse_args().target
    target.parent.mkdir(parents=True, exist_ok=True)
    make(target)
    target.chmod(0o755)
    print(f"{target}: {target.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
