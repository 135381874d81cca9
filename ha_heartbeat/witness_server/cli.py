"""The command line of the witness: arguments in, exit status out.

Exit status: 0 ended as asked; 1 could not start or run; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from ha_heartbeat import __version__
from ha_heartbeat.config import Address, ConfigError, Given, default_state_dir, read_address
from ha_heartbeat.witness_server.store import Store, StoreError
from ha_heartbeat.witnesses.opening import DEFAULT_PORT

PROGRAM = "ha-heartbeat-witness"
DEFAULT_LISTEN = Address("localhost", DEFAULT_PORT)
STORE_NAME = "witness.sqlite3"
EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}; see {self.prog} --help\n")
        raise SystemExit(EXIT_USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Keep one record for each cluster, as the third voter of its two members.",
        epilog="Whoever reaches the address can read and swap the records: listen on a network "
        "of your own, or behind a proxy that asks for a password and does TLS.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default=str(DEFAULT_LISTEN),
        help="address to answer on (default %(default)s)",
    )
    parser.add_argument(
        "--store",
        metavar="FILE",
        default="",
        help=f"SQLite file to keep the records in (default {STORE_NAME} in the state directory)",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    return parser


class Options(NamedTuple):
    """The texts of the options as they were given, or their defaults; `store` may be ""."""

    listen: str
    store: str


def read(arguments: Sequence[str] | None) -> Options:
    """Take the arguments apart. Raises SystemExit, after --version and --help with status 0."""
    found = _parser().parse_args(arguments)
    return Options(found.listen, found.store)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the witness until SIGTERM or SIGINT. Returns the exit status."""
    options = read(arguments)
    try:
        address = read_address(Given(options.listen, "--listen"))
        path = _store_path(options.store)
    except ConfigError as error:
        return _fail(str(error), EXIT_USAGE)
    try:
        from ha_heartbeat.witness_server import serve
    except ModuleNotFoundError as error:
        return _fail(
            f"the package {error.name} is missing; install the server with "
            "pip install 'ha-heartbeat[witness]'",
            EXIT_FAILED,
        )
    try:
        sockets = serve.bind(address)
    except serve.BindError as error:
        return _fail(str(error), EXIT_FAILED)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        store = Store(path)
    except (StoreError, OSError, sqlite3.Error) as error:
        for sock in sockets:
            sock.close()
        what = str(error) if isinstance(error, StoreError) else f"the store {path}: {error}"
        return _fail(what, EXIT_FAILED)
    try:
        return serve.run(sockets, store, address)
    finally:
        store.close()


def _store_path(given: str) -> str:
    """Raises ConfigError."""
    if "\0" in given:
        raise ConfigError("--store: a file's name has no NUL character")
    if given and (given.endswith(("/", os.sep)) or os.path.isdir(given)):
        raise ConfigError(f"--store: {given} is a directory; give a file in it")
    return os.path.abspath(given or os.path.join(default_state_dir(), STORE_NAME))


def _fail(sentence: str, status: int) -> int:
    sys.stderr.write(f"{PROGRAM}: {sentence}\n")
    return status
