"""keepalived: VRRP between the two, and a notify script that is the command.

keepalived does not run a command, it reports its state to scripts. The one here is the least that
an operator would write: `start` becomes the command, `stop` ends it. Because the script becomes
the command, keepalived's own death signal reaches it; a script that starts a daemon and
returns would leave it running after a crash. keepalived demands a virtual address, so it has one.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from functools import partial

from benchmarks.hosts import Host
from benchmarks.network import MEMBERS
from benchmarks.peers.install import debian_version
from benchmarks.peers.peer import Ground, Program, Settings

_VIRTUAL_ADDRESS = "192.0.2.100/32"
_SCRIPT = """\
#!/bin/sh
case "$1" in
start) echo $$ >{pid_file}; exec {command} ;;
stop) [ -s {pid_file} ] && kill "$(cat {pid_file})" && rm {pid_file} ;;
esac
"""
_CONFIGURATION = """\
global_defs {{
    script_user root
    enable_script_security
    {general}
}}
vrrp_instance command {{
    state BACKUP
    interface cable
    virtual_router_id 51
    {instance}
    virtual_ipaddress {{
        {address} dev cable
    }}
    notify_master "{script} start"
    notify_backup "{script} stop"
    notify_fault "{script} stop"
    notify_stop "{script} stop"
}}
"""


class Keepalived:
    """Two of them with the same settings; neither is preferred, so neither preempts."""

    def __init__(self, ground: Ground, general: str, instance: str) -> None:
        self._folder = ground.folder
        for name in MEMBERS:
            host = ground.hosts[name]
            script = self._path(host, "sh")
            command = shlex.join(ground.command(host))
            with open(script, "w") as file:
                file.write(_SCRIPT.format(pid_file=self._path(host, "run"), command=command))
            os.chmod(script, 0o700)
            with open(self._path(host, "conf"), "w") as file:
                file.write(
                    _CONFIGURATION.format(
                        general=general,
                        instance=instance,
                        address=_VIRTUAL_ADDRESS,
                        script=script,
                    )
                )

    def _path(self, host: Host, suffix: str) -> str:
        return os.path.join(self._folder, f"{host.name}.{suffix}")

    def start(self, host: Host) -> subprocess.Popen[bytes]:
        """VRRP only, in the foreground, log on stderr, pid files of its own."""
        pid_files = ("-p", self._path(host, "pid"), "-r", self._path(host, "vrrp.pid"))
        options = ("-n", "-l", "-P", "-f", self._path(host, "conf"), *pid_files)
        for suffix in ("run", "pid", "vrrp.pid"):  # of one that was killed
            if os.path.exists(self._path(host, suffix)):
                os.remove(self._path(host, suffix))
        return host.start(("keepalived", *options))

    def stands_by(self, host: Host) -> bool:
        """It says so itself."""
        return "Entering BACKUP STATE" in host.said()

    def ask_to_stop(self, host: Host, main_pid: int) -> None:
        """SIGTERM: it resigns (priority 0) and runs notify_stop."""
        os.kill(main_pid, signal.SIGTERM)


def _settings(key: str, text: str, interval_s: float, adverts: int, *lines: str) -> Settings:
    general = "vrrp_version 3" if lines else ""
    deploy = partial(Keepalived, general=general, instance="\n    ".join(lines))
    return Settings(key, text, (adverts + 1) * interval_s, interval_s, deploy)


PROGRAM = Program(
    key="keepalived",
    title="keepalived",
    debian=("keepalived",),
    pip=(),
    version=partial(debian_version, "keepalived"),
    settings=(
        _settings("defaults", "defaults (advert_int 1)", 1.0, 3),
        _settings(
            "sub-second",
            "VRRP 3, advert_int 0.1",
            0.1,
            3,
            "advert_int 0.1",
        ),
        _settings(
            "fastest",
            "VRRP 3, advert_int 0.01, priority 254",
            0.01,
            3,
            "advert_int 0.01",
            "priority 254",
        ),
    ),
    is_prompt=False,
    way="notify_master becomes the command, notify_backup, notify_fault and notify_stop send it "
    "SIGTERM; planned stop: SIGTERM to keepalived",
)
