"""What the arguments mean, and that the script runs from wherever it stands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from ha_heartbeat import __version__, cli
from ha_heartbeat.config import Config, make_config
from ha_heartbeat.core.types import Mode

Run: TypeAlias = Callable[..., "subprocess.CompletedProcess[str]"]


def config_of(*argv: str) -> Config:
    parsed = cli.parse(argv)
    return make_config(parsed.given, parsed.command)


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["ls -l"], ("ls -l",)),
        (["ls", "-l"], ("ls", "-l")),
        (["-i", "10", "ls", "-l"], ("ls", "-l")),
        (["-i", "10", "--", "ls", "-l"], ("ls", "-l")),
        (["--", "-odd-program", "--help"], ("-odd-program", "--help")),
        (["-v", "ls", "-v", "--", "--version"], ("ls", "-v", "--", "--version")),
        (["--", "--", "x"], ("--", "x")),
        (["-f", "-", "x"], ("-", "x")),
        (["-fvi10", "ls"], ("ls",)),
        (["-l", "a:1", "-ltr:2", "ls"], ("ls",)),
        (["dir c:"], ("dir c:",)),
        (["ls", ""], ("ls", "")),
    ],
)
def test_everything_from_the_first_word_is_the_command(
    argv: list[str], command: tuple[str, ...]
) -> None:
    assert config_of(*argv).command == command


def test_ways_to_spell_an_option() -> None:
    for words in (["-i", "0.5"], ["-i0.5"], ["-vi0.5"], ["--interval-commands", "0.5"]):
        assert config_of(*words, "ls").interval_commands_s == 0.5
    assert config_of("--interval-commands=0.5", "-i", "2", "ls").interval_commands_s == 2
    assert config_of("--fence=a=b", "ls").fence == "a=b"
    for word in ("worker", "WORKER", "Worker"):
        assert config_of("-m", word, "ls").mode is Mode.WORKER


def test_the_published_examples() -> None:
    one = config_of("-l", "m1:22221", "-r", "m2:22222", "-f", "dir c:")
    two = config_of("-l", "m2:22222", "-r", "m1:22221", "-m", "WORKER", "dir c:")
    assert (one.fallback, one.mode, two.fallback, two.mode) == (
        True,
        Mode.SUPERVISOR,
        False,
        Mode.WORKER,
    )
    assert (one.settings().rank, two.settings().rank) == (0, 1)
    three = config_of("-i", "10", "-t", "5", "-l", "m1:22221", "-r", "m2:22222", "ls -l")
    assert (three.interval_commands_s, three.interval_test_s) == (10, 5)


def test_every_field_but_the_command_has_an_option() -> None:
    named = {option.name for option in cli.OPTIONS} - {"help", "version", "check_config", "config"}
    assert named | {"command"} == set(Config.__slots__)


def test_help_shows_every_option_and_default(run: Run) -> None:
    result = run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for option in cli.OPTIONS:
        assert f"--{option.long}" in result.stdout
    words = " ".join(result.stdout.split())
    for default in ("localhost:22221", "localhost:22222", "10", "3", "30", "300", "SUPERVISOR"):
        assert f"(default {default})" in words
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    assert run("-h").stdout == result.stdout
    assert run("-l", "nonsense", "--help").stdout == result.stdout


def test_version(run: Run) -> None:
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"ha-heartbeat {__version__}\n")


def test_through_a_symlink(run: Run, checkout: Path, tmp_path: Path) -> None:
    link = tmp_path / "anything"
    try:
        link.symlink_to(checkout / "ha_heartbeat.py")
    except OSError:
        pytest.skip("this user may not make symlinks here")
    assert run("--version", script=link).stdout == f"ha-heartbeat {__version__}\n"


@pytest.mark.parametrize("flags", [["-I"], ["-P"], ["-W", "error"]])
def test_isolated_and_with_warnings_as_errors(checkout: Path, flags: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, *flags, "ha_heartbeat.py", "--version"],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_as_a_module(checkout: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ha_heartbeat", "--version"],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.stdout == f"ha-heartbeat {__version__}\n"


def other_pythons() -> list[str]:
    """Other versions of Python on this machine that are to work, as far as they are found."""
    found: list[str] = []
    for version in ("3.11", "3.12", "3.13", "3.14"):
        if sys.version.startswith(version + "."):
            continue
        found += list(filter(None, [shutil.which(f"python{version}")]))
        pyenv = Path.home() / ".pyenv" / "versions"
        found += [str(path) for path in pyenv.glob(f"{version}.*/bin/python{version}")]
    return [python for python in found if answers(python)]


def answers(python: str) -> bool:
    """Whether it is a Python, and not a wrapper that only says that there is none."""
    try:
        return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def test_other_versions_of_python(run: Run) -> None:
    pythons = other_pythons()
    if not pythons:
        pytest.skip("no other supported version of Python was found")
    for python in pythons:
        assert run("--version", python=python).stdout == f"ha-heartbeat {__version__}\n"
        assert run("--help", python=python).stdout == run("--help").stdout
        assert run("-i", "nan", "ls", python=python).returncode == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_help_on_a_full_disk(checkout: Path) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, str(checkout / "ha_heartbeat.py"), "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr.startswith("ha-heartbeat: cannot write to stdout: No space left")
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="descriptors are closed by a POSIX shell")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_break_nothing(checkout: Path, closed: str) -> None:
    script = f'exec "$@" {closed}'
    for arguments, status in ((["--version"], 0), (["-i", "nan", "ls"], 2)):
        result = subprocess.run(
            ["sh", "-c", script, "sh", sys.executable, checkout / "ha_heartbeat.py", *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert result.returncode == status
        assert "Traceback" not in result.stderr


def test_interrupted_before_the_start(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_argv: object) -> cli.Parsed:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "parse", interrupted)
    assert cli.main([]) == 130
    assert capfd.readouterr() == ("", "")
