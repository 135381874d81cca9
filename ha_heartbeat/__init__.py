"""ha-heartbeat: two machines, one command, and the command runs on exactly one of them.

As a library, the same for work that an application does itself (docs/library.md):

    async with ha_heartbeat.elected(local="m1:22221", remote="m2:22222") as term:
        ...

Nothing is loaded before it is used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ha_heartbeat.config import ConfigError as ConfigError
    from ha_heartbeat.guardian.clock import now_s as now_s
    from ha_heartbeat.library.election import Elected as Elected
    from ha_heartbeat.library.election import elected as elected
    from ha_heartbeat.library.jobs import PeriodicJobs as PeriodicJobs
    from ha_heartbeat.library.term import Term as Term
    from ha_heartbeat.library.term import TermLostError as TermLostError
    from ha_heartbeat.shell.errors import StartError as StartError

__version__ = "1.0.0.dev0"

_HOMES = {
    "ConfigError": "config",
    "Elected": "library.election",
    "PeriodicJobs": "library.jobs",
    "StartError": "shell.errors",
    "Term": "library.term",
    "TermLostError": "library.term",
    "elected": "library.election",
    "now_s": "guardian.clock",
}


def __getattr__(name: str) -> object:
    """What the library has, loaded when it is asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
