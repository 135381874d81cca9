"""hbctl without a member: its words, what it says when nobody is there, what a journal tells."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ha_heartbeat import places
from ha_heartbeat.ctl import manual
from ha_heartbeat.ctl.main import main
from ha_heartbeat.ctl.parser import make_parser
from ha_heartbeat.ctl.show import span
from ha_heartbeat.install import command as installer
from ha_heartbeat.journal import Change, Journal, Run

ROOT = Path(__file__).parents[2]
NOW = time.time()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """The state of a member that ran seven times, failed twice and took over once."""
    home = tmp_path / places.directory_name("web", "m1", 22221)
    home.mkdir()
    journal = Journal.open(str(home / places.JOURNAL_FILE), "m1")
    runs = [
        Run("web", "m1", f"2.{n}", 2, NOW - 900 + n, NOW - 899 + n, 1.0, n % 3) for n in range(4)
    ]
    runs += [Run("web", "m2", f"3.{n}", 3, NOW - 60 + n, NOW - 59 + n, 1.0, 0) for n in range(3)]
    journal.write(runs)
    text = "m1 refused the connection: its process tree is gone."
    journal.write([Change("web", "m2", "role", NOW - 61, "worker", 3, "refused", text, 0.0)])
    journal.close()
    (home / places.STATE_FILE).write_text(json.dumps({"member": "m1", "epoch_seen": 3}))
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_script_of_a_checkout_runs_from_anywhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "hbctl", "--version"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert re.fullmatch(r"hbctl \S+\n", done.stdout)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["dance"],
        ["pause"],
        ["run"],
        ["run", "later"],
        ["logs"],
        ["history", "-n", "0"],
        ["history", "-n", "-3"],
        ["history", "-n", "x"],
    ],
)
def test_wrong_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2


def test_nobody_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["status"], ["switchover"], ["pause", "--reason", "x"], ["explain"]):
        status, out, err = said(capsys, *command, "--state-dir", tmp_path)
        assert (status, out) == (3, "")
        assert re.fullmatch(r"hbctl: .* found: none\n", err)
    status, _, err = said(capsys, "status", "--state-dir", tmp_path / "nowhere")
    assert status == 3
    assert "--state-dir" in err


def test_a_member_that_does_not_run(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "status", "--state-dir", state_dir)
    assert status == 3
    assert "m1 not running" in out
    assert "2.3 ok" in out
    status, _, err = said(capsys, "switchover", "--state-dir", state_dir)
    assert (status, err) == (3, "hbctl: no member runs for web at m1:22221 on this machine\n")


def test_a_member_that_cannot_be_asked_may_run(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator without the right to ask must not take it for an outage."""
    (home,) = state_dir.iterdir()
    (home / places.CONTROL_SOCKET).symlink_to(places.CONTROL_SOCKET)  # which fails for root, too
    status, out, _ = said(capsys, "status", "--state-dir", state_dir)
    assert status == 1
    assert "m1 cannot be asked" in out
    assert "not running" not in out


def test_a_journal_that_cannot_be_read_is_not_missing(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home,) = state_dir.iterdir()
    journal = home / places.JOURNAL_FILE
    journal.unlink()
    status, _, err = said(capsys, "history", "--state-dir", state_dir)
    assert (status, err) == (1, f"hbctl: there is no journal {journal}\n")
    journal.symlink_to(journal.name)
    status, _, err = said(capsys, "history", "--state-dir", state_dir)
    assert status == 1
    assert f"the journal {journal} cannot be read: too many levels" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("where", [">/dev/full", ">&-"])
def test_an_output_that_takes_nothing(state_dir: Path, where: str) -> None:
    line = f'exec "$0" "$1" status --state-dir "$2" {where}'
    words = ["sh", "-c", line, sys.executable, str(ROOT / "hbctl"), str(state_dir)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    full = (1, "hbctl: cannot write to stdout: no space left on device; give it another place\n")
    assert (done.returncode, done.stderr) == (full if "full" in where else (3, ""))


def test_another_service_is_another(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["db"], ["--name", "db"], ["--local", "m9:1"]):
        status, _, err = said(capsys, "status", "--state-dir", state_dir, *words)
        assert status == 3
        assert "found: web at m1:22221" in err
    status, _, err = said(capsys, "status", "web", "--name", "db", "--state-dir", state_dir)
    assert status == 2
    assert said(capsys, "status", "web", "--state-dir", state_dir)[1]


def test_history(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def names(*words: object) -> list[str]:
        status, out, _ = said(capsys, "history", "--json", "--state-dir", state_dir, *words)
        assert status == 0
        return [e.get("run") or e["kind"] for e in json.loads(out)["entries"]]

    assert names() == ["2.0", "2.1", "2.2", "2.3", "role", "3.0", "3.1", "3.2"]
    assert names("-n", 2) == ["3.1", "3.2"]
    assert names("--changes") == ["role"]
    assert names("--failed") == ["2.1", "2.2"]
    assert names("--member", "m2", "--runs") == ["3.0", "3.1", "3.2"]
    assert names("--epoch", 3) == ["role", "3.0", "3.1", "3.2"]
    assert names("--since", "5m", "--runs") == ["3.0", "3.1", "3.2"]
    assert names("--since", "2020-01-01", "--changes") == ["role"]
    text = said(capsys, "history", "--state-dir", state_dir)[1]
    assert "refused: m1 refused the connection" in text
    assert "\x1b" not in text
    assert said(capsys, "history", "--state-dir", state_dir, "--since", "soon")[0] == 2


def test_overlaps_are_an_exit_status(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "history", "--overlaps", "--state-dir", state_dir)
    assert (status, out) == (0, "No overlap was ever recorded.\n")
    home = state_dir / places.directory_name("web", "m1", 22221)
    journal = Journal.open(str(home / places.JOURNAL_FILE), "m1")
    journal.write([Change("web", "m1", "overlap", NOW, "", 2, "", "m2 was worker, too.", 1.5)])
    journal.close()
    status, out, _ = said(capsys, "history", "--overlaps", "--state-dir", state_dir)
    assert status == 1
    assert "up to 1.5 s" in out


def test_logs(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "logs", "2.1", "--state-dir", state_dir)
    assert status == 0
    assert "exit 1 after 1.000 s" in out
    assert said(capsys, "logs", "9.9", "--state-dir", state_dir)[0] == 1


def test_colours_only_where_they_are_wanted(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("status", "--state-dir", state_dir)
    assert "\x1b[1;31m" in said(capsys, *words, "--color", "always")[1]
    assert "\x1b" not in said(capsys, *words)[1]


def test_rich_draws_the_same_table(
    state_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain = said(capsys, "status", "--state-dir", state_dir)[1]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    drawn = said(capsys, "status", "--state-dir", state_dir)[1]
    assert "m1 not running" in drawn
    assert drawn.split()[0].endswith(plain.split()[0]) or "SERVICE" in drawn


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_is_made_from_the_parser(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    status, out, _ = said(capsys, "completion", shell)
    assert status == 0
    for word in ("switchover", "overlaps", "state-dir"):
        assert word in out


def test_without_shtab_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    status, _, err = said(capsys, "completion", "bash")
    assert status == 1
    assert "pip install 'ha-heartbeat[ctl]'" in err


def test_the_manual_page_is_made_from_the_parser() -> None:
    page = (ROOT / "docs" / "hbctl.1").read_text(encoding="utf-8")
    assert page == manual.page(), "run `make docs`"


def test_options_stand_before_the_command_or_after_it(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    after = said(capsys, "status", "--state-dir", state_dir, "--local", "m1:22221", "--json")
    for words in (
        ["--state-dir", state_dir, "--local", "m1:22221", "--json", "status"],
        ["--json", "--local", "m1:22221", "status", "--state-dir", state_dir],
        ["--local", "m9:1", "--json", "status", "--state-dir", state_dir, "--local", "m1:22221"],
    ):
        assert said(capsys, *words)[:2] == after[:2]
    status, _, err = said(capsys, "--name", "db", "--state-dir", state_dir, "status", "web")
    assert (status, err) == (2, "hbctl: 'web' and --name 'db' are two services\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--json", "completion", "bash"], "--json means nothing to completion"),
        (["--local", "m1:1", "check", "x"], "--local means nothing to check"),
        (["--name", "web", "install", "member", "ls"], "--name means nothing to install"),
    ],
)
def test_an_option_that_would_do_nothing(
    capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err


# -- without any member ----------------------------------------------------------------------------

FILE = """
local = "m1:22221"
remote = "m2:22222"
[services.web]
command = "serve"
mode = "worker"
[services.db]
command = ["query", "all of it"]
takeover = "proof"
interval_commands = 5
"""


def test_check_shows_what_a_file_amounts_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ha.toml"
    path.write_text(FILE)
    status, out, err = said(capsys, "check", path)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "m1:22221 listens on m1:22221, its peer is m2:22222; 2 services.",
        "",
        "SERVICE  MODE        EVERY  LEASE  HOST LOST           BOTH RUN  COMMAND",
        "db       supervisor  5 s    30 s   nobody              never     query 'all of it'",
        "web      worker      30 s   30 s   other after 30.3 s  if cut    serve",
    ]
    told = json.loads(said(capsys, "--json", "check", path)[1])
    assert told["ok"]
    assert [service["service"] for service in told["services"]] == ["db", "web"]
    assert [service["host_lost_s"] for service in told["services"]] == [None, 30.3]


def test_check_names_every_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ha.toml"
    path.write_text(FILE + "zzz = 1\nmode = 3\n")
    status, out, err = said(capsys, "check", path)
    assert (status, out) == (1, "")
    assert [line.split(": ")[1] for line in err.splitlines()] == [
        f"{path}, line 11, services.db.zzz",
        f"{path}, line 12, services.db.mode",
    ]
    status, out, err = said(capsys, "check", path, "--json")
    assert (status, err) == (1, "")
    assert len(json.loads(out)["mistakes"]) == 2
    status, _, err = said(capsys, "check", tmp_path / "none.toml")
    assert status == 1
    assert err.endswith("none.toml does not exist; give the path of a TOML file\n")


def test_check_finds_times_that_leave_no_room(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ha.toml"
    path.write_text(FILE + "interval_test = 1\n")
    status, out, err = said(capsys, "check", path)
    assert status == 0
    assert "db" in out
    assert f"hbctl: warning: {path}, services.db: stop_timeout 10 is longer" in err
    path.write_text(FILE + 'interval_test = 1\nwitness = "witness://m3:1"\n')
    status, out, err = said(capsys, "check", path)
    assert (status, out) == (1, "")
    assert err.startswith(f"hbctl: {path}, services.db: stop_timeout 10 is longer")


def test_install_is_the_installer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    member = ["member", "-l", "m1:1", "-r", "m2:2", "--name", "web", "ls -l"]
    assert installer.main(["--user", "web", *member]) == 0
    expected = capsys.readouterr().out
    assert "\nUser=web\n" in expected
    assert said(capsys, "install", "--user", "web", *member) == (0, expected, "")
    status, out, err = said(capsys, "install", "member", "-l", "m1", "ls")
    assert (status, out) == (2, "")
    assert err.startswith("hbctl install: -l/--local: 'm1' has no port")
    assert said(capsys, "install", "--to", tmp_path, *member)[0] == 0
    assert (tmp_path / "ha-heartbeat-web.service").is_file()


def test_every_command_says_what_it_is_for() -> None:
    (commands,) = (a for a in make_parser()._actions if a.dest == "command")
    assert isinstance(commands.choices, dict)
    for name, parser in commands.choices.items():
        assert parser.description, name


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.2 s"),
        (1.0, "1 s"),
        (119.0, "119 s"),
        (120.0, "2 min"),
        (7200.0, "2 h"),
        (1e6, "11 d"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_an_address_that_this_machine_cannot_have_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ha.toml"
    path.write_text('[services.a]\ncommand = "true"\nvip = "192.0.2.10/24@nosuch0"\n')
    status, _, err = said(capsys, "check", path)
    assert status == 0
    assert f"warning: {path}, services.a, on this machine: --vip" in err
