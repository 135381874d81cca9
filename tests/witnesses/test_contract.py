"""The same promises for every kind of witness: one winner for each version, nothing lost."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ha_heartbeat.witnesses import (
    MAX_VALUE_BYTES,
    ConflictError,
    Register,
    UnknownOutcomeError,
    open_register,
)
from tests.witnesses.rig import (
    PATIENCE_S,
    ROOT,
    MemoryRegister,
    conforming,
    needs_server,
    witness,
)

LIMIT_S = 10.0
Open = Callable[[], Register]


@pytest.fixture(
    params=[
        "memory",
        "file",
        "conforming",
        "conforming-silent",
        pytest.param("ours", marks=needs_server),
    ]
)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens registers on one and the same record."""
    with contextlib.ExitStack() as stack:
        if request.param == "memory":
            memory = MemoryRegister()
            yield lambda: memory
            return
        if request.param == "file":
            url = f"file://{tmp_path}/record"
        elif request.param == "ours":
            url = stack.enter_context(witness(tmp_path)).url
        else:
            told = request.param == "conforming"
            url = stack.enter_context(conforming(tells_version=told)).url

        def opened() -> Register:
            register = open_register(url, "web", LIMIT_S)
            stack.callback(register.close)
            return register

        opened.url = url  # type: ignore[attr-defined]
        yield opened


def test_no_record_is_none_and_only_the_first_swap_makes_one(opener: Open) -> None:
    register = opener()
    assert register.read() is None
    version = register.swap(None, b"one")
    stored = register.read()
    assert stored == (b"one", version)
    with pytest.raises(ConflictError):
        register.swap(None, b"two")
    assert register.read() == stored


def test_a_swap_needs_the_version_of_now(opener: Open) -> None:
    register = opener()
    first = register.swap(None, b"one")
    second = register.swap(first, b"two")
    with pytest.raises(ConflictError):
        register.swap(first, b"three")
    assert register.read() == (b"two", second)


def test_the_same_value_gets_another_version(opener: Open) -> None:
    register = opener()
    versions = [register.swap(None, b"same")]
    for _ in range(5):
        versions.append(register.swap(versions[-1], b"same"))
    assert len(set(versions)) == len(versions)


def test_no_version_without_a_record(opener: Open) -> None:
    register, other = opener(), opener()
    version = register.swap(None, b"one")
    assert other.read() == (b"one", version)


def test_any_bytes_up_to_the_limit(opener: Open) -> None:
    register = opener()
    version = register.swap(None, bytes(range(256)))
    version = register.swap(version, b"\xff" * MAX_VALUE_BYTES)
    assert register.read() == (b"\xff" * MAX_VALUE_BYTES, version)


def test_sizes_that_are_refused(opener: Open) -> None:
    register = opener()
    if isinstance(register, MemoryRegister):
        pytest.skip("the reference checks no sizes")
    for value in (b"", b"x" * (MAX_VALUE_BYTES + 1)):
        with pytest.raises(ValueError, match="bytes"):
            register.swap(None, value)
    assert register.read() is None


def test_close_twice_and_go_on(opener: Open) -> None:
    register = opener()
    register.swap(None, b"one")
    register.close()
    register.close()
    assert register.read() is not None
    register.close()


def increment(register: Register, name: str, wins: int) -> list[tuple[str | None, str]]:
    """Count the record up until it was done `wins` times: (version replaced, version made)."""
    done: list[tuple[str | None, str]] = []
    while len(done) < wins:
        stored = register.read()
        expected = stored.version if stored else None
        count = int(stored.value.split()[0]) if stored else 0
        value = f"{count + 1} {name} {len(done)}".encode()
        try:
            done.append((expected, register.swap(expected, value)))
        except ConflictError:
            continue
        except UnknownOutcomeError:  # somebody overwrote it before its version could be asked for
            done.append((expected, f"unknown to {name}: {value!r}"))
    return done


def test_threads_have_one_winner_for_each_version(opener: Open) -> None:
    threads, wins = 8, 6
    results: list[list[tuple[str | None, str]]] = []
    registers = [opener() for _ in range(threads)]
    workers = [
        threading.Thread(
            target=lambda number=number: results.append(
                increment(registers[number], f"t{number}", wins)
            )
        )
        for number in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE_S)
    swaps = [swap for result in results for swap in result]
    assert len(swaps) == threads * wins
    assert max(Counter(expected for expected, _made in swaps).values()) == 1
    stored = registers[0].read()
    assert stored is not None
    assert int(stored.value.split()[0]) == threads * wins


def test_one_register_takes_many_threads(opener: Open) -> None:
    register = opener()
    workers = [
        threading.Thread(target=increment, args=(register, f"t{number}", 5)) for number in range(6)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE_S)
    stored = register.read()
    assert stored is not None
    assert int(stored.value.split()[0]) == 30


def test_processes_have_one_winner_for_each_version(opener: Open) -> None:
    url = getattr(opener, "url", "")
    if not url:
        pytest.skip("the reference lives in one process")
    code = (
        "import sys; from tests.witnesses.test_contract import increment; "
        "from ha_heartbeat.witnesses import open_register; "
        "register = open_register(sys.argv[1], 'web', 10.0); "
        "[print(made) for _, made in increment(register, sys.argv[2], 10)]; register.close()"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, url, f"p{number}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    made = [line for child in children for line in child.communicate(timeout=60)[0].splitlines()]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert len(made) == len(set(made)) == 30
    stored = opener().read()
    assert stored is not None
    assert int(stored.value.split()[0]) == 30
