"""One service of a member: gives its core what happens, and does what it asks for.

Everything here is wiring. What an event means, and what follows from it, is decided in the core.
What is shared with the member's other services is in `Common`.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ha_heartbeat.config import Config
from ha_heartbeat.core import types as core
from ha_heartbeat.core.machine import Core
from ha_heartbeat.core.votes import kill_margin_s, undo_reserve_s
from ha_heartbeat.guardian import protocol
from ha_heartbeat.guardian.clock import now_s
from ha_heartbeat.shell.beat import Beat
from ha_heartbeat.shell.desk import Desk
from ha_heartbeat.shell.disk import Disk
from ha_heartbeat.shell.errors import StartError
from ha_heartbeat.shell.guardian import Event as GuardianEvent
from ha_heartbeat.shell.guardian import GuardianError
from ha_heartbeat.shell.log import Speaker
from ha_heartbeat.shell.memory import Memory
from ha_heartbeat.shell.recorder import Recorder
from ha_heartbeat.shell.reports import RunNames, from_guardian
from ha_heartbeat.shell.runner import CommandRunner, MakeRunner, Runner
from ha_heartbeat.shell.shell_command import ShellCommand
from ha_heartbeat.shell.state import StateFile
from ha_heartbeat.shell.trunk import Channel, Trunk
from ha_heartbeat.shell.vip import VipLog, taking

if TYPE_CHECKING:
    from ha_heartbeat.shell.guardians import Guardians
    from ha_heartbeat.shell.output import Output
    from ha_heartbeat.shell.witness import Witness

FENCE_LIMIT_S: Final = 60.0
"""How long a fence command may take; what has not ended by then has failed."""

SAME_LEASE: Final = 0.02
"""Leases that differ by less than this part of one are much the same to a guardian."""

REAP_S: Final = 1.0
"""What the rest of a command is given to end by itself, or by the kill of its group."""

RETRY_S: Final = 1.0
"""How often what could not be written, to the state file or to stderr, is tried again."""


@dataclass(frozen=True, slots=True)
class Common:
    """What the services of one member share.

    trunk: None without a peer; then the port is a lock and nothing more, and nobody is answered.
    writer: one thread for the state files of all, where there may be many; None for one alone.
    guardians: those of all services, made by one keeper; None for one service, which has what
    `make_runner` makes of `listeners`.
    on_role, on_exit: are told of a service's change of role, and that it may end.
    on_fault: is told of a defect; the whole member ends then.
    """

    trunk: Trunk | None
    beat: Beat
    recorder: Recorder
    writer: ThreadPoolExecutor | None
    guardians: Guardians | None
    make_runner: MakeRunner
    listeners: tuple[int, ...]
    on_role: Callable[[core.RoleChanged], None]
    on_exit: Callable[[], None]
    on_fault: Callable[[Exception], None]


class Service:
    """One service, from `start` to `close`."""

    def __init__(
        self,
        config: Config,
        log: Speaker,
        state: StateFile,
        notice: Callable[[str], None],
        common: Common,
    ) -> None:
        self.config = config
        self.core = Core(config.settings())
        self.planned_s = math.inf  # when the beat wakes it
        self.has_exited = False
        self._log = log
        self._common = common
        self._disk = Disk(state, notice, common.writer)
        self._incarnation = os.urandom(8).hex()
        self._lease_ns = (0, 0)
        self._evidence: core.Evidence | None = None  # of the takeover that is being logged
        self._keeps_hold = False  # an order of the effects that are being done
        self._runs = RunNames()
        self._vips = VipLog(config.vip, log.say)
        self._output = _output_kept(config)
        self.memory = Memory(
            config.service,
            config.member,
            common.recorder.record,
            self._output.cut if self._output is not None else None,
        )
        self.desk = Desk(self.core, self.memory, common.recorder, self.tell, config.vip)
        self._fence = ShellCommand(config, config.fence, FENCE_LIMIT_S, self._fence_ended)
        self._check = ShellCommand(
            config, config.check, config.check_timeout_s, self._check_ended, quiet=True
        )
        self._witness = self._make_witness() if config.witness else None
        self._channel: Channel | None = None
        self._is_closed = False
        self._exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._guardian: Runner

    def _make_witness(self) -> Witness:
        from ha_heartbeat.shell.witness import Witness  # its weight is for those who use it

        config = self.config
        return Witness(config.witness, config.service, config.interval_test_s, self.tell)

    # -- its life ----------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Start what starts and ends its runs. Raises StartError."""
        self._guardian = self._make_runner()
        undo, steps = self._undo(), self.config.steps
        if undo is not None or steps:
            self._own_guardian.arm(undo, needs_set_up=bool(steps), vips=self.config.vip)
        try:
            await self._guardian.start()
        except GuardianError as error:
            raise StartError(str(error)) from error

    def _make_runner(self) -> Runner:
        common = self._common
        margin_s = kill_margin_s(self.core.state.settings.lease_s)
        if common.guardians is not None:
            output = self._output
            stdout, stderr = output.streams if output is not None else (None, None)
            return common.guardians.make_runner(
                stop_timeout_s=self.config.stop_timeout_s,
                margin_s=margin_s,
                on_event=self._hear_guardian,
                stdout=stdout,
                stderr=stderr,
                keep_open=output.reading_ends if output is not None else (),
            )
        make_runner = common.make_runner
        if self._output is not None:
            make_runner = self._output.make_guardian
        return make_runner(
            listeners=common.listeners,
            stop_timeout_s=self.config.stop_timeout_s,
            margin_s=margin_s,
            on_event=self._hear_guardian,
            spare=lambda: self.bystanders,
        )

    def start(self) -> None:
        """Begin to look for the peer; `prepare` has been awaited."""
        if self._common.trunk is not None:
            self._channel = self._common.trunk.open(
                self.config.service, self._incarnation, self.config.interval_test_s
            )
            self._channel.on_event = self.tell
        former = self._disk.begin(self._incarnation)
        self.tell(core.Started(self._incarnation, *self._disk.epochs, self._disk.hold, former))

    async def leave(self) -> None:
        """Stop, and return when nothing of its tree is left and its peer was told."""
        self.tell(core.StopRequested())
        await self._exited

    def unplug(self) -> None:
        """Leave the link to the services that go on."""
        if self._common.trunk is not None and self._channel is not None:
            self._common.trunk.drop(self._channel)
            self._channel = None

    async def end_runs(self) -> None:
        """Return when its witness was told, and nothing of its tree is left."""
        self._is_closed = True
        self._common.beat.forget(self)
        if self._witness is not None:
            await self._witness.close()
        await self._guardian.end()

    def end_commands(self) -> None:
        """End what runs beside the tree, and hand over what is to be recorded."""
        self._fence.close()
        self._check.close()
        self.memory.flush()
        if self._output is not None:
            self._output.close()

    async def close(self) -> None:
        """Return when what is to be remembered is on disk."""
        await self._disk.close()

    def discard(self) -> None:
        """It was never started: let go of what it has."""
        self._is_closed = True
        if self._output is not None:
            self._output.close()

    @property
    def bystanders(self) -> tuple[int, ...]:
        """The processes that are no part of its tree: fence command and health check."""
        return (*self._fence.pids(), *self._check.pids())

    # -- what happens ------------------------------------------------------------------------------

    def tell(self, event: core.Event) -> None:
        """Give the core an event, and do what it asks for.

        A fault in here ends the member: its guardian then ends the command, and the peer takes over
        on the refusal, which is safer than a member that is half alive.
        """
        self._tell_at(event, now_s())

    def _tell_at(self, event: core.Event, now: float) -> None:
        if self._is_closed:
            return
        try:
            wall = time.time()
            effects = self.core.step(event, now, _chance())
            self._evidence = None
            self._keeps_hold = False
            for effect in effects:
                DO[type(effect)](self, effect)
            self.memory.note(self.core.state, event, effects, now, wall)
            self._common.beat.plan(self)
        except Exception as error:
            self._common.on_fault(error)

    def limit_s(self) -> float:
        """What could not be written waits no longer than that."""
        return RETRY_S if self._log.waiting or self._disk.failing else math.inf

    def tick(self, now: float) -> None:
        """It is time."""
        self._log.flush()
        self._disk.retry()
        self._tell_at(core.Tick(), now)

    def _fence_ended(self, succeeded: bool, detail: str) -> None:
        self._reap_soon()
        self.tell(core.FenceDone(succeeded, detail))

    def _check_ended(self, succeeded: bool, detail: str) -> None:
        self._reap_soon()
        self.tell(core.CheckDone(succeeded, detail))

    def _reap_soon(self) -> None:
        """What fence or check has left comes to this process, and nobody else reaps it.

        An application that is a member is not made the parent of orphans, and has its own children.
        """
        if isinstance(self._guardian, CommandRunner):
            asyncio.get_running_loop().call_later(REAP_S, self._guardian.reap)

    def _hear_guardian(self, event: GuardianEvent) -> None:
        self._vips.hear(event)
        told = from_guardian(event, self._runs)
        if told is not None:
            self.tell(told)

    # -- what the core asks for --------------------------------------------------------------------

    def _connect(self, effect: core.Connect) -> None:
        if self._channel is not None:
            self._channel.connect(effect.link, effect.probe)

    def _disconnect(self, effect: core.Disconnect) -> None:
        if self._channel is not None:
            self._channel.disconnect(effect.link)

    def _send_ask(self, effect: core.SendAsk) -> None:
        if self._channel is not None:
            self._channel.send_ask(effect.link, effect.ask)

    def _send_answer(self, effect: core.SendAnswer) -> None:
        if self._channel is not None:
            self._channel.send_answer(effect.conn, effect.answer)

    def _start_run(self, effect: core.StartRun) -> None:
        self.memory.make_way()  # before it can print anything
        self._run(effect.run, effect.epoch, self.config.command)

    def _start_hook(self, effect: core.StartHook) -> None:
        if effect.is_first:
            self._own_guardian.begin_set_up()
        if effect.step == core.VIP:
            command = taking(self.config.vip, self._lease_ns[1])
            self._run(effect.run, effect.epoch, command)
            self._vips.begins(self._runs.count)
        else:
            self._run(effect.run, effect.epoch, (self.config.on_worker,))

    @property
    def _own_guardian(self) -> CommandRunner:
        """The guardian of a command; an application has no hooks, and its runs have no limit."""
        assert isinstance(self._guardian, CommandRunner)
        return self._guardian

    def _run(self, name: str, epoch: int, command: tuple[str, ...]) -> None:
        environment = (
            ("HA_HEARTBEAT_EPOCH", str(epoch)),
            ("HA_HEARTBEAT_RUN", name),
            *self._environment(),
        )
        shell = len(command) == 1
        self._guardian.run(
            protocol.Run(self._runs.number(name), *self._lease_ns, shell, command, environment)
        )

    def _environment(self) -> tuple[tuple[str, str], ...]:
        config = self.config
        return (
            ("HA_HEARTBEAT_MEMBER", config.member),
            ("HA_HEARTBEAT_PEER", str(config.remote or "")),
            ("HA_HEARTBEAT_SERVICE", config.service),
        )

    def _undo(self) -> protocol.Undo | None:
        """What the guardian runs at the end of a term, if anything."""
        config = self.config
        if not config.on_supervisor:
            return None
        limit_ns = round(config.hook_timeout_s * 1e9)
        reserve_ns = round(undo_reserve_s(config.settings()) * 1e9)
        return protocol.Undo(
            limit_ns, reserve_ns, False, True, (config.on_supervisor,), self._environment()
        )

    def _extend_lease(self, effect: core.ExtendLease) -> None:
        lease_ns = round(effect.term_at * 1e9), round(effect.kill_at * 1e9)
        if not self._is_worth_sending(lease_ns):
            return
        self._lease_ns = lease_ns
        self._guardian.extend(*lease_ns)

    def _is_worth_sending(self, lease_ns: tuple[int, int]) -> bool:
        """Whether the guardian is to be told of this lease.

        One that is hardly longer than the one it knows is left out where each message is one of
        hundreds: the tree would end a little before its lease does, which is always safe.
        """
        if self._common.writer is None:
            return True
        longer_ns = min(new - old for new, old in zip(lease_ns, self._lease_ns, strict=True))
        return not 0 <= longer_ns < self.core.state.settings.lease_s * 1e9 * SAME_LEASE

    def _cut_tree(self, effect: core.CutTree) -> None:
        self._own_guardian.cut(effect.grace_s)

    def _stop_tree(self, effect: core.StopTree) -> None:
        self._guardian.stop(effect.grace_s)

    def _kill_tree(self, effect: core.KillTree) -> None:
        self._guardian.kill()

    def _run_fence(self, effect: core.RunFence) -> None:
        self._fence.run()

    def _run_check(self, effect: core.RunCheck) -> None:
        self._check.run()

    def _read_witness(self, effect: core.ReadWitness) -> None:
        if self._witness is not None:
            self._witness.read(effect)

    def _swap_witness(self, effect: core.SwapWitness) -> None:
        if self._witness is not None:
            self._witness.swap(effect)

    def _remember(self, effect: core.Remember) -> None:
        self._disk.remember(effect.epoch_seen, effect.epoch_reserved)

    def _keep_hold(self, effect: core.KeepHold) -> None:
        self._disk.keep_hold(effect.hold)
        self._keeps_hold = True

    def _reply(self, effect: core.Replied) -> None:
        """What has to outlast a restart is confirmed when it is on disk."""
        self.desk.replied(effect, self._disk.settled if self._keeps_hold else None)

    def _record_overlap(self, effect: core.RecordOverlap) -> None:
        self._disk.record_overlap(effect)

    def _say(self, effect: core.Say) -> None:
        if self._evidence is None:
            self._log.say(effect)
        else:
            self._log.say(effect, evidence=self._evidence.value)

    def _change_role(self, effect: core.RoleChanged) -> None:
        self._log.role_changed(effect)
        self._common.on_role(effect)
        self._evidence = effect.evidence
        if effect.phase is core.Phase.WORKER:
            self._disk.ensure(effect.epoch)

    def _exit(self, effect: core.Exit) -> None:
        self.has_exited = True
        if not self._exited.done():
            self._exited.set_result(None)
        self._common.on_exit()


DO: Final[dict[type, Callable[[Service, Any], None]]] = {
    core.Connect: Service._connect,
    core.Disconnect: Service._disconnect,
    core.SendAsk: Service._send_ask,
    core.SendAnswer: Service._send_answer,
    core.StartRun: Service._start_run,
    core.StartHook: Service._start_hook,
    core.CutTree: Service._cut_tree,
    core.ExtendLease: Service._extend_lease,
    core.StopTree: Service._stop_tree,
    core.KillTree: Service._kill_tree,
    core.RunFence: Service._run_fence,
    core.RunCheck: Service._run_check,
    core.ReadWitness: Service._read_witness,
    core.SwapWitness: Service._swap_witness,
    core.Remember: Service._remember,
    core.KeepHold: Service._keep_hold,
    core.Replied: Service._reply,
    core.RecordOverlap: Service._record_overlap,
    core.Say: Service._say,
    core.RoleChanged: Service._change_role,
    core.Exit: Service._exit,
}


def _output_kept(config: Config) -> Output | None:
    """What keeps the last of the runs' output, if that is wanted."""
    if not config.journal_output_bytes:
        return None
    if sys.platform == "win32":
        raise StartError("--journal-output does not work on Windows: leave it out")
    from ha_heartbeat.shell.output import Output  # its threads are for those who use it

    try:
        output = Output(config.journal_output_bytes)
        output.start()
    except (OSError, RuntimeError) as error:
        raise StartError(f"--journal-output cannot be done here: {error}") from error
    return output


def _chance() -> float:
    """A random number in [0, 1)."""
    return int.from_bytes(os.urandom(4), "big") / 2**32
