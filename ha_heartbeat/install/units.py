"""The texts of the units: one for a member, one for a witness.

Everything that a unit says follows from the options that the program is started with. What is
sandboxed in a member's unit is sandboxed for the command, too, of which nothing is known; so what
a usual program might notice stands there as a comment, for the operator to take the `#` away. The
witness is ours, and gets all of it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from ha_heartbeat.config import Address, Config
from ha_heartbeat.install.quoting import command_line, path, setting
from ha_heartbeat.plan import Plan

STATE_DIR: Final = "/var/lib/ha-heartbeat"
WITNESS_STATE: Final = "ha-heartbeat-witness"
WITNESS_STORE: Final = f"/var/lib/{WITNESS_STATE}/witness.sqlite3"
LEAST_WATCHDOG_S: Final = 30.0
"""Below this a busy machine looks like a wedged member."""
MARGIN_S: Final = 20.0
"""For what a start or a stop does besides waiting: look-ups, last words, a slow disk."""
FIRST_FREE_PORT: Final = 1024
MAX_UNIT_CHARS: Final = 255 - len(".service")

_UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\-]+")


class Unit(NamedTuple):
    """A unit's file name and its text."""

    name: str
    text: str


def unit_name(service: str) -> str:
    """The file name of a member's unit: `ha-heartbeat-web.service` for the service `web`.

    What may not stand in a unit's name is escaped as systemd-escape(1) does it.
    """
    if service == "default":
        return "ha-heartbeat.service"
    plain = "".join(
        char if _UNIT_NAME.fullmatch(char) else "".join(f"\\x{byte:02x}" for byte in char.encode())
        for char in service
    )
    return f"ha-heartbeat-{plain}"[:MAX_UNIT_CHARS] + ".service"


def member_unit(
    plan: Plan,
    program: Sequence[str],
    words: Sequence[str],
    *,
    name: str,
    user: str = "",
    file: str = "",
) -> Unit:
    """The unit of a member.

    plan: what `words`, its options and command, amount to. program: how it is started, with an
    absolute path first. user: the one that it runs as, "" for root. file: the one that the plan
    stands in, and is read from again at a reload; "" for none. Raises QuotingError.
    """
    start_s = plan.wait_for_serversocket_s + MARGIN_S
    command_s = max(config.stop_timeout_s for config in plan.services)
    leases_s = [config.settings().lease_s for config in plan.services]
    after = "network-online.target"
    if any(config.witness.startswith("file:") for config in plan.services):
        after += " remote-fs.target"
    what = file or plan.services[0].service
    lines = [
        "[Unit]",
        f"Description={setting(f'ha-heartbeat: {what} as {plan.member}')}",
        f"Wants={after}",
        f"After={after}",
        "# Whatever fails is tried again each second, for ever.",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={command_line([*program, *words])}",
        *(["ExecReload=/bin/kill -HUP $MAINPID"] if file else []),
        *([f"User={setting(user)}"] if user else []),
        *(_FOR_ADDRESSES if any(config.vip for config in plan.services) else []),
        *_state_directory(plan),
        "# Only the member is signalled: its guardian ends the command, in order or when the lease",
        "# ends, and holds the port until all of it is gone.",
        "KillMode=process",
        "Delegate=yes",
        "OOMPolicy=continue",
        "# Guardian and keeper go before a command that takes all the processor.",
        "LimitRTPRIO=1",
        "Restart=always",
        "RestartSec=1",
        "# A wrong option is not cured by another start.",
        "RestartPreventExitStatus=2",
        f"# {_s(plan.wait_for_serversocket_s)} for the port (-w), and some more.",
        f"TimeoutStartSec={_s(start_s)}",
        f"# {_s(command_s)} for the command (--stop-timeout), and some more.",
        f"TimeoutStopSec={_s(max(map(_stop_s, plan.services)))}",
        "# A member whose loop stood still for so long has lost its lease and its command.",
        f"WatchdogSec={_s(max(LEAST_WATCHDOG_S, *leases_s))}",
        "",
        *_OFFERED,
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return Unit(name, "\n".join(lines) + "\n")


def _stop_s(config: Config) -> float:
    """How long a stop of this service may take."""
    stop_s = config.stop_timeout_s + MARGIN_S
    if config.on_supervisor:
        stop_s += config.hook_timeout_s
    if config.witness:
        stop_s += config.interval_test_s  # the release of its vote may take as long
    return stop_s


def _state_directory(plan: Plan) -> list[str]:
    """StateDirectory= for a directory below /var/lib, which systemd then makes for the user."""
    where = os.path.normpath(plan.state_dir)
    below = where.removeprefix("/var/lib/")
    if below == where:
        return []
    return [f"StateDirectory={path(below)}", "StateDirectoryMode=0700"]


_FOR_ADDRESSES: Final = (
    "# Virtual addresses (--vip) are added, taken off and announced with these two.",
    "AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW",
)

_OFFERED: Final = (
    "# Everything below holds for the command, too. Take the # away from what it can do without.",
    "# Do not use ProtectProc=, ProcSubset=, ProtectControlGroups= or PrivatePIDs=: they hide from",
    "# the guardian what it has to end.",
    "# It does not use sudo, su, ping or another set-user-ID program:",
    "#NoNewPrivileges=yes",
    "# It writes nothing below /usr, /boot and /etc:",
    "#ProtectSystem=full",
    "# It writes nothing below /home, /root and /run/user:",
    "#ProtectHome=read-only",
    "# It shares nothing in /tmp with anybody:",
    "#PrivateTmp=yes",
    "# It needs no device but /dev/null and the like:",
    "#PrivateDevices=yes",
    "# It changes nothing in /proc/sys and /sys:",
    "#ProtectKernelTunables=yes",
    "# It loads no kernel module:",
    "#ProtectKernelModules=yes",
    "# It does not read the kernel's log:",
    "#ProtectKernelLogs=yes",
    "# It does not set the clock:",
    "#ProtectClock=yes",
    "# It does not set the host name:",
    "#ProtectHostname=yes",
    "# It makes no set-user-ID file, as package managers do:",
    "#RestrictSUIDSGID=yes",
    "# It runs no program of another architecture:",
    "#LockPersonality=yes",
    "# It expects another directory than /:",
    "#WorkingDirectory=/srv/x",
)


def witness_unit(
    listen: Address,
    program: Sequence[str],
    words: Sequence[str],
    *,
    name: str,
    store: str,
    user: str = "",
) -> Unit:
    """The unit of a witness that listens on `listen` and keeps its records in the file `store`.

    user: a user that owns the directory of `store`; "" for one that systemd makes up, which is for
    a store in WITNESS_STORE's directory only. Raises QuotingError.
    """
    own = os.path.dirname(store) == os.path.dirname(WITNESS_STORE)
    privileged = listen.port < FIRST_FREE_PORT
    bind = "CAP_NET_BIND_SERVICE" if privileged else ""
    lines = [
        "[Unit]",
        f"Description={setting(f'ha-heartbeat witness on {listen}')}",
        "Wants=network-online.target",
        "After=network-online.target",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={command_line([*program, *words])}",
        *([f"User={setting(user)}"] if user else ["DynamicUser=yes"]),
        *(
            [f"StateDirectory={WITNESS_STATE}", "StateDirectoryMode=0700"]
            if own
            else [f"ReadWritePaths={path(os.path.dirname(store))}"]
        ),
        "Restart=always",
        "RestartSec=1",
        "RestartPreventExitStatus=2",
        "TimeoutStopSec=30",
        "# One that confirms nothing for so long is no witness.",
        f"WatchdogSec={_s(LEAST_WATCHDOG_S)}",
        "LimitNOFILE=20064",
        f"CapabilityBoundingSet={bind}",
        f"AmbientCapabilities={bind}",
        *_HARDENED,
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return Unit(name, "\n".join(lines) + "\n")


_HARDENED: Final = (
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=read-only",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RemoveIPC=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged",
    "SystemCallErrorNumber=EPERM",
    "UMask=0077",
)


def _s(seconds: float) -> str:
    """A time span, in whole seconds and not shorter."""
    return f"{math.ceil(seconds)}s"
