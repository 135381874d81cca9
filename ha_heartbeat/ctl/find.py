"""Finds the members of this machine by their directories, and speaks with one that runs."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from ha_heartbeat import places

TIMEOUT_S: Final = 5.0
"""A member that answers nothing for so long stands still, and hbctl says so."""


EXIT_NOBODY: Final = 3
"""The exit status that says that nobody runs here who could be asked."""

MAX_LISTED: Final = 10
"""Names in a sentence."""


class ControlError(Exception):
    """What was asked for cannot be had; the text is a sentence, `status` the exit status."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


class Place(NamedTuple):
    """A member's directory, and the service and local address that it is of."""

    directory: str
    service: str
    local: str
    home: str = ""  # the directory of the member that carries many services there, if there is one

    @property
    def journals(self) -> list[str]:
        """The paths of its journals: its own, and that of a member that carries or carried it."""
        paths = [os.path.join(d, places.JOURNAL_FILE) for d in (self.home, self.directory) if d]
        return [path for path in paths if os.path.exists(path)] or paths[-1:]

    @property
    def journal(self) -> str:
        """The path of the journal that was written last."""
        return max(self.journals, key=_written_at)

    def state(self) -> dict[str, Any]:
        """What its state file says, {} if it cannot be read."""
        try:
            with open(os.path.join(self.directory, places.STATE_FILE), "rb") as file:
                state = json.load(file)
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}


def _written_at(journal: str) -> float:
    """When something was last written to a journal, or to the log before it; 0 if there is none."""
    times = [0.0]
    for path in (journal, f"{journal}-wal"):
        try:
            times.append(os.stat(path).st_mtime)
        except OSError:
            continue
    return max(times)


def find(state_dir: str, service: str, local: str) -> list[Place]:
    """The members of this machine that are meant. Raises ControlError if there is none."""
    try:
        top = state_dir or places.default_state_dir()
        names = sorted(os.listdir(top))
    except LookupError as error:
        raise ControlError(str(error), EXIT_NOBODY) from None
    except OSError as error:
        raise ControlError(
            f"the state directory {state_dir or places.default_state_dir()} cannot be read: "
            f"{(error.strerror or str(error)).lower()}; name the members' own with --state-dir",
            3,
        ) from None
    found = [place for name in names if (place := _place(top, name))]
    homes = {place.local: place.directory for place in found if not place.service}
    every = [p._replace(home=homes.get(p.local, "")) for p in found if p.service]
    meant = [
        place
        for place in every
        if service in ("", place.service) and local.lower() in ("", place.local)
    ]
    if meant:
        return meant
    known = _listed(f"{place.service} at {place.local}" for place in every) or "none"
    raise ControlError(f"no member like that keeps state in {top}; found: {known}", EXIT_NOBODY)


def _place(top: str, name: str) -> Place | None:
    directory = os.path.join(top, name)
    found = places.read_directory_name(name)
    if "@" not in name or not os.path.isdir(directory):
        return None
    if found is None:
        state = Place(directory, "", "").state()
        found = str(state.get("service", "?")), str(state.get("member", "?"))
    return Place(directory, *found)


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = len(every) - MAX_LISTED
    return ", ".join(every[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def homes(state_dir: str, local: str) -> list[Place]:
    """The members of this machine that carry the services of a file, as places of no service."""
    top = state_dir or places.default_state_dir()
    try:
        names = sorted(os.listdir(top))
    except OSError:
        return []
    found = [place for name in names if (place := _place(top, name))]
    return [p for p in found if not p.service and local.lower() in ("", p.local)]


def converse(place: Place) -> Conversation:
    """A conversation about this service, with whoever carries it. Raises ControlError."""
    try:
        return Conversation(place)
    except ControlError:
        if not place.home:
            raise
    talk = Conversation(place._replace(directory=place.home), place)
    answer = talk.ask("status")
    if not answer.get("ok"):
        talk.close()
        raise ControlError(str(answer.get("error")), EXIT_NOBODY)
    return talk


class Conversation:
    """A connection to one member's control socket. Raises ControlError.

    about: the place of the service that every request is about, where the member carries many.
    """

    def __init__(self, place: Place, about: Place | None = None) -> None:
        self.place = about or place
        self._words = {"service": about.service} if about is not None else {}
        path = os.path.join(place.directory, places.CONTROL_SOCKET)
        folder = -1
        if not hasattr(socket, "AF_UNIX"):
            raise ControlError("there is no control socket on this platform", EXIT_NOBODY)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(TIMEOUT_S)
        try:
            if len(os.fsencode(path)) > places.MAX_SOCKET_PATH_BYTES:
                folder = os.open(place.directory, os.O_RDONLY)
                path = f"/proc/self/fd/{folder}/{places.CONTROL_SOCKET}"
            self._socket.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            self._socket.close()
            service = f"for {place.service} " if place.service else ""
            raise ControlError(
                f"no member runs {service}at {place.local} on this machine", EXIT_NOBODY
            ) from None
        except OSError as error:
            self._socket.close()
            raise ControlError(
                f"the member for {place.service} at {place.local} cannot be asked: "
                f"{(error.strerror or str(error)).lower()}; only its own user and root may"
            ) from None
        finally:
            if folder != -1:
                os.close(folder)
        self._rest = b""

    def ask(self, do: str, limit_s: float = TIMEOUT_S, **words: str) -> dict[str, Any]:
        """The answer to one request, yes or no, waited for up to `limit_s` seconds."""
        self._socket.settimeout(limit_s)
        try:
            self._socket.sendall(json.dumps({"do": do, **self._words, **words}).encode() + b"\n")
            while b"\n" not in self._rest:
                data = self._socket.recv(65536)
                if not data:
                    raise ControlError(f"the member at {self.place.local} has ended", EXIT_NOBODY)
                self._rest += data
        except TimeoutError:
            raise ControlError(
                f"the member at {self.place.local} has not answered for {limit_s:g} s: it stands "
                "still or is stopped"
            ) from None
        except OSError:
            raise ControlError(f"the member at {self.place.local} has ended", EXIT_NOBODY) from None
        line, self._rest = self._rest.split(b"\n", 1)
        answer = json.loads(line)
        return answer if isinstance(answer, dict) else {}

    def order(self, do: str, **words: str) -> str:
        """The member's sentence on an order that it obeys. Raises ControlError with its refusal."""
        answer = self.ask(do, TIMEOUT_S, **words)
        if not answer.get("ok"):
            raise ControlError(str(answer.get("error", "refused")).rstrip("."))
        return str(answer.get("text", ""))

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def the_one(state_dir: str, service: str, local: str) -> Conversation:
    """The one running member that is meant. Raises ControlError when it is none or several."""
    found: list[Conversation] = []
    trouble: ControlError | None = None
    for place in find(state_dir, service, local):
        try:
            found.append(converse(place))
        except ControlError as error:
            trouble = trouble or error
    if not found and trouble is not None:
        raise trouble
    if len(found) > 1:
        for talk in found:
            talk.close()
        names = _listed(f"{c.place.service} at {c.place.local}" for c in found)
        raise ControlError(
            f"several members run here ({names}): choose one with --local or --name", 2
        )
    return found[0]
