"""Two that start: one worker, never two, and the one that the modes and names call for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.member.rig import Rig, holds_for, wait_for

pytestmark = pytest.mark.side_by_side


def test_together(rigs: Callable[[int], list[Rig]]) -> None:
    started = []
    for turn, rig in enumerate(rigs(10)):
        order = (1, 2) if turn % 2 else (2, 1)
        options = ("--takeover", "proof" if turn % 3 else "silence")
        one, two = (rig.member(number, *options) for number in order)
        started.append((rig, one, two))
    pairs = [rig.settle(one, two) for rig, one, two in started]
    holds_for(
        0.3,
        lambda: all(worker.is_worker and other.is_supervisor for worker, other in pairs),
        "the roles stay",
    )
    for (rig, _, _), (worker, other) in zip(started, pairs, strict=True):
        assert not other.said("Becoming worker")
        assert worker.said("Becoming worker") == 1
        assert len(rig.runs()) == 1


def test_worker_mode(rigs: Callable[[int], list[Rig]]) -> None:
    """On one of the two it decides between two that both look; whoever runs already stays."""
    kinds: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))
    started = [
        (modes, rig, {n: rig.member(n, *(("-m", "WORKER") if n in modes else ())) for n in (1, 2)})
        for modes, rig in zip(kinds, rigs(4), strict=True)
    ]
    for modes, rig, members in started:
        worker, other = rig.settle(members[1], members[2])
        if worker.said("does not run and voted"):
            assert worker is members[modes[0] if len(modes) == 1 else 1]
        assert not other.said("Becoming worker")


def test_worker_mode_asks_a_worker_that_keeps_it(rig: Rig) -> None:
    """Without --fallback nothing is given away, and the one who asked is told why, once."""
    first = rig.member(1, "-t", "0.5")
    rig.works(first)
    asks = rig.member(2, "-t", "0.5", "-m", "WORKER")
    asks.hears("m1 keeps the role: it was not started with --fallback")
    holds_for(1.2, lambda: first.is_worker and asks.is_supervisor, "the roles")
    assert asks.said("keeps the role") == 1
    assert len(rig.runs()) == 1


def test_fallback_on_both(rig: Rig) -> None:
    """A contradiction: said once on each side, and treated as off."""
    one, two = rig.member(1, "-t", "0.5", "-f"), rig.member(2, "-t", "0.5", "-f")
    worker, other = rig.settle(one, two)
    for member, peer in ((one, "m2"), (two, "m1")):
        member.hears(f"{peer} was started with --fallback, too.*off on both")
    holds_for(1.2, lambda: worker.is_worker and other.is_supervisor, "nothing is handed over")
    assert one.said("--fallback, too") == two.said("--fallback, too") == 1
    assert len(rig.runs()) == 1


def test_fallback_waits_for_the_preferred_one_first(rig: Rig) -> None:
    """At its start it gives the peer check-count checks to appear, and then runs."""
    m1 = rig.member(1, "-t", "0.4", "-f")
    m1.hears("It is preferred \\(--fallback\\), so it has 3 checks to appear first")
    rig.works(m1)
    assert m1.said("refused the connection: .* Becoming worker") == 1


def test_the_preferred_one_appears_in_time(rig: Rig) -> None:
    m1 = rig.member(1, "-t", "5", "-f")
    m1.hears("so it has 3 checks to appear first")
    m2 = rig.member(2, "-t", "5", "-m", "WORKER")
    rig.settle(m1, m2)
    assert m2.is_worker
    assert not m1.said("Becoming worker")


def test_the_peer_comes_later(rig: Rig) -> None:
    first = rig.member(1)
    rig.works(first)
    late = rig.member(2)
    wait_for(lambda: late.is_supervisor, "it to supervise")
    late.hears("m1 is worker, epoch \\d+. Supervising it")
    assert len(rig.runs()) == 1
