"""Reads one TOML file, and knows where in it everything stands."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from typing import Any, Final, NamedTuple

from ha_heartbeat import toml_lines
from ha_heartbeat.toml_lines import Path

MAX_FILE_BYTES: Final = 4 * 1024 * 1024

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_POSITION: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_TWICE: Final = ("Cannot ", "Duplicate ")


class UnreadableError(Exception):
    """There is no text to be had from a file; the text says why and what to do."""


class BrokenError(Exception):
    """A file is no TOML; the text says what is wrong in `line`, and what to do."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


class Document(NamedTuple):
    """What stands in a file, and where."""

    path: str
    data: dict[str, Any]
    lines: dict[Path, int]

    def line(self, where: Path) -> int:
        """The line of a key; that of its table if it has none of its own."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)

    def source(self, where: Path) -> str:
        """What an error calls the place: file, line and key."""
        return f"{self.path}, line {self.line(where)}, {dotted(where)}"


def read(path: str) -> Document:
    """Read a file. Raises UnreadableError and BrokenError."""
    text = _decoded(_content(path)).replace("\r\n", "\n")
    try:
        data = tomllib.loads(text)
        return Document(path, data, toml_lines.lines(text))
    except RecursionError:
        raise BrokenError("this is nested too deeply; make it flatter", 1) from None
    except ValueError as error:  # TOMLDecodeError, and int() of a number with thousands of digits
        raise _broken(str(error), text) from None


def dotted(where: Path) -> str:
    """A key as one would write it, `services."web 1".links[0]`."""
    text = ""
    for part in where:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if _BARE.fullmatch(part) else f".{_quoted(part)}"
    return text.removeprefix(".")


def _quoted(key: str) -> str:
    plain = key.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in plain) + '"'


def _content(path: str) -> bytes:
    if not path or "\0" in path:
        raise UnreadableError("is no path; give the path of a TOML file")
    try:
        kind = os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            raise UnreadableError("is a directory; give a file in it")
        if not stat.S_ISREG(kind):
            raise UnreadableError("is no regular file, so it could be read once only; give a file")
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise UnreadableError("does not exist; give the path of a TOML file") from None
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UnreadableError(f"cannot be read: {why}; let this user read it") from None
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableError(
            f"is larger than {MAX_FILE_BYTES // 1024**2} MiB; divide it with include"
        )
    return content


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")  # with the mark that some editors begin a file with
    except UnicodeDecodeError as error:
        raise BrokenError(
            f"byte {content[error.start]:#04x} is no UTF-8, which TOML has to be; "
            "save the file as UTF-8",
            content.count(b"\n", 0, error.start) + 1,
        ) from None


def _broken(message: str, text: str) -> BrokenError:
    """What `tomllib` says, with the line in front, and with the key if one is given twice."""
    position = _POSITION.search(message)
    if position is None:
        return BrokenError(f"this is no TOML: {_lower(message)}; correct it", 1)
    what = _lower(message[: position.start()])
    if position[1] is None:
        return BrokenError(
            f"this is no TOML: {what} at the end of the file; correct it",
            text.count("\n", 0, len(text.rstrip())) + 1,
        )
    line = int(position[1])
    if message.startswith(_TWICE):
        beginning = "\n".join(text.split("\n")[:line])
        found = toml_lines.repeated(beginning)
        if found:
            where, first, second = found
            return BrokenError(
                f"{dotted(where)} is given here and in line {first}; leave one of the two out, or "
                "give it another name",
                second,
            )
    return BrokenError(f"this is no TOML: {what} at column {position[2]}; correct it there", line)


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
