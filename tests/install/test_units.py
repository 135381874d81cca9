"""The units: what follows from the options, and that systemd takes them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ha_heartbeat.install import command, units, writing
from tests.install.systemd import needs_systemd, parse

OPTIONS = ["-t", "5", "-l", "m1:22221", "-r", "m2:22222"]
PYTHON = Path(sys.executable).absolute()

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no systemd")


def made(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert command.main(words) == 0
    return capsys.readouterr().out


def value(text: str, name: str) -> str:
    found = re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)
    assert len(found) == 1, f"{name} stands there {len(found)} times"
    return str(found[0])


def verified(text: str, folder: Path, name: str = "ha-heartbeat.service") -> str:
    """What systemd finds wrong with it."""
    unit = folder / name
    unit.write_text(text)
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:/lib/systemd/system"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = [line for line in result.stderr.splitlines() if str(unit.name) in line]
    assert result.returncode == 0 or lines, result.stderr
    return "\n".join(lines)


# -- a member --------------------------------------------------------------------------------------


def test_the_command_is_the_one_given(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*OPTIONS, 'echo "$HOME" 100% ; sleep 1\n# \\ it\'s']
    text = made(capsys, "member", *words)
    expected = [str(PYTHON), str(Path.cwd() / "ha_heartbeat.py"), "--state-dir", units.STATE_DIR]
    assert parse(value(text, "ExecStart")) == [os.fsencode(word) for word in (*expected, *words)]


def test_virtual_addresses_need_capabilities(capsys: pytest.CaptureFixture[str]) -> None:
    text = made(capsys, "--user", "web", "member", *OPTIONS, "--vip", "192.0.2.10/24@eth0", "ls")
    assert value(text, "AmbientCapabilities") == "CAP_NET_ADMIN CAP_NET_RAW"
    assert "AmbientCapabilities" not in made(capsys, "--user", "web", "member", *OPTIONS, "ls")


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ([], {"TimeoutStartSec": "320s", "TimeoutStopSec": "30s", "WatchdogSec": "30s"}),
        (["-w", "0.5", "--stop-timeout", "99.2"], {"TimeoutStartSec": "21s"}),
        (["--stop-timeout", "99.2"], {"TimeoutStopSec": "120s"}),
        (["--check-count", "60"], {"WatchdogSec": "300s"}),
        (
            ["--witness", "witness://m3:22220", "--stop-timeout", "3"],
            {"TimeoutStopSec": "28s", "After": "network-online.target"},
        ),
        (
            ["--witness", "file:///mnt/x/web", "--stop-timeout", "3"],
            {"After": "network-online.target remote-fs.target"},
        ),
        (["--state-dir", "/var/lib/ha/web 1"], {"StateDirectory": '"ha/web 1"'}),
        (["--name", "web%1"], {"Description": "ha-heartbeat: web%%1 as m1:22221"}),
    ],
)
def test_what_follows_from_the_options(
    capsys: pytest.CaptureFixture[str], words: list[str], settings: dict[str, str]
) -> None:
    text = made(capsys, "member", *OPTIONS, *words, "ls")
    assert {name: value(text, name) for name in settings} == settings


def test_the_tree_is_left_to_the_guardian(capsys: pytest.CaptureFixture[str]) -> None:
    text = made(capsys, "member", *OPTIONS, "ls")
    assert value(text, "KillMode") == "process"
    assert value(text, "Type") == "notify"
    assert value(text, "Delegate") == "yes"
    assert "\nNoNewPrivileges" not in text
    assert "\n#NoNewPrivileges=yes\n" in text


def test_state_elsewhere_is_the_operator_s(capsys: pytest.CaptureFixture[str]) -> None:
    text = made(capsys, "--user", "web", "member", *OPTIONS, "--state-dir", "/srv/ha", "ls")
    assert "StateDirectory" not in text
    assert value(text, "User") == "web"


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("default", "ha-heartbeat.service"),
        ("web-1", "ha-heartbeat-web-1.service"),
        ("a/b", "ha-heartbeat-a\\x2fb.service"),
        ("ü", "ha-heartbeat-\\xc3\\xbc.service"),
    ],
)
def test_a_unit_for_each_service(service: str, name: str) -> None:
    assert units.unit_name(service) == name


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ha 1.toml"
    path.write_text(
        'local = "m1:22221"\nremote = "m2:22222"\nwait_for_serversocket = 10\n'
        '[services.web]\ncommand = "x"\nstop_timeout = 40\n'
        '[services.db]\ncommand = "x"\nwitness = "file:///mnt/x/db"\ncheck_count = 60\n'
    )
    return path


@needs_systemd
def test_a_member_with_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, file: Path
) -> None:
    text = made(capsys, "member", "--config", str(file), "--member", "m1")
    words = ["--state-dir", units.STATE_DIR, "--config", str(file), "--member", "m1"]
    assert parse(value(text, "ExecStart"))[2:] == [os.fsencode(word) for word in words]
    assert value(text, "ExecReload") == "/bin/kill -HUP $MAINPID"
    assert value(text, "Description") == f"ha-heartbeat: {file} as m1"
    assert value(text, "After") == "network-online.target remote-fs.target"
    spans = {name: value(text, name) for name in ("TimeoutStartSec", "TimeoutStopSec")}
    assert spans == {"TimeoutStartSec": "30s", "TimeoutStopSec": "60s"}
    assert value(text, "WatchdogSec") == "600s"
    assert verified(text, tmp_path) == ""


def test_its_state_stands_where_the_file_says(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    file.write_text('state_dir = "/var/lib/x"\n' + file.read_text())
    text = made(capsys, "member", "--config", str(file))
    assert "--state-dir" not in value(text, "ExecStart")
    assert value(text, "StateDirectory") == "x"
    file.write_text(file.read_text().replace("/var/lib/x", "x"))
    assert command.main(["member", "--config", str(file)]) == 2
    assert "'x' would be looked for in /; give an absolute path" in capsys.readouterr().err


def test_a_file_with_mistakes_gives_no_unit(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text(file.read_text() + "zzz = 1\nmode = 3\n")
    assert command.main(["member", "--config", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 2
    file.write_text(file.read_text().partition("check_count")[0] + "interval_test = 1\n")
    assert command.main(["member", "--config", str(file)]) == 1
    assert "install: db: stop_timeout 10 is longer than" in capsys.readouterr().err
    assert command.main(["member", "--config", "ha.toml"]) == 2
    assert "--config: 'ha.toml' would be looked for in /" in capsys.readouterr().err


def test_without_a_file_there_is_nothing_to_reload(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ExecReload" not in made(capsys, "member", *OPTIONS, "ls")


@needs_systemd
@pytest.mark.parametrize("offered", [False, True], ids=["as made", "with all that is offered"])
def test_systemd_takes_a_member(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, offered: bool
) -> None:
    text = made(capsys, "--user", "daemon", "member", *OPTIONS, 'echo "$X" 5% ;\tx')
    if offered:
        text, count = re.subn(r"^#(\w+=)", r"\1", text, flags=re.MULTILINE)
        assert count >= 13
    assert verified(text, tmp_path) == ""


@needs_systemd
def test_systemd_would_say_what_is_wrong(tmp_path: Path) -> None:
    """So that the tests above can fail."""
    text = "[Service]\nType=notify\nKillMode=no\nExecStart=/none/such x\n"
    assert "kill mode" in verified(text, tmp_path)


# -- a witness -------------------------------------------------------------------------------------


@needs_systemd
@pytest.mark.parametrize("port", [22220, 80])
def test_systemd_takes_a_witness_and_finds_it_safe(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, port: int
) -> None:
    where = f"m3:{port}"
    text = made(capsys, "--program", str(PYTHON), "witness", "--listen", where)
    assert value(text, "DynamicUser") == "yes"
    assert parse(value(text, "ExecStart"))[1:] == [
        *(b"--listen", where.encode()),
        *(b"--store", b"/var/lib/ha-heartbeat-witness/witness.sqlite3"),
    ]
    assert verified(text, tmp_path) == ""
    (tmp_path / "safe.service").write_text(text)
    result = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", "safe.service"],
        env={**os.environ, "SYSTEMD_UNIT_PATH": str(tmp_path), "SYSTEMD_PAGER": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout


def test_a_witness_with_a_store_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--program", "/x", "--user", "ha", "witness", "--store", "/srv/a b/w.db")
    text = made(capsys, *words)
    assert value(text, "ReadWritePaths") == '"/srv/a b"'
    assert value(text, "User") == "ha"
    assert "DynamicUser" not in text


# -- files -----------------------------------------------------------------------------------------


def test_written_and_written_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("--to", str(tmp_path), "member", *OPTIONS, "ls")
    assert "is made." in made(capsys, *words)
    unit = tmp_path / "ha-heartbeat.service"
    assert unit.stat().st_mode & 0o777 == 0o644
    assert "is as it should be already." in made(capsys, *words)
    assert "is made anew." in made(capsys, *words[:-1], "ls -l")
    assert '"ls -l"' in unit.read_text()
    assert list(tmp_path.iterdir()) == [unit]


@pytest.mark.parametrize("edited", [False, True], ids=["foreign", "edited"])
def test_nothing_of_another_s_is_overwritten(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, edited: bool
) -> None:
    words = ("--to", str(tmp_path), "member", *OPTIONS, "ls")
    unit = tmp_path / "ha-heartbeat.service"
    unit.write_text("[Service]\nExecStart=/mine\n")
    if edited:
        unit.unlink()
        made(capsys, *words)
        unit.write_text(unit.read_text().replace("RestartSec=1", "RestartSec=2"))
    before = unit.read_text()
    assert command.main(words) == 1
    error = capsys.readouterr().err
    assert ("was changed by hand" if edited else "was not made by ha-heartbeat") in error
    assert "--force" in error
    assert unit.read_text() == before
    assert "is replaced, which was" in made(capsys, "--force", *words)
    assert unit.read_text() != before


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command.main(["--to", str(tmp_path / "none"), "member", *OPTIONS, "ls"]) == 1
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "wrong"),
    [
        (["member", "-l", "m1"], 2, "has no port"),
        (["member", *OPTIONS], 2, "the command is missing"),
        (["member", "--nmae", "x"], 2, "did you mean --name"),
        (["member", "--check-config", "ls"], 2, "starts no member"),
        (["member", "--state-dir", "x", "ls"], 2, "give an absolute path"),
        (["--user", "a b", "member", "ls"], 2, "is no user's name"),
        (["--unit", "a/b", "member", "ls"], 2, "is no unit's name"),
        (["--program", "'x", "member", "ls"], 2, "open quote"),
        (["--program", "x", "member", "ls"], 2, "no absolute path"),
        (["--program", "/x", "witness", "--store", "/srv/w.db"], 2, "needs a user"),
        (["--program", "/x", "witness", "--store", "w.db"], 2, "absolute path"),
        (["--program", "/x", "witness", "--listen", "m3"], 2, "has no port"),
        (["member", "--witness", "witness://m3:1", "-t", "0.1", "ls"], 1, "--stop-timeout"),
    ],
)
def test_what_cannot_be_made(
    capsys: pytest.CaptureFixture[str], words: list[str], status: int, wrong: str
) -> None:
    assert command.main(words) == status
    captured = capsys.readouterr()
    assert wrong in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("words", [[], ["nothing"], ["--to"], ["--wirte", "member", "ls"]])
def test_wrong_usage(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        command.main(words)
    assert exited.value.code == 2
    assert "--help" in capsys.readouterr().err


def test_as_a_program(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ha_heartbeat.install", "member", *OPTIONS, "ls -l"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert value(result.stdout, "ExecStart").endswith('"ls -l"')
    assert not result.stderr


def test_the_heading_is_known_again() -> None:
    """Every unit that was written says whose it is."""
    assert writing._HEADING.match("# Made by ha-heartbeat 1.0.0.dev0, checksum 0123abcd.\n")
