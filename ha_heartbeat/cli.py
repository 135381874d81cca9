"""The command line of a member: arguments in, exit status out.

Parsing stands here, checking in `ha_heartbeat.config`. The parser is a short one of our own, since
everything from the first word that is no option belongs to the command untouched, options and `--`
included, and since --help and a usage error should cost as little as they can. What runs a member
is imported only when there is one to run.

Exit status: 0 ended as asked; 1 could not start or run, or --check-config says that it would not
start; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from ha_heartbeat import __version__
from ha_heartbeat.config import Config, ConfigError, Given, default_state_dir, make_config, shown
from ha_heartbeat.core.types import Settings
from ha_heartbeat.options import BY_LONG, BY_SHORT, OPTIONS, Option, with_keys
from ha_heartbeat.plan import KEYS, MEMBER_WIDE, Plan

if TYPE_CHECKING:
    from ha_heartbeat.core.bounds import Outcome

PROGRAM = "ha-heartbeat"
EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
HELP_COLUMN = 30
HELP_WIDTH = 80


class UsageError(Exception):
    """The arguments do not say what to do; the text is one sentence for the operator."""


class Parsed(NamedTuple):
    """The arguments taken apart: texts by field of Config, the command, and what to show instead.

    `show` is "help", "version" or "check_config" when one of these was asked for, "" otherwise.
    `file` is the one of --config, None without it.
    """

    given: dict[str, Given]
    command: tuple[str, ...]
    show: str
    file: Given | None = None


def parse(argv: Sequence[str]) -> Parsed:
    """Take the arguments after the program's name apart. Raises UsageError.

    Options end at the first word that is none, or at `--`; the rest is the command as it stands.
    Of an option given twice the last one counts, unless it repeats.
    """
    given: dict[str, Given] = {}
    words = list(argv)
    show = ""
    file = None
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            at += 1
            break
        if word == "-" or not word.startswith("-"):
            break
        found, at = _read_word(words, at)
        for option, text in found:
            if option.name in {"help", "version"}:
                return Parsed({}, (), option.name)
            if option.name == "check_config":
                show = option.name
            elif option.name == "config":
                file = Given(text, option.label)
            elif option.repeats and option.name in given:
                given[option.name] = Given(f"{given[option.name].text},{text}", option.label)
            else:
                given[option.name] = Given(text, option.label)
    return Parsed(given, tuple(words[at:]), show, file)


def plan_of(parsed: Parsed) -> Plan:
    """What the arguments amount to, with the file of --config as it is now.

    Raises ConfigError, and UsageError for what goes with no file.
    """
    if parsed.file is None:
        return Plan((make_config(parsed.given, parsed.command),))
    _refuse_beside_a_file(parsed, parsed.file.text)
    from ha_heartbeat.configfile import read_plan  # only here: tomllib is not light

    return read_plan(parsed.file.text, parsed.given)


def _refuse_beside_a_file(parsed: Parsed, file: str) -> None:
    """What belongs to a service stands in the file; the member's own values may differ from it."""
    if parsed.command:
        raise UsageError(
            f"the command {shown(parsed.command[0])} beside --config: each service has its own in "
            f"{file}; leave it out"
        )
    for name, given in parsed.given.items():
        if name not in MEMBER_WIDE:
            where = "[services.NAME]"
            if name != "service":
                where = f"{KEYS[name]} under {where} or [defaults]"
            raise UsageError(
                f"{given.source} beside --config: it belongs to a service; leave it out, and write "
                f"{where} in {file}"
            )


def _read_word(words: list[str], at: int) -> tuple[list[tuple[Option, str]], int]:
    """Read the option word at `at`: the options in it, and where the next word is."""
    if words[at].startswith("--"):
        name, equals, text = words[at][2:].partition("=")
        option = BY_LONG.get(name)
        if option is None:
            raise UsageError(_unknown(f"--{name}"))
        if not option.metavar:
            if equals:
                raise UsageError(f"{option.label} takes no value; leave the {'=' + text!r} out")
            return [(option, "on")], at + 1
        if equals:
            return [(option, text)], at + 1
        return [(option, _value_after(words, at, option))], at + 2
    return _read_short(words, at)


def _read_short(words: list[str], at: int) -> tuple[list[tuple[Option, str]], int]:
    """Read `-v`, `-fv`, `-i10` or `-i 10`, where flags may come before the one with a value."""
    found: list[tuple[Option, str]] = []
    letters = words[at][1:]
    for index, letter in enumerate(letters):
        option = BY_SHORT.get(letter)
        if option is None:
            raise UsageError(_unknown(words[at] if index == 0 else f"-{letter}"))
        if not option.metavar:
            found.append((option, "on"))
            continue
        attached = letters[index + 1 :]
        if attached:
            return [*found, (option, attached)], at + 1
        return [*found, (option, _value_after(words, at, option))], at + 2
    return found, at + 1


def _value_after(words: list[str], at: int, option: Option) -> str:
    if at + 1 < len(words):
        return words[at + 1]
    spelled = f"-{option.short}" if option.short else f"--{option.long}"
    raise UsageError(
        f"{option.label} needs a value ({option.metavar}), for example {spelled} {option.example}"
    )


def _unknown(word: str) -> str:
    """A sentence on an option that does not exist, with the one that was probably meant."""
    import difflib  # only here: nothing else needs it

    name = word.lstrip("-")
    known = list(BY_LONG)
    starts = [long for long in known if len(name) > 1 and long.startswith(name)]
    near = starts or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    advice = (
        f"did you mean {' or '.join('--' + long for long in near)}?"
        if near
        else f"see {PROGRAM} --help"
    )
    return f"unknown option {word[:60]!r}; {advice}"


def help_text() -> str:
    """The whole text of --help, with the defaults out of Config."""
    import textwrap  # only here: a member has no text to wrap

    lines = [
        f"usage: {PROGRAM} [options] command...",
        f"       {PROGRAM} [options] --config FILE",
        "",
        "Run the same command on two machines, so that it runs on exactly one of them.",
        "Options stand before the command. One argument is a shell command; several are",
        "a program and its arguments.",
        "",
        "options:",
    ]
    for option in OPTIONS:
        head = f"  -{option.short}, " if option.short else "      "
        head += f"--{option.long} {option.metavar}".rstrip()
        if len(head) > HELP_COLUMN - 2:
            lines.append(head)
            head = ""
        text = option.help + _default_note(option.name)
        for part in textwrap.wrap(text, HELP_WIDTH - HELP_COLUMN, break_on_hyphens=False):
            lines.append(f"{head:<{HELP_COLUMN}}{part}")
            head = ""
    lines += [
        "",
        "examples:",
        f'  m1$ {PROGRAM} -i 10 -t 5 -l m1:22221 -r m2:22222 "ls -l"',
        f'  m2$ {PROGRAM} -i 10 -t 5 -l m2:22222 -r m1:22221 "ls -l"',
    ]
    return "\n".join(lines) + "\n"


def _default_note(name: str) -> str:
    defaults = {field.name: field.default for field in fields(Config)}
    if name not in defaults:
        return ""
    value = defaults[name]
    if name == "member":
        value = "the local address"
    elif name == "state_dir":
        try:
            value = default_state_dir()
        except ConfigError:
            return " (no default here)"
    elif value in ("", ()):
        return ""
    return f" (default {_spelled(name, value)})"


def _spelled(name: str, value: object) -> str:
    """A default as one would write it on the command line."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Enum):
        text = str(value.value)
        return text.upper() if name == "mode" else text
    return str(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a member with `argv`, by default the process's own arguments; return the exit status."""
    try:
        _open_missing_streams()
        return _main(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        _complain(str(error))
        return EXIT_USAGE
    except ConfigError as error:
        for sentence in error.sentences:
            _complain(sentence)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _main(argv: Sequence[str]) -> int:
    parsed = parse(argv)
    if parsed.show == "help":
        return _print(help_text())
    if parsed.show == "version":
        return _print(f"{PROGRAM} {__version__}\n")
    if parsed.show and parsed.file is None:
        return _check(plan_of(parsed._replace(command=parsed.command or ("true",))))
    if parsed.show:
        return _check_file(plan_of(parsed))
    return _run(plan_of(parsed), functools.partial(plan_of, parsed) if parsed.file else None)


def _check(plan: Plan) -> int:
    """Print what the options amount to; list the objections to them."""
    (config,) = plan.services
    settings = config.settings()
    status = _print(_report(settings))
    status = max(status, _complain_of(settings, ""))
    return max(status, _complain_of_addresses(config))


def _check_file(plan: Plan) -> int:
    """The same for each service of a file, in words that stand in it."""
    every = [config.settings() for config in plan.services]
    status = _print("\n".join(f"{s.service}\n\n{with_keys(_report(s))}" for s in every))
    status = max(status, *(_complain_of(s, f"{s.service}: ") for s in every))
    return max(status, *map(_complain_of_addresses, plan.services))


def _complain_of(settings: Settings, service: str) -> int:
    """List the objections; the exit status."""
    from ha_heartbeat.core import bounds  # only here and before a start: not needed for --help

    found = bounds.objections(settings)
    for sentence in found:
        warning = "" if settings.has_witness else "warning: "
        _complain(f"{warning}{service}{with_keys(sentence) if service else sentence}")
    return EXIT_FAILED if found and settings.has_witness else EXIT_OK


def _complain_of_addresses(config: Config) -> int:
    """Say why a virtual address cannot be had here, if so; the exit status."""
    if not config.vip:
        return EXIT_OK
    from ha_heartbeat.shell.vip import objection  # only here: it asks the kernel

    sentence = objection(config)
    if sentence:
        _complain(sentence)
    return EXIT_FAILED if sentence else EXIT_OK


def _report(settings: Settings) -> str:
    """The guarantee, a table of failures, and the lease they follow from."""
    import textwrap  # only here and for --help: a member has no text to wrap

    from ha_heartbeat.core import bounds

    b = bounds.bounds_of(settings)
    lease = (
        f"Check every {b.check_s:.4g} s, lease {b.lease_s:.4g} s; if that is not renewed, SIGTERM "
        f"after {b.term_s:.4g} s and SIGKILL after {b.kill_s:.4g} s. Round trips and the command's "
        "start come on top. Give both members the same times."
    )
    if settings.has_fence:
        lease += " What waits for silence waits for the fence command, too: up to 60 s."
    if settings.steps:
        steps = " and ".join(f"--{step}" for step in settings.steps)
        lease += (
            f" So does what is before the first run: {steps}, up to {settings.hook_timeout_s:g} s "
            "each."
        )
    if settings.has_undo:
        lease += (
            f" SIGKILL at the end of a lease leaves {b.undo_s:.4g} s for what undoes it; a planned "
            f"hand-over may take {settings.hook_timeout_s:g} s longer for it."
        )
    table = [
        _row(failure.value, *_in_words(bounds.outcome(settings, failure)))
        for failure in bounds.Failure
        if settings.has_witness or failure is not bounds.Failure.WITNESS_LOST
    ]
    lines = [
        *textwrap.wrap(bounds.guarantee(settings), HELP_WIDTH),
        *("", _row("what happens", "another runs", "both run"), *table, ""),
        *textwrap.wrap(lease, HELP_WIDTH),
    ]
    return "\n".join(lines) + "\n"


def _row(what: str, takeover: str, overlap: str) -> str:
    return f"{what:<30}{takeover:<25}{overlap}".rstrip()


def _in_words(outcome: Outcome) -> tuple[str, str]:
    """When another member takes over, and for how long both run."""
    from ha_heartbeat.core.state import FOREVER

    if outcome.takeover_s != FOREVER:
        takeover = f"after {outcome.takeover_s:.4g} s at most"
    elif outcome.goes_on:
        takeover = "the worker goes on"
    else:
        takeover = "none while it lasts"
    if outcome.overlap_s == 0:
        return takeover, "never"
    if outcome.overlap_s == FOREVER:
        return takeover, "while it lasts"
    return takeover, f"{outcome.overlap_s:.4g} s if clocks stop"


def _load_asyncio() -> None:
    """Load it as in a Python that was built without TLS, for which no stream of ours asks.

    That leaves out OpenSSL: 1.8 MiB, and 10 ms of each start. A witness behind https:// loads it
    then, and only then.
    """
    if "asyncio" in sys.modules or "ssl" in sys.modules:
        return
    sys.modules["ssl"] = None  # type: ignore[assignment]  # an import of it fails
    try:
        import asyncio  # noqa: F401
    finally:
        del sys.modules["ssl"]


def _run(plan: Plan, reread: Callable[[], Plan] | None) -> int:
    from ha_heartbeat.core import bounds
    from ha_heartbeat.shell.errors import StartError

    for config in plan.services:
        settings = config.settings()
        if settings.has_witness and (found := bounds.objections(settings)):
            _complain(f"{config.service}: {with_keys(found[0])}" if reread else found[0])
            return EXIT_FAILED
    _load_asyncio()
    try:
        from ha_heartbeat.shell.plan import run_plan

        return run_plan(plan, reread)
    except StartError as error:
        _complain(str(error))
    except Exception as error:
        # A defect of ours. A service's log should hold one line of it, its developer sees it all.
        if plan.verbose:
            import traceback

            traceback.print_exc()
        else:
            _complain(
                f"internal error, {type(error).__name__}: {error}; "
                "please report it with the output of a run with --verbose"
            )
    return EXIT_FAILED


def _open_missing_streams() -> None:
    """Open the null device as each of the descriptors 0, 1 and 2 that the parent left closed.

    Otherwise the next file or socket opened would get that number, and receive the log or the
    command's output.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this very one
            os.set_inheritable(opened, True)


def _print(text: str) -> int:
    """Write to stdout; a reader that has gone is no error worth a line, a full disk is."""
    try:
        with os.fdopen(1, "w", encoding="utf-8", errors="replace", closefd=False) as out:
            out.write(text)
    except BrokenPipeError:
        return EXIT_FAILED
    except OSError as error:
        _complain(f"cannot write to stdout: {error.strerror or error}; give it another place")
        return EXIT_FAILED
    return EXIT_OK


def _complain(sentence: str) -> None:
    """Write one line to stderr, whatever the sentence holds; a broken stderr changes nothing."""
    try:
        os.write(2, f"{PROGRAM}: {one_line(sentence)}\n".encode())
    except OSError:
        pass  # nobody can be told; the exit status still says it


def one_line(sentence: str) -> str:
    """The sentence with what a terminal does not print, and half characters, as escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in sentence
    )


if __name__ == "__main__":
    raise SystemExit(main())
