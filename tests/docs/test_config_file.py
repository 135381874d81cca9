"""The file in the pages is one that a member starts with, and its mistakes are told as shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from ha_heartbeat.configfile import FileError, read_plan
from ha_heartbeat.core import bounds
from tests.docs.pages import OPERATING, blocks

UNDER = "Many services in one file"
PATH = "/etc/ha-heartbeat.toml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (example,) = blocks(OPERATING, "toml", UNDER)
    (tmp_path / "services.d").mkdir()
    path = tmp_path / "ha.toml"
    path.write_text(example)
    return path


def test_the_example(file: Path) -> None:
    plan = read_plan(str(file))
    assert [config.service for config in plan.services] == ["mail", "report", "web"]
    for config in plan.services:
        assert not config.witness or not bounds.objections(config.settings())
    mail, report, web = plan.services
    assert mail.fallback
    assert (report.witness, web.check_interval_s) == ("", 5)


def test_the_mistakes(file: Path) -> None:
    text = file.read_text()
    wrong = text.replace("check = ", "chek = ").replace("fallback_delay = ", "fallback_delay = -")
    file.write_text(wrong)
    with pytest.raises(FileError) as raised:
        read_plan(str(file))
    told = [sentence.replace(str(file), PATH) for sentence in raised.value.sentences]
    shown = [line for block in blocks(OPERATING, "console", UNDER) for line in block.splitlines()]
    assert [line for line in shown if line.startswith("hbctl: ")] == [f"hbctl: {s}" for s in told]
