"""The tables of one file: which keys may stand in which of them, and what each is as a value.

Every mistake is noted, and reading goes on after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from ha_heartbeat.config import Config, ConfigError, Given, read_value, shown
from ha_heartbeat.options import OPTIONS, with_keys
from ha_heartbeat.plan import KEYS, MEMBER_WIDE
from ha_heartbeat.toml_lines import Path
from ha_heartbeat.tomlfile import Document

OF_MEMBER: Final = {KEYS[name]: name for name in MEMBER_WIDE}
OF_SERVICE: Final = {
    "command": "command",
    **{key: name for name, key in KEYS.items() if name not in (*MEMBER_WIDE, "service")},
}
"""What may be said of the member, and of a service: keys, and the fields of Config they are."""

_TABLES: Final = ("include", "member", "defaults", "services")
_DEFAULTS: Final = {name: Config.__dataclass_fields__[name].default for name in KEYS}
_EXAMPLES: Final = {option.name: option.example for option in OPTIONS}
_SEVERAL: Final = {option.name for option in OPTIONS if option.repeats}

At: TypeAlias = tuple[int, int]
"""A place to sort by: the number of the file, in the order in which they are read, and the line."""


class Mistakes:
    """The sentences on what is wrong, each once, in the order of files and lines."""

    def __init__(self) -> None:
        self._found: dict[str, At] = {}

    def add(self, at: At, sentence: str) -> None:
        """Note one."""
        self._found.setdefault(sentence, at)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._found)

    def __iter__(self) -> Iterator[str]:
        """Each, in order."""
        return iter(sorted(self._found, key=self._found.__getitem__))


class Item(NamedTuple):
    """A value that can be used, and where it stands."""

    given: Given
    value: Any
    at: At


class Table(NamedTuple):
    """What can be used of a table, and the fields that are given in it and cannot be used."""

    items: dict[str, Item]
    broken: frozenset[str]

    def over(self, outer: Table) -> Table:
        """This table, and what only `outer` has."""
        return Table(
            {**outer.items, **self.items},
            self.broken | (outer.broken - self.items.keys()),
        )


NOTHING: Final = Table({}, frozenset())


class Service(NamedTuple):
    """A service's name and its table."""

    name: str
    source: str
    at: At
    own: Table


class Include(NamedTuple):
    """A path or a pattern in the list of what is to be included."""

    pattern: str
    source: str
    at: At


class Tables:
    """The tables of a document, the file of that number."""

    def __init__(self, document: Document, number: int, mistakes: Mistakes) -> None:
        self._document = document
        self._number = number
        self._mistakes = mistakes
        data = document.data
        self._top = {key: value for key, value in data.items() if key not in _TABLES}
        if not isinstance(data.get("member", {}), dict):  # a table, or the key of that name
            self._top["member"] = data["member"]

    def member(self) -> Table:
        """What is said of the member, at the top and in [member]."""
        top = self._table((), self._top, OF_MEMBER)
        content = self._document.data.get("member", {})
        if not isinstance(content, dict):
            return top
        table = self._table(("member",), content, OF_MEMBER)
        for name in top.items.keys() & table.items.keys():
            item = table.items[name]
            first = top.items[name].at[1]
            self._mistakes.add(
                item.at,
                f"{item.given.source}: this is given in line {first}, too; leave one of the two "
                "out",
            )
        return table.over(top)

    def refuse_member(self, main: str) -> None:
        """Note whatever is said of the member: this file is one that `main` includes."""
        for key in self._top:
            if key in OF_MEMBER:
                self._wrong((key,), f"this belongs to the member; move it to {main}")
            else:
                self._unknown((key,), {})
        if isinstance(self._document.data.get("member"), dict):
            self._wrong(("member",), f"this belongs to the member; move it to {main}")

    def defaults(self) -> Table:
        """What holds for every service that does not say otherwise."""
        where: Path = ("defaults",)
        content = self._document.data.get("defaults", {})
        if not isinstance(content, dict):
            self._wrong(where, "this is no table; write [defaults] above the keys")
            return NOTHING
        return self._table(where, content, OF_SERVICE)

    def services(self, defaults: Table) -> Iterator[Service]:
        """The services; what `defaults` gives of texts and lists can be taken back with none."""
        content = self._document.data.get("services", {})
        if not isinstance(content, dict):
            self._wrong(("services",), "a service has no name here; write [services.NAME]")
            return
        for name, table in content.items():
            where: Path = ("services", name)
            if not isinstance(table, dict):
                self._wrong(where, f"this is no table; write [services.{name}] above its keys")
                continue
            source = self._document.source(where)
            own = self._table(where, table, OF_SERVICE, defaults.items)
            try:
                if read_value("service", Given(name, source)) != name:
                    self._wrong(where, "the name has blanks at its ends; leave them out")
            except ConfigError as error:
                self._mistakes.add(self._at(where), str(error))
            yield Service(name, source, self._at(where), own)

    def include(self) -> Iterator[Include]:
        """What is to be included."""
        patterns = self._document.data.get("include", [])
        if not isinstance(patterns, list):
            self._wrong(("include",), 'this is no list; give paths, as in ["services.d/*.toml"]')
            return
        for index, pattern in enumerate(patterns):
            where: Path = ("include", index)
            if not isinstance(pattern, str) or not pattern or "\0" in pattern:
                self._wrong(where, f"{_spoken(pattern)} is no path; give one in quotes")
            else:
                yield Include(pattern, self._document.source(where), self._at(where))

    # -- one table ---------------------------------------------------------------------------------

    def _table(
        self,
        where: Path,
        content: Mapping[str, Any],
        allowed: Mapping[str, str],
        taken_back: Mapping[str, Item] | None = None,
    ) -> Table:
        """The values in a table; texts of `taken_back` may be empty."""
        items: dict[str, Item] = {}
        broken: set[str] = set()
        for key, value in content.items():
            place = (*where, key)
            name = allowed.get(key)
            if name is None:
                broken.add(self._unknown(place, allowed))
            elif name in (taken_back or ()) and _is_nothing(name, value):
                nothing = Given("", self._document.source(place))
                items[name] = Item(nothing, _DEFAULTS[name], self._at(place))
            elif (item := self._item(place, name, value)) is not None:
                items[name] = item
            else:
                broken.add(name)
        return Table(items, frozenset(broken))

    def _item(self, where: Path, name: str, value: Any) -> Item | None:
        if name == "command":
            return self._command(where, value)
        text = _text(name, value)
        if text is None:
            self._wrong(where, f"{_spoken(value)} does not fit; give {_wanted(name)}")
            return None
        given = Given(text, self._document.source(where))
        try:
            read = read_value(name, given)
        except ConfigError as error:
            wrong, semicolon, remedy = str(error).rpartition("; ")
            self._mistakes.add(self._at(where), wrong + semicolon + with_keys(remedy))
            return None
        if "\0" in text:
            self._wrong(where, "a NUL character can be in no command and no name; leave it out")
            return None
        return Item(given, read, self._at(where))

    def _command(self, where: Path, value: Any) -> Item | None:
        words = value if isinstance(value, list) else [value]
        for index, word in enumerate(words):
            place = (*where, index) if isinstance(value, list) else where
            if not isinstance(word, str):
                self._wrong(
                    place,
                    f"{_spoken(word)} does not fit; give a shell command in quotes, or a list of a "
                    "program and its arguments, each in quotes",
                )
                return None
            if "\0" in word:
                self._wrong(place, "a NUL character can be in no command; leave it out")
                return None
        if not words or not words[0].strip():
            self._wrong(where, 'the command is empty; give one, for example "ls -l"')
            return None
        return Item(Given(words[0], self._document.source(where)), tuple(words), self._at(where))

    # -- keys that may not stand where they stand --------------------------------------------------

    def _unknown(self, where: Path, allowed: Mapping[str, str]) -> str:
        """Note it; the field that was probably meant, or the key."""
        key = str(where[-1])
        if key == "name" and len(where) > 1:
            self._wrong(where, _NAMES[str(where[0])])
        elif key in OF_MEMBER:
            self._wrong(where, f"this belongs to the member; {_TO_MEMBER}")
        elif key in OF_SERVICE:
            self._wrong(where, f"this belongs to a service; {_TO_SERVICE}")
        else:
            near = self._near(key, [*allowed, *(_TABLES if len(where) == 1 else ())])
            advice = (
                f"did you mean {near}?"
                if near
                else "a key is a long option of ha-heartbeat --help, with underscores"
            )
            self._wrong(where, f"this key is unknown; {advice}")
            return allowed.get(near, key)
        return key

    @staticmethod
    def _near(key: str, known: Sequence[str]) -> str:
        import difflib  # only here: nothing else needs it

        near = difflib.get_close_matches(key.replace("-", "_"), known, n=1, cutoff=0.6)
        return near[0] if near else ""

    def _wrong(self, where: Path, what: str) -> None:
        self._mistakes.add(self._at(where), f"{self._document.source(where)}: {what}")

    def _at(self, where: Path) -> At:
        return self._number, self._document.line(where)


_TO_MEMBER: Final = "move it to the top of the file, or into [member]"
_TO_SERVICE: Final = "move it into [services.NAME], or into [defaults]"
_NAMES: Final = {
    "services": "a service has the name of its table; leave this key out, or rename the table",
    "defaults": "a service has the name of its table; leave this key out",
    "member": "this key is unknown; did you mean member?",
}


def _is_nothing(name: str, value: Any) -> bool:
    """Whether an empty text or list stands where none is the default."""
    return value in ("", []) and _DEFAULTS.get(name) in ("", ())


def _text(name: str, value: Any) -> str | None:
    """The value as the text that the command line would have; None if it is of the wrong kind."""
    default = _DEFAULTS[name]
    if isinstance(default, bool):
        return ("on" if value else "off") if isinstance(value, bool) else None
    if isinstance(default, int | float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return repr(value) if number else None
    if name in _SEVERAL and isinstance(value, list):
        return ",".join(value) if value and all(isinstance(one, str) for one in value) else None
    return value if isinstance(value, str) else None


def _wanted(name: str) -> str:
    default = _DEFAULTS[name]
    if isinstance(default, bool):
        return "true or false"
    example = _EXAMPLES[name]
    if isinstance(default, int | float):
        return f"a number without quotes, for example {example}"
    if name in _SEVERAL:
        return f'a list of texts in quotes, for example ["{example}"]'
    return f'a text in quotes, for example "{example}"'


def _spoken(value: Any) -> str:
    """A value as one would write it in the file, or what it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return shown(value)
    return str(value)[:60]
