"""What the pages say of options, defaults and exit statuses is what the program says."""

from __future__ import annotations

import re

from ha_heartbeat import cli
from ha_heartbeat.config import Config
from ha_heartbeat.core.state import State, terms
from ha_heartbeat.core.votes import ending_times, kept_s, relied_on_s
from ha_heartbeat.ctl import manual
from ha_heartbeat.install import command
from tests.docs.pages import OPERATING, README, blocks, prose, rows, section

ELSEWHERE = {
    "member": "the local address",
    "links": "none",
    "state_dir": "see below",
    "fence": "none",
    "check": "none",
    "vip": "none",
    "on_worker": "none",
    "on_supervisor": "none",
    "witness": "none",
}
"""Defaults that are not the same everywhere, or that are nothing."""


def _default(option: cli.Option) -> str:
    if option.name in ELSEWHERE:
        return ELSEWHERE[option.name]
    told = re.search(r"\(default (.*)\)$", cli._default_note(option.name))
    return told[1] if told else ""


def test_the_table_of_options() -> None:
    told = [row[:2] for row in rows(prose(README), "option")]
    expected = []
    for option in cli.OPTIONS:
        short = f"`-{option.short}`, " if option.short else ""
        long = f"--{option.long} {option.metavar}".rstrip()
        expected.append([f"{short}`{long}`", _default(option)])
    assert told == expected


def test_help_has_the_same_options() -> None:
    in_help = re.findall(r"^ +(?:-\w, )?--([\w-]+)", cli.help_text(), re.MULTILINE)
    in_readme = [re.findall(r"--([\w-]+)", row[0])[0] for row in rows(prose(README), "option")]
    assert in_help == in_readme


def test_options_named_in_the_pages_exist() -> None:
    known = {option.long for option in cli.OPTIONS} | {name[2:] for name in _of_install()}
    known |= set(re.findall(r"\[--([\w-]+)", manual.page().replace("\\-", "-")))
    for page in (README, OPERATING):
        for name in re.findall(r"`--([\w-]+)", prose(page)):
            assert name in known, f"{page.name} names --{name}"


def _of_install() -> set[str]:
    """The installer's own options."""
    text = command._parser("install").format_help()
    return set(re.findall(r"^  (--[a-z]+)", text, re.MULTILINE))


def test_the_table_of_the_installer() -> None:
    table = section(prose(OPERATING), "Starting at boot")
    assert {re.findall(r"--\w+", row[0])[0] for row in rows(table, "option")} == _of_install()


def test_commands_in_the_pages_are_understood() -> None:
    """Every command line of ours parses, and has the addresses the right way round."""
    found = 0
    for page in (README, OPERATING):
        text = "\n".join(body for kind in ("sh", "console", "ini") for body in blocks(page, kind))
        for line in re.findall(r"ha_heartbeat\.py (-.*)$", text, re.MULTILINE):
            parsed = cli.parse(_words(line))
            found += 1
            if not parsed.show and not parsed.file:
                assert parsed.command
                assert "local" in parsed.given
                assert {"remote", "witness"} & parsed.given.keys()
    assert found >= 7


def _words(line: str) -> list[str]:
    return [a or b or c for a, b, c in re.findall(r"'([^']*)'|\"([^\"]*)\"|(\S+)", line)]


def test_exit_statuses() -> None:
    told = {int(row[0]) for row in rows(prose(OPERATING), "status")}
    assert told == {cli.EXIT_OK, cli.EXIT_FAILED, cli.EXIT_USAGE, cli.EXIT_INTERRUPTED}


def test_the_table_of_times() -> None:
    table = rows(section(prose(OPERATING), "Choosing the times"), "`-t`")
    assert len(table) == 4
    for row in table:
        interval_s, count, lease_s, silent_s, term_s, kill_s = (
            float(cell.removesuffix(" s")) for cell in row
        )
        settings = Config(
            interval_test_s=interval_s, check_count=int(count), state_dir="here", command=("ls",)
        ).settings()
        state = State(settings, terms(settings))
        term_at, kill_at = ending_times(state, relied_on_s(settings.lease_s))
        told = [lease_s, silent_s, term_s, kill_s]
        true = [settings.lease_s, kept_s(settings.lease_s), term_at, kill_at]
        for a, b in zip(told, true, strict=True):
            assert abs(a - b) <= 0.005 * max(b, 1)
