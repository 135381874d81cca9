"""Recipes for schedulers: APScheduler and Celery's beat, on one of two sides."""

from __future__ import annotations

import base64
import importlib.util
import json
import select
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.library.conftest import Pair
from tests.library.conftest import pair as pair
from tests.member.rig import Rig, wait_for
from tests.recipes.recipe import PATIENCE_S, code, command, quickened, started


def missing(module: str) -> bool:
    return importlib.util.find_spec(module) is None


needs_celery = pytest.mark.skipif(missing("celery"), reason="celery is not installed (extra `dev`)")


@pytest.mark.skipif(missing("apscheduler"), reason="apscheduler is not installed (extra `dev`)")
def test_apscheduler(pair: Pair, tmp_path: Path) -> None:
    text = quickened(code("apscheduler", "python", "BackgroundScheduler"), tmp_path / "state")
    script = tmp_path / "jobs.py"
    script.write_text(text.replace("seconds=10", "seconds=0.1"))
    sides = [[pair(n)["local"], pair(n)["remote"]] for n in (1, 2)]
    with started(script, sides, {}, tmp_path / "log") as processes:
        by_pid = {process.pid: process for process in processes}
        first = first_line(processes)
        epoch, pid = int(first[1]), int(first[2])
        worker = by_pid.pop(pid)
        (other,) = by_pid.values()
        worker.terminate()  # in good order: the block is left
        output, _ = worker.communicate(timeout=PATIENCE_S)
        assert worker.returncode == 0
        assert {line.split()[2] for line in output.splitlines()} <= {str(pid)}
        assert other.stdout is not None
        words = other.stdout.readline().split()
        assert (words[0], int(words[2])) == ("collect", other.pid)
        assert int(words[1]) > epoch


SHELL = """
import asyncio, sys
from apscheduler.schedulers.asyncio import AsyncIOScheduler
import ha_heartbeat

local, remote = sys.argv[1:]


def collect(epoch):
    print("collect", epoch, flush=True)


async def main():
{block}


asyncio.run(main())
"""


@pytest.mark.skipif(missing("apscheduler"), reason="apscheduler is not installed (extra `dev`)")
def test_apscheduler_with_an_event_loop(pair: Pair, tmp_path: Path) -> None:
    block = quickened(code("apscheduler", "python", "AsyncIOScheduler"), tmp_path / "state")
    script = tmp_path / "jobs.py"
    script.write_text(
        SHELL.format(block=textwrap.indent(block.replace("seconds=10", "seconds=0.1"), "    "))
    )
    with started(
        script, [[pair(1)["local"], pair(1)["remote"]]], {}, tmp_path / "log"
    ) as processes:
        assert first_line(processes)[0] == "collect"
        processes[0].send_signal(signal.SIGINT)
        processes[0].communicate(timeout=PATIENCE_S)
    assert "KeyboardInterrupt" in (tmp_path / "log.0").read_text()


def first_line(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """The first line that any of them prints."""
    streams = [process.stdout for process in processes if process.stdout is not None]
    ready, _, _ = select.select(streams, [], [], PATIENCE_S)
    assert len(ready) == 1, "one of two was to print"
    return ready[0].readline().split()


TASKS = """
from celery import Celery

app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {{
    "data_folder_in": {folder!r}, "data_folder_out": {folder!r}, "control_folder": {control!r}
}}


@app.task
def collect(epoch=0):
    pass


app.conf.beat_schedule = {{"collect": {{"task": "tasks.collect", "schedule": 0.1}}}}
"""


class Broker:
    """Celery's transport over files: each message is one."""

    def __init__(self, place: Path) -> None:
        self.folder = place / "messages"
        self.folder.mkdir()
        self.tasks = place / "tasks.py"
        control = place / "control"
        control.mkdir()
        self.tasks.write_text(TASKS.format(folder=str(self.folder), control=str(control)))

    def epochs(self) -> list[int]:
        """Of the tasks that were sent, in the order of their files."""
        found = []
        for path in sorted(self.folder.glob("*.msg"), key=lambda path: path.stat().st_mtime_ns):
            try:
                body = json.loads(path.read_bytes())["body"]
            except ValueError:
                continue  # being written
            found.append(json.loads(base64.b64decode(body))[1].get("epoch", 0))
        return found


@needs_celery
def test_celery_beat_in_the_application(pair: Pair, tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    text = quickened(code("celery", "python", "celery.beat"), tmp_path / "state")
    text = text.replace("max_interval=1", "max_interval=0.05").replace("10.0", "0.1")
    script = tmp_path / "beat.py"
    script.write_text(text)
    sides = [[pair(n)["local"], pair(n)["remote"]] for n in (1, 2)]
    with started(script, sides, {}, tmp_path / "log") as processes:
        wait_for(lambda: len(broker.epochs()) >= 3, "tasks")
        (first,) = set(broker.epochs())
        worker = processes[first % 2]  # epochs of the lower address are even
        worker.kill()
        wait_for(lambda: max(broker.epochs()) > first, "the other's tasks")
        epochs = broker.epochs()
        assert epochs == sorted(epochs)


@needs_celery
def test_celery_beat_as_a_command(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(rig.place)
    options, words = command("celery", "beat")
    assert words[:4] == ["celery", "-A", "tasks", "beat"]
    program = shutil.which("celery", path=str(Path(sys.executable).parent))
    assert program
    monkeypatch.setenv("PYTHONPATH", str(rig.place))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    words = [program, *words[1:-2], "-S", "celery.beat:Scheduler", "--pidfile="]
    members = [rig.member(n, *options, command=tuple(words)) for n in (1, 2)]
    wait_for(lambda: len(broker.epochs()) >= 3, "tasks")
    worker, other = members if members[0].is_worker else members[::-1]
    worker.kill()
    wait_for(lambda: other.is_worker, "the other")
    before = len(broker.epochs())
    wait_for(lambda: len(broker.epochs()) >= before + 3, "its tasks")
