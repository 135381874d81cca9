"""Where things are kept: the state directory, and what a member's files in it are called.

Apart from `config` because a control command that looks for members should not have to load what
checks the options of one.
"""

from __future__ import annotations

import os
import sys

STATE_FILE = "state.json"
JOURNAL_FILE = "journal.sqlite3"
CONTROL_SOCKET = "control.sock"
MAX_SOCKET_PATH_BYTES = 100  # unix(7) allows 108 on Linux, and 104 elsewhere

MAX_DIRECTORY_NAME_CHARS = 200  # below the 255 bytes that most file systems allow
DIGEST_CHARS = 32
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._")


def default_state_dir() -> str:
    """Where this platform and user keep state. Raises LookupError when no home is known.

    Root has no home of interest: a service's state belongs to the machine.
    """
    if sys.platform == "win32":
        program_data = os.environ.get("PROGRAMDATA") or r"C:\ProgramData"
        return os.path.join(program_data, "ha-heartbeat")
    if os.geteuid() == 0:
        return "/var/lib/ha-heartbeat"
    base = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification: anything relative is to be ignored
        base = os.path.join(os.path.expanduser("~"), ".local", "state")
    if not os.path.isabs(base):
        raise LookupError("no home directory is known to keep state in; give --state-dir DIR")
    return os.path.join(base, "ha-heartbeat")


def directory_name(service: str, host: str, port: int) -> str:
    """The directory of one service and local address; no two of them share a name.

    Whatever is no plain lower-case character is percent-encoded, capitals too, since some file
    systems do not tell them apart. A name that would be too long for a file system ends in a digest
    instead.
    """
    name = f"{_encoded(service)}@{_encoded(host)}_{port}"
    if len(name) <= MAX_DIRECTORY_NAME_CHARS:
        return name
    import hashlib  # only here: names are seldom that long, and it weighs several MiB

    digest = hashlib.sha256(name.encode("ascii")).hexdigest()[:DIGEST_CHARS]
    return name[: MAX_DIRECTORY_NAME_CHARS - DIGEST_CHARS - 1] + "#" + digest


def read_directory_name(name: str) -> tuple[str, str] | None:
    """The service and HOST:PORT that a directory is of; None if its name does not tell."""
    service, at, address = name.partition("@")
    host, underscore, port = address.rpartition("_")
    if not at or not underscore or not port.isdigit() or "#" in name:
        return None
    host = _decoded(host)
    return _decoded(service), f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _encoded(text: str) -> str:
    return "".join(
        char if char in _PLAIN else "".join(f"%{byte:02X}" for byte in _utf8(char)) for char in text
    )


def _decoded(text: str) -> str:
    first, *rest = text.split("%")
    try:
        raw = first.encode() + b"".join(bytes.fromhex(p[:2]) + p[2:].encode() for p in rest)
    except ValueError:
        return text
    return raw.decode("utf-8", "replace")


def _utf8(char: str) -> bytes:
    return char.encode("utf-8", "surrogatepass")
