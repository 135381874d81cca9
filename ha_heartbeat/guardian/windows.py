"""The guardian on Windows: a job object that dies with it.

Every process that a run starts is born into the job, and closing the last handle to the job, which
the guardian has, kills all of it (Job Objects, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE): so nothing
outlives the guardian, however that ends. The soft stop is CTRL_BREAK_EVENT, which reaches the
process group of a run on the guardian's console; a program without a console does not hear it
and is terminated after the grace.

The main process of a run is created suspended and resumed inside the job, so it cannot start
anything outside. Written from the documentation; see the support table for what has been run.
"""

from __future__ import annotations

import sys

from ha_heartbeat.guardian.clock import now_ns
from ha_heartbeat.guardian.light import signal, suppress
from ha_heartbeat.guardian.tree import Exited, Launched, StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ha_heartbeat.guardian.protocol import Run
    from ha_heartbeat.guardian.tree import Outcome

if sys.platform == "win32":
    import ctypes
    import os
    import socket
    import subprocess
    from ctypes import wintypes

    _CHUNK_BYTES = 65536
    _CREATE_SUSPENDED = 0x4
    _FD_READ, _FD_WRITE, _FD_CLOSE = 0x1, 0x2, 0x20
    _INFINITE = 0xFFFFFFFF
    _BASIC_ACCOUNTING = 1  # JobObjectBasicAccountingInformation
    _EXTENDED_LIMIT = 9  # JobObjectExtendedLimitInformation
    _KILL_ON_JOB_CLOSE = 0x2000
    _STATUS_KILLED = 1
    _LOOK_NS = 1_000_000_000
    """The longest wait with a deadline ahead: timeouts of Windows do not count a suspend."""

    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _winsock = ctypes.WinDLL("ws2_32", use_last_error=True)
    _ntdll = ctypes.WinDLL("ntdll")
    _kernel.CreateJobObjectW.restype = wintypes.HANDLE
    _kernel.CreateJobObjectW.argtypes = (wintypes.LPVOID, wintypes.LPCWSTR)
    _kernel.SetInformationJobObject.argtypes = (
        wintypes.HANDLE,
        ctypes.c_int,
        wintypes.LPVOID,
        wintypes.DWORD,
    )
    _kernel.QueryInformationJobObject.argtypes = (
        wintypes.HANDLE,
        ctypes.c_int,
        wintypes.LPVOID,
        wintypes.DWORD,
        wintypes.LPDWORD,
    )
    _kernel.AssignProcessToJobObject.argtypes = (wintypes.HANDLE, wintypes.HANDLE)
    _kernel.TerminateJobObject.argtypes = (wintypes.HANDLE, wintypes.UINT)
    _kernel.CreateEventW.restype = wintypes.HANDLE
    _kernel.WaitForMultipleObjects.argtypes = (
        wintypes.DWORD,
        ctypes.POINTER(wintypes.HANDLE),
        wintypes.BOOL,
        wintypes.DWORD,
    )
    _kernel.ResetEvent.argtypes = (wintypes.HANDLE,)
    _winsock.WSAEventSelect.argtypes = (ctypes.c_size_t, wintypes.HANDLE, ctypes.c_long)
    _ntdll.NtResumeProcess.argtypes = (wintypes.HANDLE,)

    class _BasicLimits(ctypes.Structure):
        _fields_ = (
            ("per_process_user_time", ctypes.c_int64),
            ("per_job_user_time", ctypes.c_int64),
            ("limit_flags", wintypes.DWORD),
            ("minimum_working_set", ctypes.c_size_t),
            ("maximum_working_set", ctypes.c_size_t),
            ("active_process_limit", wintypes.DWORD),
            ("affinity", ctypes.c_size_t),
            ("priority_class", wintypes.DWORD),
            ("scheduling_class", wintypes.DWORD),
        )

    class _ExtendedLimits(ctypes.Structure):
        _fields_ = (
            ("basic", _BasicLimits),
            ("io_counters", ctypes.c_uint64 * 6),
            ("process_memory_limit", ctypes.c_size_t),
            ("job_memory_limit", ctypes.c_size_t),
            ("peak_process_memory", ctypes.c_size_t),
            ("peak_job_memory", ctypes.c_size_t),
        )

    class _Accounting(ctypes.Structure):
        _fields_ = (
            ("times", ctypes.c_int64 * 4),
            ("page_faults", wintypes.DWORD),
            ("total_processes", wintypes.DWORD),
            ("active_processes", wintypes.DWORD),
            ("terminated_processes", wintypes.DWORD),
        )

    def _checked(result: int, call: str) -> int:
        if not result:
            problem = ctypes.WinError(ctypes.get_last_error())
            raise OSError(problem.errno, f"{call}: {problem.strerror}")
        return result

    class Job:
        """A job object, held by this process alone."""

        def __init__(self) -> None:
            self._handle = _checked(_kernel.CreateJobObjectW(None, None), "CreateJobObject")
            limits = _ExtendedLimits()
            limits.basic.limit_flags = _KILL_ON_JOB_CLOSE
            size = ctypes.sizeof(limits)
            _checked(
                _kernel.SetInformationJobObject(
                    self._handle, _EXTENDED_LIMIT, ctypes.byref(limits), size
                ),
                "SetInformationJobObject",
            )

        def add(self, process: int) -> None:
            """Take a process in, by its handle. Raises OSError."""
            done = _kernel.AssignProcessToJobObject(self._handle, process)
            _checked(done, "AssignProcessToJobObject")

        def active(self) -> int:
            """How many processes are in it. Raises OSError."""
            numbers = _Accounting()
            done = _kernel.QueryInformationJobObject(
                self._handle, _BASIC_ACCOUNTING, ctypes.byref(numbers), ctypes.sizeof(numbers), None
            )
            _checked(done, "QueryInformationJobObject")
            return int(numbers.active_processes)

        def terminate(self) -> None:
            """End all of it at once."""
            _kernel.TerminateJobObject(self._handle, _STATUS_KILLED)

    class WindowsTree:
        """A Tree made of a job object; the channel is a socket, as Windows waits for no pipe."""

        announces_end = False

        def __init__(self, control: int, listeners: Sequence[int]) -> None:
            self._socket = socket.socket(fileno=control)
            self._socket.set_inheritable(False)
            self._socket.setblocking(False)
            self._listeners = list(listeners)
            self._closed = False
            self._unsent = bytearray()
            self._job = Job()
            self._event = _checked(_kernel.CreateEventW(None, True, False, None), "CreateEvent")
            mask = _FD_READ | _FD_WRITE | _FD_CLOSE
            if _winsock.WSAEventSelect(control, self._event, mask):
                raise OSError("WSAEventSelect failed")
            self._main: subprocess.Popen[bytes] | None = None
            self._told: list[Outcome] = []
            self._active = 0

        @property
        def unsent(self) -> bool:
            return bool(self._unsent)

        def wait(self, until_ns: int | None) -> None:
            handles = [] if self._closed else [self._event]
            if self._main is not None:
                handles.append(int(self._main._handle))  # type: ignore[attr-defined]
            if self._told:
                return
            pause_ms = _INFINITE
            if until_ns is not None:
                pause_ms = -(-min(max(until_ns - now_ns(), 0), _LOOK_NS) // 1_000_000)
            if handles:
                array = (wintypes.HANDLE * len(handles))(*handles)
                _kernel.WaitForMultipleObjects(len(handles), array, False, pause_ms)
            else:
                _kernel.Sleep(min(pause_ms, 1000))

        def receive(self) -> tuple[bytes, bool]:
            _kernel.ResetEvent(self._event)  # before reading: what comes later sets it again
            self._flush()
            heard = bytearray()
            while not self._closed:
                try:
                    chunk = self._socket.recv(_CHUNK_BYTES)
                except BlockingIOError:
                    break
                except OSError:
                    chunk = b""
                heard += chunk
                self._closed = not chunk
            return bytes(heard), self._closed

        def send(self, data: bytes) -> None:
            if not self._closed:
                self._unsent += data
                self._flush()

        def _flush(self) -> None:
            while self._unsent and not self._closed:
                try:
                    del self._unsent[: self._socket.send(self._unsent)]
                except BlockingIOError:
                    return
                except OSError:
                    self._unsent.clear()

        def start(self, order: Run) -> None:
            startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": self._listeners})
            flags = subprocess.CREATE_NEW_PROCESS_GROUP | _CREATE_SUSPENDED
            try:
                self._main = subprocess.Popen(
                    order.argv[0] if order.shell else list(order.argv),
                    shell=order.shell,
                    env={**os.environ, **dict(order.env)},
                    stdin=subprocess.DEVNULL,
                    startupinfo=startup,
                    creationflags=flags,
                )
            except (OSError, ValueError) as problem:
                words = getattr(problem, "strerror", None) or problem
                raise StartError(f"could not run {order.argv[0]}: {words}") from problem
            handle = int(self._main._handle)  # type: ignore[attr-defined]
            try:
                self._job.add(handle)
            except OSError as problem:
                self._main.kill()
                self._main = None
                raise StartError(f"could not guard {order.argv[0]}: {problem}") from problem
            _ntdll.NtResumeProcess(handle)
            self._told.append(Launched(self._main.pid))
            self._active = 1

        def happened(self) -> list[Outcome]:
            told, self._told = self._told, []
            if self._main is not None and (code := self._main.poll()) is not None:
                self._main = None
                told.append(Exited(code, 0))
            self._active = self._job.active()
            return told

        def empty(self) -> bool:
            return self._active == 0 and self._main is None

        def answer_for(self, until_ns: int, *, striking: bool) -> None:
            """Nobody stands behind this one."""

        def leftovers(self) -> int:
            return max(self._job.active() - (self._main is not None), 0)

        def soft(self, again: bool) -> None:
            if self._main is not None and not again:
                with suppress(OSError):  # no console to hear it on
                    self._main.send_signal(signal.CTRL_BREAK_EVENT)

        def hard(self) -> None:
            self._job.terminate()

        def close(self) -> None:
            """The job goes with this process."""
