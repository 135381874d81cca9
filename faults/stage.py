"""Two hosts, a witness and the ways between them: what a fault acts on, and when it has settled."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping

from benchmarks import processes
from benchmarks.members import INTERPRETER, SCRIPT
from benchmarks.network import MEMBERS, WITNESS, Namespaces
from benchmarks.witness import Witness
from faults.abilities import Programs
from faults.chapters import PROCESSES, Chapter, Judgement
from faults.history import Pause
from faults.hosts import Host, wait_until
from faults.links import Links
from faults.logs import Logs
from faults.pressure import Pressure, Samples
from faults.recorder import Life, Recorder
from faults.relay import Relay

STEM = "ha-faults"
END_S = 15.0
STAYS_S = 0.1
"""For how long a pair has to look settled; half a check if that is longer."""
TICKING_NS = 60_000_000
"""A process that ticked this short a time ago runs."""


class Stage:
    """The machines of a campaign. Hosts and witness last for all of it, members for a chapter.

    All that anybody has to write is in memory: another's load on the disk of this machine would be
    a fault that nobody has asked for.
    """

    def __init__(self, folder: str, memory: str, programs: Programs) -> None:
        self.folder = folder
        self.memory = memory
        self.programs = programs
        self.logs = Logs(os.path.join(folder, "campaign.log"))
        self.pauses: list[Pause] = []
        self.hosts: dict[str, Host] = {}
        self.witness: Witness | None = None
        self.relay: Relay | None = None
        self.pressure: Pressure | None = None
        self._canary: subprocess.Popen[bytes] | None = None
        self._unread: list[int] = []
        self.chapter: Chapter
        self.times_s: Mapping[str, float] = {}
        self.recorder: Recorder
        self.network = Namespaces(STEM)
        try:
            self.links = Links(self.network)
            self.witness = Witness(self.network.inside(WITNESS), os.path.join(memory, "witness"))
            for name in MEMBERS:
                self.hosts[name] = Host(
                    name, f"{STEM}-{os.getpid()}", self.network, self.logs, programs.wall_clock
                )
            with contextlib.suppress(OSError):
                self.relay = Relay(self.network)
            self.witness.wait_until_it_answers()
        except BaseException:
            self.close()
            raise

    # -- a chapter ---------------------------------------------------------------------------------

    def open(self, chapter: Chapter, times_s: Mapping[str, float]) -> None:
        """Start a pair with empty disks."""
        assert self.witness is not None
        self.chapter, self.times_s = chapter, times_s
        self.pauses = []
        place = os.path.join(self.folder, f"chapter-{chapter.number}")
        os.makedirs(place, exist_ok=True)
        records = os.path.join(self.memory, f"chapter-{chapter.number}")
        self.recorder = Recorder(self.programs.command, records)
        self._canary = self._start_canary()
        groups = {name: host.group for name, host in self.hosts.items()}
        self.pressure = Pressure(groups)
        for name, host in self.hosts.items():
            host.prepare(place)
            other = MEMBERS[1 - MEMBERS.index(name)]
            host.stdout = subprocess.DEVNULL if chapter.stdout_is_read else self._unread_pipe()
            if chapter.command == "bomb" and host.group.has("pids"):
                host.group.limit_processes(PROCESSES)
            host.words = (
                *(*INTERPRETER, SCRIPT),
                *("-l", self.network.address(name), "-r", self.network.address(other)),
                *("--member", name, "--name", f"chapter-{chapter.number}"),
                *("--state-dir", host.state_dir),
                *chapter.options(name, self.witness.url),
                *self.recorder.command(chapter.mode),
            )
            host.start()

    def _unread_pipe(self) -> int:
        """A standard output that takes a little and then nothing more."""
        reads, writes = os.pipe()
        self._unread += [reads, writes]
        return writes

    def _start_canary(self) -> subprocess.Popen[bytes]:
        """A process on no host, with the same ticks: when it stands still, the machine did."""
        folder = os.path.join(self.memory, f"canary-{self.chapter.number}")
        os.mkdir(folder)
        self._canary_records = Recorder(self.programs.command, folder + "/records")
        words = self._canary_records.command(("serve",))
        environment = {"HA_HEARTBEAT_RUN": "1.1", "HA_HEARTBEAT_MEMBER": "canary"}
        with processes.uninterrupted():
            return subprocess.Popen(words, env=environment)

    def waits(self) -> Samples:
        """How long each host's processes had waited for a processor, all along this chapter."""
        return self.pressure.samples if self.pressure is not None else {}

    def stalls(self) -> list[tuple[int, int]]:
        """When the canary stood still in this chapter."""
        return [hole for life in self._canary_records.lives() for hole in life.holes]

    def end(self) -> list[str]:
        """Stop both members in good order; what of the command was left, in sentences."""
        left = []
        for name, host in self.hosts.items():
            if not host.stop(END_S):
                left.append(f"{name}'s member did not end within {END_S:g} s after SIGTERM")
            elif not host.wait_until_empty(1.0):
                alive = host.command_processes()
                left.append(
                    f"{name} stopped and left processes: command {alive}, all "
                    f"{host.group.processes()}"
                )
        self._sweep()
        return left

    def _sweep(self) -> None:
        if self.pressure is not None:
            self.pressure.close()
        if self._canary is not None:
            self._canary.terminate()
            self._canary.wait()
            self._canary = None
        for host in self.hosts.values():
            host.kill()
            if host.group.has("pids"):
                host.group.limit_processes(None)
            host.unmount()
        for fd in self._unread:
            os.close(fd)
        self._unread = []

    # -- what is the case now ----------------------------------------------------------------------

    def running(self) -> dict[str, Life]:
        """The hosts whose command ticks, with its latest main process."""
        now_ns = time.monotonic_ns()
        found = {}
        for name in MEMBERS:
            life = self.recorder.latest(name)
            if life is None:
                continue
            since_ns = now_ns - life.last_ns
            waits = life.end_ns and self.chapter.command == "batch"
            if since_ns < TICKING_NS + (self.chapter.every_s * 1e9 if waits else 0):
                found[name] = life
        return found

    def settled(self) -> str:
        """The worker's host when one runs and the other supervises; "" while that is not so."""
        if not all(host.is_up for host in self.hosts.values()):
            return ""
        roles = {name: self.logs.role(name) for name in MEMBERS}
        if sorted(roles.values()) != ["supervisor", "worker"]:
            return ""
        worker = next(name for name, role in roles.items() if role == "worker")
        if self.chapter.fallback and worker != "b":
            return ""
        return worker if list(self.running()) == [worker] else ""

    def settle(self, limit_s: float) -> str:
        """Bring up what is down, and wait; the worker's host, or "" if it takes too long.

        It has to stay so for a moment: members that have just woken up do not know of it yet. And
        where a command comes and goes, until the next run: the last one says nothing of now.
        """
        stays_s = max(STAYS_S, self.chapter.interval_s / 2)
        if self.chapter.command == "batch":
            stays_s = max(stays_s, self.chapter.every_s + TICKING_NS / 1e9)
        found, since_s = "", time.monotonic()

        def look() -> bool:
            nonlocal found, since_s
            for host in self.hosts.values():
                if not host.is_up:
                    host.start()
            before, found = found, self.settled()
            if not found or found != before:
                since_s = time.monotonic()
            return bool(found) and time.monotonic() - since_s > stays_s

        return found if wait_until(look, limit_s, look_s=0.01) else ""

    def other(self, name: str) -> str:
        """The host opposite."""
        return MEMBERS[1 - MEMBERS.index(name)]

    def has_witness(self) -> bool:
        """Whether this chapter's members ask the witness."""
        return self.chapter.judgement is Judgement.WITNESS

    def lacking(self) -> list[str]:
        """What cannot be made on this machine, each with what is missing."""
        found = []
        if self.relay is None:
            found.append("packets delayed (no packet sockets, or checksums that cannot be had)")
        if not self.programs.wall_clock:
            found.append("time of day stepped (the preloaded library has no effect)")
        for controller, what in (("pids", "out of processes"), ("cpu", "host throttled")):
            if not all(host.group.has(controller) for host in self.hosts.values()):
                found.append(f"{what} (no {controller} controller)")
        return found

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Remove all: processes, control groups, namespaces, mounts."""
        with processes.uninterrupted():
            self._sweep()
            for host in self.hosts.values():
                host.close()
            if self.witness is not None:
                self.witness.close()
            if self.relay is not None:
                self.relay.close()
            self.network.close()
            self.logs.close()
