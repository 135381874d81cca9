"""`hbctl reload`: has a member read its file again, and says what came of it."""

from __future__ import annotations

import json
import sys
from typing import Final

from ha_heartbeat.ctl.find import EXIT_NOBODY, ControlError, Conversation, homes
from ha_heartbeat.ctl.show import Screen

LIMIT_S: Final = 600.0
"""How long what has to be stopped may take."""


def reload(screen: Screen, state_dir: str, local: str, as_json: bool) -> int:
    """Reload the one that is meant. Raises ControlError if there is none, or several run."""
    found: list[Conversation] = []
    for place in homes(state_dir, local):
        try:
            found.append(Conversation(place))
        except ControlError:
            continue  # one that does not run
    try:
        if not found:
            raise ControlError("no member that was started with --config runs here", EXIT_NOBODY)
        if len(found) > 1:
            names = ", ".join(talk.place.local for talk in found)
            raise ControlError(f"several such members run here ({names}): choose with --local", 2)
        answer = found[0].ask("reload", limit_s=LIMIT_S)
    finally:
        for talk in found:
            talk.close()
    if as_json:
        print(json.dumps(answer, indent=2))
        return 0 if answer.get("ok") else 1
    for mistake in answer.get("mistakes", []):
        print(mistake, file=sys.stderr)
    if not answer.get("ok"):
        raise ControlError(str(answer.get("error", "refused")))
    screen.line(f"The file was read again: {answer.get('text', '')}.")
    return 0
