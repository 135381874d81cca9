"""The judge of a campaign finds what is wrong in histories that were made up, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from faults.checker import Verdict, judge
from faults.history import History, Limits, Pause, Step
from faults.recorder import MAX_HOLES, Kind, Life

MS = 1_000_000
LIMITS = Limits(
    lease_s=0.3, recovers_s=0.4, starts_s=0.1, every_s=0.2, wakes_s=0.05, hand_over_s=0.05
)
END = 10_000


def life(
    host: str,
    epoch: int,
    start: int,
    last: int,
    *,
    kind: Kind = Kind.MAIN,
    run: int = 1,
    ended: bool = True,
    holes: tuple[tuple[int, int], ...] = (),
    saw: tuple[int, str] | None = None,
    pid: int = 0,
) -> Life:
    """Times in milliseconds; the number of a process follows from the rest unless it is given."""
    number = pid or 1000 * epoch + 10 * run + kind.value
    between = tuple((a * MS, b * MS) for a, b in holes)
    end_ns = last * MS if ended else 0
    return Life(host, epoch, run, number, kind, start * MS, last * MS, end_ns, between, saw)


def step(
    began: int,
    healed: int,
    settled: int,
    *,
    serves_s: float | None = None,
    keeps: bool = False,
    apart: bool = False,
) -> Step:
    return Step(
        "a fault", ("x",), "it", began * MS, healed * MS, settled * MS, serves_s, keeps, apart
    )


def pause(host: str, start: int, end: int, pids: Sequence[int], *, everything: bool) -> Pause:
    return Pause(host, start * MS, end * MS, frozenset(pids), everything)


def verdict(
    lives: Sequence[Life],
    steps: Sequence[Step] = (),
    pauses: Sequence[Pause] = (),
    *,
    stalls: Sequence[tuple[int, int]] = (),
    waits: Sequence[tuple[int, int]] = (),
    strays: Sequence[str] = (),
    flaws: Sequence[str] = (),
    limits: Limits = LIMITS,
) -> Verdict:
    ordered = sorted(lives, key=lambda one: one.start_ns)
    still = [(a * MS, b * MS) for a, b in stalls]
    history = History(
        ordered,
        list(pauses),
        list(steps),
        still,
        list(strays),
        list(flaws),
        limits,
        END * MS,
        {"b": [(at * MS, total * MS) for at, total in waits]},
    )
    return judge(history)


def kinds(result: Verdict) -> list[str]:
    return [finding.kind for finding in result.findings]


HANDED_OVER = (life("a", 2, 0, 2000), life("b", 3, 2010, END))


def test_a_good_hand_over() -> None:
    result = verdict(HANDED_OVER, [step(1900, 2050, 2060)])
    assert not result.findings
    assert result.recoveries[0].longest_ns == 10 * MS
    assert result.recoveries[0].changed
    assert not result.recoveries[0].needless


# -- overlaps --------------------------------------------------------------------------------------


def test_two_hosts_at_once() -> None:
    lives = [life("a", 2, 0, 2000), life("b", 3, 1995, END)]
    assert kinds(verdict(lives, [step(1900, 2050, 2060)])) == ["overlap"]


@pytest.mark.parametrize("kind", [Kind.CHILD, Kind.DAEMON])
def test_any_process_of_the_tree_counts(kind: Kind) -> None:
    left = life("a", 2, 10, 2100, kind=kind, ended=False)
    assert kinds(verdict([*HANDED_OVER, left], [step(1900, 2050, 2060)])) == ["overlap"]


def test_one_that_was_seen_alive_counts_though_it_ticks_no_more() -> None:
    old = life("a", 2, 0, 2000, ended=False)
    new = life("b", 3, 2010, END, saw=(old.pid, "R"))
    assert kinds(verdict([old, new], [step(1900, 2050, 2060)])) == ["overlap"]


def test_one_that_is_paused_does_not_run() -> None:
    old = life("a", 2, 0, 1000, ended=False)
    new = life("b", 3, 1400, END, saw=(old.pid, "T"))
    pauses = [pause("a", 1000, 2000, [old.pid], everything=False)]
    assert not verdict([old, new], [step(1000, 2000, 2050)], pauses).findings


def test_a_host_that_wakes_up_beside_its_successor_is_told_with_the_time() -> None:
    old = life("a", 2, 0, 2012, ended=False, holes=((1000, 2001),))
    new = life("b", 3, 1400, END)
    pauses = [pause("a", 1001, 2000, [old.pid], everything=True)]
    result = verdict([old, new], [step(1000, 2000, 2050)], pauses)
    assert not result.findings
    assert result.wake_ups_ns == [11 * MS] or result.wake_ups_ns == [12 * MS]


def test_but_not_longer_than_the_limit() -> None:
    old = life("a", 2, 0, 2080, ended=False, holes=((1000, 2001),))
    pauses = [pause("a", 1001, 2000, [old.pid], everything=True)]
    result = verdict([old, life("b", 3, 1400, END)], [step(1000, 2000, 2090)], pauses)
    assert kinds(result) == ["overlap"]


def test_and_not_where_somebody_was_awake_to_prevent_it() -> None:
    old = life("a", 2, 0, 2012, ended=False, holes=((1000, 2001),))
    pauses = [pause("a", 1001, 2000, [old.pid], everything=False)]
    result = verdict([old, life("b", 3, 1400, END)], [step(1000, 2000, 2050)], pauses)
    assert kinds(result) == ["overlap"]


def test_a_pause_excuses_nobody_who_ticked_through_it() -> None:
    old = life("a", 2, 0, 1800, ended=False)
    pauses = [pause("a", 1000, 2000, [old.pid], everything=True)]
    result = verdict([old, life("b", 3, 1400, END)], [step(1000, 2000, 2050)], pauses)
    assert kinds(result) == ["overlap"]


def test_a_hole_that_no_pause_explains_is_time_in_which_it_ran() -> None:
    old = life("a", 2, 0, 2000, holes=((1000, 1990),))
    new = life("b", 3, 1400, 1900, ended=False)
    assert "overlap" in kinds(verdict([old, new], [step(1000, 2050, 2060)]))


def test_two_may_run_in_a_partition_that_the_mode_allows_for() -> None:
    lives = [life("a", 2, 0, 2000), life("b", 3, 1400, END)]
    result = verdict(lives, [step(1000, 1990, 2050, apart=True)])
    assert not result.findings
    assert result.apart_ns == [600 * MS]
    assert kinds(verdict(lives, [step(1000, 1480, 2050, apart=True)])) == ["overlap"]
    assert kinds(verdict(lives, [step(1450, 1990, 2050, apart=True)])) == ["overlap"]


# -- gaps ------------------------------------------------------------------------------------------


def test_nobody_runs_for_too_long_after_the_fault() -> None:
    def after(gap: int) -> Verdict:
        lives = [life("a", 2, 0, 1000, ended=False), life("b", 3, 1100 + gap, END)]
        return verdict(lives, [step(1000, 1100, 1200 + gap)])

    assert not after(490).findings
    assert kinds(after(520)) == ["gap"]
    assert after(490).recoveries[0].longest_ns == 590 * MS
    (outage,) = after(490).recoveries[0].outages
    assert (outage.counted_ns, outage.bound_ns) == (490 * MS, 400 * MS)


def test_nobody_runs_for_too_long_while_the_fault_lasts() -> None:
    lives = [life("a", 2, 0, 1000, ended=False), life("b", 3, 1300, END)]
    assert not verdict(lives, [step(1000, 3000, 3100)]).findings
    assert not verdict(lives, [step(1000, 3000, 3100, serves_s=0.25)]).findings
    assert kinds(verdict(lives, [step(1000, 3000, 3100, serves_s=0.15)])) == ["gap"]


def test_nobody_runs_at_the_end() -> None:
    assert kinds(verdict([life("a", 2, 0, 1000)], [step(1000, 1100, 1200)])) == ["gap"]


def test_a_machine_that_stood_still_gets_that_time_back() -> None:
    lives = [life("a", 2, 0, 1000, ended=False), life("b", 3, 1700, END)]
    assert kinds(verdict(lives, [step(1000, 1100, 1800)])) == ["gap"]
    assert not verdict(lives, [step(1000, 1100, 1800)], stalls=[(1200, 1400)]).findings
    short = [(at, at + 40) for at in range(1200, 1400, 100)]
    assert kinds(verdict(lives, [step(1000, 1100, 1800)], stalls=short)) == ["gap"]
    assert not verdict(lives, [step(1000, 1100, 1800)], stalls=[*short, (1500, 1540)]).findings


def test_a_host_that_waited_for_a_processor_gets_that_time_back() -> None:
    lives = [life("a", 2, 0, 1000, ended=False), life("b", 3, 1700, END)]
    steps = [step(1000, 1100, 1800)]
    assert kinds(verdict(lives, steps, waits=[(900, 5), (1200, 5), (1600, 95), (1800, 95)])) == [
        "gap"
    ]
    assert not verdict(lives, steps, waits=[(900, 5), (1200, 5), (1600, 115), (1800, 115)]).findings
    assert kinds(verdict(lives, steps, waits=[(900, 0), (1000, 500), (1800, 500)])) == ["gap"]


def test_a_command_that_ends_by_itself_is_served_until_its_next_start() -> None:
    runs = [life("a", 2, at, at + 60, run=at) for at in range(0, END, 200)]
    assert not verdict(runs, [step(1000, 1100, 1200)]).findings
    missing = [run for run in runs if run.start_ns != 5000 * MS]
    assert kinds(verdict(missing, [step(1000, 1100, 1200)])) == ["gap"]


def test_a_change_that_nothing_asked_for_is_told() -> None:
    result = verdict(HANDED_OVER, [step(1900, 2050, 2060, serves_s=0.0, keeps=True)])
    assert not result.findings
    assert result.recoveries[0].needless
    still = verdict(HANDED_OVER, [step(1900, 2050, 2060, keeps=True)], stalls=[(1950, 2000)])
    assert not still.recoveries[0].needless


# -- epochs ----------------------------------------------------------------------------------------


def test_an_epoch_that_goes_back() -> None:
    lives = [life("a", 4, 0, 2000), life("b", 3, 2010, END)]
    assert kinds(verdict(lives, [step(1900, 2050, 2060)])) == ["epoch"]


def test_an_epoch_of_two_hosts() -> None:
    lives = [life("a", 2, 0, 2000), life("b", 2, 2010, END, run=2)]
    assert kinds(verdict(lives, [step(1900, 2050, 2060)])) == ["epoch"]


def test_a_run_that_begins_twice() -> None:
    lives = [life("a", 2, 0, 2000), life("a", 2, 2010, END)]
    assert kinds(verdict(lives, [step(1900, 2050, 2060)])) == ["epoch"]


def test_a_run_without_an_epoch() -> None:
    assert "epoch" in kinds(verdict([life("a", 0, 0, END)], [step(1900, 2050, 2060)]))


# -- strays, runs, the unknown ---------------------------------------------------------------------


def test_what_is_left_of_an_earlier_term_on_the_same_host() -> None:
    left = life("a", 2, 10, 4000, kind=Kind.DAEMON, ended=False)
    lives = [life("a", 2, 0, 2000), left, life("a", 4, 2100, END)]
    assert kinds(verdict(lives, [step(1900, 2050, 2110)])) == ["stray"]


def test_a_daemon_of_the_same_term_is_part_of_the_command() -> None:
    left = life("a", 2, 10, END, kind=Kind.DAEMON, ended=False)
    lives = [life("a", 2, 0, 2000), left, life("a", 2, 2100, END, run=2)]
    assert not verdict(lives, [step(1900, 2050, 2110)]).findings


def test_a_daemon_alone_is_no_service() -> None:
    left = life("a", 2, 10, END, kind=Kind.DAEMON, ended=False)
    assert kinds(verdict([life("a", 2, 0, 2000), left], [step(1900, 2050, 2060)])) == ["gap"]


def test_two_runs_of_one_host_at_once() -> None:
    lives = [life("a", 2, 0, 3000), life("a", 2, 2100, END, run=2)]
    assert kinds(verdict(lives, [step(1900, 2050, 2110)])) == ["stray"]


def test_what_was_found_after_the_end() -> None:
    result = verdict([life("a", 2, 0, END)], [step(1, 2, 3)], strays=["a left 17"])
    assert kinds(result) == ["stray"]


def test_a_run_that_is_killed_while_nothing_is_touched() -> None:
    lives = [life("a", 2, 0, 5000, ended=False), life("a", 2, 5010, END, run=2)]
    assert kinds(verdict(lives, [step(1000, 1100, 1200)])) == ["lost run"]
    assert not verdict(lives, [step(4990, 5100, 5200)]).findings
    assert not verdict(lives, [step(1000, 1100, 1200)], stalls=[(4998, 5005)]).findings


def test_what_is_not_known_is_no_pass() -> None:
    good = [life("a", 2, 0, END)]
    assert not verdict(good, [step(1, 2, 3)]).findings
    assert kinds(verdict(good, [step(1, 2, 0)])) == ["unknown"]
    assert kinds(verdict(good, [step(1, 2, 3)], flaws=["a record is missing"])) == ["unknown"]
    assert "unknown" in kinds(verdict([], [step(1, 2, 3)]))
    often = tuple((100 * n, 100 * n + 30) for n in range(MAX_HOLES))
    assert kinds(verdict([life("a", 2, 0, END, holes=often)], [step(1, 2, 3)])) == ["unknown"]
