"""A command in ExecStart= is run as it stands, whatever is in it."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_heartbeat.install.quoting import QuotingError, command_line, path, setting
from tests.install.systemd import as_systemd_reads, needs_systemd, parse

NASTY = [
    "",
    " ",
    "ls -l",
    "100%",
    "%n %i %%",
    "$HOME",
    "$$",
    "${PATH}",
    "a$b",
    "it's",
    'say "x"',
    "back\\slash",
    "\\x41",
    "\\",
    "\\\\",
    ";",
    "\\;",
    "a;b",
    "line\nline",
    "tab\tcr\r",
    "\x01\x1b[31m\x7f",
    "#",
    "@-:+!",
    "ünïcödé \u2028 \U0001f600",
    "caf\udce9",
    "\udcff\udc80",
    "-",
    "--",
    "'\"'\"'",
    "trailing\\ ",
    "\u00a0",
    "\ufeff",
]
ALPHABET = "%$\"'\\; \n\t{}x01aHn#-=@:+!ü\udce9\x7f"
PROGRAM = "/usr/bin/python3"

anything = st.text(
    st.one_of(
        st.sampled_from("%$\"'\\; \n\t{}x0aH#-"),
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
        st.integers(0xDC80, 0xDCFF).map(chr),
    ),
    max_size=30,
)


@given(st.lists(anything, max_size=5))
@settings(max_examples=400, deadline=None)
def test_any_words_come_out_as_they_went_in(words: list[str]) -> None:
    line = command_line([PROGRAM, *words])
    assert "\n" not in line
    assert parse(line) == [os.fsencode(word) for word in (PROGRAM, *words)]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that another user can read: systemd's test mode is not for root."""
    folder = Path(tempfile.mkdtemp(prefix="ha-heartbeat-units-"))
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
    yield folder
    shutil.rmtree(folder)


@needs_systemd
def test_systemd_itself_reads_it_so(open_folder: Path) -> None:
    chance = random.Random(5)
    commands = [[PROGRAM, word, "end"] for word in NASTY]
    commands.append([PROGRAM, *NASTY])
    for _ in range(100):
        words = ["".join(chance.choices(ALPHABET, k=chance.randrange(12))) for _ in range(3)]
        commands.append([PROGRAM, *words])
    read = as_systemd_reads([command_line(words) for words in commands], open_folder)
    # Variables are replaced when the command is started: until then a dollar is two.
    expected = [[os.fsencode(word).replace(b"$", b"$$") for word in words] for words in commands]
    for found, wanted in zip(read, expected, strict=True):
        assert found == wanted


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["python3"], "no absolute path"),
        (["/a$b/python3"], "dollar sign"),
        (["/x", "a\0b"], "NUL"),
        (["/x", "a" * 131_072], "longer than"),
        (["/x", "\ud800"], "half a character"),
    ],
)
def test_what_no_unit_can_hold(words: list[str], wrong: str) -> None:
    with pytest.raises(QuotingError, match=wrong):
        command_line(words)


def test_settings() -> None:
    assert setting("a\nb 100%\x1b") == "a b 100%%?"
    assert path("/srv/a b%") == '"/srv/a b%%"'
    assert path("/srv/a") == "/srv/a"
