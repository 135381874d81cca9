"""The lines of the log that the pages quote are lines of the program, and none is left out."""

from __future__ import annotations

import re

from tests.docs.pages import (
    GAP,
    OPERATING,
    PAGES,
    README,
    blocks,
    prose,
    rows,
    said_aloud,
    section,
    templates,
)

LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\d \S+ \S+ [a-z-]+(?: \d+)?: (.+)$", re.MULTILINE)
FEW = 4
"""Parts shorter than this are found everywhere and prove nothing."""


def test_quoted_lines_are_of_the_program() -> None:
    """A quoted line has the constant parts of some text of the program, in order."""
    quoted = [line for page in PAGES for body in blocks(page, "text") for line in _lines(body)]
    assert len(quoted) >= 10
    for line in quoted:
        assert any(_fits(template.parts, line) for template in templates()), line


def _lines(body: str) -> list[str]:
    return LOG_LINE.findall(body)


def _fits(parts: tuple[str, ...], line: str) -> bool:
    if sum(map(len, parts)) < 12:
        return False
    return re.search(".*".join(map(re.escape, parts)), line, re.IGNORECASE) is not None


def test_the_table_quotes_the_program() -> None:
    """Each constant part of a line in the table stands in the program."""
    corpus = [part.lower() for template in templates() for part in template.parts]
    table = rows(section(prose(OPERATING), "The log"), "line")
    assert len(table) > 40
    for row in table:
        for quoted in re.findall(r"`([^`]+)`", row[0]):
            for piece in _pieces(quoted):
                assert _stands_in(piece, corpus), f"{piece!r} of {quoted!r}"


def _stands_in(piece: str, corpus: list[str]) -> bool:
    """Whether some text has it, or one has its beginning and one its end."""
    if any(piece in part for part in corpus):
        return True
    cuts = [found.start() for found in re.finditer(r"\W", piece)]
    return any(
        any(part.rstrip().endswith(piece[:cut]) for part in corpus)
        and any(piece[cut:].lstrip() in part for part in corpus)
        for cut in cuts
    )


def _pieces(quoted: str) -> list[str]:
    """What is constant in a quoted line, cut where the program puts two texts together."""
    cut = re.split(rf"{GAP}|(?<=[.:;])\s|256", quoted)
    return [piece for part in cut if len(piece := part.strip(" .:;,()").lower()) >= FEW]


def test_the_table_leaves_out_nothing() -> None:
    told = re.sub(rf"[{GAP}`]", "", prose(OPERATING)).lower()
    missing = [
        f"{template.where}: {template.longest.strip()}"
        for template in said_aloud()
        if template.longest.strip(" .:;,()").lower() not in told
    ]
    assert not missing


def test_the_readme_shows_each_kind_of_evidence() -> None:
    text = section(README.read_text(encoding="utf-8"), "What the log says at night")
    for word in ("Voted", "Refused", "Released", "Silent", "Overlap", "Fenced"):
        assert f"\n{word}:" in text
