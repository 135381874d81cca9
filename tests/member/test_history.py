"""The judge itself: it sees what is there, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.member import history

CLEAN = """\
start 2 m1 2.1 10 1000000000
tick 2 m1 2.1 10 1500000000
end 2 m1 2.1 10 2000000000
start 3 m2 3.1 11 2250000000
tick 3 m2 3.1 11 3000000000
"""


def judged(path: Path, text: str) -> list[str]:
    path.write_text(text)
    return history.faults(history.read(path))


def test_a_clean_history(tmp_path: Path) -> None:
    assert judged(tmp_path / "h", CLEAN) == []
    one, two = history.read(tmp_path / "h")
    assert (one.ending, two.ending) == ("end", "")
    assert history.gaps([one, two]) == [(one, two, 0.25)]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("start 4 m1 4.1 12 2900000000", "0.100 s at once"),
        ("start 3 m2 3.2 12 2900000000", "at once"),
        ("start 3 m1 3.9 12 4000000000", "epoch 3 of m2"),
        ("start 2 m1 2.2 12 4000000000", "fell from 3 to 2"),
        ("start 3 m2 3.1 12 4000000000", "was used before"),
    ],
)
def test_a_fault_is_found(tmp_path: Path, line: str, fault: str) -> None:
    found = judged(tmp_path / "h", f"{CLEAN}{line}\ntick {line[6:-10]}5000000000\n")
    assert any(fault in text for text in found)


def test_a_line_out_of_nowhere(tmp_path: Path) -> None:
    (tmp_path / "h").write_text("tick 2 m1 2.1 10 1500000000\n")
    with pytest.raises(ValueError, match="without a start"):
        history.read(tmp_path / "h")
