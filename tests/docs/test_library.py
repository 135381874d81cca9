"""The code on the library's page is Python, and uses what there is."""

from __future__ import annotations

import ast

import pytest

import ha_heartbeat
from ha_heartbeat import Term
from ha_heartbeat.library.election import Options
from tests.docs.pages import ROOT, blocks, prose, rows

PAGE = ROOT / "docs" / "library.md"
CODE = blocks(PAGE, "python")
ENTRANCES = ("ha_heartbeat.elected", "ha_heartbeat.PeriodicJobs")
ARGUMENTS = Options.__annotations__.keys() | {"on_lost", "on_overrun"}


def test_there_is_some() -> None:
    assert len(CODE) >= 4


@pytest.mark.parametrize("text", CODE)
def test_it_uses_what_there_is(text: str) -> None:
    tree = compile(text, "page", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "ha_heartbeat":
                assert hasattr(ha_heartbeat, node.attr)
            if node.value.id == "term":
                assert node.attr in known_of_a_term()
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            (".elected", ".PeriodicJobs")
        ):
            assert {word.arg for word in node.keywords} <= ARGUMENTS


def known_of_a_term() -> set[str]:
    made = Term(
        {f"HA_HEARTBEAT_{name}": "1" for name in ("EPOCH", "RUN", "MEMBER", "PEER", "SERVICE")}, 0
    )
    return {name for name in dir(made) if not name.startswith("_")}


def test_every_option_is_named() -> None:
    text = prose(PAGE)
    for name in ARGUMENTS:
        assert f"`{name}" in text


def test_every_part_of_a_term_is_named() -> None:
    told = " ".join(row[0] for row in rows(prose(PAGE), ""))
    for name in known_of_a_term() - {"lose", "move_deadline"}:
        assert f"`term.{name}" in told, name


def test_everything_public_is_named() -> None:
    text = PAGE.read_text()
    for name in ha_heartbeat._HOMES.keys() - {"Elected"}:
        assert f"ha_heartbeat.{name}" in text
