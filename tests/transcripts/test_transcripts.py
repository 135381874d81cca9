"""Stories of two members, told in commands and compared with what they log.

A transcript is a text file: commands, a line `----`, and what the two members said and became
because of them. The first command sets the scene. `TRANSCRIPTS=write pytest tests/transcripts`
writes the answers anew; read the difference before you keep it.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ha_heartbeat.core.types import (
    Cadence,
    Effect,
    Event,
    Level,
    Mode,
    RecordOverlap,
    Replied,
    Say,
    StartHook,
    StartRun,
    TakeoverPolicy,
)
from ha_heartbeat.sim.guardian import DEAF, Command
from ha_heartbeat.sim.host import Host
from ha_heartbeat.sim.scene import plain_scene
from ha_heartbeat.sim.world import World

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.txt"))


class Teller:
    """Carries out the commands of one transcript and writes down what is heard."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.heard: list[str] = []

    def tell(self, command: str) -> None:
        words = command.split()
        if words[0] == "scene":
            self._scene(dict(word.split("=") for word in words[1:]))
            return
        assert self.world is not None, "the first command sets the scene"
        name, rest = words[0], words[1:]
        getattr(self, f"_{name}")(*rest)

    def _scene(self, given: dict[str, str]) -> None:
        pairs: dict[str, Any] = {
            "takeover": TakeoverPolicy(given.pop("takeover", "silence")),
            "modes": tuple(
                Mode.WORKER if m == given.get("worker") else Mode.SUPERVISOR for m in ("m1", "m2")
            ),
            "fallbacks": tuple(m in given.get("fallback", "") for m in ("m1", "m2")),
            "has_fence": given.pop("fence", "") == "yes",
            "cadence": Cadence(given.pop("cadence", "restart")),
            "run_timeout_s": float(given.pop("run-timeout", "inf")),
            "steps": ("on-worker",) if "hook-timeout" in given else (),
            "has_undo": "hook-timeout" in given,
            "hook_timeout_s": float(given.pop("hook-timeout", "5")),
            "max_failures": int(given.pop("max-failures", "0")),
            "has_check": "check-failures" in given,
            "check_failures": int(given.pop("check-failures", "3")),
            "fallback_delay_s": float(given.pop("fallback-delay", "0")),
            "command": Command(
                float(given.pop("lasts", "0")),
                DEAF if given.get("ends") == "never" else float(given.get("ends", "0")),
                1.0 if given.pop("leaves", "") else 0.0,
            ),
        }
        for key in ("worker", "fallback", "ends"):
            given.pop(key, None)
        assert not given, f"unknown: {given}"
        world = World(Random(1), plain_scene(**pairs), tracing=True)
        world.trace_step = self._step  # type: ignore[method-assign]
        world.trace = self._trace  # type: ignore[method-assign]
        world.trace_all = self._trace_all  # type: ignore[method-assign]
        world.disturbed_at = float("inf")  # no silence is a surprise here
        self.world = world

    # -- commands ----------------------------------------------------------------------------------

    def _host(self, name: str) -> Host:
        assert self.world is not None
        return self.world.hosts[int(name[1]) - 1]

    def _do(self, name: str, what: str) -> None:
        getattr(self._host(name), what)()
        self._wait("0")

    def _boot(self, name: str) -> None:
        self._do(name, "boot")

    def _crash(self, name: str) -> None:
        self._do(name, "crash")

    def _guardian(self, name: str, what: str) -> None:
        assert what == "killed"
        self._do(name, "crash_guardian")

    def _power(self, name: str, what: str) -> None:
        self._do(name, f"power_{what}")

    def _stop(self, name: str) -> None:
        self._do(name, "stop")

    def _switchover(self, name: str) -> None:
        self._do(name, "order_switchover")

    def _pause(self, name: str) -> None:
        self._host(name).order_pause(True)
        self._wait("0")

    def _unpause(self, name: str) -> None:
        self._host(name).order_pause(False)
        self._wait("0")

    def _run(self, name: str) -> None:
        self._do(name, "order_run")

    def _stall(self, name: str) -> None:
        self._do(name, "stall")

    def _resume(self, name: str) -> None:
        self._do(name, "resume")

    def _freeze(self, name: str) -> None:
        self._do(name, "freeze")

    def _thaw(self, name: str) -> None:
        self._do(name, "thaw")

    def _ill(self, name: str) -> None:
        self._host(name).ill = True

    def _well(self, name: str) -> None:
        self._host(name).ill = False

    def _cut(self) -> None:
        assert self.world is not None
        self.world.network.cut = [[False, True], [True, False]]

    def _mend(self) -> None:
        assert self.world is not None
        self.world.network.heal()

    def _wait(self, seconds: str) -> None:
        assert self.world is not None
        self.world.timeline.run_until(self.world.now + float(seconds))

    # -- what is heard -----------------------------------------------------------------------------

    def _note(self, host: Host | None, text: str) -> None:
        assert self.world is not None
        name = host.settings.member if host else "--"
        self.heard.append(f"{self.world.now:8.3f} {name}  {text}")

    def _trace(self, host: Host, text: str) -> None:
        self._note(host, f"! {text}")

    def _trace_all(self, text: str) -> None:
        self._note(None, text)

    def _step(self, host: Host, event: Event, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Say) and effect.level is not Level.CHECK:
                self._note(host, effect.text)
            elif isinstance(effect, StartRun):
                self._note(host, f"> run {effect.run}")
            elif isinstance(effect, Replied):
                self._note(host, f"> to the operator: {effect.text}")
            elif isinstance(effect, StartHook):
                self._note(host, f"> hook {effect.run}")
            elif isinstance(effect, RecordOverlap):
                self._note(host, f"> records an overlap of {effect.seconds:.3f} s")


def blocks(text: str) -> list[tuple[list[str], list[str]]]:
    """The commands and the expected answer of each block, comments kept with the commands."""
    found: list[tuple[list[str], list[str]]] = []
    for block in text.strip().split("\n\n"):
        commands, _, answer = block.partition("\n----")
        found.append((commands.splitlines(), answer.strip("\n").splitlines()))
    return found


def retell(text: str) -> str:
    """The same transcript with the answers that are given today."""
    teller = Teller()
    told = []
    for commands, _ in blocks(text):
        teller.heard = []
        for command in commands:
            if not command.startswith("#"):
                teller.tell(command)
        if all(command.startswith("#") for command in commands):
            told.append("\n".join(commands))
        else:
            told.append("\n".join([*commands, "----", *teller.heard]))
    return "\n\n".join(told) + "\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    told = retell(text)
    if os.environ.get("TRANSCRIPTS") == "write":
        path.write_text(told, encoding="utf-8")
        return
    assert told == text


def test_there_are_transcripts() -> None:
    assert len(FILES) >= 10
