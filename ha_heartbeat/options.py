"""The table of a member's options: on the command line, and as keys of a file.

A key is the long option with underscores. What an option may be, and what it is by default, stands
in `config`; the two are tied by the name of the field in Config.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Option(NamedTuple):
    """One option. `name` is its field in Config; a flag has no `metavar`; `short` may be "".

    One that `repeats` may be given several times: its texts are joined by commas.
    """

    name: str
    short: str
    long: str
    metavar: str
    help: str
    example: str = ""
    repeats: bool = False

    @property
    def label(self) -> str:
        """What an error calls the option."""
        return f"-{self.short}/--{self.long}" if self.short else f"--{self.long}"

    @property
    def key(self) -> str:
        """What it is called in a file."""
        return self.long.replace("-", "_")


OPTIONS: Final = (
    Option("local", "l", "local", "HOST:PORT", "own address", "m1:22221"),
    Option("remote", "r", "remote", "HOST:PORT", "the peer's address", "m2:22222"),
    Option(
        "links",
        "",
        "links",
        "HOST:PORT",
        "another address of the peer, on another path; it is alive while one of them works; may be "
        "given several times",
        "m2-direct:22222",
        repeats=True,
    ),
    Option(
        "interval_test_s",
        "t",
        "interval-test",
        "SECONDS",
        "maximum interval between peer checks",
        "10",
    ),
    Option(
        "check_count",
        "",
        "check-count",
        "N",
        "failed checks of a dead peer before failover",
        "3",
    ),
    Option(
        "interval_commands_s",
        "i",
        "interval-commands",
        "SECONDS",
        "interval between command executions",
        "30",
    ),
    Option(
        "cadence",
        "",
        "cadence",
        "restart|continue",
        "a new worker runs the command at once, or when the last worker's next run is due",
        "continue",
    ),
    Option(
        "wait_for_serversocket_s",
        "w",
        "wait-for-serversocket",
        "SECONDS",
        "wait for the server socket to become available",
        "300",
    ),
    Option("mode", "m", "mode", "WORKER|SUPERVISOR", "start in this mode", "WORKER"),
    Option("fallback", "f", "fallback", "", "fall back to the peer once it is up again"),
    Option(
        "fallback_delay_s",
        "",
        "fallback-delay",
        "SECONDS",
        "for how long the peer must have been up again before it gets the role back",
        "60",
    ),
    Option(
        "witness",
        "",
        "witness",
        "URL",
        "a third vote: witness://HOST:PORT, http(s)://..., file:///PATH, or a kind "
        "that another package adds",
        "witness://m3:22220",
    ),
    Option(
        "takeover",
        "",
        "takeover",
        "silence|proof",
        "act on a silent peer, or on proof that it is dead only",
        "proof",
    ),
    Option(
        "distrust_refused",
        "",
        "distrust-refused",
        "",
        "treat a refused connection as silence (firewalls can refuse in a host's name)",
    ),
    Option(
        "fence",
        "",
        "fence",
        "COMMAND",
        "shell command that turns the peer off, exits 0 only then",
        "'ipmitool -H m2-bmc power off'",
    ),
    Option(
        "stop_timeout_s",
        "",
        "stop-timeout",
        "SECONDS",
        "from SIGTERM to SIGKILL when the command is stopped",
        "10",
    ),
    Option(
        "run_timeout_s",
        "",
        "run-timeout",
        "SECONDS",
        "longest time of a run; then it is stopped and counts as failed; 0: no limit",
        "600",
    ),
    Option(
        "vip",
        "",
        "vip",
        "ADDRESS/PREFIX@INTERFACE",
        "virtual address of the worker, added and announced before its first run, and removed when "
        "its term ends; may be given several times (Linux)",
        "192.0.2.10/24@eth0",
        repeats=True,
    ),
    Option(
        "on_worker",
        "",
        "on-worker",
        "COMMAND",
        "shell command that is run before the first run of a new worker; if it fails, the command "
        "does not run",
        "'mount /srv'",
    ),
    Option(
        "on_supervisor",
        "",
        "on-supervisor",
        "COMMAND",
        "shell command that undoes that, when the command has ended and before the role is given "
        "away",
        "'umount /srv'",
    ),
    Option(
        "hook_timeout_s",
        "",
        "hook-timeout",
        "SECONDS",
        "longest time of each of these three",
        "5",
    ),
    Option(
        "max_failures",
        "",
        "max-failures",
        "N",
        "hand over when N runs in a row have failed here, if the peer is fit; 0: never",
        "3",
    ),
    Option(
        "check",
        "",
        "check",
        "COMMAND",
        "shell command that exits 0 only when the service is well; hand over if it is not, "
        "if the peer is fit",
        "'curl -fsS http://localhost/'",
    ),
    Option(
        "check_interval_s",
        "",
        "check-interval",
        "SECONDS",
        "interval between health checks",
        "10",
    ),
    Option(
        "check_timeout_s",
        "",
        "check-timeout",
        "SECONDS",
        "a health check that takes longer has failed",
        "10",
    ),
    Option(
        "check_failures",
        "",
        "check-failures",
        "N",
        "failed health checks in a row before handing over",
        "3",
    ),
    Option("service", "", "name", "SERVICE", "name of the service, the same on both", "web"),
    Option("member", "", "member", "NAME", "name of this member", "m1"),
    Option(
        "state_dir",
        "",
        "state-dir",
        "DIR",
        "where to remember what must outlive a restart",
        "/var/lib/ha-heartbeat",
    ),
    Option("journal_days", "", "journal-days", "DAYS", "how long the journal keeps entries", "30"),
    Option("journal_mib", "", "journal-size", "MIB", "how large the journal may become", "100"),
    Option(
        "journal_output_bytes",
        "",
        "journal-output",
        "BYTES",
        "how much of the end of a run's output the journal keeps",
        "4096",
    ),
    Option("log_format", "", "log-format", "text|json", "how the log on stderr looks", "json"),
    Option("verbose", "v", "verbose", "", "log every check, too"),
    Option(
        "config",
        "",
        "config",
        "FILE",
        "carry the services of this TOML file; no command then, and of the options only those "
        "about the member itself",
        "/etc/ha-heartbeat.toml",
    ),
    Option("check_config", "", "check-config", "", "say what these options amount to, and exit"),
    Option("help", "h", "help", "", "show this help and exit"),
    Option("version", "", "version", "", "show the version and exit"),
)

BY_LONG: Final = {option.long: option for option in OPTIONS}
BY_SHORT: Final = {option.short: option for option in OPTIONS if option.short}

_SPELLED = re.compile(r"(?:-\w/)?--([a-z][a-z-]*[a-z])|(?<![\w-])-([a-z])(?![\w-])")


def with_keys(sentence: str) -> str:
    """The sentence as somebody reads it who writes a file: keys in it instead of options."""

    def spelled(found: re.Match[str]) -> str:
        option = BY_LONG.get(found[1]) if found[1] else BY_SHORT.get(found[2])
        return option.key if option else found[0]

    text = _SPELLED.sub(spelled, sentence)
    return text.replace("this option", "this key").replace("the option", "the key")
