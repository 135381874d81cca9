"""The command line of hbctl, from which help, completion and the manual page are made."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from ha_heartbeat import __version__
from ha_heartbeat.install import arguments

PROGRAM: Final = "hbctl"
DESCRIPTION: Final = (
    "Shows what the ha-heartbeat members of this machine and their peers do, and gives them orders."
)
EPILOG: Final = (
    "Exit status: 0 done; 1 refused, undone, a mistake or an overlap was found; 2 wrong usage; "
    "3 no member of that name runs here; 130 interrupted."
)


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def parse(words: Sequence[str] | None) -> Any:
    """Take the words apart. Raises SystemExit(2)."""
    parser = make_parser()
    args = parser.parse_args(words)
    known = {action.dest for action in commands_of(parser)[args.command]._actions}
    for action in parser._actions:
        if getattr(args, action.dest, action.default) != action.default and (
            action.dest not in known | {"command"}
        ):
            parser.error(f"{action.option_strings[0]} means nothing to {args.command}")
    return args


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of the commands, by name."""
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(commands.choices)


def make_parser() -> argparse.ArgumentParser:
    """The whole parser."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    _choosing(parser, "")
    _looks(parser, False, "auto")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _questions(commands)
    _history(commands)
    _orders(commands)
    _setting_up(commands)
    return parser


def _command(commands: Commands, name: str, help: str, description: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=help, description=description)


def _member(parser: argparse.ArgumentParser) -> None:
    """What chooses the member, and how the answer looks: the same for every command.

    Options stand before the command or after it, so what stands after it has no default of its own.
    """
    parser.add_argument(
        "service", nargs="?", default="", metavar="SERVICE", help="name of the service"
    )
    _choosing(parser, argparse.SUPPRESS)
    _looks(parser, argparse.SUPPRESS, argparse.SUPPRESS)


def _choosing(parser: argparse.ArgumentParser, default: str) -> None:
    add = parser.add_argument
    add("--name", default=default, metavar="SERVICE", help="name of the service")
    add("--local", default=default, metavar="HOST:PORT", help="the member that listens there")
    add(
        "--state-dir",
        default=default,
        metavar="DIR",
        help="where this machine's members keep state",
    )


def _looks(parser: argparse.ArgumentParser, json: bool | str, color: str) -> None:
    add = parser.add_argument
    add("--json", action="store_true", default=json, help="print JSON")
    add("--color", choices=("auto", "always", "never"), default=color, help="colours (auto)")


def _questions(commands: Commands) -> None:
    _member(
        _command(
            commands,
            "status",
            "the role here and there, since when, the last and the next run",
            "Show each member of this machine and what it knows of its peer.",
        )
    )
    watch = _command(
        commands,
        "watch",
        "the same, live",
        "Show the status again and again until Ctrl-C; in a pipe, only when it has changed.",
    )
    _member(watch)
    watch.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="pause (1)")
    _member(
        _command(
            commands,
            "explain",
            "who runs and why, and what would happen if something died now",
            "Say who runs and why, and follow the member's own rules through each loss.",
        )
    )
    logs = _command(
        commands,
        "logs",
        "one run: when, where, how it ended, and the last of its output",
        "Show one run, of this member or its peer.",
    )
    logs.add_argument("run", metavar="RUN", help="its name, as 7.3: the epoch, and a number in it")
    _member(logs)


def _history(commands: Commands) -> None:
    history = _command(
        commands,
        "history",
        "runs and changes of both members",
        "Show what the journal knows of both members, the latest last.",
    )
    _member(history)
    add = history.add_argument
    add("-n", "--limit", type=_count, default=30, metavar="N", help="the last N (30)")
    add("--runs", action="store_true", help="runs only")
    add("--changes", action="store_true", help="changes of role and the like only")
    add("--failed", action="store_true", help="runs that failed only")
    add("--member", default="", metavar="NAME", help="of this member only")
    add("--epoch", type=int, metavar="N", help="of this epoch only")
    add("--since", default="", metavar="TIME", help="90s, 15m, 2h, 7d, or a date as 2026-01-31")
    add("--overlaps", action="store_true", help="overlaps; exit status 1 if there ever was one")


def _count(word: str) -> int:
    """How many. Raises ArgumentTypeError."""
    if not word.isascii() or not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no number of entries; give one from 1 on")
    return int(word)


def _orders(commands: Commands) -> None:
    switch = _command(
        commands,
        "switchover",
        "move the role to the other member",
        "Move the role, from either machine, and wait; it is undone if it cannot be done.",
    )
    _member(switch)
    switch.add_argument("--to", default="", metavar="MEMBER", help="who is to be worker")
    pause = _command(
        commands,
        "pause",
        "hands off on both members: no run starts, nobody takes over",
        "Pause both members: the current run goes on, none starts, and the role stays.",
    )
    _member(pause)
    pause.add_argument("--reason", required=True, metavar="TEXT", help="why; everybody sees it")
    _member(_command(commands, "resume", "end the pause", "End the pause of both members."))
    drill = _command(
        commands,
        "drill",
        "a rehearsal: switchover there and back, with the measured gap",
        "Move the role to the other member and back, and say for how long nothing ran.",
    )
    _member(drill)
    drill.add_argument(
        "--stay", type=float, default=2.0, metavar="SECONDS", help="how long it stays there (2)"
    )
    _member(
        _command(
            commands,
            "reload",
            "have a member read its file again",
            "Read the file of --config again: what changed is applied, other services are left "
            "alone; a file with mistakes changes nothing.",
        )
    )
    run = _command(commands, "run", "run now: start a run at once", "Start a run on the worker.")
    run.add_argument("when", choices=("now",), help="at once")
    _member(run)


def _setting_up(commands: Commands) -> None:
    check = _command(
        commands,
        "check",
        "all mistakes in a member's file, or a table of its services",
        "Check a file that a member is to be started with (--config); no member has to run.",
    )
    check.add_argument("file", metavar="FILE", help="the TOML file")
    _looks(check, argparse.SUPPRESS, argparse.SUPPRESS)
    install = commands.add_parser(
        "install",
        help="make systemd units",
        description=arguments.DESCRIPTION,
        allow_abbrev=False,
    )
    arguments.add_to(install)
    made = _command(
        commands,
        "completion",
        "print a script that completes hbctl's words (needs shtab)",
        "Print a completion script: put it where the shell looks for such, or eval it.",
    )
    made.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")
