"""Wrong usage: one sentence on stderr that says what to do, and exit status 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

Refused: TypeAlias = Callable[..., str]

HERE = ("-l", "m1:22221", "-r", "m2:22222")


def test_no_command(refused: Refused) -> None:
    for arguments in ((), HERE, (*HERE, "--"), (*HERE, ""), ("-v",)):
        sentence = refused(*arguments)
        assert sentence.startswith("the command is missing; give it after the options, as in: ")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--interval-tests=5", "--interval-test"),
        ("--inter", "--interval-test or --interval-commands"),
        ("--fallbak", "--fallback"),
        ("--take-over", "--takeover"),
        ("--lokal", "--local"),
        ("--Mode", "--mode"),
        ("-mode=worker", None),
        ("--zzz", None),
        ("-x", None),
        ("-vx", None),
        ("--\n\x1b[31m", None),
    ],
)
def test_unknown_options(refused: Refused, word: str, meant: str | None) -> None:
    sentence = refused(word, "ls")
    if word == "-mode=worker":  # -m with the value "ode=worker"
        assert sentence.startswith("-m/--mode: 'ode=worker' is unknown")
    elif meant:
        assert sentence == f"unknown option {word.partition('=')[0]!r}; did you mean {meant}?"
    else:
        assert sentence.startswith("unknown option ")
        assert sentence.endswith("see ha-heartbeat --help")


@pytest.mark.parametrize(
    "word", ["-l", "--local", "-vl", "-t", "--check-count", "--name", "--fence", "--log-format"]
)
def test_an_option_without_its_value(refused: Refused, word: str) -> None:
    assert "needs a value (" in refused(word)


def test_a_flag_with_a_value(refused: Refused) -> None:
    assert refused("--fallback=yes", "ls") == ("-f/--fallback takes no value; leave the '=yes' out")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("-l", "m1", "-l/--local: 'm1' has no port; give HOST:PORT, for example m1:22221"),
        ("-r", ":22221", "-r/--remote: ':22221' has no host before the colon"),
        ("-r", "::1", "an IPv6 address needs brackets around it; give HOST:PORT, for example"),
        ("-l", "m1:0", "ports go from 1 to 65535"),
        ("-l", "m1:65536", "ports go from 1 to 65535"),
        ("-l", "m1:x", "'x' where the port number belongs"),
        ("-l", "", "-l/--local: '' has no port"),
        ("-t", "0", "-t/--interval-test: '0' is out of range; give seconds from 0.001 to 31536000"),
        ("-t", "-1", "-t/--interval-test: '-1' is out of range"),
        ("-i", "nan", "-i/--interval-commands: 'nan' is not a number; give seconds from"),
        ("-i", "inf", "-i/--interval-commands: 'inf' is not a number"),
        ("-w", "-0.1", "-w/--wait-for-serversocket: '-0.1' is out of range; give seconds from 0 "),
        ("-w", "soon", "-w/--wait-for-serversocket: 'soon' is not a number"),
        ("--stop-timeout", "0", "--stop-timeout: '0' is out of range"),
        ("--check-count", "0", "--check-count: '0' is out of range; give a whole number from 1"),
        ("--check-count", "1.5", "--check-count: '1.5' is not a whole number"),
        ("-m", "boss", "-m/--mode: 'boss' is unknown; give worker or supervisor"),
        ("--takeover", "never", "--takeover: 'never' is unknown; give silence or proof"),
        ("--log-format", "xml", "--log-format: 'xml' is unknown; give text or json"),
        ("--name", "a b", "--name: 'a b' has a blank or a control character"),
        ("--member", "", "--member: the name is empty"),
        ("--fence", " ", "--fence: the command is empty"),
        ("--state-dir", "", "--state-dir: '' is no directory's name"),
    ],
)
def test_bad_values_name_the_option(refused: Refused, option: str, value: str, said: str) -> None:
    assert said in refused(option, value, "ls")


def test_both_addresses_the_same(refused: Refused) -> None:
    assert "both m1:22221" in refused("-l", "m1:22221", "-r", "m1:22221", "ls")
    assert "both localhost:22222" in refused("-l", "localhost:22222", "ls")
