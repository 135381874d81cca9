"""What a member is started with: the only table of defaults, and the checks of what was given.

Where a text comes from (an option, a file) is the caller's business: it hands in `Given` texts that
know their source, and gets a `Config` or a `ConfigError` that names that source. Nothing is
resolved, opened or created here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, TypeVar

from ha_heartbeat import places
from ha_heartbeat.core.types import VIP, Cadence, Mode, Settings, TakeoverPolicy

ADDRESS_EXAMPLES = "m1:22221 or [::1]:22221"
VIP_EXAMPLES = "192.0.2.10/24@eth0 or 2001:db8::10/64@eth0"
MIN_SPAN_S = 0.001
MAX_SPAN_S = 31_536_000.0  # a year: longer is a slip, and some systems' timers end before it
MAX_CHECK_COUNT = 1000
MAX_OUTPUT_BYTES = 65536
MAX_NAME_CHARS = 64
MAX_HOST_CHARS = 249  # the DNS allows 253; HOST:PORT is a name on the wire, which allows 255
MAX_ZONE_CHARS = 64
MAX_INTERFACE_CHARS = 15  # IFNAMSIZ, less the NUL
MAX_LABEL_CHARS = 63
MAX_COMMAND_TEXT_CHARS = 1000
SHOWN_CHARS = 60

_SECONDS = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,9}", re.ASCII)  # one that is worth reading
_NOT_IN_HOST = re.compile(r"[^\w.-]")
_NOT_IN_INTERFACE = re.compile(r"[^!-~]|[/@]")

_E = TypeVar("_E", bound=Enum)


class ConfigError(Exception):
    """Something that was given cannot be used; its text is one sentence for the operator."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """A sentence for each thing that is wrong, if more than one was looked for."""
        return (str(self),)


class Given(NamedTuple):
    """One text as the operator gave it; `source` is what he calls its place ("-l/--local")."""

    text: str
    source: str


class Address(NamedTuple):
    """A host, lower-case and without brackets, and a port in 1..65535. `str()` gives HOST:PORT."""

    host: str
    port: int

    def __str__(self) -> str:
        """The address as it is written on the command line, with brackets around IPv6."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class LogFormat(Enum):
    """How a line of the log looks."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What one member was started with. The values below are the only table of defaults.

    Spans are seconds in MIN_SPAN_S..MAX_SPAN_S (`wait_for_serversocket_s` and `fallback_delay_s`
    may be 0, and so may `run_timeout_s`: no limit); `check_count` and `check_failures` are in
    1..MAX_CHECK_COUNT, and so is `max_failures`, or 0: no limit. `command` has one element, a shell
    command, or several, a program and its arguments. `vip` are virtual addresses, each
    ADDRESS/PREFIX@INTERFACE in the one way of writing the address. `fence`, `check`, `on_worker`
    and `on_supervisor` are shell commands, "" for none. The journal keeps entries of the last
    `journal_days` days, at most `journal_mib` MiB of them, and of each run the last
    `journal_output_bytes` of its output (0: the command has the member's own output). Given as "",
    `member` becomes the local address and `state_dir` the platform's own place, so that neither is
    empty in a Config.

    Raises ConfigError when two of the values contradict each other.
    """

    local: Address = Address("localhost", 22221)
    remote: Address | None = Address("localhost", 22222)
    links: tuple[Address, ...] = ()
    interval_test_s: float = 10.0
    check_count: int = 3
    interval_commands_s: float = 30.0
    cadence: Cadence = Cadence.RESTART
    wait_for_serversocket_s: float = 300.0
    mode: Mode = Mode.SUPERVISOR
    fallback: bool = False
    takeover: TakeoverPolicy = TakeoverPolicy.SILENCE
    distrust_refused: bool = False
    fence: str = ""
    witness: str = ""
    fallback_delay_s: float = 0.0
    stop_timeout_s: float = 10.0
    run_timeout_s: float = 0.0
    vip: tuple[str, ...] = ()
    on_worker: str = ""
    on_supervisor: str = ""
    hook_timeout_s: float = 5.0
    max_failures: int = 0
    check: str = ""
    check_interval_s: float = 10.0
    check_timeout_s: float = 10.0
    check_failures: int = 3
    service: str = "default"
    member: str = ""
    state_dir: str = ""
    journal_days: float = 366.0
    journal_mib: float = 256.0
    journal_output_bytes: int = 0
    log_format: LogFormat = LogFormat.TEXT
    verbose: bool = False
    command: tuple[str, ...]

    def __post_init__(self) -> None:
        """Fill in what follows from other values, and check what no value shows on its own."""
        if self.local == self.remote:
            raise ConfigError(
                f"the local and the remote address are both {self.local}; "
                "give the peer's own address with -r/--remote"
            )
        for link in self.links:
            if link in (self.local, self.remote):
                whose = "the local address" if link == self.local else "what --remote says already"
                raise ConfigError(
                    f"--links: {link} is {whose}; give another address of the peer, or leave it out"
                )
        if not self.command or not self.command[0].strip():
            raise ConfigError(
                "the command is missing; give it after the options, "
                'as in: ha-heartbeat -l m1:22221 -r m2:22222 "ls -l"'
            )
        if not self.member:
            object.__setattr__(self, "member", str(self.local))
        if not self.state_dir:
            object.__setattr__(self, "state_dir", default_state_dir())

    @property
    def command_text(self) -> str:
        """The command in one text, whole, as a shell would take it; may hold lone surrogates."""
        if len(self.command) == 1:
            return self.command[0]
        import shlex  # only here: not needed to check options

        return shlex.join(self.command)

    @property
    def steps(self) -> tuple[str, ...]:
        """The options that name what is done before the first run of a term, in this order."""
        given = ((VIP, self.vip), ("on-worker", self.on_worker))
        return tuple(step for step, value in given if value)

    def settings(self) -> Settings:
        """What of this the decisions depend on."""
        local, peer = str(self.local), str(self.remote or "")
        return Settings(
            member=self.member,
            service=self.service,
            local=local,
            peer=peer,
            mode=self.mode,
            fallback=self.fallback,
            interval_test_s=self.interval_test_s,
            check_count=self.check_count,
            interval_commands_s=self.interval_commands_s,
            cadence=self.cadence,
            stop_timeout_s=self.stop_timeout_s,
            run_timeout_s=self.run_timeout_s or math.inf,
            fallback_delay_s=self.fallback_delay_s,
            max_failures=self.max_failures,
            steps=self.steps,
            has_undo=bool(self.on_supervisor),
            hook_timeout_s=self.hook_timeout_s,
            has_check=bool(self.check),
            check_interval_s=self.check_interval_s,
            check_failures=self.check_failures,
            takeover=self.takeover,
            distrust_refused=self.distrust_refused,
            has_fence=bool(self.fence),
            has_witness=bool(self.witness),
            command=comparable(self.command_text),
            rank=0 if local < peer else 1,
        )


def default_state_dir() -> str:
    """Where this platform and user keep state. Raises ConfigError when no home is known."""
    try:
        return places.default_state_dir()
    except LookupError as error:
        raise ConfigError(str(error)) from None


def make_config(given: Mapping[str, Given], command: Sequence[str]) -> Config:
    """Check every given text, keyed by the name of its field in Config, and make a Config.

    Flags are given as "on" or "off". Raises ConfigError for the first text that cannot be used,
    and KeyError for a name that is no field of Config.
    """
    values = {name: read_value(name, text) for name, text in given.items()}
    for name, why in idle(values):
        raise ConfigError(f"{given[name].source}: {why}")
    return assemble(given, values, command)


def read_value(name: str, given: Given) -> Any:
    """The value of the field `name` of Config.

    Raises ConfigError for a text that cannot be used, and KeyError if there is no such field.
    """
    return _READERS[name](given)


def idle(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The names of values that do nothing for want of another one, and why, without a full stop.

    Whoever gave such a value meant it to do something.
    """
    if values.get("fallback_delay_s") and not values.get("fallback"):
        yield (
            "fallback_delay_s",
            "without -f/--fallback the role is not given back, so there is nothing to delay; "
            "add -f, or leave this option out",
        )
    for name in ("check_interval_s", "check_timeout_s", "check_failures"):
        if name in values and not values.get("check"):
            yield (
                name,
                "there is no health check that it could be about; give one with --check, or leave "
                "this option out",
            )
    hooks = ("vip", "on_worker", "on_supervisor")
    if "hook_timeout_s" in values and not any(values.get(name) for name in hooks):
        yield (
            "hook_timeout_s",
            "there is no hook that it could be about; give one with --on-worker or "
            "--on-supervisor, or a --vip, or leave this option out",
        )


def assemble(
    given: Mapping[str, Given], values: Mapping[str, Any], command: Sequence[str]
) -> Config:
    """Make a Config of values that were read from `given`. Raises ConfigError if two contradict."""
    whole = dict(values)
    if values.get("witness"):
        _let_the_witness_decide(given, whole)
    return Config(command=tuple(command), **whole)


def _let_the_witness_decide(given: Mapping[str, Given], values: dict[str, Any]) -> None:
    """With a witness silence is never acted on, and a peer is wanted only where one is named."""
    if values.setdefault("takeover", TakeoverPolicy.PROOF) is TakeoverPolicy.SILENCE:
        raise ConfigError(
            f"{given['takeover'].source}: silence and {given['witness'].source} contradict each "
            "other, since the witness's vote decides; leave one of the two out"
        )
    host = values["witness"].removeprefix("witness://").rstrip("/").lower()
    for name in ("local", "remote"):
        if host == str(values.get(name)):
            raise ConfigError(
                f"{given['witness'].source}: {host} is the {name} address, too, and a witness has "
                "to be on neither of the two machines; give its own address"
            )
    if "remote" in values:
        return
    values["remote"] = None
    for name in ("fallback", "fence", "links"):
        if values.get(name):
            raise ConfigError(
                f"{given[name].source}: without -r/--remote there is no peer that this "
                "could be about; name the peer, or leave this option out"
            )


def comparable(command: str) -> str:
    """The command as two members compare it: valid Unicode, at most MAX_COMMAND_TEXT_CHARS long.

    A longer one ends in a digest of the whole, so that a difference at its end still shows.
    """
    raw = command.encode("utf-8", "surrogateescape")
    text = raw.decode("utf-8", "backslashreplace")
    if len(text) <= MAX_COMMAND_TEXT_CHARS:
        return text
    import hashlib  # only here: commands are seldom that long

    end = f"... (sha256 {hashlib.sha256(raw).hexdigest()})"
    return text[: MAX_COMMAND_TEXT_CHARS - len(end)] + end


def read_address(given: Given) -> Address:
    """Read HOST:PORT or [IPV6]:PORT. Raises ConfigError."""
    text = given.text.strip()
    if text.startswith("["):
        return _read_bracketed(given, text)
    if text.count(":") > 1 and "/" not in text:
        raise _bad_address(
            given, "has more than one colon; an IPv6 address needs brackets around it"
        )
    host, colon, port = text.partition(":")
    if not colon:
        raise _bad_address(given, "has no port")
    if not host:
        raise _bad_address(given, "has no host before the colon")
    return Address(_checked_host(given, host.lower()), _read_port(given, port))


def _read_bracketed(given: Given, text: str) -> Address:
    import socket  # only here: few addresses need it, and --help needs none

    inside, bracket, rest = text[1:].partition("]")
    if not bracket:
        raise _bad_address(given, "has no closing bracket")
    if not rest.startswith(":"):
        raise _bad_address(given, "has no port after the bracket")
    address, percent, zone = inside.partition("%")
    try:
        packed = socket.inet_pton(socket.AF_INET6, address)
    except (OSError, ValueError):
        raise _bad_address(given, "has no IPv6 address between its brackets") from None
    if percent and (not 0 < len(zone) <= MAX_ZONE_CHARS or _NOT_IN_HOST.search(zone)):
        raise _bad_address(given, "has no usable zone after the percent sign")
    # One spelling for one address, so that both members put the same two addresses in order.
    host = socket.inet_ntop(socket.AF_INET6, packed) + percent + zone
    return Address(host, _read_port(given, rest[1:]))


def _checked_host(given: Given, host: str) -> str:
    wrong = _NOT_IN_HOST.search(host)
    if wrong:
        raise _bad_address(given, f"has {wrong[0]!r} in its host")
    try:
        ascii_host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise _bad_address(given, "has a host that cannot be a host's name") from None
    labels = ascii_host.removesuffix(".").split(".")
    if len(ascii_host) > MAX_HOST_CHARS or not all(
        0 < len(label) <= MAX_LABEL_CHARS for label in labels
    ):
        # The resolver of Python raises UnicodeError for these, later and far from here.
        raise _bad_address(given, "has a host that is too long or has an empty part")
    return host


def _read_port(given: Given, text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise _bad_address(given, f"has {shown(text)} where the port number belongs")
    if not 1 <= int(text) <= 65535:
        raise _bad_address(given, f"has port {text}, and ports go from 1 to 65535")
    return int(text)


def _bad_address(given: Given, wrong: str) -> ConfigError:
    return ConfigError(
        f"{given.source}: {shown(given.text)} {wrong}; "
        f"give HOST:PORT, for example {ADDRESS_EXAMPLES}"
    )


def _read_span(given: Given) -> float:
    return _read_seconds(given, MIN_SPAN_S)


def _read_wait(given: Given) -> float:
    return _read_seconds(given, 0.0)


def _read_seconds(given: Given, least_s: float) -> float:
    return _read_amount(given, least_s, MAX_SPAN_S, "seconds", "10 or 0.5")


def _read_days(given: Given) -> float:
    return _read_amount(given, 0.01, 36_500.0, "days", "30")


def _read_mib(given: Given) -> float:
    return _read_amount(given, 1.0, 1_048_576.0, "MiB", "30")


def _read_amount(given: Given, least: float, most: float, unit: str, example: str) -> float:
    allowed = f"give {unit} from {least:g} to {most:.0f}, for example {example}"
    text = given.text.strip()
    if not _SECONDS.fullmatch(text):
        raise ConfigError(f"{given.source}: {shown(given.text)} is not a number; {allowed}")
    value = float(text)
    if not least <= value <= most:
        raise ConfigError(f"{given.source}: {shown(given.text)} is out of range; {allowed}")
    return value + 0.0  # makes 0.0 of -0.0


def _counted(least: int) -> Callable[[Given], int]:
    """Make a reader of whole numbers from `least` to MAX_CHECK_COUNT."""
    return lambda given: _read_whole(given, least, MAX_CHECK_COUNT, "a whole number", "3")


def _read_output_bytes(given: Given) -> int:
    return _read_whole(given, 0, MAX_OUTPUT_BYTES, "bytes", "4096")


def _read_whole(given: Given, least: int, most: int, what: str, example: str) -> int:
    allowed = f"give {what} from {least} to {most}, for example {example}"
    text = given.text.strip()
    if not _WHOLE.fullmatch(text):
        raise ConfigError(f"{given.source}: {shown(given.text)} is not a whole number; {allowed}")
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise ConfigError(f"{given.source}: {shown(given.text)} is out of range; {allowed}")
    return int(text)


def _read_flag(given: Given) -> bool:
    if given.text not in {"on", "off"}:
        raise ConfigError(f"{given.source}: {shown(given.text)} is neither on nor off")
    return given.text == "on"


def _choice(kind: type[_E]) -> Callable[[Given], _E]:
    """Make a reader of the values of `kind`, in any case."""

    def read(given: Given) -> _E:
        for member in kind:
            if given.text.strip().lower() == member.value:
                return member
        names = " or ".join(str(member.value) for member in kind)
        raise ConfigError(f"{given.source}: {shown(given.text)} is unknown; give {names}")

    return read


def _read_name(given: Given) -> str:
    """Read a name that fits a log line, an environment variable and a message."""
    text = given.text.strip()
    if not text:
        raise ConfigError(f"{given.source}: the name is empty; leave the option out or give a name")
    if len(text) > MAX_NAME_CHARS:
        raise ConfigError(
            f"{given.source}: {shown(text)} has {len(text)} characters; "
            f"give at most {MAX_NAME_CHARS}"
        )
    if not text.isprintable() or " " in text:
        raise ConfigError(
            f"{given.source}: {shown(text)} has a blank or a control character; "
            "give one word of printable characters, for example web-1"
        )
    return text


def _shell_command(meaning: str) -> Callable[[Given], str]:
    """Make a reader of shell commands; `meaning` says what such a command does."""

    def read(given: Given) -> str:
        if not given.text.strip():
            raise ConfigError(
                f"{given.source}: the command is empty; leave the option out or give a shell "
                f"command that {meaning}"
            )
        return given.text

    return read


def _read_links(given: Given) -> tuple[Address, ...]:
    """Read HOST:PORT, or several with commas between."""
    words = [Given(word, given.source) for word in given.text.split(",")]
    return tuple(dict.fromkeys(map(read_address, words)))


def _read_vips(given: Given) -> tuple[str, ...]:
    """Read ADDRESS/PREFIX@INTERFACE, or several with commas between."""
    found: dict[str, str] = {}
    for word in given.text.split(","):
        address, vip = _read_vip(given, word.strip())
        if address in found:
            raise ConfigError(f"{given.source}: {address} is given twice; leave one of the two out")
        found[address] = vip
    return tuple(found.values())


def _read_vip(given: Given, word: str) -> tuple[str, str]:
    """The address, and the whole."""
    import ipaddress  # only here: few members have one

    where, at, interface = word.partition("@")
    if not at or "/" not in where:
        raise _bad_vip(given, word, "has no prefix length or no interface")
    if not 0 < len(interface) <= MAX_INTERFACE_CHARS or _NOT_IN_INTERFACE.search(interface):
        raise _bad_vip(given, word, "has no usable name of an interface after the @")
    host, _, prefix = where.partition("/")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise _bad_vip(given, word, "has no IP address at its beginning") from None
    if "%" in host:
        raise _bad_vip(given, word, "has a zone, and the interface is what stands after the @")
    if not _NUMBER.fullmatch(prefix) or not 1 <= int(prefix) <= address.max_prefixlen:
        raise _bad_vip(given, word, f"needs a prefix length from 1 to {address.max_prefixlen}")
    network = ipaddress.ip_network((address, int(prefix)), strict=False)
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise _bad_vip(given, word, "is no address that one machine of a network can have")
    ends = (network.network_address, network.broadcast_address)
    if address.version == 4 and address in ends and network.num_addresses > 2:
        raise _bad_vip(given, word, "is the first or the last of its network, which no machine has")
    return str(address), f"{address}/{int(prefix)}@{interface}"


def _bad_vip(given: Given, word: str, wrong: str) -> ConfigError:
    return ConfigError(
        f"{given.source}: {shown(word)} {wrong}; give ADDRESS/PREFIX@INTERFACE, for example "
        f"{VIP_EXAMPLES}"
    )


def _read_witness(given: Given) -> str:
    if "://" not in given.text or not given.text.isprintable():
        raise ConfigError(
            f"{given.source}: {shown(given.text)} is no URL; give one, for example "
            "witness://m3:22220 or file:///mnt/share/cluster.lease"
        )
    return given.text.strip()


def _read_directory(given: Given) -> str:
    if not given.text or "\0" in given.text:
        raise ConfigError(
            f"{given.source}: {shown(given.text)} is no directory's name; "
            "leave the option out or give a directory, for example /var/lib/ha-heartbeat"
        )
    return given.text


def shown(text: str) -> str:
    """The text in quotes, on one line and not longer than SHOWN_CHARS."""
    return repr(text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "...")


_READERS: Mapping[str, Callable[[Given], object]] = {
    "local": read_address,
    "remote": read_address,
    "links": _read_links,
    "interval_test_s": _read_span,
    "check_count": _counted(1),
    "interval_commands_s": _read_span,
    "cadence": _choice(Cadence),
    "wait_for_serversocket_s": _read_wait,
    "mode": _choice(Mode),
    "fallback": _read_flag,
    "takeover": _choice(TakeoverPolicy),
    "distrust_refused": _read_flag,
    "fence": _shell_command("turns the peer off and exits with 0 only when it is off"),
    "witness": _read_witness,
    "fallback_delay_s": _read_wait,
    "stop_timeout_s": _read_span,
    "run_timeout_s": _read_wait,
    "vip": _read_vips,
    "on_worker": _shell_command("sets up what the command needs and exits with 0 when it has"),
    "on_supervisor": _shell_command("undoes what --on-worker has set up"),
    "hook_timeout_s": _read_span,
    "max_failures": _counted(0),
    "check": _shell_command("exits with 0 only when the service is well"),
    "check_interval_s": _read_span,
    "check_timeout_s": _read_span,
    "check_failures": _counted(1),
    "service": _read_name,
    "member": _read_name,
    "state_dir": _read_directory,
    "journal_days": _read_days,
    "journal_mib": _read_mib,
    "journal_output_bytes": _read_output_bytes,
    "log_format": _choice(LogFormat),
    "verbose": _read_flag,
}
