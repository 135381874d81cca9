"""Writes a unit where systemd looks for it, and never over what somebody else has written.

A file of ours begins with a line that carries a checksum of the rest, so one that was edited by
hand is known as well.
"""

from __future__ import annotations

import os
import re
import zlib

from ha_heartbeat import __version__
from ha_heartbeat.install.units import Unit

_HEADING = re.compile(r"# Made by ha-heartbeat \S+, checksum ([0-9a-f]{8})\.\n")


class WriteError(Exception):
    """The file was not written; the text is one sentence for the operator."""


def write(unit: Unit, folder: str, *, force: bool = False) -> str:
    """Write the unit into `folder`, and say what was done, as a sentence without a full stop.

    Raises WriteError when it cannot be written, and when there is a file that is not ours, or is
    ours and was changed since, unless `force`.
    """
    where = os.path.join(folder, unit.name)
    found = _read(where)
    content = f"# Made by ha-heartbeat {__version__}, checksum {_checksum(unit.text)}.\n{unit.text}"
    if found == content:
        return f"{where} is as it should be already"
    whose = "" if found is None else _whose(found)
    if whose and not force:
        raise WriteError(
            f"{where} {whose}; look at it, and give --force to replace it, or --unit another name"
        )
    _replace(where, content)
    if whose:
        return f"{where} is replaced, which {whose}"
    return f"{where} is {'made' if found is None else 'made anew'}"


def _whose(content: str) -> str:
    """What stands in the way of replacing a file with this content; "" for nothing."""
    heading = _HEADING.match(content)
    if heading is None:
        return "was not made by ha-heartbeat"
    if heading[1] != _checksum(content[heading.end() :]):
        return "was changed by hand since it was made"
    return ""


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _read(where: str) -> str | None:
    try:
        with open(where, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WriteError(f"{where} cannot be read: {error.strerror}") from error


def _replace(where: str, content: str) -> None:
    """After a crash it is the old file or the new one."""
    temporary = f"{where}.{os.getpid()}.tmp"
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            os.chmod(temporary, 0o644)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, where)
    except OSError as error:
        try:
            os.unlink(temporary)
        except OSError:
            pass  # it was not made
        raise WriteError(
            f"{where} cannot be written: {error.strerror}; "
            "run this as root, or give another directory with --to"
        ) from error
