"""`hbctl`: arguments in, exit status out."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ha_heartbeat.ctl.find import ControlError, find, the_one
from ha_heartbeat.ctl.parser import PROGRAM, make_parser, parse
from ha_heartbeat.ctl.show import Screen

if TYPE_CHECKING:
    from ha_heartbeat.ctl.find import Conversation

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Do what `argv` asks for, by default the process's own arguments; return the exit status."""
    if sys.stdout is None:  # closed by whoever started this: nobody wants to read it
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the end
    args = parse(argv)
    try:
        status = _do(args)
        sys.stdout.flush()
        return status
    except ControlError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read it has seen enough
        _print_no_more()
        return EXIT_OK
    except OSError as error:
        _print_no_more()
        why = (error.strerror or str(error)).lower()
        print(f"{PROGRAM}: cannot write to stdout: {why}; give it another place", file=sys.stderr)
        return EXIT_FAILED


def _print_no_more() -> None:
    """What is left in the buffer is written at the end, and must not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _do(args: Any) -> int:
    if args.command in _OF_NONE:
        return _OF_NONE[args.command](args)
    if args.service and args.name and args.service != args.name:
        raise ControlError(
            f"{args.service!r} and --name {args.name!r} are two services", EXIT_USAGE
        )
    args.service = args.service or args.name
    screen = Screen(args.color)
    if args.command in _OF_ALL:
        return _OF_ALL[args.command](screen, args)
    talk = the_one(args.state_dir, args.service, args.local)
    try:
        return _OF_ONE[args.command](screen, talk, args)
    finally:
        talk.close()


# -- commands about every member that is meant -----------------------------------------------------


def _status(screen: Screen, args: Any) -> int:
    from ha_heartbeat.ctl.status import status

    return status(screen, find(args.state_dir, args.service, args.local), args.json)


def _watch(screen: Screen, args: Any) -> int:
    from ha_heartbeat.ctl.status import watch

    if not 0.05 <= args.interval <= 3600:
        raise ControlError("--interval: give seconds from 0.05 to 3600", EXIT_USAGE)
    return watch(screen, args)


def _history(screen: Screen, args: Any) -> int:
    from ha_heartbeat.ctl.history import history

    return history(screen, find(args.state_dir, args.service, args.local), args)


def _logs(screen: Screen, args: Any) -> int:
    from ha_heartbeat.ctl.history import logs

    return logs(screen, find(args.state_dir, args.service, args.local), args.run, args.json)


def _reload(screen: Screen, args: Any) -> int:
    from ha_heartbeat.ctl.reload import reload

    if args.service:
        raise ControlError("a file is read as a whole: name no service", EXIT_USAGE)
    return reload(screen, args.state_dir, args.local, args.json)


_OF_ALL: Final = {
    "reload": _reload,
    "status": _status,
    "watch": _watch,
    "history": _history,
    "logs": _logs,
}


# -- commands to one that runs ---------------------------------------------------------------------


def _explain(screen: Screen, talk: Conversation, args: Any) -> int:
    from ha_heartbeat.ctl.explain import explain

    return explain(screen, talk, args.json)


def _switchover(screen: Screen, talk: Conversation, args: Any) -> int:
    from ha_heartbeat.ctl.orders import switchover

    return switchover(screen, talk, args.to, args.json)


def _pause(screen: Screen, talk: Conversation, args: Any) -> int:
    from ha_heartbeat.ctl.orders import pause

    reason = " ".join(args.reason.split())
    if not reason:
        raise ControlError("--reason: say why; whoever finds the pause has to know", EXIT_USAGE)
    return pause(screen, talk, reason, args.json)


def _resume(screen: Screen, talk: Conversation, args: Any) -> int:
    from ha_heartbeat.ctl.orders import pause

    return pause(screen, talk, "", args.json)


def _run(screen: Screen, talk: Conversation, args: Any) -> int:
    from ha_heartbeat.ctl.orders import run_now

    return run_now(screen, talk, args.json)


def _drill(screen: Screen, talk: Conversation, args: Any) -> int:
    from ha_heartbeat.ctl.orders import drill

    return drill(screen, talk, max(0.0, args.stay), args.json)


_OF_ONE: Final = {
    "explain": _explain,
    "switchover": _switchover,
    "pause": _pause,
    "resume": _resume,
    "run": _run,
    "drill": _drill,
}


# -- commands about no member that runs ------------------------------------------------------------


def _check(args: Any) -> int:
    from ha_heartbeat.ctl.check import check

    return check(Screen(args.color), args.file, args.json)


def _install(args: Any) -> int:
    from ha_heartbeat.install.command import run

    return run(args, f"{PROGRAM} install")


def _completion(args: Any) -> int:
    try:
        import shtab
    except ImportError:
        raise ControlError(
            "completion scripts are made by shtab, which is not installed: "
            "pip install 'ha-heartbeat[ctl]'"
        ) from None
    print(shtab.complete(make_parser(), args.shell))
    return EXIT_OK


_OF_NONE: Final = {"check": _check, "install": _install, "completion": _completion}
