"""The words of the installer's command line; light, since hbctl has them among its own."""

from __future__ import annotations

import argparse
from typing import Final

SYSTEM_DIR: Final = "/etc/systemd/system"
DESCRIPTION: Final = "Make a systemd unit for a member or a witness out of its own options."


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add all of them."""
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
