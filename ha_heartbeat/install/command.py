"""The command line of the installer: the options of a member or a witness in, their unit out.

Exit status: 0 done; 1 not written, or the program would not start like this; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from ha_heartbeat import cli
from ha_heartbeat.config import Config, ConfigError, Given, make_config, read_address
from ha_heartbeat.install import __file__ as _own_file
from ha_heartbeat.install import units
from ha_heartbeat.install.quoting import QuotingError
from ha_heartbeat.install.units import Unit
from ha_heartbeat.install.writing import SYSTEM_DIR, WriteError, write

PROGRAM: Final = "python3 -m ha_heartbeat.install"
EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}|\d{1,10}", re.ASCII)
_UNIT = re.compile(r"[A-Za-z0-9:_.\\-]{1,247}", re.ASCII)
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(_own_file))))


class InstallError(Exception):
    """What was asked for cannot be made; the text is one sentence for the operator."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}; see {self.prog} --help\n")
        raise SystemExit(EXIT_USAGE)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=prog,
        description="Make a systemd unit for a member or a witness out of its own options.",
        epilog=f'example: {prog} --write member -l m1:22221 -r m2:22222 "ls -l"',
        allow_abbrev=False,
    )
    parser.add_argument("what", choices=("member", "witness"), help="which of the two programs")
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="options...",
        help="its options, and a member's command, as on its own command line",
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--write", action="store_true", help=f"write the unit into {SYSTEM_DIR}")
    place.add_argument("--to", metavar="DIR", default="", help="write the unit into DIR")
    parser.add_argument(
        "--force", action="store_true", help="replace a file that this program did not make"
    )
    parser.add_argument("--unit", metavar="NAME", default="", help="name of the unit")
    parser.add_argument(
        "--user", metavar="USER", default="", help="run as this user (default: a member as root)"
    )
    parser.add_argument(
        "--program",
        metavar="WORDS",
        default="",
        help="how the program is started (default: as this one was)",
    )
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = PROGRAM) -> int:
    """Print or write the unit that `arguments` describe; the exit status. Raises SystemExit(2)."""
    options = _parser(prog).parse_args(arguments)
    try:
        unit = _unit(options)
        if not (options.write or options.to):
            sys.stdout.write(unit.text)
            return EXIT_OK
        done = write(unit, options.to or SYSTEM_DIR, force=options.force)
    except (cli.UsageError, ConfigError, QuotingError) as error:
        return _fail(prog, str(error), EXIT_USAGE)
    except (InstallError, WriteError) as error:
        return _fail(prog, str(error), EXIT_FAILED)
    sys.stdout.write(f"{done}.\n")
    if options.write:
        sys.stdout.write(
            f"To start it: systemctl daemon-reload && systemctl enable --now {unit.name}\n"
        )
    return EXIT_OK


def unit_for(arguments: Sequence[str]) -> Unit:
    """The unit that `arguments` describe.

    Raises UsageError, ConfigError, QuotingError and InstallError, and SystemExit(2) as `main` does.
    """
    return _unit(_parser(PROGRAM).parse_args(arguments))


def _unit(options: argparse.Namespace) -> Unit:
    if options.user and not _USER.fullmatch(options.user):
        raise ConfigError(f"--user: {options.user!r} is no user's name; give one, for example web")
    if options.unit and not _UNIT.fullmatch(options.unit.removesuffix(".service")):
        raise ConfigError(
            f"--unit: {options.unit!r} is no unit's name; give letters, digits and :-_. only"
        )
    try:
        program = shlex.split(options.program)
    except ValueError as error:
        raise ConfigError(f"--program: {options.program!r} has an open quote") from error
    make = _member if options.what == "member" else _witness
    return make(options, program)


# -- a member --------------------------------------------------------------------------------------


def _member(options: argparse.Namespace, program: list[str]) -> Unit:
    config, words = _read_member(options.words)
    name = units.unit_name(config.service)
    if options.unit:
        name = options.unit.removesuffix(".service") + ".service"
    return units.member_unit(config, program or own_program(), words, name=name, user=options.user)


def _read_member(words: Sequence[str]) -> tuple[Config, list[str]]:
    """What a member's words amount to, and the words for the unit, with a place for its state."""
    parsed = cli.parse(words)
    if parsed.show:
        option = parsed.show.replace("_", "-")
        raise cli.UsageError(f"--{option} starts no member; leave it out")
    given, whole = dict(parsed.given), list(words)
    if "state_dir" not in given:
        given["state_dir"] = Given(units.STATE_DIR, "--state-dir")
        whole = ["--state-dir", units.STATE_DIR, *whole]
    elif not os.path.isabs(given["state_dir"].text):
        raise ConfigError(
            f"{given['state_dir'].source}: {given['state_dir'].text!r} would be looked for in /; "
            "give an absolute path"
        )
    config = make_config(given, parsed.command)
    from ha_heartbeat.core import bounds

    found = bounds.objections(config.settings())
    if config.witness and found:
        raise InstallError(found[0])
    return config, whole


def own_program() -> list[str]:
    """How to start a member of this very program: from a zip file, a checkout, or installed."""
    python = os.path.abspath(sys.executable)
    if os.path.isfile(_ROOT):
        return [python, _ROOT]
    script = os.path.join(_ROOT, "ha_heartbeat.py")
    if os.path.isfile(script):
        return [python, script]
    beside = os.path.join(os.path.dirname(python), "ha-heartbeat")
    return [beside] if os.access(beside, os.X_OK) else [python, "-m", "ha_heartbeat"]


# -- a witness -------------------------------------------------------------------------------------


def _witness(options: argparse.Namespace, program: list[str]) -> Unit:
    from ha_heartbeat.witness_server import cli as witness_cli

    given = witness_cli.read(options.words)
    listen = read_address(Given(given.listen, "--listen"))
    words = list(options.words)
    store = given.store
    if not store:
        store = units.WITNESS_STORE
        words += ["--store", store]
    elif not os.path.isabs(store):
        raise ConfigError(f"--store: {store!r} would be looked for in /; give an absolute path")
    store = os.path.normpath(store)
    own = os.path.dirname(store) == os.path.dirname(units.WITNESS_STORE)
    if not own and not options.user:
        raise ConfigError(
            f"--store: {store} needs a user that owns its directory; give one with --user, or "
            "leave --store out"
        )
    name = options.unit.removesuffix(".service") or "ha-heartbeat-witness"
    return units.witness_unit(
        listen,
        program or _own_witness(),
        words,
        name=f"{name}.service",
        store=store,
        user=options.user,
    )


def _own_witness() -> list[str]:
    beside = os.path.join(os.path.dirname(os.path.abspath(sys.executable)), "ha-heartbeat-witness")
    if os.access(beside, os.X_OK):
        return [beside]
    raise InstallError(
        "there is no ha-heartbeat-witness beside this Python; install it with "
        "pip install 'ha-heartbeat[witness]', or say how to start it with --program"
    )


def _fail(prog: str, sentence: str, status: int) -> int:
    sys.stderr.write(f"{prog}: {sentence}\n")
    return status
