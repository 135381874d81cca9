r"""Words as systemd reads them in ExecStart= and other settings.

systemd takes such a line apart in this order (systemd.service(5), "Command lines";
systemd.syntax(7), "Quoting"; systemd.unit(5), "Specifiers"): it splits at blanks outside quotes,
undoes quotes and C escapes, replaces %-specifiers, and when the command is started replaces
variables after `$`. A lone `;` begins another command. A line must be valid UTF-8.

So every word with anything special in it is put in double quotes, with `\` escapes in the manner of
C, `%%` for `%` and `$$` for `$`. What is no printable character, or no character at all (a byte of
a file's name that is not UTF-8, which Python shows as a lone surrogate), is written as an escape.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Final

MAX_WORD_BYTES: Final = 131_072
"""What Linux takes as one argument: MAX_ARG_STRLEN, execve(2)."""

_PLAIN: Final = frozenset(string.ascii_letters + string.digits + "_./:=@,+-%$")
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


class QuotingError(ValueError):
    """A word that no unit can hold; the text is one sentence for the operator."""


def command_line(words: Sequence[str]) -> str:
    """The value of ExecStart= that runs `words`, the first of which is an absolute path.

    Raises QuotingError for a word with a NUL or too long for an argument, and for a path that is
    not absolute or has a `$`, since systemd replaces variables in arguments only.
    """
    if not words[0].startswith("/"):
        raise QuotingError(f"the program {words[0]!r} has no absolute path, as systemd wants it")
    if "$" in words[0]:
        raise QuotingError(
            f"the program {words[0]!r} has a dollar sign in its path, which no unit can hold"
        )
    return " ".join(map(quoted, words))


def quoted(word: str) -> str:
    """The word as one argument in ExecStart=. Raises QuotingError."""
    if "\0" in word:
        raise QuotingError("an argument has a NUL character, which no program can be given")
    try:
        size = len(word.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise QuotingError(
            "an argument holds half a character, which no program can be given"
        ) from None
    if size >= MAX_WORD_BYTES:
        raise QuotingError(f"an argument is longer than {MAX_WORD_BYTES} bytes; put it in a script")
    text = "".join(map(_escaped, word)).replace("$", "$$")
    return text if word and _PLAIN.issuperset(text) else f'"{text}"'


def setting(text: str) -> str:
    """One line of plain text as the value of a setting such as Description=."""
    line = " ".join(text.split())
    return "".join(char if char.isprintable() else "?" for char in line).replace("%", "%%")


def path(text: str) -> str:
    """A path as the value of a setting that takes one or more; quoted where it must be."""
    plain = "".join(map(_escaped, text))
    return plain if _PLAIN.issuperset(plain) else f'"{plain}"'


def _escaped(char: str) -> str:
    """The character within double quotes, specifiers included."""
    if char == "%":
        return "%%"
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    raw = char.encode("utf-8", "surrogateescape")
    return "".join(f"\\x{byte:02x}" for byte in raw)
