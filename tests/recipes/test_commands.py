"""Recipes that are a command: a cron job, a daemon."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.member.rig import Member, Rig, wait_for
from tests.recipes.recipe import code, command, page

QUICK = ["-i", "0.2"]


def script(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    made = folder / name
    made.write_text(text)
    made.chmod(0o755)
    return made


def both(rig: Rig, options: list[str], words: list[str]) -> tuple[Member, Member]:
    """A pair that runs this; the worker first."""
    members = [rig.member(n, *options, *QUICK, command=tuple(words)) for n in (1, 2)]

    def roles() -> tuple[Member, Member] | None:
        for worker, other in (members, members[::-1]):
            if worker.is_worker and other.is_supervisor:
                return worker, other
        return None

    found = wait_for(roles, "a worker and a supervisor")
    assert found
    return found


def test_every_so_often(rig: Rig) -> None:
    options, words = command("cron", "collect")
    assert words == ["/usr/local/bin/collect"]
    done = rig.place / "done"
    job = script(
        rig.place / "bin", "collect", f'#!/bin/sh\necho "$HA_HEARTBEAT_MEMBER" >> {done}\n'
    )
    worker, other = both(rig, options, [str(job)])
    wait_for(lambda: done.exists() and len(done.read_text().split()) >= 3, "three runs")
    assert set(done.read_text().split()) == {worker.name}
    worker.kill()
    wait_for(lambda: other.name in done.read_text(), "the other's run")


def test_at_a_time_of_day(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    options, words = command("cron", "report")
    assert words[:2] == ["at", "03:30"]
    bin_folder = rig.place / "bin"
    done, now = rig.place / "done", rig.place / "now"
    script(bin_folder, "at", code("cron", "sh", "at HH:MM"))
    script(bin_folder, "date", f'#!/bin/sh\n[ "$1" = +%H:%M ] && cat {now}\n')
    job = script(bin_folder, "report", f'#!/bin/sh\necho "$HA_HEARTBEAT_RUN" >> {done}\n')
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    now.write_text("03:29\n")
    worker, _ = both(rig, [*options, "-v"], [*words[:2], str(job)])
    wait_for(lambda: worker.said("exit status 0") >= 3, "ticks")
    assert not done.exists()
    now.write_text("03:30\n")
    wait_for(done.exists, "the run")
    now.write_text("03:31\n")


def test_a_daemon(rig: Rig, tmp_path: Path) -> None:
    options, words = command("daemon", "www")
    assert words[:3] == ["python3", "-m", "http.server"]
    host = rig.address(1).split(":")[0]
    with socket.socket() as sock:
        sock.bind((host, 0))
        port = sock.getsockname()[1]
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "page").write_text("hello")
    words = [sys.executable, "-I", *words[1:-1], "--bind", host, str(port)]
    words[words.index("/srv/www")] = str(tmp_path / "www")

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/page", timeout=5) as reply:
                return bool(reply.read() == b"hello")
        except OSError:
            return False

    worker, other = both(rig, options, words)
    wait_for(answers, "the daemon")
    assert worker.stop() == 0
    wait_for(lambda: other.is_worker and answers(), "the other's daemon")


def test_a_daemon_that_leaves_its_starter(rig: Rig) -> None:
    options, _ = command("daemon", "old")
    daemon = script(rig.place / "bin", "old", "#!/bin/sh\nsetsid sleep 1000 &\n")
    worker, _ = both(rig, [*options, "--stop-timeout", "1"], [str(daemon)])
    wait_for(lambda: worker.said("left 1 process behind"), "what is left to be seen")
    left = worker.command()
    assert left
    assert worker.stop() == 0
    assert not worker.command()


def test_every_command_line_is_understood() -> None:
    from ha_heartbeat import cli

    lines = 0
    for name in ("cron", "daemon", "celery", "postgresql", "nginx"):
        for line in re.findall(r"^m1\$ ha-heartbeat (.*)$", page(name).read_text(), re.MULTILINE):
            arguments = subprocess.run(
                ["sh", "-c", f'printf "%s\\0" {line}'], capture_output=True, check=True, text=True
            ).stdout.split("\0")[:-1]
            parsed = cli.parse(arguments)
            assert {"local", "remote", "service"} <= parsed.given.keys()
            assert parsed.command
            lines += 1
    assert lines == 8
