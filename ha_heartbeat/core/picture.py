"""The transition table as a page for people: a state diagram, and every row with its reason.

`make docs` writes it to docs/states.md; a test compares the two.
"""

from __future__ import annotations

from ha_heartbeat.core.table import TABLE, Kind, Row
from ha_heartbeat.core.types import Phase

HEADER = """\
# The states of a member

Made from the core's transition table (`ha_heartbeat/core/table.py`) by `make docs`; do not edit.
For each state and each kind of event, the first row whose condition holds is what the member does.

"""


def page() -> str:
    """The whole of docs/states.md."""
    return HEADER + diagram() + "".join(section(phase) for phase in Phase)


def diagram() -> str:
    """The state diagram: one arrow for each pair of states, labelled with what leads there."""
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for phase, cells in TABLE.items():
        for kind, rows in cells.items():
            for row in rows:
                if row.then is not None:
                    labels = arrows.setdefault((phase, row.then), [])
                    if kind.name.lower() not in labels:
                        labels.append(kind.name.lower())
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {_id(Phase.LOOKING)}"]
    for (start, end), labels in arrows.items():
        words = ", ".join(label.replace("_", " ") for label in labels)
        lines.append(f"    {_id(start)} --> {_id(end)}: {words}")
    lines += [f"    {_id(Phase.STOPPED)} --> [*]", "```", ""]
    return "\n".join(lines)


def section(phase: Phase) -> str:
    """The rows of one state."""
    lines = [
        "",
        f"## {phase.value}",
        "",
        "| event | if | then | because |",
        "| --- | --- | --- | --- |",
    ]
    for kind in Kind:
        rows = TABLE[phase][kind]
        lines += [_line(kind, row) for row in rows] or [f"| {kind.value} | | cannot happen | |"]
    return "\n".join(lines) + "\n"


def _line(kind: Kind, row: Row) -> str:
    condition = _first_sentence(row.when.__doc__)
    condition = "" if row.when.__name__ == "always" else condition
    then = "stay" if row.then is None else f"**{row.then.value}**"
    return f"| {kind.value} | {condition} | {then} | {row.why} |"


def _first_sentence(doc: str | None) -> str:
    return " ".join((doc or "").split("\n\n")[0].split()).removesuffix(".")


def _id(phase: Phase) -> str:
    return phase.name.lower()


if __name__ == "__main__":
    print(page(), end="")
