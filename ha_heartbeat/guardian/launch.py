"""Fork and exec of one run at a time, on any POSIX system.

Not subprocess: that is heavy, and what the child does before its exec is the point here. Nothing
blocks: whether the program could be executed is read from a pipe that the exec closes, so even a
program on a hanging network drive does not hold up a deadline.
"""

from __future__ import annotations

import os
import sys

from ha_heartbeat.guardian.light import signal, suppress
from ha_heartbeat.guardian.tree import Exited, Launched, NotLaunched, StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ha_heartbeat.guardian.protocol import Run
    from ha_heartbeat.guardian.tree import Outcome

SHELL = b"/bin/sh"
_EXEC_FAILED = 127

if sys.platform != "win32":

    class Launcher:
        """Starts runs, and knows the one that is under way.

        `enter` is called in the child before its exec; it must not raise. `pid` is 0 while no run
        is under way, and `status_fd` is -1 unless an exec is to be waited for.
        """

        def __init__(self, listeners: Sequence[int], enter: Callable[[], None]) -> None:
            self.pid = 0
            self.status_fd = -1
            self._listeners = tuple(listeners)
            self._enter = enter
            self._program = ""
            self._environ = dict(os.environb)
            self._all_signals = signal.valid_signals()
            # Back to the defaults before the exec: ignored signals would be inherited (execve(2)),
            # and Python ignores some, as whoever started the member may have done; a signal
            # between fork and exec must end the child and not meet the guardian's handlers.
            self._changed = [
                number
                for number in self._all_signals
                if signal.getsignal(number) not in (signal.SIG_DFL, None)
            ]

        def start(self, order: Run) -> None:
            """Fork. Raises StartError when there is nothing that could be executed."""
            env = dict(self._environ)
            try:
                argv = [os.fsencode(argument) for argument in order.argv]
                env.update((os.fsencode(name), os.fsencode(value)) for name, value in order.env)
            except UnicodeEncodeError as problem:
                raise StartError("an argument cannot be written in this locale") from problem
            if order.shell:
                programs, argv = [SHELL], [SHELL, b"-c", *argv]
            else:
                programs = candidates(argv[0], env)
            self._program = os.fsdecode(SHELL) if order.shell else order.argv[0]
            try:
                self._fork(programs, argv, env)
            except OSError as problem:
                raise StartError(f"could not start a process: {problem.strerror}") from problem

        def _fork(self, programs: list[bytes], argv: list[bytes], env: dict[bytes, bytes]) -> None:
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            # Until the child has its defaults back, what is sent to it waits.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._all_signals)
            try:
                pid = os.fork()
                if pid == 0:
                    self._become(programs, argv, env, writer)
            except OSError:
                os.close(reader)
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                os.close(writer)
            self.pid, self.status_fd = pid, reader
            with suppress(OSError):  # the child has done it, and has executed or ended
                os.setpgid(pid, pid)

        def _become(
            self, programs: list[bytes], argv: list[bytes], env: dict[bytes, bytes], writer: int
        ) -> None:
            """The child's side of the fork: never returns."""
            code = 0
            try:
                os.setpgid(0, 0)
                self._enter()
                for fd in self._listeners:
                    os.set_inheritable(fd, True)
                for number in self._changed:
                    signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                code = execute(programs, argv, env)
            except OSError as problem:
                code = problem.errno or 0
            finally:
                # Also for what nobody thought of: two guardians must never run on.
                try:
                    os.write(writer, str(code).encode())
                finally:
                    os._exit(_EXEC_FAILED)

        def launched(self) -> Outcome | None:
            """What became of the exec, once that is known."""
            told = self._last_word()
            if isinstance(told, NotLaunched):
                os.waitpid(self.pid, 0)  # its exit is all that it still has to do
                self.pid = 0
            return told

        def ended(self, wait_status: int) -> list[Outcome]:
            """The main process was reaped with this status of wait(2)."""
            told: list[Outcome] = []
            if self.status_fd != -1 and (word := self._last_word()):
                told.append(word)
            if not (told and isinstance(told[0], NotLaunched)):
                code = os.waitstatus_to_exitcode(wait_status)
                told.append(Exited(code, 0) if code >= 0 else Exited(-1, -code))
            self.pid = 0
            return told

        def _last_word(self) -> Launched | NotLaunched | None:
            """What the child wrote before it executed, or could not."""
            try:
                code = os.read(self.status_fd, 16)
            except BlockingIOError:
                return None
            os.close(self.status_fd)
            self.status_fd = -1
            if not code:
                return Launched(self.pid)
            words = os.strerror(int(code)) if int(code) else "illegal argument or environment"
            return NotLaunched(f"could not run {self._program}: {words}")

    def candidates(program: bytes, env: dict[bytes, bytes]) -> list[bytes]:
        """The paths under which execvp(3) would look for the program."""
        if b"/" in program:
            return [program]
        path = env.get(b"PATH", os.fsencode(os.defpath))
        return [os.path.join(folder or b".", program) for folder in path.split(b":")]

    def execute(programs: list[bytes], argv: list[bytes], env: dict[bytes, bytes]) -> int:
        """Become the first of the programs that is there; else return the telling errno."""
        telling = 0
        for program in programs:
            try:
                os.execve(program, argv, env)
            except (FileNotFoundError, NotADirectoryError) as problem:
                telling = telling or problem.errno or 0
            except PermissionError as problem:  # as execvp(3): look on, but say this
                telling = problem.errno or 0
            except OSError as problem:
                return problem.errno or 0
            except ValueError:
                return 0  # an empty program name, "=" in a variable's name
        return telling
