"""The pages among themselves: links lead somewhere, decisions are complete, files named exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, links, prose

DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_relative_links_resolve(page: Path) -> None:
    for target in links(page):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        assert other.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(other), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_says_question_choice_and_cost(page: Path) -> None:
    headings = re.findall(r"^## (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == ["Question", "Choice", "Cost"]
    number = int(page.stem[:4])
    assert page.read_text(encoding="utf-8").startswith(f"# {number}. ")


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_tasks_named_exist(page: Path) -> None:
    tasks = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in re.findall(r"`make ([a-z -]+)", page.read_text(encoding="utf-8")):
        assert set(words.split()) <= tasks, words


def test_decisions_are_counted() -> None:
    assert [int(page.stem[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def test_where_it_is_decided() -> None:
    """Each name in the architecture's table is defined in the file beside it."""
    page = ROOT / "docs" / "architecture.md"
    table = [line for line in prose(page).splitlines() if line.startswith(f"| {chr(0x2026)} ")]
    assert len(table) > 10
    for line in table:
        _, files, place = [cell.strip() for cell in line.strip("|").split("|")]
        sources = [_source(name) for name in re.findall(r"`([\w/]+\.py)`", f"{files} {place}")]
        for name in re.findall(r"`([\w.]+)`", place):
            if name.endswith(".py"):
                continue
            last = name.rpartition(".")[2]
            pattern = re.compile(rf"^ *(?:def {last}\(|{last}\b.* = )", re.MULTILINE)
            assert any(pattern.search(source) for source in sources), f"{name} in {files}"


def _source(name: str) -> str:
    """A module named by its path in the package; in a list, the folder may be that of the first."""
    path = ROOT / "ha_heartbeat" / name
    if "/" not in name and not path.exists():
        path = ROOT / "ha_heartbeat" / "guardian" / name
    return path.read_text(encoding="utf-8")
