"""In which line of a TOML document each key stands, which `tomllib` does not tell.

It reads documents that `tomllib` has taken already, so it checks nothing: it has to find where
keys, strings, arrays and tables begin and end, by https://toml.io/en/v1.0.0, and nothing else.
"""

from __future__ import annotations

import re
import tomllib
from typing import Final, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""The way to a value: keys, and the positions in arrays, from 0."""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_DOT: Final = re.compile(r"[ \t]*\.[ \t]*")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'  # up to two quotes may stand before the closing ones
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SCALAR: Final = re.compile(r"[^,\]}#\n]+")


def lines(text: str) -> dict[Path, int]:
    """The line, from 1, in which each key and each element of an array is first named.

    text: a valid document. Raises RecursionError for one that is nested very deeply.
    """
    return _Scanner(text).document()


def repeated(text: str) -> tuple[Path, int, int] | None:
    """The first key or table that is given twice, with both lines; None if there is none.

    text: as `lines` takes it but for what is repeated, or the beginning of such a document.
    """
    scanner = _Scanner(text)
    try:
        scanner.document()
    except (AssertionError, IndexError):
        pass  # the end of the beginning
    return scanner.repeated


def line_at(text: str, position: int) -> int:
    """The line, from 1, that the character at `position` is in."""
    return text.count("\n", 0, position) + 1


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0  # `_line` is that of this position
        self._found: dict[Path, int] = {}
        self._tables: dict[Path, int] = {}  # for each array of tables, how many there are so far
        self._headers: set[Path] = set()
        self._values: set[Path] = set()
        self.repeated: tuple[Path, int, int] | None = None

    def document(self) -> dict[Path, int]:
        table: Path = ()
        self._skip_blank()
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._key_and_value(table)
            self._skip_blank()
        return self._found

    def _header(self) -> Path:
        """`[a.b]` or `[[a.b]]`: the path of the table that it begins."""
        is_array = self._text.startswith("[[", self._at)
        self._at += 1 + is_array
        self._skip_blank()
        keys = self._keys()
        self._skip_blank()
        self._at += 1 + is_array
        path: Path = ()
        for key in keys[:-1]:
            path = self._inside((*path, key))
            if path in self._values:
                self._repeats(path)
            self._note(path)
        path = (*path, keys[-1])
        is_known = path in self._values or path in self._headers
        if is_array:
            is_known = path in self._found and path not in self._tables
        if is_known:
            self._repeats(path)
        self._headers.add(path)
        self._note(path)
        if not is_array:
            return self._inside(path)
        self._tables[path] = self._tables.get(path, 0) + 1
        path = self._inside(path)
        self._note(path)
        return path

    def _inside(self, path: Path) -> Path:
        """The path, or that of the last table if it is an array of them."""
        count = self._tables.get(path)
        return path if count is None else (*path, count - 1)

    def _key_and_value(self, table: Path) -> None:
        path = table
        keys = self._keys()
        if (*path, *keys) in self._found:
            self._repeats((*path, *keys))
        for key in keys:
            path = (*path, key)
            if path in self._values:
                self._repeats(path)
            self._note(path)
        self._values.add(path)
        self._skip_blank()
        self._at += 1  # the equals sign
        self._skip_blank()
        self._value(path)

    def _value(self, path: Path) -> None:
        begins = self._text[self._at]
        if begins == "[":
            self._array(path)
        elif begins == "{":
            self._inline_table(path)
        elif begins in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while not self._ends("]"):
            self._note((*path, index))
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while not self._ends("}"):
            self._key_and_value(path)

    def _ends(self, bracket: str) -> bool:
        """Skip to the next element, and say whether there is none: then skip the bracket."""
        self._skip_blank()
        if self._text[self._at] == ",":
            self._at += 1
            self._skip_blank()
        if self._text[self._at] != bracket:
            return False
        self._at += 1
        return True

    def _keys(self) -> list[str]:
        """A key, taken apart at its dots."""
        keys = [self._key()]
        while dot := _DOT.match(self._text, self._at):
            self._at = dot.end()
            keys.append(self._key())
        return keys

    def _key(self) -> str:
        bare = _BARE.match(self._text, self._at)
        if bare:
            self._at = bare.end()
            return bare[0]
        word = self._skip(_STRING)
        if "\\" not in word or word[0] == "'":
            return word[1:-1]
        return next(iter(tomllib.loads(f"{word} = 0")))

    def _note(self, path: Path) -> None:
        self._found.setdefault(path, self._line_here())

    def _repeats(self, path: Path) -> None:
        self.repeated = self.repeated or (path, self._found[path], self._line_here())

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _skip_blank(self) -> None:
        self._skip(_BLANK)

    def _skip(self, what: re.Pattern[str]) -> str:
        found = what.match(self._text, self._at)
        assert found is not None, f"no TOML at line {line_at(self._text, self._at)}"
        self._at = found.end()
        return found[0]
