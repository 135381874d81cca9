"""The table of options, and sentences about options for somebody who writes a file."""

from __future__ import annotations

import pytest

from ha_heartbeat.options import OPTIONS, with_keys


def test_no_two_options_share_a_name() -> None:
    for names in (
        [option.name for option in OPTIONS],
        [option.long for option in OPTIONS],
        [option.short for option in OPTIONS if option.short],
    ):
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("without -f/--fallback; add -f, or", "without fallback; add fallback, or"),
        ("--stop-timeout 10; an --interval-test of 5", "stop_timeout 10; an interval_test of 5"),
        ("leave this option out", "leave this key out"),
        ("give --name", "give name"),
        ("a half-life of -x and --nothing-known", "a half-life of -x and --nothing-known"),
    ],
)
def test_options_become_keys(sentence: str, expected: str) -> None:
    assert with_keys(sentence) == expected
