"""Members that carry several services of a file: where each runs, and what a reload changes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.member import history
from tests.member.rig import ROOT, WORK, Member, Rig, bears, send, wait_for

pytestmark = pytest.mark.side_by_side

Table = Mapping[str, object]


class Many:
    """A pair of members with files; each service's commands write into a file of their own."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    def shared(self, service: str) -> Path:
        return self.rig.place / f"shared-{service}"

    def file(self, number: int) -> Path:
        return self.rig.place / f"m{number}.toml"

    def write(self, number: int, services: Mapping[str, Table], **member: object) -> Path:
        """The file of member `number`; a service without a command has one that never ends."""
        top = {
            "local": self.rig.address(number),
            "remote": self.rig.address(3 - number),
            "member": f"m{number}",
            "state_dir": str(self.rig.place / "state"),
            **member,
        }
        parts = [_table(top), "[defaults]", _table({"interval_test": 1, "stop_timeout": 5})]
        for name, table in services.items():
            command = [sys.executable, "-I", "-S", str(WORK), str(self.shared(name)), "0"]
            given = {"command": command, "interval_commands": 0.2, **table}
            parts += [f"[services.{name}]", _table(given)]
        self.file(number).write_text("\n".join(parts) + "\n")
        return self.file(number)

    def start(self, number: int) -> Member:
        life = next(self.rig._lives)
        log = self.rig.place / f"{life}-m{number}.log"
        arguments = ["--config", str(self.file(number))]
        mark = f"{self.rig.word}-{life}."
        inside = self.rig.inside(number)
        words = [*inside, sys.executable, "-S", "-E", str(self.rig.program), *arguments]
        self.rig.members.append(Member(mark, f"m{number}", words, log))
        return self.rig.members[-1]

    def runs(self, service: str) -> list[history.Run]:
        return history.read(self.shared(service))

    def pid(self, service: str, member: Member) -> int:
        """The process of the latest run, if it lives and is of this life of a member; else 0."""
        runs = self.runs(service)
        alive = runs and runs[-1].ending == "" and bears(runs[-1].pid, member.mark)
        return runs[-1].pid if alive else 0

    def runs_on(self, member: Member, *services: str) -> None:
        for service in services:
            wait_for(partial(self.pid, service, member), f"{service} on {member.name}")

    def hbctl(self, number: int, *words: str) -> subprocess.CompletedProcess[str]:
        where = ("--state-dir", str(self.rig.place / "state"), "--local", self.rig.address(number))
        return subprocess.run(
            [sys.executable, str(ROOT / "hbctl"), *words, *where],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def status(self, number: int) -> dict[str, dict[str, Any]]:
        told = json.loads(self.hbctl(number, "status", "--json").stdout)
        return {member["service"]: member for member in told["members"]}

    def judge(self, *services: str) -> None:
        for service in services:
            assert not history.faults(self.runs(service)), service


def _table(values: Table) -> str:
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())


WORKER = {"mode": "worker"}
AWAY = {"fallback": True}


def test_each_at_its_home_and_either_carries_all(rig: Rig) -> None:
    many = Many(rig)
    many.write(1, {"a": WORKER, "b": AWAY})
    many.write(2, {"a": AWAY, "b": WORKER})
    m1, m2 = many.start(1), many.start(2)
    many.runs_on(m1, "a")
    many.runs_on(m2, "b")
    m1.kill()
    many.runs_on(m2, "a", "b")
    back = many.start(1)
    many.runs_on(back, "a")
    many.runs_on(m2, "b")
    assert back.said(r"m1/b supervisor \d+: m2 is worker") == 1
    m2.kill()
    many.runs_on(back, "a", "b")
    many.judge("a", "b")


def test_the_release_of_all_at_a_stop(rig: Rig) -> None:
    many = Many(rig)
    services: dict[str, Table] = {name: {} for name in ("a", "b", "c")}
    many.write(1, services)
    many.write(2, services)
    m1 = many.start(1)
    many.runs_on(m1, *services)
    m2 = many.start(2)
    wait_for(lambda: m2.said("m1 is worker") == 3, "m2 to supervise all")
    assert m1.stop() == 0
    many.runs_on(m2, *services)
    assert m2.said(r"m2/[abc] worker \d+: m1 said goodbye") == 3
    assert m1.said(r"m1/[abc] stopped \d+: Stopped: .* the role is released") == 3
    many.judge(*services)


def test_a_reload_changes_what_changed_and_nothing_else(rig: Rig) -> None:
    many = Many(rig)
    with rig.free_port():
        many.write(1, {"a": {}, "b": {}, "c": {}})
        m1 = many.start(1)
        many.runs_on(m1, "a", "b", "c")
        before = {service: many.pid(service, m1) for service in "abc"}

        many.write(1, {"a": {}, "b": {"fallback": "yes"}})
        refused = many.hbctl(1, "reload")
        assert refused.returncode == 1
        assert "fallback" in refused.stderr
        assert "nothing was changed" in refused.stderr
        m1.hears("nothing was changed")
        assert {service: many.pid(service, m1) for service in "abc"} == before

        many.write(1, {"a": {}, "b": {"interval_commands": 0.3}, "d": {}})
        done = many.hbctl(1, "reload")
        assert (done.returncode, done.stderr) == (0, "")
        assert "added d; removed c; changed b" in done.stdout
        many.runs_on(m1, "a", "b", "d")
        assert many.pid("a", m1) == before["a"], "one that has not changed is not touched"
        assert many.pid("b", m1) != before["b"]
        assert many.pid("c", m1) == 0
        assert sorted(many.status(1)) == ["a", "b", "d"]
        assert many.status(1)["b"]["interval_commands_s"] == 0.3

        many.write(1, {"a": {}})
        send(m1.pid, signal.SIGHUP)
        wait_for(lambda: list(many.status(1)) == ["a"], "b and d to be removed")
        assert many.pid("a", m1) == before["a"]
        assert many.hbctl(1, "status", "b").returncode == 3
        many.judge("a", "b", "c", "d")


def test_a_reload_that_could_start_nothing_is_mended_by_the_next(rig: Rig) -> None:
    many = Many(rig)
    with rig.free_port():
        many.write(1, {"a": {}})
        m1 = many.start(1)
        many.runs_on(m1, "a")
        (state,) = rig.place.glob("state/a@*/state.json")
        for interval_s, mended_s in ((0.3, 0.3), (0.4, 0.3)):  # the last: the old file is put back
            sound = state.read_bytes()
            state.write_bytes(b"damaged")
            many.write(1, {"a": {"interval_commands": interval_s}})
            refused = many.hbctl(1, "reload")
            assert refused.returncode == 1
            assert "the service a was not started" in refused.stderr
            state.write_bytes(sound)
            many.write(1, {"a": {"interval_commands": mended_s}})
            done = many.hbctl(1, "reload")
            assert (done.returncode, done.stderr) == (0, "")
            assert "added a" in done.stdout
            many.runs_on(m1, "a")
            assert many.status(1)["a"]["interval_commands_s"] == mended_s
        many.judge("a")


def test_a_reload_hands_over_what_is_removed(rig: Rig) -> None:
    many = Many(rig)
    many.write(1, {"a": WORKER, "b": WORKER})
    many.write(2, {"a": {}, "b": {}})
    m1 = many.start(1)
    many.runs_on(m1, "a", "b")
    m2 = many.start(2)
    wait_for(lambda: m2.said("m1 is worker") == 2, "m2 to supervise both")
    before = many.pid("a", m1)
    many.write(1, {"a": WORKER})
    assert many.hbctl(1, "reload").returncode == 0
    many.runs_on(m2, "b")
    m2.hears(r"m2/b worker \d+: m1 said goodbye")
    m2.hears(r"does not carry the service b: nobody takes over")
    m1.hears(r"carries the service b, which this member does not")
    many.write(1, {"a": WORKER, "b": WORKER})
    assert many.hbctl(1, "reload").returncode == 0
    wait_for(lambda: many.status(1)["b"]["peer"]["role"] == "worker", "b to be found again")
    m2.hears("carry the same services")
    assert many.pid("a", m1) == before
    many.judge("a", "b")


def test_a_file_beside_a_command_line(rig: Rig) -> None:
    """The peer carries one of the services, and knows nothing of files."""
    many = Many(rig)
    many.write(2, {"default": {}, "other": {}})
    m2 = many.start(2)
    many.runs_on(m2, "default", "other")
    other = many.pid("other", m2)
    m1 = rig.member(1, "-m", "SUPERVISOR", command=rig.work())
    wait_for(lambda: m1.is_supervisor, "m1 to supervise")
    m2.hears("does not carry the service other")
    assert m2.said("m1 is heard") == 1
    m2.kill()
    rig.works(m1)
    wait_for(lambda: not m2.processes(), "the end of what m2 carried")
    again = many.start(2)
    wait_for(lambda: again.said("m2/default supervisor"), "m2 to supervise")
    wait_for(lambda: many.pid("other", again) not in (0, other), "the other to run on m2")
    many.judge("other")


def test_output_that_is_kept_survives_the_death_of_the_member(rig: Rig) -> None:
    """No broken pipe: the command ends as its guardian tells it to, with its last words."""
    many = Many(rig)
    left = rig.place / "left"
    leave = f"echo leaving; echo wrong >&2; echo done > {left}; exit 0"
    words = f"trap '{leave}' TERM; echo up; while :; do sleep 0.05; done"
    many.write(1, {"a": {"command": words}}, journal_output=100)
    m1 = many.start(1)
    wait_for(lambda: "up" in m1.output, "the command to run")
    m1.kill()
    wait_for(lambda: not m1.processes(), "the end of what it carried")
    assert left.exists(), "the command did not end in its own way"


def test_orders_name_a_service(rig: Rig) -> None:
    many = Many(rig)
    many.write(1, {"a": {}, "b": {}})
    many.write(2, {"a": {}, "b": {}})
    m1 = many.start(1)
    many.runs_on(m1, "a", "b")
    m2 = many.start(2)
    wait_for(lambda: m2.said("m1 is worker") == 2, "m2 to supervise both")
    assert "several" in many.hbctl(1, "switchover").stderr
    moved = many.hbctl(1, "switchover", "a")
    assert (moved.returncode, moved.stderr) == (0, "")
    many.runs_on(m2, "a")
    many.runs_on(m1, "b")
    told = many.status(2)
    assert (told["a"]["role"], told["b"]["role"]) == ("worker", "supervisor")
    assert told["a"]["peer"]["role"] == "supervisor"
    paused = many.hbctl(2, "pause", "a", "--reason", "a test")
    assert "knows it, too" in paused.stdout
    assert many.status(1)["a"]["paused"]
    assert many.status(1)["b"]["paused"] is None
    assert many.hbctl(2, "resume", "a").returncode == 0
    found = json.loads(many.hbctl(2, "history", "a", "--json", "--changes").stdout)["entries"]
    assert {entry["service"] for entry in found} == {"a"}
    assert "a" in many.hbctl(1, "explain", "a").stdout
    many.judge("a", "b")
