"""What one member carries: one service from the command line, or those of a file.

The core knows one service at a time, so each service's Config is complete in itself, with what
belongs to the member as a whole repeated in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import Final

from ha_heartbeat.config import Address, Config, ConfigError, LogFormat
from ha_heartbeat.options import OPTIONS

MEMBER_WIDE: Final = (
    "local",
    "remote",
    "links",
    "member",
    "state_dir",
    "wait_for_serversocket_s",
    "journal_days",
    "journal_mib",
    "journal_output_bytes",
    "log_format",
    "verbose",
)
"""The fields of Config that belong to the member; all others belong to a service each."""

KEYS: Final = {
    option.name: option.key for option in OPTIONS if option.name in Config.__dataclass_fields__
}
"""What each field of Config is called in a file."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The services of one member, at least one, in the order of their names.

    Raises ConfigError when there is none, when two have one name or one virtual address, or when
    they differ in what belongs to the member.
    """

    services: tuple[Config, ...]

    def __post_init__(self) -> None:
        """Check them, and put them in order."""
        if not self.services:
            raise ConfigError("there is no service to carry; give at least one")
        ordered = tuple(sorted(self.services, key=_name))
        object.__setattr__(self, "services", ordered)
        _check_owners(ordered)
        for one, next_one in pairwise(ordered):
            if one.service == next_one.service:
                raise ConfigError(f"two services are called {one.service!r}; rename one of them")
            for field in MEMBER_WIDE:
                if getattr(one, field) != getattr(next_one, field):
                    raise ConfigError(
                        f"the services {one.service!r} and {next_one.service!r} differ in "
                        f"{KEYS[field]}, which belongs to the member; give one value for all"
                    )

    @property
    def local(self) -> Address:
        """Where the member listens."""
        return self.services[0].local

    @property
    def remote(self) -> Address | None:
        """Where its peer listens; None if it has no peer."""
        return self.services[0].remote

    @property
    def links(self) -> tuple[Address, ...]:
        """Where else its peer is reached."""
        return self.services[0].links

    @property
    def member(self) -> str:
        """The member's name."""
        return self.services[0].member

    @property
    def state_dir(self) -> str:
        """The directory that holds one for each service."""
        return self.services[0].state_dir

    @property
    def wait_for_serversocket_s(self) -> float:
        """How long the port is waited for."""
        return self.services[0].wait_for_serversocket_s

    @property
    def journal_days(self) -> float:
        """How long the journal keeps entries."""
        return self.services[0].journal_days

    @property
    def journal_mib(self) -> float:
        """How large the journal may become."""
        return self.services[0].journal_mib

    @property
    def journal_output_bytes(self) -> int:
        """How much of the end of a run's output the journal keeps."""
        return self.services[0].journal_output_bytes

    @property
    def log_format(self) -> LogFormat:
        """How a line of the log looks."""
        return self.services[0].log_format

    @property
    def verbose(self) -> bool:
        """Whether every check is logged."""
        return self.services[0].verbose

    def service(self, name: str) -> Config | None:
        """The service of this name, None if there is none."""
        return next((config for config in self.services if config.service == name), None)


def _check_owners(services: Iterable[Config]) -> None:
    """Each virtual address is of one service. Raises ConfigError."""
    owners: dict[str, str] = {}
    having = [(vip.partition("/")[0], config.service) for config in services for vip in config.vip]
    for address, service in having:
        if (owner := owners.setdefault(address, service)) != service:
            raise ConfigError(
                f"the services {owner!r} and {service!r} both have the virtual address "
                f"{address}; whoever ends first would take it off the other: give each its own, or "
                "make the two one service"
            )


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be done to a member that carries one plan so that it carries another.

    `changed` has the new Config of each service that stays and differs in something of its own.
    `restart` says, as sentences without a full stop, which values of the member itself differ:
    those hold from its next start on, so the Configs in `added` and `changed` have the values that
    the member runs with.
    """

    added: tuple[Config, ...]
    removed: tuple[str, ...]
    changed: tuple[Config, ...]
    restart: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.added or self.removed or self.changed or self.restart)


def changes(old: Plan, new: Plan, carried: Iterable[Config] | None = None) -> Changes:
    """What leads from one plan to another; each part in the order of names.

    carried: the services that are really there, where not all of `old` could be started, or more
    have been since.
    """
    wide = {field: getattr(old, field) for field in MEMBER_WIDE}
    services = old.services if carried is None else sorted(carried, key=_name)
    before = {config.service: config for config in services}
    after = {config.service: replace(config, **wide) for config in new.services}
    return Changes(
        added=tuple(config for name, config in after.items() if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(
            config for name, config in after.items() if name in before and before[name] != config
        ),
        restart=tuple(_restarts(old, new)),
    )


def _restarts(old: Plan, new: Plan) -> Iterator[str]:
    for field in MEMBER_WIDE:
        was, now = getattr(old, field), getattr(new, field)
        if field == "member" and (was, now) == (str(old.local), str(new.local)):
            continue  # nobody gave a name: it follows from the address
        if was != now:
            yield (
                f"{KEYS[field]} was {_shown(was)} and is now {_shown(now)}, which a running member "
                "cannot change; restart it, or put the old value back"
            )


def _name(config: Config) -> str:
    return config.service


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    return f"{value:g}" if isinstance(value, float) else str(value)
