"""Reads the TOML file of a member into a Plan, and finds all mistakes in it at once.

The keys are the long options with underscores. What belongs to the member stands at the top of the
file or in `[member]`, each service in `[services.NAME]`, and what holds for all services in
`[defaults]`. An included file has services, and defaults of its own for those. What a value may be
stands in `config`, as for the command line.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from ha_heartbeat.config import Config, ConfigError, Given, assemble, idle, read_value, shown
from ha_heartbeat.options import with_keys
from ha_heartbeat.plan import Plan
from ha_heartbeat.tables import NOTHING, Include, Item, Mistakes, Service, Table, Tables
from ha_heartbeat.tomlfile import BrokenError, UnreadableError, dotted, read

ONE_RECORD: Final = ("file:", "http:", "https:")
"""Witnesses whose URL is that of one service's record."""


class FileError(ConfigError):
    """Mistakes in a file and what it includes, in the order of files and lines.

    As text it is the first one, and how many more there are.
    """

    def __init__(self, mistakes: Iterable[str]) -> None:
        first, *others = self._sentences = tuple(mistakes)
        super().__init__(f"{first} (and {len(others)} more)" if others else first)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Each mistake."""
        return self._sentences


def read_plan(path: str, overrides: Mapping[str, Given] | None = None) -> Plan:
    """Read a file and all that it includes.

    overrides: texts for fields of Config that belong to the member, by name; they count in place
    of what the file says. Raises FileError, and ConfigError for an override that cannot be used.
    """
    given = overrides or {}
    items = {name: Item(text, read_value(name, text), (0, 0)) for name, text in given.items()}
    reading = _Reading(path)
    reading.file(path, NOTHING, (), None)
    return reading.plan(items)


class _Carried(NamedTuple):
    """A service, and the defaults that hold for it."""

    service: Service
    defaults: Table


class _Reading:
    """One reading of a file: what was found so far, and the mistakes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._mistakes = Mistakes()
        self._files: dict[str, str] = {}  # by real path, where each was included
        self._member = NOTHING
        self._carried: dict[str, _Carried] = {}
        self._used: set[str] = set()  # the places of what does something for some service
        self._idle: dict[str, Item] = {}  # sentences on defaults that do nothing for another one

    # -- files -------------------------------------------------------------------------------------

    def file(self, path: str, outer: Table, chain: tuple[str, ...], by: Include | None) -> None:
        """Take what stands in a file.

        outer: the defaults where it is included; chain: the real paths of the files it is in; by:
        what included it, None for the first file.
        """
        at, source = (by.at, f"{by.source}: ") if by else ((0, 1), "")
        real = path if "\0" in path else os.path.realpath(path)
        if real in chain:
            self._mistakes.add(at, f"{source}{path} would include itself; leave it out here")
            return
        if real in self._files:
            self._mistakes.add(
                at, f"{source}{path} is included in {self._files[real]} already; leave one out"
            )
            return
        number = len(self._files)
        self._files[real] = by.source if by else path
        try:
            document = read(path)
        except UnreadableError as error:
            self._mistakes.add(at, f"{source}{path or repr(path)} {error}")
            return
        except BrokenError as error:
            self._mistakes.add((number, error.line), f"{path}, line {error.line}: {error}")
            return
        tables = Tables(document, number, self._mistakes)
        if by:
            tables.refuse_member(self._path)
        else:
            self._member = tables.member()
        defaults = tables.defaults().over(outer)
        for service in tables.services(defaults):
            self._carry(service, defaults)
        for include in tables.include():
            for included in self._matching(path, include):
                self.file(included, defaults, (*chain, real), include)

    def _matching(self, path: str, include: Include) -> list[str]:
        """The files that are meant; a pattern may match none if there is such a directory."""
        base = os.path.dirname(path)
        full = os.path.join(base, include.pattern)
        if not glob.has_magic(include.pattern):
            return [full]
        found = sorted(glob.glob(os.path.join(glob.escape(base), include.pattern), recursive=True))
        folder = os.path.dirname(full)
        if not found and not glob.has_magic(os.path.dirname(include.pattern)):
            try:
                os.scandir(folder or ".").close()
            except OSError as error:
                why = (error.strerror or str(error)).lower()
                cure = (
                    "make it" if isinstance(error, FileNotFoundError) else "let this user read it"
                )
                self._mistakes.add(
                    include.at,
                    f"{include.source}: the directory {folder} cannot be read: {why}; {cure}, or "
                    "leave this out",
                )
        return found

    def _carry(self, service: Service, defaults: Table) -> None:
        known = self._carried.setdefault(service.name, _Carried(service, defaults)).service
        if known is not service:
            self._mistakes.add(
                service.at,
                f"{service.source}: this service is in {known.source} already; leave one of the "
                "two out, or rename it",
            )

    # -- what it amounts to ------------------------------------------------------------------------

    def plan(self, overrides: Mapping[str, Item]) -> Plan:
        """The plan. Raises FileError."""
        if not self._mistakes and not self._carried:
            self._mistakes.add(
                (0, 1),
                f"{self._path}: there is no service in it; add a table [services.NAME] with a "
                "command",
            )
        member = {**self._member.items, **overrides}
        useful = {name: self._useful(carried) for name, carried in self._carried.items()}
        self._refuse_idle_defaults()
        self._one_record_each(useful.values())
        is_sound = (
            not self._member.broken - overrides.keys()
            and self._peer_is_known(member, useful)
            and self._has_two_addresses(member, useful.values())
        )
        configs = [
            config
            for name, items in useful.items()
            if is_sound and (config := self._config(self._carried[name], {**member, **items}))
        ]
        if self._mistakes:
            raise FileError(self._mistakes)
        return Plan(tuple(configs))

    def _useful(self, carried: _Carried) -> dict[str, Item]:
        """A service's values and those of its defaults that do something for it."""
        own, defaults = carried.service.own, carried.defaults
        whole = own.over(defaults)
        items = dict(whole.items)
        nothing = {} if whole.broken else dict(idle(_values(items)))
        for name, why in nothing.items():
            item = items.pop(name)
            sentence = f"{item.given.source}: {with_keys(why)}"
            if name in own.items:
                self._mistakes.add(item.at, sentence)
            else:
                self._idle[sentence] = item
        self._used |= {item.given.source for item in items.values()}
        if "command" not in whole.items and "command" not in whole.broken:
            self._mistakes.add(
                carried.service.at,
                f"{carried.service.source}: this service has no command; add one, for example "
                'command = "ls -l"',
            )
        return items

    def _refuse_idle_defaults(self) -> None:
        for sentence, item in self._idle.items():
            if item.given.source not in self._used:
                self._mistakes.add(item.at, sentence)

    def _peer_is_known(
        self, member: Mapping[str, Item], useful: Mapping[str, Mapping[str, Item]]
    ) -> bool:
        """Without `remote` there is no peer where there is a witness: then for all, or for none."""
        alone = [name for name, items in useful.items() if not _value(items, "witness")]
        if "remote" in member or len(alone) in (0, len(useful)):
            return True
        service = self._carried[alone[0]].service
        self._mistakes.add(
            service.at,
            f"{service.source}: this service has no witness, as others have, and the member has no "
            "peer; name the peer with remote, or add a witness",
        )
        return False

    def _has_two_addresses(
        self, member: Mapping[str, Item], useful: Iterable[Mapping[str, Item]]
    ) -> bool:
        needs_peer = "remote" in member or not any(_value(items, "witness") for items in useful)
        if not needs_peer or _value(member, "local") != _value(member, "remote"):
            return True
        item = member.get("remote") or member["local"]
        self._mistakes.add(
            item.at,
            f"{item.given.source}: local and remote are both {_value(member, 'local')}; give the "
            "peer's own address as remote",
        )
        return False

    def _one_record_each(self, useful: Iterable[Mapping[str, Item]]) -> None:
        """Two services may not write into one record."""
        named = zip(self._carried, useful, strict=True)
        first: dict[str, str] = {}
        for name, items in named:
            url = _value(items, "witness")
            if url.startswith(ONE_RECORD) and first.setdefault(url, name) != name:
                item = items["witness"]
                both = f"{dotted((first[url],))} and {dotted((name,))}"
                self._mistakes.add(
                    item.at,
                    f"{item.given.source}: {shown(url)} is the record of one service, and both "
                    f"{both} have it; give each one of its own",
                )

    def _config(self, carried: _Carried, items: Mapping[str, Item]) -> Config | None:
        """What one service amounts to, if nothing about it is wrong."""
        service = carried.service
        if "command" not in items or service.own.over(carried.defaults).broken:
            return None
        values = {**_values(items), "service": service.name}
        command = values.pop("command")
        try:
            return assemble({name: item.given for name, item in items.items()}, values, command)
        except ConfigError as error:
            text = str(error)
            about = [item for item in items.values() if text.startswith(item.given.source + ": ")]
            if not about:  # about the member, and so the same for every service
                self._mistakes.add((0, 1), f"{self._path}: {with_keys(text)}")
                return None
            source = about[0].given.source
            self._mistakes.add(about[0].at, source + with_keys(text.removeprefix(source)))
            return None


def _values(items: Mapping[str, Item]) -> dict[str, Any]:
    return {name: item.value for name, item in items.items()}


def _value(items: Mapping[str, Item], name: str) -> Any:
    """The value of a field, or what it is by default."""
    return items[name].value if name in items else Config.__dataclass_fields__[name].default
