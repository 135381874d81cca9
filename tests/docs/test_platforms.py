"""The files for other systems are well formed, and what they start is understood.

Nobody has run them; this is what can be seen from here.
"""

from __future__ import annotations

import shlex
import xml.etree.ElementTree as ET

from ha_heartbeat import cli
from tests.docs.pages import ROOT, blocks, prose

PAGE = ROOT / "docs" / "platforms.md"
WINDOWS, SOLARIS = blocks(PAGE, "xml")
# The order that service_bundle.dtd.1 wants.
SMF_ORDER = [
    "create_default_instance",
    "single_instance",
    "dependency",
    "exec_method",
    "property_group",
    "stability",
]


def test_the_page_says_that_nobody_has_run_them() -> None:
    assert "They have not been run" in " ".join(prose(PAGE).split())


def understood(words: list[str]) -> None:
    parsed = cli.parse(words)
    assert {"local", "remote"} <= parsed.given.keys()
    assert len(parsed.command) == 1


def test_windows() -> None:
    service = ET.fromstring(WINDOWS)
    words = shlex.split((service.findtext("arguments") or "").replace("\\", "/"))
    assert words[0].endswith("ha_heartbeat.py")
    understood(words[1:])
    assert service.findtext("stopparentprocessfirst") == "true"


def test_solaris() -> None:
    service = ET.fromstring(SOLARIS).find("service")
    assert service is not None
    names = [child.tag for child in service]
    assert [name for name in SMF_ORDER if name in names] == list(dict.fromkeys(names))
    methods = {
        method.get("name"): method.get("exec") or "" for method in service.iter("exec_method")
    }
    words = shlex.split(methods["start"])
    assert words[1].endswith("ha_heartbeat.py")
    understood(words[2:])
    assert ":kill" not in methods["stop"]
    values = {value.get("name"): value.get("value") for value in service.iter("propval")}
    assert values == {"duration": "child", "ignore_error": "core,signal"}
