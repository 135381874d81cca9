"""Pacemaker on Corosync: two nodes, one primitive, the agent ocf:heartbeat:anything.

Its daemons expect a machine of their own, so each host has besides its network namespaces for
mounts, host name, System V and POSIX IPC and processes, with an init of its own. What a disk would
keep (CIB, rings) stays in the peer's folder; what a boot would clear is a tmpfs.

Two nodes need `two_node`, and without a device for fencing `stonith-enabled=false`: with its
defaults alone Pacemaker starts nothing at all.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from functools import partial

from benchmarks.hosts import Host
from benchmarks.network import ADDRESSES, MEMBERS
from benchmarks.peers.install import debian_version
from benchmarks.peers.peer import Ground, Program, Settings

_INIT = """\
set -e
mount -t proc proc /proc
hostname {name}
# The command's records are in /dev/shm, and must stay in sight.
mkdir -p {disk}/hold
mount --bind {records} {disk}/hold
mount -t tmpfs tmpfs /dev/shm
mkdir -p {records}
mount --move {disk}/hold {records}
mount -t tmpfs tmpfs /run
mkdir /run/lock
mount --bind {disk}/etc-corosync /etc/corosync
mount --bind {disk}/lib-corosync /var/lib/corosync
mount --bind {disk}/lib-pacemaker /var/lib/pacemaker
mount --bind {disk}/log /var/log/pacemaker
cp {disk}/command /run/command
corosync -f &
until corosync-cfgtool -s >/dev/null 2>&1; do sleep 0.02; done
PCMK_logfile=/var/log/pacemaker/log pacemakerd &
while :; do wait; sleep 3600; done
"""
_COROSYNC = """\
totem {{
    version: 2
    cluster_name: bench
    {totem}
}}
logging {{
    to_stderr: yes
    to_syslog: no
}}
quorum {{
    provider: corosync_votequorum
    two_node: 1
}}
nodelist {{
    node {{
        name: a
        nodeid: 1
        ring0_addr: {a}
    }}
    node {{
        name: b
        nodeid: 2
        ring0_addr: {b}
    }}
}}
"""
_CIB = """\
<cib admin_epoch="0" epoch="1" num_updates="0" validate-with="pacemaker-3.8">
  <configuration>
    <crm_config>
      <cluster_property_set id="options">
        <nvpair id="stonith" name="stonith-enabled" value="false"/>
        <nvpair id="deadtime" name="dc-deadtime" value="{dc_deadtime}"/>
      </cluster_property_set>
    </crm_config>
    <nodes/>
    <resources>
      <primitive id="command" class="ocf" provider="heartbeat" type="anything">
        <instance_attributes id="command-attributes">
          <nvpair id="command-binfile" name="binfile" value="/run/command"/>
        </instance_attributes>
        <operations>
          <op id="command-monitor" name="monitor" interval="10s" timeout="20s"/>
        </operations>
      </primitive>
    </resources>
    <constraints/>
  </configuration>
  <status/>
</cib>
"""
_STATE = "/var/lib/pacemaker"


class Pacemaker:
    """Two nodes of one cluster; the folders of both are laid out before the first start."""

    def __init__(self, ground: Ground, totem: str, dc_deadtime: str) -> None:
        self._ground = ground
        for name in MEMBERS:
            disk = self._disk(name)
            for folder in ("etc-corosync/uidgid.d", "lib-corosync", "log"):
                os.makedirs(os.path.join(disk, folder))
            shutil.chown(os.path.join(disk, "log"), "hacluster", "haclient")
            corosync = _COROSYNC.format(totem=totem, a=ADDRESSES["a"], b=ADDRESSES["b"])
            _write(os.path.join(disk, "etc-corosync", "corosync.conf"), corosync)
            # With its owners and modes, as the package has laid it out.
            copy = ("cp", "-a", _STATE, os.path.join(disk, "lib-pacemaker"))
            subprocess.run(copy, check=True)
            cib = os.path.join(disk, "lib-pacemaker", "cib", "cib.xml")
            _write(cib, _CIB.format(dc_deadtime=dc_deadtime))
            shutil.chown(cib, "hacluster", "haclient")
            os.chmod(cib, 0o600)
            command = os.path.join(disk, "command")
            words = shlex.join(ground.command(ground.hosts[name]))
            _write(command, f"#!/bin/sh\nexec {words}\n")
            os.chmod(command, 0o755)
            records = ground.recorder.folder
            _write(os.path.join(disk, "init"), _INIT.format(name=name, disk=disk, records=records))

    def _disk(self, name: str) -> str:
        return os.path.join(self._ground.folder, name)

    def _log(self, host: Host) -> str:
        return os.path.join(self._disk(host.name), "log", "log")

    def start(self, host: Host) -> subprocess.Popen[bytes]:
        """Boot the machine around it."""
        if os.path.exists(self._log(host)):
            os.remove(self._log(host))
        init = os.path.join(self._disk(host.name), "init")
        return host.start(("unshare", "-m", "-u", "-i", "-p", "-f", "sh", init))

    def stands_by(self, host: Host) -> bool:
        """It has joined, and was asked whether it runs the command."""
        if not os.path.exists(self._log(host)):
            return False
        with open(self._log(host), errors="replace") as log:
            return f"Result of probe operation for command on {host.name}" in log.read()

    def ask_to_stop(self, host: Host, main_pid: int) -> None:
        """SIGTERM to pacemakerd, which moves the command away first."""
        os.kill(main_pid, signal.SIGTERM)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _settings(key: str, text: str, silence_s: float, totem: str, dc_deadtime: str) -> Settings:
    deploy = partial(Pacemaker, totem=totem, dc_deadtime=dc_deadtime)
    return Settings(key, text, silence_s, 1.0, deploy)


PROGRAM = Program(
    key="pacemaker",
    title="Pacemaker",
    debian=("pacemaker", "corosync", "resource-agents"),
    pip=(),
    version=partial(debian_version, "pacemaker"),
    settings=(
        _settings("defaults", "defaults (token 3000), two_node, no fencing", 8.0, "", "20s"),
        _settings(
            "fastest",
            "token 130, dc-deadtime 1s, two_node, no fencing",
            2.0,
            # The least with the default number of retransmissions (corosync.conf(5)).
            "token: 130",
            "1s",
        ),
    ),
    is_prompt=False,
    way="ocf:heartbeat:anything starts and ends the command; planned stop: SIGTERM to pacemakerd; "
    "nothing restarts its daemons",
    main="pacemakerd",
    machine=("unshare", "sh", "sleep"),
)
