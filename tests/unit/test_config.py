"""What is accepted, what is refused, and in which words."""

from __future__ import annotations

import dataclasses
import os
import re

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from ha_heartbeat.config import (
    MAX_COMMAND_TEXT_CHARS,
    Address,
    Config,
    ConfigError,
    Given,
    LogFormat,
    comparable,
    default_state_dir,
    make_config,
    read_address,
)
from ha_heartbeat.core.types import Cadence, Mode, TakeoverPolicy


def make(command: tuple[str, ...] = ("ls -l",), **texts: str) -> Config:
    return make_config({name: Given(text, f"--{name}") for name, text in texts.items()}, command)


def test_the_defaults_are_those_of_the_published_script() -> None:
    config = make()
    assert str(config.local) == "localhost:22221"
    assert str(config.remote) == "localhost:22222"
    assert (config.interval_test_s, config.check_count) == (10.0, 3)
    assert (config.interval_commands_s, config.wait_for_serversocket_s) == (30.0, 300.0)
    assert (config.mode, config.fallback, config.verbose) == (Mode.SUPERVISOR, False, False)
    assert config.takeover is TakeoverPolicy.SILENCE
    assert config.stop_timeout_s == 10.0
    assert config.member == "localhost:22221"


def test_every_field_has_a_reader_and_a_config_cannot_be_changed() -> None:
    texts = {
        "local": "m1:1",
        "remote": "m2:65535",
        "links": "m2-a:2, m2-b:2",
        "interval_test_s": "0.5",
        "check_count": "2",
        "interval_commands_s": ".25",
        "wait_for_serversocket_s": "0",
        "mode": "Worker",
        "fallback": "on",
        "takeover": "PROOF",
        "distrust_refused": "on",
        "fence": "off m2",
        "witness": "file:///mnt/share/web.lease",
        "fallback_delay_s": "60",
        "stop_timeout_s": "1e1",
        "run_timeout_s": "600",
        "cadence": "Continue",
        "vip": "192.0.2.10/24@eth0,2001:DB8::a/64@eth0.7",
        "on_worker": "mount /srv",
        "on_supervisor": "umount /srv",
        "hook_timeout_s": "2",
        "max_failures": "0",
        "check": "curl localhost",
        "check_interval_s": "3",
        "check_timeout_s": "2",
        "check_failures": "5",
        "service": "web",
        "member": "m1",
        "state_dir": "/tmp/x",
        "journal_days": "0.5",
        "journal_mib": "10",
        "journal_output_bytes": "4096",
        "log_format": "json",
        "verbose": "off",
    }
    config = make(("ls", "-l"), **texts)
    assert set(texts) | {"command"} == {field.name for field in dataclasses.fields(Config)}
    assert config == Config(
        local=Address("m1", 1),
        remote=Address("m2", 65535),
        links=(Address("m2-a", 2), Address("m2-b", 2)),
        interval_test_s=0.5,
        check_count=2,
        interval_commands_s=0.25,
        wait_for_serversocket_s=0.0,
        mode=Mode.WORKER,
        fallback=True,
        takeover=TakeoverPolicy.PROOF,
        distrust_refused=True,
        fence="off m2",
        witness="file:///mnt/share/web.lease",
        fallback_delay_s=60.0,
        stop_timeout_s=10.0,
        run_timeout_s=600.0,
        cadence=Cadence.CONTINUE,
        vip=("192.0.2.10/24@eth0", "2001:db8::a/64@eth0.7"),
        on_worker="mount /srv",
        on_supervisor="umount /srv",
        hook_timeout_s=2.0,
        max_failures=0,
        check="curl localhost",
        check_interval_s=3.0,
        check_timeout_s=2.0,
        check_failures=5,
        service="web",
        member="m1",
        state_dir="/tmp/x",
        journal_days=0.5,
        journal_mib=10.0,
        journal_output_bytes=4096,
        log_format=LogFormat.JSON,
        command=("ls", "-l"),
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.member = "m2"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("192.0.2.10", "has no prefix length or no interface"),
        ("192.0.2.10@eth0", "has no prefix length or no interface"),
        ("192.0.2.10/24@", "has no usable name of an interface"),
        ("192.0.2.10/24@eth0/1", "has no usable name of an interface"),
        ("192.0.2.10/24@sixteen-letters-", "has no usable name of an interface"),
        ("192.0.2.10/24@eth 0", "has no usable name of an interface"),
        ("m1/24@eth0", "has no IP address"),
        ("192.0.2.10/33@eth0", "needs a prefix length from 1 to 32"),
        ("192.0.2.10/0@eth0", "needs a prefix length from 1 to 32"),
        ("2001:db8::1/129@eth0", "needs a prefix length from 1 to 128"),
        ("fe80::1%eth0/64@eth0", "has a zone"),
        ("224.0.0.18/24@eth0", "is no address that one machine"),
        ("127.0.0.1/8@lo", "is no address that one machine"),
        ("192.0.2.0/24@eth0", "is the first or the last of its network"),
        ("192.0.2.255/24@eth0", "is the first or the last of its network"),
        ("192.0.2.10/24@eth0,192.0.2.10/32@eth1", "192.0.2.10 is given twice"),
        ("192.0.2.10/24@eth0,", "has no prefix length or no interface"),
    ],
)
def test_no_virtual_addresses(text: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong) as caught:
        make(vip=text)
    assert str(caught.value).startswith("--vip: ")


def test_virtual_addresses_are_the_first_step() -> None:
    assert make(vip="192.0.2.10/32@eth0", on_worker="true").steps == ("vip", "on-worker")
    assert make(vip="192.0.2.0/31@eth0").settings().leaves_traces
    assert not make(on_worker="true").settings().leaves_traces
    assert make(vip="192.0.2.10/32@eth0", hook_timeout_s="2").hook_timeout_s == 2


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("m1:22221", ("m1", 22221), "m1:22221"),
        ("M1.Example.:1", ("m1.example.", 1), "m1.example.:1"),
        ("192.0.2.1:65535", ("192.0.2.1", 65535), "192.0.2.1:65535"),
        ("[::1]:22221", ("::1", 22221), "[::1]:22221"),
        ("[2001:DB8::0001]:80", ("2001:db8::1", 80), "[2001:db8::1]:80"),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80), "[fe80::1%eth0]:80"),
        ("bücher.example:80", ("bücher.example", 80), "bücher.example:80"),
    ],
)
def test_addresses(text: str, address: tuple[str, int], shown: str) -> None:
    read = read_address(Given(text, "-l/--local"))
    assert read == address
    assert str(read) == shown


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "no port"),
        ("m1", "no port"),
        (":22221", "no host"),
        ("::1", "brackets"),
        ("fe80::1:22221", "brackets"),
        ("m1:", "port number belongs"),
        ("m1:http", "port number belongs"),
        ("m1:22221.5", "port number belongs"),
        ("m1:٣", "port number belongs"),
        ("http://m1:22221", "port number belongs"),
        ("m1:0", "1 to 65535"),
        ("m1:-1", "1 to 65535"),
        ("m1:65536", "1 to 65535"),
        ("m 1:22221", "' ' in its host"),
        ("m1\n:22221", "in its host"),
        ("root@m1:22221", "'@' in its host"),
        ("\udcff:22221", "in its host"),
        ("a..b:22221", "empty part"),
        ("." * 3 + ":1", "empty part"),
        ("a" * 64 + ":22221", "too long"),
        (".".join(["abcdefg"] * 40) + ":22221", "too long"),
        ("[::1]", "no port after the bracket"),
        ("[::1]22221", "no port after the bracket"),
        ("[::1:22221", "closing bracket"),
        ("[m1]:22221", "no IPv6 address"),
        ("[]:22221", "no IPv6 address"),
        ("[\0]:22221", "no IPv6 address"),
        ("[fe80::1%]:22221", "zone"),
    ],
)
def test_bad_addresses_are_refused_in_one_sentence(text: str, wrong: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make(local=text)
    sentence = str(refused.value)
    assert sentence.startswith("--local: ")
    assert wrong in sentence
    assert "m1:22221" in sentence
    assert "\n" not in sentence


@for_all(st.text())
def test_any_text_is_an_address_or_a_sentence(text: str) -> None:
    try:
        address = read_address(Given(text, "-l"))
    except ConfigError:
        return
    assert read_address(Given(str(address), "-l")) == address
    assert len(str(address)) <= 255  # what a name on the wire may have


SPANS = ["interval_test_s", "interval_commands_s", "stop_timeout_s", "wait_for_serversocket_s"]


@pytest.mark.parametrize("name", SPANS)
@pytest.mark.parametrize(
    "text", ["", "x", "10s", "1,5", "nan", "inf", "-inf", "-1", "1e9", "1_0", "٣", "0x1", "1e9999"]
)
def test_bad_spans_are_refused_with_the_range(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"--{name}: .* from 0(.001)? to 31536000"):
        make(**{name: text})


def test_only_the_wait_may_be_zero() -> None:
    assert make(wait_for_serversocket_s="-0").wait_for_serversocket_s == 0
    for name in SPANS[:3]:
        with pytest.raises(ConfigError, match=r"out of range; give seconds from 0\.001"):
            make(**{name: "0"})


@pytest.mark.parametrize("text", ["0", "-1", "1001", "3.0", "three", "", "9" * 5000])
def test_bad_check_counts(text: str) -> None:
    with pytest.raises(ConfigError, match="from 1 to 1000"):
        make(check_count=text)


def test_choices_name_what_there_is() -> None:
    with pytest.raises(ConfigError, match="'boss' is unknown; give worker or supervisor"):
        make(mode="boss")
    with pytest.raises(ConfigError, match="give silence or proof"):
        make(takeover="")
    with pytest.raises(ConfigError, match="give text or json"):
        make(log_format="xml")
    with pytest.raises(ConfigError, match="neither on nor off"):
        make(fallback="perhaps")


@pytest.mark.parametrize("text", ["", " ", "a b", "a\nb", "\x1b[1m", "x" * 65, "\udcff"])
def test_bad_names(text: str) -> None:
    for name in ("service", "member"):
        with pytest.raises(ConfigError, match=f"--{name}: "):
            make(**{name: text})


def test_other_texts_that_say_nothing() -> None:
    for name in ("fence", "state_dir"):
        with pytest.raises(ConfigError, match="leave the option out"):
            make(**{name: ""})


def test_both_addresses_the_same_however_they_are_spelled() -> None:
    with pytest.raises(ConfigError, match=r"both m1:22221; .*--remote"):
        make(local="m1:22221", remote="M1:22221")
    with pytest.raises(ConfigError, match="both"):
        make(local="[::1]:1", remote="[0:0::1]:1")


@pytest.mark.parametrize("command", [(), ("",), ("  ",), ("", "x")])
def test_no_command(command: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="the command is missing"):
        make(command)


def test_ranks_differ_and_epochs_cannot_collide() -> None:
    one = make(local="m1:22221", remote="M2:22222").settings()
    two = make(local="m2:22222", remote="m1:22221").settings()
    assert (one.rank, two.rank) == (0, 1)
    assert one.peer == two.member


def test_the_command_is_compared_as_text() -> None:
    assert make(("dir c:",)).settings().command == "dir c:"
    assert make(("ls", "a b")).settings().command == "ls 'a b'"


def test_a_long_command_keeps_its_differences() -> None:
    one, two = comparable("x" * 5000 + "1"), comparable("x" * 5000 + "2")
    assert one != two
    assert len(one) == len(two) == MAX_COMMAND_TEXT_CHARS
    assert comparable("x" * MAX_COMMAND_TEXT_CHARS) == "x" * MAX_COMMAND_TEXT_CHARS


def test_a_command_that_is_not_utf_8_can_be_compared() -> None:
    assert comparable("ls \udcff").encode("utf-8") == b"ls \\xff"


@pytest.mark.skipif(os.name == "nt", reason="the place is another one on Windows")
def test_the_default_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_state_dir() == "/var/lib/ha-heartbeat"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/m")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert default_state_dir() == "/home/m/.local/state/ha-heartbeat"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert default_state_dir() == "/home/m/.local/state/ha-heartbeat"
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_state_dir() == "/state/ha-heartbeat"
    assert make().state_dir == "/state/ha-heartbeat"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "nowhere")
    with pytest.raises(ConfigError, match="--state-dir"):
        make()


def test_a_run_without_a_limit_is_one_without_an_end() -> None:
    assert make().settings().run_timeout_s == float("inf")
    assert make(run_timeout_s="0").settings().run_timeout_s == float("inf")
    assert make(run_timeout_s="2.5").settings().run_timeout_s == 2.5


def test_a_delay_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"fallback_delay_s: .*add -f, or leave this option out"):
        make(fallback_delay_s="60")


@pytest.mark.parametrize("name", ["check_interval_s", "check_timeout_s", "check_failures"])
def test_a_detail_of_no_check_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"--{name}: .*give one with --check"):
        make(**{name: "2"})


@pytest.mark.parametrize(("name", "text"), [("max_failures", "-1"), ("check_failures", "0")])
def test_numbers_of_failures_have_a_range(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match="is out of range; give a whole number from"):
        make(check="true", **{name: text})


def test_an_empty_check_is_refused() -> None:
    with pytest.raises(ConfigError, match="exits with 0 only when the service is well"):
        make(check=" ")


def test_a_time_limit_of_no_hook_is_refused() -> None:
    with pytest.raises(ConfigError, match="give one with --on-worker or --on-supervisor"):
        make(hook_timeout_s="2")


@pytest.mark.parametrize("url", ["witness://m1:1", "witness://M1:1/", "witness://m2:2"])
def test_a_witness_at_an_address_of_the_pair_is_none(url: str) -> None:
    """`m1:1` and `m2:2` are the two members."""
    with pytest.raises(ConfigError, match=r"^--witness: m[12]:[12] is the (local|remote) address"):
        make(local="m1:1", remote="m2:2", witness=url)
    assert make(local="m1:1", remote="m2:2", witness="witness://m1:3").witness


def test_a_long_number_is_out_of_range() -> None:
    with pytest.raises(ConfigError, match="'99999999999' is out of range; give a whole number"):
        make(check_count="99999999999")


@pytest.mark.parametrize(
    ("links", "wrong"),
    [
        ("m2:2", "--links: m2:2 is what --remote says already"),
        ("m1:1", "--links: m1:1 is the local address"),
        ("m2-a", "'m2-a' has no port"),
        ("", "'' has no port"),
    ],
)
def test_links_that_lead_nowhere(links: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(wrong)):
        make(("ls",), local="m1:1", remote="m2:2", links=links)
