"""From a URL to the witness behind it. A kind is loaded only when a URL names it.

Other distributions add kinds through entry points of the group `ha_heartbeat.witnesses`: the name
is the scheme, the object a function `(url, cluster, timeout_s) -> Register`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from ha_heartbeat.witnesses.register import Register, WitnessError, WitnessUrlError, check_timeout

ENTRY_POINTS = "ha_heartbeat.witnesses"
DEFAULT_PORT = 22220
MAX_CLUSTER_CHARS = 128

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)

Opener = Callable[[str, str, float], Register]


def check_cluster(cluster: str) -> None:
    """Raise ValueError with a sentence unless the name is one that every witness can keep apart.

    1..MAX_CLUSTER_CHARS printable characters without blanks and slashes, and not `.` or `..`, which
    proxies resolve away.
    """
    if not 1 <= len(cluster) <= MAX_CLUSTER_CHARS:
        raise ValueError(
            f"a cluster's name has 1 to {MAX_CLUSTER_CHARS} characters, and this one {len(cluster)}"
        )
    if cluster in (".", "..") or not cluster.isprintable() or set(cluster) & set(" /\\"):
        raise ValueError(
            f"{cluster!r} cannot be a cluster's name; "
            "use printable characters without blanks and slashes, for example web-1"
        )


def open_register(url: str, cluster: str, timeout_s: float) -> Register:
    """Open the witness that `url` names, for the cluster of that name.

    `timeout_s`, above 0, is the time limit of every call. A witness that cannot be reached now is
    no error here: its calls will say so. Raises WitnessUrlError for a URL that names no witness,
    WitnessError for a place that will never do (a file system without working locks), ValueError
    for a cluster or a time limit that is none.
    """
    check_timeout(timeout_s)
    check_cluster(cluster)
    match = _SCHEME.match(url)
    if not match:
        raise WitnessUrlError(f"the witness has no scheme; give one of {_known()}")
    scheme = match[1].lower()
    opener = _KINDS.get(scheme) or _opener_from_entry_point(scheme)
    return opener(url, cluster, timeout_s)


def _open_ours(url: str, cluster: str, timeout_s: float) -> Register:
    """witness://host[:port]: our own server, whose URLs are its own business."""
    try:
        parts = urlsplit(url)
        port = DEFAULT_PORT if parts.port is None else parts.port
    except ValueError as error:
        raise WitnessUrlError(f"the witness is no URL: {error}") from None
    if parts.path not in ("", "/") or parts.query or parts.fragment or not parts.hostname:
        raise WitnessUrlError(
            "a witness:// URL is a host and a port and nothing more, for example "
            f"witness://m3:{DEFAULT_PORT}; for the full URL of a resource give http:// or https://"
        )
    user, at, _host = parts.netloc.rpartition("@")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = f"/v1/{quote(cluster, safe='')}"
    return _open_http(f"http://{user}{at}{host}:{port}{path}", cluster, timeout_s)


def _open_http(url: str, _cluster: str, timeout_s: float) -> Register:
    from ha_heartbeat.witnesses.http import HttpRegister

    return HttpRegister(url, timeout_s)


def _open_file(url: str, cluster: str, timeout_s: float) -> Register:
    from ha_heartbeat.witnesses.file import FileRegister, NoLocksError

    register = FileRegister(url, cluster, timeout_s)
    try:
        register.prove()
    except NoLocksError:
        raise
    except WitnessError:
        pass  # the share may come back; the first call proves it, or says what is wrong
    return register


_KINDS: Mapping[str, Opener] = {
    "witness": _open_ours,
    "http": _open_http,
    "https": _open_http,
    "file": _open_file,
}


def _opener_from_entry_point(scheme: str) -> Opener:
    from importlib.metadata import entry_points  # only here: slow, and seldom needed

    found = {point.name.lower(): point for point in entry_points(group=ENTRY_POINTS)}
    if scheme not in found:
        raise WitnessUrlError(
            f"the witness's scheme {scheme!r} is unknown; give one of {_known(found)}, or install "
            f"a package with the entry point {scheme!r} in the group {ENTRY_POINTS}"
        )
    point = found[scheme]
    try:
        opener: Any = point.load()
    except Exception as error:  # whatever a stranger's module raises on import
        raise WitnessUrlError(
            f"the witness {scheme}:// of {point.value} cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
    return _guarded(opener, f"{scheme}:// of {point.value}")


def _guarded(opener: Any, shown: str) -> Opener:
    """The same function, with its slips made into sentences."""

    def guarded(url: str, cluster: str, timeout_s: float) -> Register:
        try:
            register: Any = opener(url, cluster, timeout_s)
        except (WitnessError, WitnessUrlError):
            raise
        except Exception as error:
            raise WitnessUrlError(
                f"the witness {shown} cannot be opened: {type(error).__name__}: {error}"
            ) from error
        if not all(callable(getattr(register, name, None)) for name in ("read", "swap", "close")):
            raise WitnessUrlError(
                f"the witness {shown} gave a {type(register).__name__}, "
                "which lacks read(), swap() or close()"
            )
        result: Register = register
        return result

    return guarded


def _known(more: Mapping[str, object] | None = None) -> str:
    return ", ".join(f"{scheme}://" for scheme in [*_KINDS, *sorted(set(more or ()) - {*_KINDS})])
