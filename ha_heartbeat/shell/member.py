"""A running member: gives the core what happens, and does what it asks for.

Everything here is wiring. What an event means, and what follows from it, is decided in the core.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ha_heartbeat import __version__
from ha_heartbeat.config import Address, Config
from ha_heartbeat.core import types as core
from ha_heartbeat.core.machine import Core
from ha_heartbeat.core.votes import kill_margin_s, undo_reserve_s
from ha_heartbeat.guardian import protocol
from ha_heartbeat.guardian.clock import now_s
from ha_heartbeat.shell.control import Control
from ha_heartbeat.shell.desk import Desk
from ha_heartbeat.shell.disk import Disk
from ha_heartbeat.shell.errors import StartError
from ha_heartbeat.shell.exchange import Exchange
from ha_heartbeat.shell.guardian import Event as GuardianEvent
from ha_heartbeat.shell.guardian import Guardian, GuardianError, Lost
from ha_heartbeat.shell.link import Link
from ha_heartbeat.shell.listen import bind, explain_loopback
from ha_heartbeat.shell.log import Log, Speaker
from ha_heartbeat.shell.memory import Memory
from ha_heartbeat.shell.notify import Notifier, take
from ha_heartbeat.shell.recorder import Recorder
from ha_heartbeat.shell.resolve import resolve_now
from ha_heartbeat.shell.runner import MakeRunner, Runner
from ha_heartbeat.shell.shell_command import ShellCommand
from ha_heartbeat.shell.state import StateFile, directory_of
from ha_heartbeat.shell.vip import VipLog, objection, taking

if TYPE_CHECKING:
    from ha_heartbeat.shell.output import Output
    from ha_heartbeat.shell.witness import Witness
    from ha_heartbeat.wire.codec import UnknownTypeError

StopOn: TypeAlias = Callable[[Callable[[], object]], AbstractContextManager[None]]
"""Has a stop of the member call a function for as long as the context lasts."""

FENCE_LIMIT_S: Final = 60.0
"""How long a fence command may take; what has not ended by then has failed."""

RETRY_S: Final = 1.0
"""How often what could not be written, to the state file or to stderr, is tried again."""


def run_member(config: Config) -> int:
    """Run a member until it is told to stop; returns its exit status.

    Raises StartError when it cannot start, with a sentence for the operator.
    """
    log = Log(config.member, config.service, config.log_format, verbose=config.verbose)
    return asyncio.run(run_one(config, log, take(os.environ)))


async def run_one(
    config: Config,
    log: Speaker,
    notifier: Notifier,
    *,
    make_runner: MakeRunner = Guardian,
    stop_on: StopOn | None = None,
) -> int:
    """Start, live and end; the exit status. Raises StartError.

    stop_on: has what would stop the member call something else, for as long as its context lasts;
    by default SIGTERM and SIGINT. A stop before the member lives ends the start in good order, too.
    """
    stop_on = stop_on or stop_signals
    life = _start_and_live(config, log, notifier, make_runner, stop_on)
    starting = asyncio.ensure_future(life)
    with stop_on(starting.cancel):
        try:
            return await starting
        except asyncio.CancelledError:
            return 0
        finally:
            notifier.close()


@contextlib.contextmanager
def stop_signals(on_stop: Callable[[], object]) -> Iterator[None]:
    """Have SIGTERM and SIGINT call `on_stop` in the loop, and nothing once this is over."""
    loop = asyncio.get_running_loop()

    def stop(*_: object) -> None:
        loop.call_soon_threadsafe(on_stop)

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        # One that comes in the last moments must not spoil the exit status.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


async def _start_and_live(
    config: Config, log: Speaker, notifier: Notifier, make_runner: MakeRunner, stop_on: StopOn
) -> int:
    def notice(text: str) -> None:
        log.say(core.Say(core.Level.WARNING, _as_sentence(text)))

    def waiting(text: str) -> None:
        notice(text)
        notifier.status(text)

    StateFile.open(config.state_dir, config.service, config.local, config.member)
    if config.witness:
        from ha_heartbeat.shell.witness import check_url

        check_url(config.witness, config.service)  # before the port is waited for
    if config.vip and (problem := await asyncio.to_thread(objection, config)):
        raise StartError(problem)
    peers = await resolve_now(*config.remote) if config.remote else []
    sockets = await bind(config.local, wait_s=config.wait_for_serversocket_s, on_waiting=waiting)
    try:
        for peer in peers:
            if trap := explain_loopback(config.local, sockets, str(peer.sockaddr[0])):
                raise StartError(trap)
        # Again: the member that held the port until now may have written to it.
        state = StateFile.open(config.state_dir, config.service, config.local, config.member)
        member = Member(config, log, state, notice, notifier)
        return await member.live(sockets, make_runner, stop_on)
    finally:
        for sock in sockets:
            sock.close()


class Member:
    """One running member. Made for one `live`."""

    def __init__(
        self,
        config: Config,
        log: Speaker,
        state: StateFile,
        notice: Callable[[str], None],
        notifier: Notifier,
    ) -> None:
        self._config = config
        self._log = log
        self._notice = notice
        self._notifier = notifier
        self._core = Core(config.settings())
        self._disk = Disk(state, notice)
        self._incarnation = os.urandom(8).hex()
        self._lease_ns = (0, 0)
        self._evidence: core.Evidence | None = None  # of the takeover that is being logged
        self._runs = RunNames()
        self._vips = VipLog(config.vip, log.say)
        self._directory = directory_of(config.state_dir, config.service, config.local)
        self._recorder = Recorder(
            self._directory, config.member, config.journal_days, config.journal_mib, notice
        )
        self._output = _output_kept(config)
        self._memory = Memory(
            config.service,
            config.member,
            self._recorder.record,
            self._output.cut if self._output is not None else None,
        )
        self._desk = Desk(self._core, self._memory, self._recorder, self.tell, config.vip)
        self._control = Control(self._directory, self._desk.handlers)
        self._timer: asyncio.TimerHandle | None = None
        self._end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._fence = ShellCommand(config, config.fence, FENCE_LIMIT_S, self._fence_ended)
        self._check = ShellCommand(
            config, config.check, config.check_timeout_s, self._check_ended, quiet=True
        )
        # Without a peer the port is a lock and nothing more: nobody is answered on it.
        self._link = self._make_link(config.remote) if config.remote else None
        self._exchange = self._make_exchange(self._link) if self._link is not None else None
        self._witness = self._make_witness() if config.witness else None
        self._guardian: Runner

    def _make_witness(self) -> Witness:
        from ha_heartbeat.shell.witness import Witness  # its weight is for those who use it

        config = self._config
        return Witness(config.witness, config.service, config.interval_test_s, self.tell)

    def _make_exchange(self, link: Link) -> Exchange:
        return Exchange(self._recorder, link.send_line, link.answer_line)

    def _hear_other_question(self, conn: int, other: UnknownTypeError) -> None:
        if self._exchange is not None:
            self._exchange.hear_question(conn, other)

    def _hear_other_answer(self, link: int, other: UnknownTypeError) -> None:
        if self._exchange is not None:
            self._exchange.hear_answer(link, other)

    def _make_link(self, peer: Address) -> Link:
        config = self._config
        return Link(
            local=config.local,
            peer=peer,
            service=config.service,
            incarnation=self._incarnation,
            on_event=self._hear_link,
            on_notice=self._notice,
            connect_timeout_s=config.interval_test_s,
            on_other_question=self._hear_other_question,
            on_other_answer=self._hear_other_answer,
        )

    async def live(
        self, sockets: list[socket.socket], make_runner: MakeRunner, stop_on: StopOn
    ) -> int:
        """Start with these listening sockets, live, and end in good order; the exit status."""
        if self._output is not None:
            make_runner = self._output.make_guardian
        self._guardian = make_runner(
            listeners=[sock.fileno() for sock in sockets],
            stop_timeout_s=self._config.stop_timeout_s,
            margin_s=kill_margin_s(self._core.state.settings.lease_s),
            on_event=self._hear_guardian,
            spare=lambda: (*self._fence.pids(), *self._check.pids()),
        )
        undo, steps = self._undo(), self._config.steps
        if undo is not None or steps:
            self._own_guardian.arm(undo, needs_set_up=bool(steps), vips=self._config.vip)
        try:
            await self._guardian.start()
        except GuardianError as error:
            raise StartError(str(error)) from error
        self._log.say(core.Say(core.Level.INFO, _greeting(self._config)))
        try:
            if problem := await self._control.open():
                self._notice(problem)
        except asyncio.CancelledError:
            await self._control.close()
            await self._guardian.end()
            raise
        self._recorder.start(self._memory.recall)
        with stop_on(lambda: self.tell(core.StopRequested())):
            if self._link is not None:
                self._link.serve(sockets)
            self._notifier.status(core.Phase.LOOKING.value)
            former = self._disk.begin(self._incarnation)
            self.tell(core.Started(self._incarnation, *self._disk.epochs, self._disk.hold, former))
            self._notifier.ready(self._is_well)
            try:
                return await self._end
            finally:
                await self._leave()

    async def _leave(self) -> None:
        """Say what is left to say, then let go of the port."""
        self._notifier.stopping()
        if self._timer is not None:
            self._timer.cancel()
        if self._exchange is not None:
            self._exchange.close()
        if self._link is not None:
            await self._link.close()
        if self._witness is not None:
            await self._witness.close()
        await self._guardian.end()
        if self._link is not None:
            self._link.close_listeners()
        self._fence.close()
        self._check.close()
        self._memory.flush()
        if self._output is not None:
            self._output.close()
        await self._control.close()
        await self._recorder.close()
        await self._disk.close()
        self._log.flush()

    # -- what happens ------------------------------------------------------------------------------

    def tell(self, event: core.Event) -> None:
        """Give the core an event, and do what it asks for.

        A fault in here ends the member: its guardian then ends the command, and the peer takes over
        on the refusal, which is safer than a member that is half alive.
        """
        if self._end.done():
            return
        try:
            now, wall = now_s(), time.time()
            effects = self._core.step(event, now, _chance())
            self._evidence = None
            for effect in effects:
                DO[type(effect)](self, effect)
            self._memory.note(self._core.state, event, effects, now, wall)
            self._plan_tick()
        except Exception as error:
            self._end.set_exception(error)

    def _plan_tick(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(0.0, self._core.wake_at() - now_s())
        if self._log.waiting or self._disk.failing:
            delay_s = min(delay_s, RETRY_S)
        if delay_s == float("inf"):
            self._timer = None
            return
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._log.flush()
        self._disk.retry()
        self.tell(core.Tick())

    def _is_well(self) -> bool:
        """Whether the core is woken when it asked to be; a loop that does not turn asks nobody."""
        if self._timer is None:
            return self._core.wake_at() == float("inf")
        late_s = asyncio.get_running_loop().time() - self._timer.when()
        return late_s < self._notifier.half_s

    def _fence_ended(self, succeeded: bool, detail: str) -> None:
        self.tell(core.FenceDone(succeeded, detail))

    def _check_ended(self, succeeded: bool, detail: str) -> None:
        self.tell(core.CheckDone(succeeded, detail))

    def _hear_link(self, event: core.Event) -> None:
        self.tell(event)
        if self._exchange is not None:
            if type(event) is core.Answered:
                self._exchange.answered(event.link)
            elif type(event) is core.InboundClosed:
                self._exchange.gone(event.conn)

    def _hear_guardian(self, event: GuardianEvent) -> None:
        self._vips.hear(event)
        told = _from_guardian(event, self._runs)
        if told is not None:
            self.tell(told)

    # -- what the core asks for --------------------------------------------------------------------

    def _connect(self, effect: core.Connect) -> None:
        if self._link is not None:
            self._link.connect(effect.link, effect.probe)

    def _disconnect(self, effect: core.Disconnect) -> None:
        if self._link is not None:
            self._link.disconnect(effect.link)

    def _send_ask(self, effect: core.SendAsk) -> None:
        if self._link is not None:
            self._link.send_ask(effect.link, effect.ask)

    def _send_answer(self, effect: core.SendAnswer) -> None:
        if self._link is not None:
            self._link.send_answer(effect.conn, effect.answer)

    def _start_run(self, effect: core.StartRun) -> None:
        self._run(effect.run, effect.epoch, self._config.command)

    def _start_hook(self, effect: core.StartHook) -> None:
        if effect.is_first:
            self._own_guardian.begin_set_up()
        if effect.step == core.VIP:
            command = taking(self._config.vip, self._lease_ns[1])
            self._run(effect.run, effect.epoch, command)
            self._vips.begins(self._runs.count)
        else:
            self._run(effect.run, effect.epoch, (self._config.on_worker,))

    @property
    def _own_guardian(self) -> Guardian:
        """The guardian of a command; an application has no hooks, and its runs have no limit."""
        assert isinstance(self._guardian, Guardian)
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
        config = self._config
        return (
            ("HA_HEARTBEAT_MEMBER", config.member),
            ("HA_HEARTBEAT_PEER", str(config.remote or "")),
            ("HA_HEARTBEAT_SERVICE", config.service),
        )

    def _undo(self) -> protocol.Undo | None:
        """What the guardian runs at the end of a term, if anything."""
        config = self._config
        if not config.on_supervisor:
            return None
        limit_ns = round(config.hook_timeout_s * 1e9)
        reserve_ns = round(undo_reserve_s(config.settings()) * 1e9)
        return protocol.Undo(
            limit_ns, reserve_ns, False, True, (config.on_supervisor,), self._environment()
        )

    def _extend_lease(self, effect: core.ExtendLease) -> None:
        self._lease_ns = round(effect.term_at * 1e9), round(effect.kill_at * 1e9)
        self._guardian.extend(*self._lease_ns)

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

    def _reply(self, effect: core.Replied) -> None:
        self._desk.replied(effect)

    def _record_overlap(self, effect: core.RecordOverlap) -> None:
        self._disk.record_overlap(effect)

    def _say(self, effect: core.Say) -> None:
        if self._evidence is None:
            self._log.say(effect)
        else:
            self._log.say(effect, evidence=self._evidence.value)

    def _change_role(self, effect: core.RoleChanged) -> None:
        self._log.role_changed(effect)
        self._notifier.status(f"{effect.phase.value}, epoch {effect.epoch}")
        self._evidence = effect.evidence
        if effect.phase is core.Phase.WORKER:
            self._disk.ensure(effect.epoch)

    def _exit(self, effect: core.Exit) -> None:
        if not self._end.done():
            self._end.set_result(0)


DO: Final[dict[type, Callable[[Member, Any], None]]] = {
    core.Connect: Member._connect,
    core.Disconnect: Member._disconnect,
    core.SendAsk: Member._send_ask,
    core.SendAnswer: Member._send_answer,
    core.StartRun: Member._start_run,
    core.StartHook: Member._start_hook,
    core.CutTree: Member._cut_tree,
    core.ExtendLease: Member._extend_lease,
    core.StopTree: Member._stop_tree,
    core.KillTree: Member._kill_tree,
    core.RunFence: Member._run_fence,
    core.RunCheck: Member._run_check,
    core.ReadWitness: Member._read_witness,
    core.SwapWitness: Member._swap_witness,
    core.Remember: Member._remember,
    core.KeepHold: Member._keep_hold,
    core.Replied: Member._reply,
    core.RecordOverlap: Member._record_overlap,
    core.Say: Member._say,
    core.RoleChanged: Member._change_role,
    core.Exit: Member._exit,
}


class RunNames:
    """The guardian counts runs, the core names them."""

    def __init__(self) -> None:
        self.count = 0
        self.latest = ""

    def number(self, name: str) -> int:
        """The number of a new run."""
        self.count += 1
        self.latest = name
        return self.count

    def name(self, number: int) -> str:
        """Its name; "" for one that is not the latest: the core has done with it."""
        return self.latest if number == self.count else ""


STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


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


def _greeting(config: Config) -> str:
    """The first line of a member's log."""
    peer = f"its peer is {config.remote}" if config.remote else "it has no peer"
    judge = "the witness decides" if config.witness else f"--takeover {config.takeover.value}"
    return f"ha-heartbeat {__version__} listens on {config.local}; {peer} ({judge})."


def _as_sentence(text: str) -> str:
    """The text with a full stop, and a capital letter unless it begins with a name."""
    first = text.split(" ", 1)[0]
    if first.isalpha():
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _chance() -> float:
    """A random number in [0, 1)."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


def _from_guardian(event: GuardianEvent, runs: RunNames) -> core.Event | None:
    """What a report of the guardian is for the core."""
    match event:
        case protocol.Started(run=run):
            return core.RunStarted(runs.name(run))
        case protocol.Failed(run=run, reason=reason, tried=tried):
            return core.RunFailed(runs.name(run), reason, tried=bool(tried))
        case protocol.Ended(run=run, status=status, signal=number, leftovers=leftovers):
            return core.RunEnded(runs.name(run), status, number, leftovers)
        case protocol.Leftovers(number=number):
            return core.Leftovers(number)
        case protocol.Expired(latest=latest):
            return core.Expired(runs.name(latest))
        case protocol.Gone():
            return core.TreeGone()
        case protocol.Cleared():
            return core.TreeGone(undone=False)
        case protocol.Undone(status=status, signal=number):
            return core.UndoEnded(status, number)
        case Lost(reason=reason):
            return core.GuardianLost(reason)
        case _:
            return None
