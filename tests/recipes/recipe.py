"""The code on a recipe's page, and processes that run it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.docs.pages import ROOT, blocks

PATIENCE_S = 40.0


def page(name: str) -> Path:
    return ROOT / "docs" / "recipes" / f"{name}.md"


def code(name: str, kind: str, words: str) -> str:
    """The one code block of a kind with these words in it."""
    found = [body for body in blocks(page(name), kind) if words in body]
    assert len(found) == 1, f"{len(found)} blocks in {name} have {words!r}"
    return found[0]


def command(name: str, service: str) -> tuple[list[str], list[str]]:
    """The options and the command of that service's line, without the addresses."""
    line = next(
        line.removeprefix("m1$ ha-heartbeat ")
        for line in code(name, "console", f"--name {service} ").splitlines()
    )
    words = shlex.split(line)
    at = words.index(service) + 1
    options = words[:at]
    for short in ("-l", "-r"):
        where = options.index(short)
        assert re.fullmatch(r"m[12]:2222[12]", options[where + 1])
        del options[where : where + 2]
    return options, words[at:]


@contextlib.contextmanager
def started(
    script: Path, sides: Sequence[Sequence[str]], environ: Mapping[str, str], log: Path
) -> Iterator[list[subprocess.Popen[str]]]:
    """A Python script, once for each of `sides`, its arguments; all are ended at the end."""
    made = []
    try:
        for number, words in enumerate(sides):
            with log.with_suffix(f".{number}").open("w") as err:
                made.append(
                    subprocess.Popen(
                        [sys.executable, str(script), *words],
                        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
                        cwd=script.parent,
                        stdout=subprocess.PIPE,
                        stderr=err,
                        text=True,
                    )
                )
        yield made
    except BaseException as error:
        for number in range(len(made)):
            error.add_note(log.with_suffix(f".{number}").read_text()[-4000:])
        raise
    finally:
        for process in made:
            process.kill()
            process.communicate()


def quickened(text: str, state_dir: Path) -> str:
    """The code with what a test needs to be quick, and a place of its own."""
    options = f"state_dir={str(state_dir)!r}, interval_test_s=0.5, stop_timeout_s=2"
    changed, count = re.subn(r"remote=remote,", f"remote=remote, {options},", text)
    assert count == 1
    return changed
