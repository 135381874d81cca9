"""`elected`: a member of a pair inside an application, as a context manager of one term.

The member lives in a thread with an event loop of its own, so an application that blocks keeps its
lease as a command does that hangs; what it must do, when its term is lost, stands in `term`.

From the start of the block's entry to its end the process holds the member's port. So while the
application may be working its port is not refused, and when the process dies it is: the port is the
lock here, too.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from types import TracebackType
from typing import Any, TypedDict, Unpack

from ha_heartbeat.config import Config, ConfigError, Given, make_config
from ha_heartbeat.core import bounds
from ha_heartbeat.library.holder import Holder, OnOverrun
from ha_heartbeat.library.speech import Speech
from ha_heartbeat.library.term import LOGGER, Term, TermLostError
from ha_heartbeat.shell.errors import StartError
from ha_heartbeat.shell.guardian import Event as GuardianEvent
from ha_heartbeat.shell.notify import Notifier
from ha_heartbeat.shell.plan import run_one

WORK = "ha_heartbeat.elected"
"""What the two members compare where others compare their commands."""


class Options(TypedDict, total=False):
    """The options of a member, by the names of its command line.

    What is left out, or None, has its default.

    local, remote: HOST:PORT, own address and the peer's. With `witness` there is no peer unless
        `remote` is given.
    witness: URL of the third vote. service: the same on both (`--name`). member: of this side.
    interval_test_s, check_count: seconds between checks, and how many make the lease.
    wait_for_serversocket_s: how long to wait for the port, seconds.
    mode: "WORKER" or "SUPERVISOR". fallback: prefer the peer. takeover: "silence" or "proof".
    distrust_refused: take a refusal for silence. fence: shell command that turns the peer off.
    stop_timeout_s: seconds that the application has to end when it is asked to.
    state_dir: directory for what must outlive a restart.
    """

    local: str
    remote: str
    witness: str
    service: str
    member: str
    interval_test_s: float
    check_count: int
    wait_for_serversocket_s: float
    mode: str
    fallback: bool
    takeover: str
    distrust_refused: bool
    fence: str
    stop_timeout_s: float
    state_dir: str


def elected(
    *,
    on_lost: Callable[[Term], object] | None = None,
    on_overrun: OnOverrun = "log",
    **options: Unpack[Options],
) -> Elected:
    """One term as worker, as `with elected(...) as term` or `async with elected(...) as term`.

    Entering waits until this process is elected, however long that takes. Leaving is the word that
    nothing of the work goes on: the other member takes over in the same moment.

    on_lost: called once with the term when it is lost, in a thread of its own.
    on_overrun: what to do when the block was not left by the deadline of a lost term. "log": an
        error is logged, and another member may be working, too. "exit": this process ends with
        status 70, or is killed by the kernel if it cannot (Linux), so that never two work.
    options: see `Options`.

    In an `async with`, the task in the block is cancelled when the term is lost, and TermLostError
    is raised in its place. In a `with` nothing can be interrupted: look at `term.lost`.

    Raises ConfigError for options that cannot be used, TypeError for unknown ones. Entering
    raises StartError when no member can be started, as when the port is taken.
    """
    if on_overrun not in ("log", "exit"):
        raise ConfigError(f"on_overrun: {on_overrun!r} is unknown; give 'log' or 'exit'")
    return Elected(_config(options), on_lost, on_overrun)


def _config(options: Options) -> Config:
    """Raises ConfigError, which names the option as it is called here."""
    for name in options.keys() - Options.__annotations__.keys():
        raise TypeError(f"there is no option {name!r}; the options are those of Options")
    given = {
        name: Given(_text(value), name) for name, value in options.items() if value is not None
    }
    config = make_config(given, (WORK,))
    found = bounds.objections(config.settings())
    if config.witness and found:
        raise ConfigError(found[0])
    return config


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


class Elected:
    """What `elected` returns: enter it once."""

    def __init__(
        self, config: Config, on_lost: Callable[[Term], object] | None, on_overrun: OnOverrun
    ) -> None:
        self._config = config
        self._on_lost = on_lost
        self._on_overrun = on_overrun
        self._begun: concurrent.futures.Future[Term] = concurrent.futures.Future()
        self._done: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._holder: Holder | None = None
        self._button = _Button()
        self._block: _Block | None = None

    # -- as a context manager ----------------------------------------------------------------------

    def __enter__(self) -> Term:
        """Wait to be elected."""
        self._start()
        try:
            while True:  # with a limit, so that Ctrl-C gets through on every platform
                done, _ = concurrent.futures.wait([self._begun], timeout=1.0)
                if done:
                    return self._begun.result()
        except BaseException:
            self._leave()
            concurrent.futures.wait([self._done])
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the word that the work has ended, and say goodbye."""
        self._leave()
        concurrent.futures.wait([self._done])
        if problem is None:
            self._done.result()

    async def __aenter__(self) -> Term:
        """Wait to be elected."""
        self._start()
        try:
            begun = asyncio.wrap_future(self._begun)
            begun.add_done_callback(_look_at)
            term = await asyncio.shield(begun)
        except BaseException:
            self._leave()
            await self._gone()
            raise
        self._block = _Block()
        term.on_lost(self._block.interrupt)
        return term

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the word that the work has ended, say goodbye; raises TermLostError when lost."""
        assert self._block is not None
        was_interrupted = self._block.close() and kind is asyncio.CancelledError
        self._leave()
        await self._gone()
        if was_interrupted:
            raise TermLostError(self._begun.result().reason) from problem
        if problem is None:
            self._done.result()

    async def _gone(self) -> None:
        """Return when the member has ended, even if this task is cancelled meanwhile."""
        ended = asyncio.wrap_future(self._done)
        cancelled: asyncio.CancelledError | None = None
        while not ended.done():
            try:
                await asyncio.wait([ended])
            except asyncio.CancelledError as error:
                cancelled = error
        _look_at(ended)  # `_done` is asked where it counts
        if cancelled is not None:
            raise cancelled

    # -- the member, in its thread -----------------------------------------------------------------

    def _start(self) -> None:
        if self._thread is not None:
            raise RuntimeError("an election is entered once; call ha_heartbeat.elected again")
        # As a daemon: a process that ends without leaving the block lets go of the port by that.
        self._thread = threading.Thread(target=self._live, name="ha-heartbeat", daemon=True)
        self._thread.start()

    def _live(self) -> None:
        problem: BaseException | None = None
        try:
            asyncio.run(self._run())
        except BaseException as error:
            problem = error
        if problem is not None and not isinstance(problem, StartError):
            LOGGER.error("%s: internal error", self._config.member, exc_info=problem)
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            self._begun.set_exception(problem or StartError("the election was given up"))
        if problem is not None and not isinstance(problem, StartError):
            self._done.set_exception(problem)
        else:
            self._done.set_result(None)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._button.attach(self._loop)
        speech = Speech(self._config.member, self._hand_over)
        await run_one(
            self._config,
            speech,
            Notifier("", 0),  # systemd is the application's affair
            make_runner=self._make_holder,
            stop_on=self._button.pressed_calls,
        )

    def _make_holder(
        self,
        *,
        listeners: Sequence[int],
        stop_timeout_s: float,
        margin_s: float,
        on_event: Callable[[GuardianEvent], None],
        spare: Callable[[], Collection[int]],
    ) -> Holder:
        self._holder = Holder(on_event, self._begin, self._on_overrun, round(margin_s * 1e9))
        return self._holder

    def _begin(self, term: Term) -> None:
        if self._on_lost is not None:
            term.on_lost(self._on_lost)
        with contextlib.suppress(concurrent.futures.InvalidStateError):  # nobody waits any more
            self._begun.set_result(term)

    def _hand_over(self) -> None:
        if self._holder is not None:
            self._holder.hand_over()

    def _leave(self) -> None:
        """From any thread: the work has ended, or was never begun."""
        self._button.press(self._end_work, self._settle)

    def _end_work(self) -> None:
        if self._holder is not None:
            self._holder.leave()

    def _settle(self) -> None:
        if self._holder is not None:
            self._holder.settle()


def _look_at(future: asyncio.Future[Any]) -> None:
    """Keep the loop from complaining that nobody did: whoever waited may have given up."""
    if not future.cancelled():
        future.exception()


class _Button:
    """Stops the member, instead of a signal: whatever it is doing, and from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._press: Callable[[], None] | None = None
        self._calls: list[Callable[[], object]] = []

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """The member's loop has begun; called in it."""
        with self._lock:
            self._loop = loop
            if self._press is not None:
                loop.call_soon(self._press)

    def press(self, before: Callable[[], None], after: Callable[[], None]) -> None:
        """Stop it, with these two called in its loop round that; the first time counts."""

        def stop() -> None:
            before()
            if self._calls:
                self._calls[-1]()
            after()

        with self._lock:
            if self._press is not None:
                return
            self._press = stop
            if self._loop is not None:
                with contextlib.suppress(RuntimeError):  # it has ended, and its loop with it
                    self._loop.call_soon_threadsafe(stop)

    @contextlib.contextmanager
    def pressed_calls(self, on_stop: Callable[[], object]) -> Iterator[None]:
        """Have it call `on_stop`, and not what it called before; nothing once this is over."""
        self._calls.append(on_stop)
        try:
            yield
        finally:
            self._calls.clear()


class _Block:
    """The task in an `async with`, which is cancelled once when the term is lost."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._loop = asyncio.get_running_loop()
        self._cancelling = task.cancelling()
        self._is_open = True
        self._interrupted = False

    def interrupt(self, _term: Term) -> None:
        """From any thread."""
        with contextlib.suppress(RuntimeError):  # its loop is closed
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._is_open:
            self._interrupted = True
            self._task.cancel()

    def close(self) -> bool:
        """The block is left; whether that is our doing and nobody else's."""
        self._is_open = False
        return self._interrupted and self._task.uncancel() <= self._cancelling
