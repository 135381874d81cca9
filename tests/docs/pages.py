"""The documentation as data: pages with links, tables and code blocks, and the program's texts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ha_heartbeat"
README = ROOT / "README.md"
OPERATING = ROOT / "docs" / "operating.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
GAP = "\N{HORIZONTAL ELLIPSIS}"

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.*?) *$", re.MULTILINE)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CELL = re.compile(r"(?<!\\)\|")


class Template(NamedTuple):
    """A text of the program: what is constant in it, in order, and where it stands."""

    parts: tuple[str, ...]
    where: str

    @property
    def longest(self) -> str:
        """Its longest constant part."""
        return max(self.parts, key=len, default="")


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def blocks(page: Path, kind: str, under: str = "") -> list[str]:
    """The code blocks of a kind; with `under`, those of that section only."""
    text = page.read_text(encoding="utf-8")
    if under:
        text = section(text, under)
    return [body for word, body in _BLOCK.findall(text) if word == kind]


def section(text: str, heading: str) -> str:
    """From a heading of the second level to the next."""
    _, found, rest = text.partition(f"\n## {heading}\n")
    assert found, f"there is no section {heading!r}"
    return rest.partition("\n## ")[0]


def links(page: Path) -> list[str]:
    """The targets of the page's links."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = _HEADING.findall(prose(page))
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def rows(text: str, first_heading: str) -> list[list[str]]:
    """The cells of the rows of all tables in `text` whose first column has this heading."""
    found: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip().replace("\\|", "|") for cell in _CELL.split(line)[1:-1]]
        if cells[0] == first_heading:
            inside = True
        elif inside and not set(cells[0]) <= set("-: "):
            found.append(cells)
    return found


@cache
def templates() -> tuple[Template, ...]:
    """Every text in the package's source that has more than a word."""
    return tuple(
        template
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (template := _template(node, path)) and len(template.longest) > 3
    )


def said_aloud() -> Iterator[Template]:
    """The texts that the core logs at level info or above."""
    for path in sorted((PACKAGE / "core").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr not in ("say", "say_once"):
                continue
            level = next((a.attr for a in node.args if isinstance(a, ast.Attribute)), "")
            template = _template(node.args[-1], path)
            if level in ("INFO", "WARNING", "ERROR") and template and len(template.longest) > 8:
                yield template


def _template(node: ast.AST, path: Path) -> Template | None:
    where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return Template((node.value,), where)
    if isinstance(node, ast.JoinedStr):
        parts = [part.value for part in node.values if isinstance(part, ast.Constant)]
        return Template(tuple(str(part) for part in parts), where)
    return None
