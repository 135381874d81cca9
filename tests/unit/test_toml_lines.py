"""The line of each key: of documents that say themselves where their keys stand."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from ha_heartbeat.toml_lines import Path, lines, repeated

NOISE = (
    "''",
    '""',
    '"a # b = 1"',
    "'[x]'",
    r'"\"]}\\"',
    "'''\nk = 1\n[t]\n'''",
    '"""\nk = 1\n[[t]] \\\n  # x\n"""',
    '"""a""b"""""',
    "''''x'''''",
    r'"""\""""',
    "1979-05-27 07:32:00",
    "0x1F",
    "-inf",
    "true",
    "[]",
    "{}",
    "[ # ]\n]",
)
"""Values that hold no number that could be taken for a line."""

SPACE = st.sampled_from(["", " ", "\t "])
GAP = st.sampled_from(["\n", "\n\n", " # c = [1]\n", "\n# [t]\n\n", "\r\n"])


class Writer:
    """Writes a document whose whole numbers are each the line that they are expected in."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.text = ""

    @property
    def line(self) -> int:
        return self.text.count("\n") + 1

    def put(self, *parts: str) -> None:
        self.text += "".join(parts)

    def key(self, name: str) -> None:
        """A key in one of its spellings."""
        how = self.draw(st.sampled_from(["bare", "single", "double", "escaped"]))
        if how == "escaped":
            self.put('"', "".join(f"\\u{ord(char):04x}" for char in name), '"')
        else:
            quote = {"bare": "", "single": "'", "double": '"'}[how]
            self.put(quote, name, quote)

    def dotted(self, names: list[str]) -> None:
        for index, name in enumerate(names):
            if index:
                self.put(self.draw(SPACE), ".", self.draw(SPACE))
            self.key(name)

    def value(self, depth: int, line: int) -> None:
        """A value whose numbers, outside arrays, are `line`."""
        kind = self.draw(st.sampled_from(["line", "noise"] + ["array", "table"] * (depth > 0)))
        if kind == "line":
            self.put(str(line))
        elif kind == "noise":
            self.put(self.draw(st.sampled_from(NOISE)))
        elif kind == "array":
            self.array(depth)
        else:
            self.inline_table(depth)

    def array(self, depth: int) -> None:
        self.put("[")
        count = self.draw(st.integers(0, 3))
        for index in range(count):
            self.put(self.draw(st.one_of(SPACE, GAP)))
            self.value(depth - 1, self.line)
            self.put(self.draw(st.one_of(SPACE, GAP)))
            if index < count - 1 or self.draw(st.booleans()):
                self.put(",")
        self.put(self.draw(st.one_of(SPACE, GAP)), "]")

    def inline_table(self, depth: int) -> None:
        self.put("{")
        names = self.draw(st.lists(st.sampled_from("pqr"), unique=True, max_size=3))
        for index, name in enumerate(names):
            self.put(", " if index else " ")
            line = self.line
            self.dotted([name, *self.draw(st.lists(st.just("z"), max_size=1))])
            self.put(self.draw(SPACE), "=", self.draw(SPACE))
            self.value(depth - 1, line)
        self.put(" }")

    def pairs(self) -> None:
        for name in self.draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=3)):
            self.put(self.draw(SPACE))
            line = self.line
            self.dotted([name, *self.draw(st.lists(st.sampled_from("xy"), max_size=2))])
            self.put(self.draw(SPACE), "=", self.draw(SPACE))
            self.value(2, line)
            self.put(self.draw(SPACE), self.draw(GAP))

    def header(self, names: list[str], brackets: int) -> None:
        self.put("[" * brackets, self.draw(SPACE))
        self.dotted(names)
        self.put(self.draw(SPACE), "]" * brackets, self.draw(GAP))


@st.composite
def documents(draw: st.DrawFn) -> str:
    writer = Writer(draw)
    writer.pairs()
    for name in draw(st.lists(st.sampled_from("tuvw"), unique=True, max_size=3)):
        if draw(st.booleans()):
            for _ in range(draw(st.integers(1, 3))):
                writer.header([name], 2)
                writer.pairs()
                if draw(st.booleans()):
                    writer.header([name, "sub", "sub"], 1)
                    writer.pairs()
        else:
            writer.header([name, "one"], 1)
            writer.pairs()
            if draw(st.booleans()):
                writer.header([name], 1)
    return writer.text


def paths(value: Any, where: Path = ()) -> dict[Path, Any]:
    """Everything in a document by its path."""
    found = {where: value} if where else {}
    parts = value.items() if isinstance(value, dict) else []
    if isinstance(value, list):
        parts = enumerate(value)
    for key, part in parts:
        found |= paths(part, (*where, key))
    return found


@for_all(documents())
def test_every_key_is_found_in_its_line(text: str) -> None:
    known = paths(tomllib.loads(text))
    found = lines(text)
    assert found.keys() == known.keys()
    for where, value in known.items():
        if type(value) is int and value != 0x1F:
            assert found[where] == value, (where, text)
    assert repeated(text) is None


def test_a_table_is_where_it_is_first_named() -> None:
    text = "a.b = 1\n[t.u]\n[t]\nv = 2\n[[l]]\n[[l]]\nx = [\n 1,\n 2]\n"
    assert lines(text) == {
        ("a",): 1,
        ("a", "b"): 1,
        ("t",): 2,
        ("t", "u"): 2,
        ("t", "v"): 4,
        ("l",): 5,
        ("l", 0): 5,
        ("l", 1): 6,
        ("l", 1, "x"): 7,
        ("l", 1, "x", 0): 8,
        ("l", 1, "x", 1): 9,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\n\na = 2", (("a",), 1, 3)),
        ("[s.a]\nx = '''\n'''\n[s.b]\n['s'.\"a\"]", (("s", "a"), 1, 5)),
        ("a = {b = 1,\tb = 2", (("a", "b"), 1, 1)),
        ("a.b = 1\na = 2", (("a",), 1, 2)),
        ("a = 1\na.b = 2", (("a",), 1, 2)),
        ("[t.u]\n[[t]]", (("t",), 1, 2)),
        ("a = {}\n\n[a.b]", (("a",), 1, 3)),
        ("member = 'm1'\n[member]", (("member",), 1, 2)),
        ("[[l]]\nx = []\n[l.x]", (("l", 0, "x"), 2, 3)),
    ],
)
def test_what_is_given_twice(text: str, expected: tuple[Path, int, int]) -> None:
    assert repeated(text) == expected
