"""A file of services: what it amounts to, and every mistake in it with its line and its remedy."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as for_all
from hypothesis import strategies as st

from ha_heartbeat.config import MAX_CHECK_COUNT, Address, Config, ConfigError, Given, LogFormat
from ha_heartbeat.configfile import FileError, read_plan
from ha_heartbeat.core.types import Mode, TakeoverPolicy
from ha_heartbeat.plan import KEYS, MEMBER_WIDE, Plan
from ha_heartbeat.tomlfile import MAX_FILE_BYTES

HEAD = 'local = "m1:1"\nremote = "m2:2"\n'
"""Two lines that no test is about."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files have short names."""
    monkeypatch.chdir(tmp_path)


def plan(text: str, **overrides: str) -> Plan:
    Path("ha.toml").write_text(text, encoding="utf-8", newline="")
    return read_plan("ha.toml", {n: Given(t, f"--{KEYS[n]}") for n, t in overrides.items()})


def mistakes(text: str | bytes) -> list[str]:
    Path("ha.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FileError) as raised:
        read_plan("ha.toml")
    found = list(raised.value.sentences)
    assert str(raised.value).startswith(found[0])
    return found


def service(text: str, **overrides: str) -> Config:
    (config,) = plan(HEAD + "[services.web]\n" + text, **overrides).services
    return config


# -- what is accepted ------------------------------------------------------------------------------


def test_services_with_defaults() -> None:
    made = plan(
        HEAD
        + """
        [member]
        member = "m1"
        log_format = "json"
        [defaults]
        interval_test = 2
        check_count = 4
        [services.web]
        command = "serve --all"
        mode = "worker"
        check_count = 5
        [services."a.b"]
        command = ["ls", "-l", ""]
        fallback = true
        stop_timeout = 1e-1
        """
    )
    assert [config.service for config in made.services] == ["a.b", "web"]
    assert (made.local, made.remote) == (Address("m1", 1), Address("m2", 2))
    assert (made.member, made.log_format) == ("m1", LogFormat.JSON)
    first, second = made.services
    assert (first.command, first.fallback, first.stop_timeout_s) == (("ls", "-l", ""), True, 0.1)
    assert (first.interval_test_s, first.check_count, first.mode) == (2, 4, Mode.SUPERVISOR)
    assert (second.command, second.mode) == (("serve --all",), Mode.WORKER)
    assert (second.interval_test_s, second.check_count) == (2, 5)
    assert made.service("web") is second
    assert made.service("db") is None


WHOLE = {
    "local": '"m3:1"',
    "remote": '"[::1]:2"',
    "links": '["m4:2", "m5:2"]',
    "interval_test": "0.5",
    "check_count": "2",
    "interval_commands": "0.25",
    "cadence": '"continue"',
    "wait_for_serversocket": "0",
    "mode": '"Worker"',
    "fallback": "true",
    "takeover": '"PROOF"',
    "distrust_refused": "true",
    "fence": '"off m2"',
    "witness": '"file:///mnt/share/web.lease"',
    "fallback_delay": "60",
    "stop_timeout": "1e0",
    "run_timeout": "600",
    "vip": '["192.0.2.10/24@eth0", "2001:db8::a/64@eth0.7"]',
    "on_worker": '"mount /srv"',
    "on_supervisor": '"umount /srv"',
    "hook_timeout": "2",
    "max_failures": "0",
    "check": '"curl localhost"',
    "check_interval": "3",
    "check_timeout": "2",
    "check_failures": "4",
    "member": '"m1"',
    "state_dir": '"/srv/state"',
    "journal_days": "1.5",
    "journal_size": "2",
    "journal_output": "4096",
    "log_format": '"json"',
    "verbose": "true",
}


def test_every_option_has_its_key() -> None:
    fields = {key: name for name, key in KEYS.items()}
    assert WHOLE.keys() == fields.keys() - {"name"}
    top = [key for key in WHOLE if fields[key] in MEMBER_WIDE]
    rest = [key for key in WHOLE if fields[key] not in MEMBER_WIDE]
    lines = [f"{key} = {WHOLE[key]}" for key in top]
    lines += ["[services.web]", 'command = "ls"', *(f"{key} = {WHOLE[key]}" for key in rest)]
    (config,) = plan("\n".join(lines)).services
    usual = Config(command=("ls",), state_dir="x", member="x")
    for field in dataclasses.fields(Config):
        if field.name not in ("command", "max_failures"):
            assert getattr(config, field.name) != getattr(usual, field.name), field.name
    assert config.takeover is TakeoverPolicy.PROOF
    assert (config.wait_for_serversocket_s, config.journal_mib) == (0, 2)


def test_what_is_not_given_is_as_on_the_command_line() -> None:
    (config,) = plan('services.web.command = "ls"').services
    assert config == Config(service="web", command=("ls",))


def test_a_file_of_windows() -> None:
    assert plan('\ufeff[services.web]\r\ncommand = """a\r\nb"""\r\n').services[0].command == (
        "a\nb",
    )


def test_the_command_line_counts_for_the_member() -> None:
    config = service('command = "ls"', local="m2:2", remote="m1:1", verbose="on")
    assert (str(config.local), str(config.remote), config.verbose) == ("m2:2", "m1:1", True)
    with pytest.raises(ConfigError, match=r"^--local: 'x' has no port"):
        service('command = "ls"', local="x")


def test_an_override_heals_what_is_wrong_in_the_file() -> None:
    """Of the two addresses, not of a value that cannot be read."""
    text = 'local = "m1:1"\nremote = "m1:1"\n[services.web]\ncommand = "ls"'
    assert plan(text, remote="m2:2").remote == Address("m2", 2)


def test_with_a_witness_there_need_be_no_peer() -> None:
    made = plan('[defaults]\nwitness = "witness://m3:1"\n[services.web]\ncommand = "ls"')
    assert made.remote is None
    assert made.services[0].takeover is TakeoverPolicy.PROOF


def test_a_text_of_the_defaults_can_be_taken_back() -> None:
    made = plan(
        HEAD + '[defaults]\ncommand = "ls"\nwitness = "witness://m3:1"\ncheck = "x"\n'
        'check_interval = 3\n[services.a]\n[services.b]\nwitness = ""\ncheck = ""\n'
    )
    first, second = made.services
    assert (first.witness, first.check, first.check_interval_s) == ("witness://m3:1", "x", 3)
    assert (second.witness, second.check, second.check_interval_s) == ("", "", 10)
    assert second.takeover is TakeoverPolicy.SILENCE


def test_a_default_holds_for_those_that_it_can_be_about() -> None:
    made = plan(
        HEAD + '[defaults]\nfallback_delay = 60\n[services.a]\ncommand = "x"\n'
        '[services.b]\ncommand = "x"\nfallback = true\n'
    )
    assert [config.fallback_delay_s for config in made.services] == [0, 60]


def test_included_files_have_services_and_defaults_of_their_own() -> None:
    Path("d").mkdir()
    Path("d/b.toml").write_text('[services.b]\ncommand = "b"\n')
    Path("d/a.toml").write_text(
        '[defaults]\ncheck_count = 5\n[services.a]\ncommand = "a"\n[services.a2]\ncommand = "a"\n'
        "interval_test = 3\n"
    )
    Path("d/.c.toml").write_text("not read")
    Path("e.toml").write_text('include = ["d/*.toml"]\n')
    made = plan(
        'include = ["e.toml", "none-*.toml"]\n' + HEAD + "[defaults]\ninterval_test = 2\n"
        '[services.z]\ncommand = "z"\n'
    )
    assert [(c.service, c.check_count, c.interval_test_s) for c in made.services] == [
        ("a", 5, 2),
        ("a2", 5, 3),
        ("b", 3, 2),
        ("z", 3, 2),
    ]


# -- mistakes in a value or a key ------------------------------------------------------------------

SERVICE = HEAD + '[services.web]\ncommand = "ls"\n'
AT_5 = "ha.toml, line 5, services.web."


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("chekc_count = 3", "chekc_count: this key is unknown; did you mean check_count?"),
        ("check-count = 3", "check-count: this key is unknown; did you mean check_count?"),
        (
            "zzz = 3",
            "zzz: this key is unknown; a key is a long option of ha-heartbeat --help, with "
            "underscores",
        ),
        ('"a b" = 3', '"a b": this key is unknown; a key is a long option'),
        (
            'local = "m1:3"',
            "local: this belongs to the member; move it to the top of the file, or into [member]",
        ),
        ('name = "x"', "name: a service has the name of its table; leave this key out, or rename"),
        ("check_count = 0", "check_count: '0' is out of range; give a whole number from 1 to 1000"),
        ("check_count = 99999999999", "check_count: '99999999999' is out of range"),
        ("check_count = 3.0", "check_count: '3.0' is not a whole number; give"),
        ("check_count = '3'", "check_count: '3' does not fit; give a number without quotes, for"),
        ("check_count = true", "check_count: true does not fit; give a number without quotes"),
        ("check_count = [3]", "check_count: a list does not fit; give a number"),
        ("check_count = {a = 3}", "check_count: a table does not fit; give a number"),
        ("run_timeout = 1979-05-27", "run_timeout: 1979-05-27 does not fit; give a number"),
        ("interval_test = inf", "interval_test: 'inf' is not a number; give seconds from 0.001"),
        ("interval_test = 0", "interval_test: '0' is out of range; give seconds from 0.001"),
        ("fallback = 'on'", "fallback: 'on' does not fit; give true or false"),
        ("fallback = 1", "fallback: 1 does not fit; give true or false"),
        ("mode = 1", 'mode: 1 does not fit; give a text in quotes, for example "WORKER"'),
        ("mode = 'boss'", "mode: 'boss' is unknown; give worker or supervisor"),
        ("check = ''", "check: the command is empty; leave the key out or give a shell command"),
        ("on_supervisor = ' '", "that undoes what on_worker has set up"),
        (r'fence = "a\u0000"', "fence: a NUL character can be in no command and no name; leave it"),
        ("witness = 'm3'", "witness: 'm3' is no URL; give one, for example witness://m3:22220"),
        ("fallback_delay = 5", "fallback_delay: without fallback the role is not given back, so"),
        ("check_failures = 5", "no health check that it could be about; give one with check, or "),
        ("hook_timeout = 5", "hook that it could be about; give one with on_worker or on_superv"),
    ],
)
def test_a_line_that_is_wrong(line: str, expected: str) -> None:
    (found,) = mistakes(SERVICE + line)
    assert found.startswith(AT_5)
    assert expected in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("command = 3", "line 4, services.web.command: 3 does not fit; give a shell command in"),
        ("command = ''", "line 4, services.web.command: the command is empty; give one, for"),
        ("command = []", "line 4, services.web.command: the command is empty; give one, for"),
        ("command = ['a',\n 3]", "line 5, services.web.command[1]: 3 does not fit; give a shell"),
        (
            'command = ["a",\n"\\u0000"]',
            "line 5, services.web.command[1]: a NUL character can be in no command; leave it out",
        ),
        ("", 'line 3, services.web: this service has no command; add one, for example command = "'),
    ],
)
def test_a_command_that_is_wrong(text: str, expected: str) -> None:
    (found,) = mistakes(HEAD + "[services.web]\n" + text)
    assert found.startswith("ha.toml, " + expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lokal = 'm:1'", "line 1, lokal: this key is unknown; did you mean local?"),
        ("local = 'm'", "line 1, local: 'm' has no port; give HOST:PORT, for example m1:22221"),
        ("local = 22221", "line 1, local: 22221 does not fit; give a text in quotes, for example"),
        (
            "mode = 'worker'",
            "line 1, mode: this belongs to a service; move it into [services.NAME]",
        ),
        ("member = 3", 'line 1, member: 3 does not fit; give a text in quotes, for example "m1"'),
        ("member.name = 'x'", "line 1, member.name: this key is unknown; did you mean member?"),
        ("[service.a]\ncommand = 'x'", "line 1, service: this key is unknown; did you mean servi"),
        ("[[services]]\nname = 'x'", "line 1, services: a service has no name here; write [serv"),
        ("services.web = 'ls'", "line 1, services.web: this is no table; write [services.web]"),
        ("defaults = 3", "line 1, defaults: this is no table; write [defaults] above the keys"),
        ("[defaults]\nlocal = 'm:1'", "line 2, defaults.local: this belongs to the member; move"),
        ("[defaults]\nname = 'm'", "line 2, defaults.name: a service has the name of its table"),
        (
            "local = 'm1:1'\n[member]\nlocal = 'm1:2'",
            "line 3, member.local: this is given in line 1, too; leave one of the two out",
        ),
        (
            "[services.'a b']\ncommand = 'x'",
            "line 1, services.\"a b\": 'a b' has a blank or a control character; give one word",
        ),
        ("[services.' a']\ncommand = 'x'", 'line 1, services." a": the name has blanks at its en'),
        (
            '[services."a\\n\\""]\ncommand = "x"',
            'line 1, services."a\\u000a\\"": \'a\\n"\' has a blank or a control character;',
        ),
        ("[services.'']\ncommand = 'x'", 'line 1, services."": the name is empty;'),
        (
            "[defaults]\ncheck_interval = 3\n[services.a]\ncommand = 'x'",
            "line 2, defaults.check_interval: there is no health check that it could be about",
        ),
        ("include = 'x.toml'", "line 1, include: this is no list; give paths, as in"),
        ("include = [\n 3]", "line 2, include[0]: 3 is no path; give one in quotes"),
        ('include = ["\\u0000"]', "line 1, include[0]: '\\x00' is no path; give one in quotes"),
    ],
)
def test_a_table_that_is_wrong(text: str, expected: str) -> None:
    (found,) = mistakes(text)
    assert found.startswith("ha.toml, " + expected)


FRAGMENTS = (
    *(f"{key} = {value}\n" for key, value in WHOLE.items()),
    *("[services.a]\n", "[services.'b c']\n", "[defaults]\n", "[member]\n", "[[services]]\n"),
    *("command = 'x'\n", "command = []\n", "include = ['*.x']\n", "services = 3\n", "a.b = {}\n"),
    *("check_count = '3'\n", "mode = [3]\n", "witness = ''\n", "\0", "=", "'", '"""', "[", "{"),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # one file for all
@for_all(st.lists(st.sampled_from(FRAGMENTS), max_size=12))
def test_whatever_stands_in_a_file_it_is_a_plan_or_sentences(fragments: list[str]) -> None:
    told: tuple[str, ...] = ()
    commands = {("x",)}
    try:
        commands = {config.command for config in plan("".join(fragments)).services}
    except FileError as error:
        told = error.sentences or ("nothing",)
    assert commands == {("x",)}
    for sentence in told:
        assert sentence.startswith("ha.toml")
        assert sentence.isprintable()


# -- values that do not go together ----------------------------------------------------------------

TWO = "[services.a]\ncommand = 'x'\n[services.b]\ncommand = 'x'\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "local = 'm1:1'\nremote = 'M1:1'\n" + TWO,
            "line 2, remote: local and remote are both m1:1; give the peer's own address as remote",
        ),
        ("local = 'localhost:22222'\n" + TWO, "line 1, local: local and remote are both localhost"),
        (
            HEAD + TWO + "takeover = 'silence'\nwitness = 'witness://m3:1'",
            "line 7, services.b.takeover: silence and ha.toml, line 8, services.b.witness contradi",
        ),
        (
            TWO + "witness = 'witness://m3:1'",
            "line 1, services.a: this service has no witness, as others have, and the member has "
            "no peer; name the peer with remote, or add a witness",
        ),
        (
            "[defaults]\nwitness = 'witness://m3:1'\n" + TWO + "fallback = true",
            "line 7, services.b.fallback: without remote there is no peer that this could be "
            "about; name the peer, or leave this key out",
        ),
        (
            HEAD + "[defaults]\nwitness = 'witness://M2:2/'\n" + TWO,
            "line 4, defaults.witness: m2:2 is the remote address, too, and a witness has to be on",
        ),
        (
            HEAD + "[defaults]\nwitness = 'file:///mnt/x'\n" + TWO,
            "line 4, defaults.witness: 'file:///mnt/x' is the record of one service, and both a "
            "and b have it; give each one of its own",
        ),
    ],
)
def test_a_contradiction(text: str, expected: str) -> None:
    (found,) = mistakes(text)
    assert found.startswith("ha.toml, " + expected)


def test_one_witness_of_ours_serves_many() -> None:
    assert len(plan(HEAD + "[defaults]\nwitness = 'witness://m3:1'\n" + TWO).services) == 2


def test_all_mistakes_at_once_in_the_order_of_lines() -> None:
    found = mistakes(
        "lokal = 'm1:1'\nremote = 'm2'\n[services.a]\nmode = 'x'\n[services.b]\ncommand = 'x'\n"
        "check_interval = 3\n[defaults]\nfallback = 3\nzzz = 1\n"
    )
    lines = [int(sentence.split("line ")[1].split(",")[0]) for sentence in found]
    assert lines == [1, 2, 3, 4, 9, 10]


def test_nothing_follows_from_what_was_misspelt() -> None:
    """What could not be understood may have been what another key needs."""
    assert len(mistakes(SERVICE + "chekc = 'x'\ncheck_interval = 3\n")) == 1
    assert len(mistakes(HEAD + "[services.web]\ncomand = 'x'\n")) == 1
    assert len(mistakes("local = 'localhost:22222'\nremot = 'm2:2'\n" + TWO)) == 1


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "ha.toml: there is no service in it; add a table [services.NAME] with a command"),
        ("# nothing\n", "ha.toml: there is no service in it; add a table"),
        ("\n[services]\n", "ha.toml: there is no service in it; add a table"),
        (b"\na = '\xff'\n", "ha.toml, line 2: byte 0xff is no UTF-8, which TOML has to be; save"),
        ("\n\na = \n", "ha.toml, line 3: this is no TOML: "),
        ("a = [\n\n", "ha.toml, line 1: this is no TOML: "),
        ("a = " + "[" * 5000, "ha.toml, line 1: this is nested too deeply; make it flatter"),
        ("a = " + "9" * 5000, "ha.toml, line 1: this is no TOML: "),
        (
            "[services.a]\ncommand = 'x'\n\n[services.a]\n",
            "ha.toml, line 4: services.a is given here and in line 1; leave one of the two out, or",
        ),
        (
            "member = 1\n[member]\n",
            "ha.toml, line 2: member is given here and in line 1; leave one of the two",
        ),
    ],
)
def test_a_file_that_is_no_toml(text: str | bytes, expected: str) -> None:
    (found,) = mistakes(text)
    assert found.startswith(expected)
    assert "; " in found


def test_a_file_that_is_none(tmp_path: Path) -> None:
    def sentence(path: str) -> str:
        with pytest.raises(FileError) as raised:
            read_plan(path)
        return str(raised.value)

    assert sentence("x.toml") == "x.toml does not exist; give the path of a TOML file"
    assert sentence("") == "'' is no path; give the path of a TOML file"
    assert "is no path" in sentence("a\0")
    assert sentence(str(tmp_path)).endswith(" is a directory; give a file in it")
    if os.path.exists("/dev/zero"):
        assert "is no regular file, so it could be read once only; give a file" in sentence(
            "/dev/zero"
        )
    Path("large").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    assert "is larger than 4 MiB; divide it with include" in sentence("large")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read() -> None:
    Path("secret.toml").touch(mode=0)
    assert mistakes('include = ["secret.toml"]\n' + TWO) == [
        "ha.toml, line 1, include[0]: secret.toml cannot be read: permission denied; let this user "
        "read it"
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("x.toml", "x.toml does not exist; give the path of a TOML file"),
        ("d", "d is a directory; give a file in it"),
        (
            "none/*.toml",
            "the directory none cannot be read: no such file or directory; make it, or",
        ),
        ("ha.toml", "ha.toml would include itself; leave it out here"),
        ("*.toml", "ha.toml would include itself; leave it out here"),
        ("b/loop.toml", "would include itself; leave it out here"),
    ],
)
def test_an_include_that_is_wrong(pattern: str, expected: str) -> None:
    Path("d").mkdir()
    Path("b").mkdir()
    Path("b/loop.toml").write_text('include = [\n"../ha.toml"]\n')
    (found,) = mistakes(f'\ninclude = ["{pattern}"]\n{TWO}')
    place = "b/loop.toml, line 2" if "loop" in pattern else "ha.toml, line 2"
    assert found.startswith(f"{place}, include[0]: ")
    assert expected in found


def test_one_service_in_two_files_and_one_file_twice() -> None:
    Path("a.toml").write_text("\n[services.b]\ncommand = 'x'\n")
    Path("b.toml").write_text("[services.c]\ncommand = 'x'\n")
    assert mistakes('include = ["a.toml", "b.toml", "./b.toml"]\n' + TWO) == [
        "ha.toml, line 1, include[2]: ./b.toml is included in ha.toml, line 1, include[1] already; "
        "leave one out",
        "a.toml, line 2, services.b: this service is in ha.toml, line 4, services.b already; leave "
        "one of the two out, or rename it",
    ]


def test_what_may_not_stand_in_an_included_file() -> None:
    Path("a.toml").write_text("local = 'm1:1'\nlokal = 3\nmode = 'worker'\n[member]\n")
    Path("b.toml").write_text("[services.c]\ncommand = 3\n")
    Path("c.toml").write_text("[services.c\n")
    found = mistakes('include = ["a.toml", "b.toml", "c.toml"]\n' + TWO)
    assert [sentence.partition(": ")[::2] for sentence in found] == [
        ("a.toml, line 1, local", "this belongs to the member; move it to ha.toml"),
        (
            "a.toml, line 2, lokal",
            "this key is unknown; a key is a long option of ha-heartbeat --help, with underscores",
        ),
        (
            "a.toml, line 3, mode",
            "this belongs to a service; move it into [services.NAME], or into [defaults]",
        ),
        ("a.toml, line 4, member", "this belongs to the member; move it to ha.toml"),
        (
            "b.toml, line 2, services.c.command",
            "3 does not fit; give a shell command in quotes, or a list of a program and its "
            "arguments, each in quotes",
        ),
        ("c.toml, line 1", found[-1].partition(": ")[2]),
    ]


def test_the_limit_is_that_of_the_command_line() -> None:
    """The rule stands in one place."""
    assert service(f'command = "x"\ncheck_count = {MAX_CHECK_COUNT}').check_count == MAX_CHECK_COUNT
    assert mistakes(f"{SERVICE}check_count = {MAX_CHECK_COUNT + 1}")
