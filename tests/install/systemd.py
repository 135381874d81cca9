"""How systemd takes a command line apart: its rules in a few lines, and systemd itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

MANAGER = "/lib/systemd/systemd"
BLANKS = " \t\n\r"
C_ESCAPES = {
    **dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True)),
    "s": " ",
    "\\": "\\",
    '"': '"',
    "'": "'",
}
QUOTED = re.compile(r'"((?:\\.|[^"\\])*)"')

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None or not os.path.exists(MANAGER),
    reason="systemd is not installed (Debian package systemd)",
)


def parse(line: str) -> list[bytes]:
    """The arguments that systemd runs for the value of ExecStart=: systemd.service(5).

    Raises ValueError for what systemd would refuse or take for something else than one command.
    """
    line.encode()  # UTF-8, or the line is ignored
    words: list[bytes] = []
    at = 0
    while True:
        while at < len(line) and line[at] in BLANKS:
            at += 1
        if at == len(line):
            break
        if line[at] == ";" and (at + 1 == len(line) or line[at + 1] in BLANKS):
            raise ValueError("a second command")
        word, at = _word(line, at)
        words.append(_variables(_specifiers(word)))
    if not words or words[0][:1] != b"/":
        raise ValueError("no absolute path")
    return words


def _word(line: str, at: int) -> tuple[bytes, int]:
    """One word from `at` with quotes and C escapes undone, and where it ends."""
    word, quote = b"", ""
    while at < len(line):
        char = line[at]
        at += 1
        if char == "\\":
            value, at = _escape(line, at)
            word += value
        elif quote:
            if char == quote:
                quote = ""
            else:
                word += char.encode()
        elif char in "\"'":
            quote = char
        elif char in BLANKS:
            return word, at
        else:
            word += char.encode()
    if quote:
        raise ValueError("an open quote")
    return word, at


def _escape(line: str, at: int) -> tuple[bytes, int]:
    char = line[at : at + 1]
    if char == "x":
        value = bytes([int(line[at + 1 : at + 3], 16)])
        if value == b"\0":
            raise ValueError("a NUL")
        return value, at + 3
    if char in C_ESCAPES and char:
        return C_ESCAPES[char].encode(), at + 1
    raise ValueError(f"an unknown escape {char!r}")


def _specifiers(word: bytes) -> bytes:
    found = re.sub(rb"%(.)", lambda match: b"\0" if match[1] == b"%" else b"", word + b"\1")[:-1]
    if b"%" in found or len(found) + found.count(b"\0") != len(word):
        raise ValueError("a specifier")
    return found.replace(b"\0", b"%")


def _variables(word: bytes) -> bytes:
    """`$NAME` as a word of its own, `${NAME}` anywhere, and `$$` for a dollar."""
    if re.match(rb"\$[^${]", word):
        raise ValueError("a variable as a word")
    return re.sub(rb"\$(\$|\{[^}]*\})", lambda match: _dollar(match[1]), word)


def _dollar(rest: bytes) -> bytes:
    if rest != b"$":
        raise ValueError("a variable")
    return b"$"


def as_systemd_reads(lines: Sequence[str], folder: Path) -> list[list[bytes]]:
    """The arguments of each line as systemd itself has them, before variables are replaced."""
    names = [f"line-{number}.service" for number in range(len(lines))]
    for name, line in zip(names, lines, strict=True):
        text = f"[Unit]\nDefaultDependencies=no\n[Service]\nExecStart={line}\n"
        (folder / name).write_text(text)
    target = f"[Unit]\nDefaultDependencies=no\nWants={' '.join(names)}\n"
    (folder / "all.target").write_text(target)
    runtime = folder / "runtime"
    runtime.mkdir()
    runtime.chmod(0o777)
    result = subprocess.run(
        [MANAGER, "--test", "--user", "--unit=all.target"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(runtime),
            "SYSTEMD_UNIT_PATH": str(folder),
            "LANG": "C.UTF-8",
        },
        capture_output=True,
        timeout=60,
        check=False,
        # It has no such mode for root.
        **({"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}),
    )
    assert result.returncode == 0, result.stderr
    return [_dumped(result.stdout, name) for name in names]


def _dumped(dump: bytes, name: str) -> list[bytes]:
    """The command line of one unit in systemd's dump, in which words are quoted for a shell."""
    _, _, rest = dump.partition(f"-> Unit {name}:\n".encode())
    unit = rest.partition(b"-> Unit ")[0]
    found = re.search(rb"Command Line: (.*)\n", unit)
    assert found, f"systemd has no command for {name}"
    words = re.findall(rb'(?:"(?:\\.|[^"\\])*"|\S)+', found[1])
    return [_unquoted(word) for word in words]


def _unquoted(word: bytes) -> bytes:
    inside = word[1:-1] if word[:1] == b'"' else word

    def undo(match: re.Match[bytes]) -> bytes:
        text = match[1]
        if text.isdigit():
            return bytes([int(text, 8)])
        if text[:1] == b"x":
            return bytes([int(text[1:], 16)])
        plain = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b"}
        return plain.get(text) or {b"f": b"\f", b"v": b"\v"}.get(text, text)

    return re.sub(rb"\\(\d{3}|x[0-9a-f]{2}|.)", undo, inside, flags=re.DOTALL)


def linux_only() -> pytest.MarkDecorator:
    return pytest.mark.skipif(sys.platform == "win32", reason="there is no systemd")
