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
from ha_heartbeat.config import ConfigError, Given, default_state_dir, read_address
from ha_heartbeat.install import __file__ as _own_file
from ha_heartbeat.install import arguments, units
from ha_heartbeat.install.arguments import SYSTEM_DIR
from ha_heartbeat.install.quoting import QuotingError
from ha_heartbeat.install.units import Unit
from ha_heartbeat.install.writing import WriteError, write
from ha_heartbeat.options import with_keys
from ha_heartbeat.plan import Plan

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
        description=arguments.DESCRIPTION,
        epilog=f'example: {prog} --write member -l m1:22221 -r m2:22222 "ls -l"',
        allow_abbrev=False,
    )
    arguments.add_to(parser)
    return parser


def main(words: Sequence[str] | None = None, prog: str = PROGRAM) -> int:
    """Print or write the unit that `words` describe; the exit status. Raises SystemExit(2)."""
    return run(_parser(prog).parse_args(words), prog)


def run(options: argparse.Namespace, prog: str) -> int:
    """The same for words that were taken apart by a parser that has them among its own."""
    try:
        unit = _unit(options)
        if not (options.write or options.to):
            sys.stdout.write(unit.text)
            return EXIT_OK
        done = write(unit, options.to or SYSTEM_DIR, force=options.force)
    except ConfigError as error:
        return _fail(prog, error.sentences, EXIT_USAGE)
    except (cli.UsageError, QuotingError) as error:
        return _fail(prog, [str(error)], EXIT_USAGE)
    except (InstallError, WriteError) as error:
        return _fail(prog, [str(error)], EXIT_FAILED)
    sys.stdout.write(f"{done}.\n")
    if options.write:
        sys.stdout.write(
            f"To start it: systemctl daemon-reload && systemctl enable --now {unit.name}\n"
        )
    return EXIT_OK


def unit_for(words: Sequence[str]) -> Unit:
    """The unit that `words` describe.

    Raises UsageError, ConfigError, QuotingError and InstallError, and SystemExit(2) as `main` does.
    """
    return _unit(_parser(PROGRAM).parse_args(words))


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
    parsed, words = _read_member(options.words)
    plan = cli.plan_of(parsed)
    _refuse_what_would_not_start(plan, is_file=parsed.file is not None)
    file = parsed.file.text if parsed.file else ""
    name = units.unit_name("default" if file else plan.services[0].service)
    if options.unit:
        name = options.unit.removesuffix(".service") + ".service"
    return units.member_unit(
        plan, program or own_program(), words, name=name, user=options.user, file=file
    )


def _refuse_what_would_not_start(plan: Plan, *, is_file: bool) -> None:
    from ha_heartbeat.core import bounds

    for config in plan.services:
        found = bounds.objections(config.settings())
        if config.witness and found:
            raise InstallError(f"{config.service}: {with_keys(found[0])}" if is_file else found[0])


def _read_member(words: Sequence[str]) -> tuple[cli.Parsed, list[str]]:
    """A member's words taken apart, and those for the unit, with a place for its state."""
    parsed = cli.parse(words)
    if parsed.show:
        option = parsed.show.replace("_", "-")
        raise cli.UsageError(f"--{option} starts no member; leave it out")
    given, whole = dict(parsed.given), list(words)
    if parsed.file:
        _refuse_relative(parsed.file)
    where = given.get("state_dir")
    if where is None and parsed.file:
        text = cli.plan_of(parsed).state_dir
        where = Given(text, parsed.file.source) if text != default_state_dir() else None
    if where is None:
        given["state_dir"] = Given(units.STATE_DIR, "--state-dir")
        whole = ["--state-dir", units.STATE_DIR, *whole]
    else:
        _refuse_relative(where)
    return parsed._replace(given=given), whole


def _refuse_relative(given: Given) -> None:
    if not os.path.isabs(given.text):
        raise ConfigError(
            f"{given.source}: {given.text!r} would be looked for in /; give an absolute path"
        )


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


def _fail(prog: str, sentences: Sequence[str], status: int) -> int:
    for sentence in sentences:
        sys.stderr.write(f"{prog}: {sentence}\n")
    return status
