"""The manual page of hbctl in roff (man(7)), made from the parser: `make docs` writes docs/hbctl.1.

It is a page of this one program, so it needs no more of roff than headings, paragraphs and tags.
"""

from __future__ import annotations

import argparse

from ha_heartbeat.ctl.parser import DESCRIPTION, EPILOG, PROGRAM, commands_of, make_parser

PURPOSE = "show and control ha-heartbeat members"


def page() -> str:
    """The whole page."""
    parser = make_parser()
    before = [line for action in parser._actions for line in _option(action)]
    lines = [
        f'.TH {PROGRAM.upper()} 1 "" "ha-heartbeat" "User Commands"',
        *(".SH NAME", rf"{PROGRAM} \- {PURPOSE}"),
        *(".SH SYNOPSIS", rf".B {PROGRAM}", "[options]", r".I COMMAND", "[options]"),
        *(".SH DESCRIPTION", _text(DESCRIPTION)),
        *(".SH OPTIONS", "Before the command, or after it where it has them:", *before),
        ".SH COMMANDS",
    ]
    for name, command in commands_of(parser).items():
        lines += [f".SS {name}", _text(command.description or ""), ".PP", _synopsis(command)]
        lines += [line for action in command._actions for line in _option(action)]
    lines += [".SH EXIT STATUS", _text(EPILOG.removeprefix("Exit status: ").capitalize())]
    lines += [".SH SEE ALSO", _text("docs/operating.md of the distribution")]
    return "\n".join(lines) + "\n"


def _synopsis(command: argparse.ArgumentParser) -> str:
    usage = " ".join(command.format_usage().removeprefix("usage: ").split())  # wrapped or not
    return _text(usage)


def _option(action: argparse.Action) -> list[str]:
    if action.help in (None, argparse.SUPPRESS):
        return []
    words = action.metavar if isinstance(action.metavar, str) else ""
    if not words and action.choices:
        words = "|".join(str(choice) for choice in action.choices)
    names = ", ".join(action.option_strings) or words
    value = f" {words}" if action.option_strings and words else ""
    return [".TP", rf"\fB{_text(names)}\fR{_text(value)}", _text(str(action.help))]


def _text(text: str) -> str:
    """Text that roff takes as it is (groff_char(7))."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return "\n".join(rf"\&{line}" if line[:1] in (".", "'") else line for line in text.split("\n"))


if __name__ == "__main__":
    print(page(), end="")
