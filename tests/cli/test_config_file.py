"""--config: what a file amounts to, what may stand beside it, and a member that it starts."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from ha_heartbeat import cli
from ha_heartbeat.configfile import FileError
from tests.cli.conftest import DEADLINE_S, Run

Refused: TypeAlias = Callable[..., str]

FILE = """
local = "m1:22221"
remote = "m2:22222"
[services.web]
command = "serve"
[services.db]
command = ["query", "all"]
interval_test = 2
stop_timeout = 1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ha.toml"
    path.write_text(FILE)
    return path


def test_each_service_has_its_report(run: Run, file: Path) -> None:
    """As it would have from the command line."""
    result = run("--check-config", "--config", str(file))
    assert (result.returncode, result.stderr) == (0, "")
    here = ("--check-config", "-l", "m1:22221", "-r", "m2:22222")
    db, web = run(*here, "-t", "2", "--stop-timeout", "1", "x").stdout, run(*here, "x").stdout
    assert result.stdout == f"db\n\n{db}\nweb\n\n{web}"


def test_objections_name_the_service_and_the_key(run: Run, file: Path) -> None:
    file.write_text(FILE.replace("interval_test = 2", "interval_test = 0.01"))
    result = run("--check-config", "--config", str(file))
    assert result.returncode == 0
    assert "ha-heartbeat: warning: db: interval_test 0.01 is shorter than a qu" in result.stderr
    file.write_text(FILE + 'interval_test = 0.01\nwitness = "witness://m3:1"\n')
    file.write_text(file.read_text().replace("interval_test = 2\n", ""))
    result = run("--check-config", "--config", str(file))
    assert result.returncode == 1
    assert "\nha-heartbeat: db: " in f"\n{result.stderr}"


def test_a_member_does_not_start_with_times_that_its_witness_does_not_bear(
    refused: Refused, file: Path
) -> None:
    file.write_text(FILE.replace("stop_timeout = 1", 'witness = "witness://m3:1"'))
    sentence = refused("--config", str(file), status=1)
    assert sentence.startswith("db: stop_timeout 10 is longer than a lease of 6 s leaves")


def test_every_mistake_has_a_line(run: Run, file: Path) -> None:
    file.write_text(FILE + "zzz = 1\nmode = 3\n")
    for words in (("--check-config",), ()):
        result = run("--config", str(file), *words)
        assert (result.returncode, result.stdout) == (2, "")
        lines = result.stderr.splitlines()
        assert [line.partition(": this key")[0] for line in lines[:1]] == [
            f"ha-heartbeat: {file}, line 10, services.db.zzz"
        ]
        assert lines[1].startswith(f"ha-heartbeat: {file}, line 11, services.db.mode: 3 does not")
        assert len(lines) == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("-t", "3"), "-t/--interval-test beside --config: it belongs to a service; leave it out,"),
        (("--check", "x"), "and write check under [services.NAME] or [defaults] in "),
        (("--name", "x"), "--name beside --config: it belongs to a service; leave it out, and wri"),
        (("ls", "-l"), "the command 'ls' beside --config: each service has its own in "),
        (("-l", "m1"), "-l/--local: 'm1' has no port"),
    ],
)
def test_what_does_not_go_with_a_file(
    refused: Refused, file: Path, words: tuple[str, ...], expected: str
) -> None:
    assert expected in refused("--config", str(file), *words)


def test_what_belongs_to_the_member_may_differ_from_the_file(file: Path) -> None:
    words = ["--config", str(file), "-l", "m2:22222", "--remote=m1:22221", "--member", "m2", "-v"]
    plan = cli.plan_of(cli.parse([*words, "--journal-days", "3", "--log-format", "json"]))
    assert [str(c.local) for c in plan.services] == ["m2:22222"] * 2
    assert (plan.member, plan.verbose, plan.journal_days) == ("m2", True, 3)


def test_the_command_line_is_a_plan_of_one_service() -> None:
    plan = cli.plan_of(cli.parse(["--name", "web", "-t", "3", "ls", "-l"]))
    (config,) = plan.services
    assert (config.service, config.interval_test_s, config.command) == ("web", 3, ("ls", "-l"))


def test_the_file_is_read_again_with_the_same_words(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs a plan is handed a way to read it anew; a plan of the command line has none."""
    ran: list[tuple[object, Callable[[], object] | None]] = []
    from ha_heartbeat.shell import plan as shell_plan

    monkeypatch.setattr(shell_plan, "run_plan", lambda *given: ran.append(given) or 0)
    assert cli.main(["--config", str(file), "--member", "m1"]) == 0
    ((first, reread),) = ran
    assert reread is not None
    assert reread() == first
    file.write_text(FILE + "zzz = 1\n")
    with pytest.raises(FileError, match=r"line 10, services\.db\.zzz"):
        reread()
    assert cli.main(["-l", "m1:1", "-r", "m2:2", "ls"]) == 0
    assert ran[1][1] is None


@pytest.mark.skipif(sys.platform == "win32", reason="a member is stopped by a signal")
def test_a_member_of_a_file_runs(checkout: Path, file: Path, tmp_path: Path) -> None:
    """Nobody listens at its peer's address, so it becomes worker."""
    file.write_text(
        'local = "m1:22221"\nremote = "m2:22222"\n[services.web]\n'
        f'command = ["{sys.executable}", "-c", """\nimport os\n'
        f'open({str(tmp_path / "ran")!r}, "w").write(os.environ["HA_HEARTBEAT_SERVICE"])"""]\n'
    )
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in (one, two)]
    words = ["-l", addresses[0], "-r", addresses[1], "--state-dir", str(tmp_path / "state")]
    member = subprocess.Popen(
        [sys.executable, str(checkout / "ha_heartbeat.py"), "--config", str(file), *words],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 2 * DEADLINE_S
        ran = tmp_path / "ran"
        while not (ran.exists() and ran.read_text()) and time.monotonic() < deadline:
            assert member.poll() is None
            time.sleep(0.05)
        assert ran.read_text() == "web"
        member.send_signal(signal.SIGTERM)
        _, log = member.communicate(timeout=2 * DEADLINE_S)
        assert member.returncode == 0, log
    finally:
        member.kill()
        member.wait()
