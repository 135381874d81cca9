"""How things look: times, tables and colours. By rich on a terminal, if that is installed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

STYLES: Final = {
    "worker": ("1;32", "bold green"),
    "supervisor": ("36", "cyan"),
    "trouble": ("1;31", "bold red"),
    "paused": ("1;33", "bold yellow"),
    "dim": ("2", "dim"),
    "": ("", ""),
}
"""What a cell is, as codes of ECMA-48 and as rich calls it."""

_SPANS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Cell(str):
    """A text with a style of STYLES."""

    style: str

    def __new__(cls, text: str, style: str = "") -> Cell:
        """Make one."""
        cell = super().__new__(cls, text)
        cell.style = style
        return cell


class Screen:
    """Where things are printed, with or without colour."""

    def __init__(self, color: str) -> None:
        self.is_terminal = sys.stdout.isatty()
        plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        self.colored = color == "always" or (color == "auto" and self.is_terminal and not plain)

    def line(self, text: str, style: str = "") -> None:
        """One line."""
        print(self.styled(text, style))

    def styled(self, text: str, style: str) -> str:
        """The text in its colour."""
        code = STYLES[style][0] if self.colored else ""
        return f"\x1b[{code}m{text}\x1b[0m" if code else text

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table: by rich if it is installed and somebody looks, else aligned with blanks."""
        if self.is_terminal and self.colored:
            try:
                self._rich_table(heads, rows)
                return
            except ImportError:
                pass  # plain text is as good
        widths = [
            max(len(str(cell)) for cell in column) for column in zip(heads, *rows, strict=True)
        ]
        for row in (heads, *rows):
            cells = [
                self.styled(f"{cell:<{width}}", getattr(cell, "style", ""))
                for cell, width in zip(row, widths, strict=True)
            ]
            print("  ".join(cells).rstrip())

    def _rich_table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for head in heads:
            table.add_column(head)
        for row in rows:
            cells = (Text(str(c), STYLES[getattr(c, "style", "")][1]) for c in row)
            table.add_row(*cells)
        Console().print(table)


def span(seconds: float | None) -> str:
    """A span in its largest unit, "" for none."""
    if seconds is None:
        return ""
    for size, unit in _SPANS:
        if seconds >= 2 * size or (size == 1 and seconds >= 1):
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0.0, seconds):.1f} s"


def ago(when: float | None) -> str:
    """How long ago a time of day was, "" for none."""
    return f"{span(time.time() - when)} ago" if when is not None else ""


def clock(when: float | None) -> str:
    """A time of day here, with the date, to a millisecond."""
    if when is None:
        return ""
    return (
        f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(when))}.{int(when * 1000) % 1000:03d}"
    )


def outcome(run: dict[str, Any]) -> Cell:
    """How a run ended, in a word or two."""
    if run["note"]:
        return Cell(run["note"], "trouble")
    if run["ended"] is None:
        return Cell("running", "worker")
    if run["signal"]:
        return Cell(f"signal {run['signal']}", "trouble")
    if run["status"]:
        return Cell(f"exit {run['status']}", "trouble")
    return Cell("ok")
