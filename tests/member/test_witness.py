"""Members with a witness: a third vote, whatever becomes of it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.member.registers import KINDS, FileWitness, Witness, tmpfs
from tests.member.rig import Member, Rig, holds_for, paused, send, wait_for

OPTIONS = ("-t", "0.4", "--check-count", "3", "--stop-timeout", "0.5")
LEASE_S = 1.2
SOON_S = 15.0
SILENT = "The witness does not answer"
BACK = "The witness answers again"


pytestmark = pytest.mark.side_by_side
each_kind = pytest.mark.parametrize("kind", list(KINDS))


@contextlib.contextmanager
def answering(kind: str, rig: Rig) -> Iterator[Witness]:
    """A witness of that kind."""
    witness: Witness = KINDS[kind](rig)
    witness.start()
    try:
        yield witness
        rig.finish()
    finally:
        witness.close()


def pair(rig: Rig, witness: Witness, *options: str) -> tuple[Member, Member]:
    """A worker and a supervisor that have a witness."""
    return rig.pair(*(options or OPTIONS), "--witness", witness.url)


@each_kind
def test_a_dead_worker_is_replaced_at_once(rig: Rig, kind: str) -> None:
    """The refusal frees what the witness keeps for the dead one; no lease is waited for."""
    with answering(kind, rig) as witness:
        worker, other = pair(rig, witness, "-t", "1", "--stop-timeout", "0.5")
        wait_for(lambda: witness.record().get("holder") == worker.name, "the worker's record")
        worker.kill()
        rig.works(other)
        assert rig.gap() < SOON_S
        assert other.said("refused the connection.*Becoming worker") == 1
        epoch = rig.runs()[-1].epoch
        wait_for(
            lambda: witness.record()["epoch"] == epoch, "its successor's record", patience_s=2.5
        )
        assert witness.record()["holder"] == other.name
        other.stop()
        assert witness.record()["released"] is True


@each_kind
def test_the_loss_of_the_witness_alone_changes_nothing(rig: Rig, kind: str) -> None:
    """Stopped, started again, wiped, filled with garbage: a line each, no stop, no switch."""
    with answering(kind, rig) as witness:
        worker, other = pair(rig, witness)
        both = (worker, other)

        def nothing_changes(seconds: float) -> None:
            holds_for(seconds, lambda: worker.is_worker and other.is_supervisor, "the roles")
            assert len(rig.runs()) == 1
            assert rig.is_running(worker)

        wait_for(lambda: witness.record().get("holder") == worker.name, "the worker's record")
        witness.stop()
        for member in both:
            member.hears(SILENT)
        nothing_changes(2 * LEASE_S)
        witness.start()
        for member in both:
            member.hears(BACK)
        witness.wipe()
        wait_for(lambda: witness.record().get("holder") == worker.name, "a new record")
        nothing_changes(0.5)
        before = [
            member.said(SILENT) for member in both
        ]  # the server has to be stopped to be wiped
        witness.spoil()
        for member, times in zip(both, before, strict=True):
            member.hears(SILENT, times=times + 1)
        nothing_changes(LEASE_S)
        assert [member.said(SILENT) for member in both] == [times + 1 for times in before]
        with paused(worker.pid):  # and what is promised is kept: nobody has two votes of three
            wait_for(lambda: worker.command() == [], "the guardian to end the command")
            holds_for(LEASE_S, lambda: other.is_supervisor, "the vote that it lacks")
        wait_for(lambda: len(rig.runs()) == 2, "one of them to go on, since they hear each other")
        witness.wipe()
        for member in both:
            wait_for(
                lambda member=member: BACK in member.lines[-1] or member.said(BACK), "it is good"
            )


@each_kind
def test_a_worker_that_is_paused(rig: Rig, kind: str) -> None:
    """Its guardian ends the command before another may begin; awake again, it supervises."""
    with answering(kind, rig) as witness:
        worker, other = pair(rig, witness)
        with paused(worker.pid):
            rig.works(other)
            assert worker.command() == []
            assert other.said("the witness voted for this member. Becoming worker") == 1
        epoch = rig.runs()[-1].epoch
        wait_for(lambda: worker.said(f"{other.name} is worker, epoch {epoch}"), "it to find out")
        holds_for(LEASE_S, lambda: other.is_worker and not worker.is_worker, "one worker")
        assert rig.gap() >= 0


@each_kind
def test_the_witness_and_the_peer_are_gone(rig: Rig, kind: str) -> None:
    """A supervisor alone with silence never starts; a refusal needs no witness."""
    with answering(kind, rig) as witness:
        worker, other = pair(rig, witness)
        witness.stop()
        other.hears(SILENT)
        with paused(worker.pid, worker.guardian):
            holds_for(2 * LEASE_S, lambda: other.is_supervisor, "nobody votes for it")
            worker.kill()
        rig.works(other)
        assert other.said("refused the connection.*Becoming worker") == 1


def test_a_record_of_another_cluster(rigs: Callable[[int], list[Rig]]) -> None:
    """Said once on each side of the second pair, with the names of both; the first goes on."""
    first, second = rigs(2)
    witness = FileWitness(first)
    witness.start()
    worker, other = pair(first, witness)
    wait_for(lambda: witness.record().get("holder") == worker.name, "the first pair's record")
    options = (*OPTIONS, "--witness", witness.url)
    strangers = [second.member(number, *options, name=f"x{number}") for number in (1, 2)]
    for stranger in strangers:
        stranger.hears(f"written by {worker.name}, of another cluster .*{worker.name}.*x\\d")
    second.settle(*strangers)
    holds_for(LEASE_S, lambda: worker.is_worker and other.is_supervisor, "the first pair's roles")
    assert not worker.said(SILENT)
    assert len(first.runs()) == len(second.runs()) == 1
    assert [stranger.said(SILENT) for stranger in strangers] == [1, 1]
    assert witness.record()["holder"] == worker.name


@contextlib.contextmanager
def small(rig: Rig) -> Iterator[Path]:
    """A small file system for the witness's file, which may not lie in the mount point itself."""
    mount = rig.place / "mount"
    tmpfs(mount, "64k")
    try:
        (mount / "share").mkdir()
        yield mount
        rig.finish()
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)


@pytest.mark.root
def test_a_store_that_cannot_be_written(rig: Rig) -> None:
    """Full, then read-only: it is said, and nothing else happens until it is over."""
    with small(rig) as mount:
        path = mount / "share" / "web.witness"
        worker, other = rig.pair(*OPTIONS, "--witness", path.as_uri())
        wait_for(path.exists, "a record")
        for trouble, words, over in (
            (_fill, "make room", _empty),
            (_read_only, "make .* writable", _writable),
        ):
            trouble(mount)
            wait_for(lambda words=words: worker.said(f"{SILENT}.*{words}"), "the complaint")
            holds_for(LEASE_S, lambda: worker.is_worker and other.is_supervisor, "the roles")
            over(mount)
            wait_for(lambda: worker.said(BACK) == worker.said(SILENT), "the end of it")
        assert len(rig.runs()) == 1


@pytest.mark.root
def test_a_store_that_cannot_be_written_is_said_once(rig: Rig) -> None:
    with small(rig) as mount:
        path = mount / "share" / "web.witness"
        worker, _ = rig.pair(*OPTIONS, "--witness", path.as_uri())
        wait_for(path.exists, "a record")
        _fill(mount)
        worker.hears(SILENT)
        holds_for(2 * LEASE_S, lambda: worker.said(SILENT) == 1, "said once")


def _fill(place: Path) -> None:
    with contextlib.suppress(OSError), (place / "filler").open("wb", buffering=0) as out:
        while out.write(b"x" * 4096):
            pass


def _empty(place: Path) -> None:
    (place / "filler").unlink()


def _read_only(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)


def _writable(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)


def test_what_is_no_witness(rig: Rig) -> None:
    """One line, and exit 1, before anything is started."""
    urls = ("carrier-pigeon://coop", f"witness://{rig.address(9)}/path")
    found = [
        (url, rig.member(number, *OPTIONS, "--witness", url)) for number, url in enumerate(urls, 1)
    ]
    for url, member in found:
        assert member.ended() == 1
        (line,) = member.lines
        assert line.startswith("ha-heartbeat: --witness: ")
        assert url.partition(":")[0] in line
    assert rig.runs() == []


@each_kind
def test_three_members_and_no_peer(rig: Rig, kind: str) -> None:
    """Exactly one has the witness's vote. A kill costs a lease, a goodbye does not."""
    with answering(kind, rig) as witness:
        options = ("-t", "0.5", "--check-count", "8", "--stop-timeout", "0.5")
        members = [
            rig.member(number, *options, "--witness", witness.url, has_peer=False)
            for number in (1, 2, 3)
        ]

        def worker_of(left: list[Member]) -> Member:
            def found() -> Member | None:
                return next((m for m in left if m.is_worker and rig.is_running(m)), None)

            worker = wait_for(found, "one to be worker")
            assert worker is not None
            for member in left:
                if member is not worker:
                    wait_for(
                        lambda member=member: member.said(f"{worker.name} is worker, epoch"),
                        "the others to supervise it",
                    )
            return worker

        first = worker_of(members)
        holds_for(1, lambda: sum(member.is_worker for member in members) == 1, "exactly one")
        assert len(rig.runs()) == 1
        first.kill()
        members.remove(first)
        second = worker_of(members)
        assert 1.0 < rig.gap() < SOON_S, "a lease that it had renewed within the last interval"
        assert second.said("witness voted for this member. Becoming worker") == 1
        # A vote that is being renewed at the moment of the goodbye is not given back.
        holds_for(0.25, lambda: second.is_worker, "its first renewal is over")
        send(second.pid, signal.SIGTERM)
        members.remove(second)
        (third,) = members
        rig.works(third)
        assert second.ended() == 0
        assert rig.gap() < 3.7, "the next look at the record, long before the lease has run out"
