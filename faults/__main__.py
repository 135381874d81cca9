"""python -m faults: a campaign against two real members."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections.abc import Sequence

from benchmarks import report
from faults import abilities
from faults.campaign import FAULTS, Campaign, Plan, folders
from faults.chapters import MODES, STARTS_S, Judgement
from faults.quiet import Watch, watch
from faults.stage import Stage
from faults.summary import Tally

SKIPPED = 77
"""The exit status of a test that could not be made, by the custom of Automake."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    names = sorted({fault.name for fault in FAULTS} | {fault.family for fault in FAULTS})
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=200, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, help="of all that is drawn; by default another one")
    parser.add_argument("--chapter", type=int, default=1, help="begin with this one")
    parser.add_argument("--only", action="append", default=[], choices=names, metavar="FAULT")
    parser.add_argument(
        "--starts",
        type=float,
        default=STARTS_S,
        metavar="SECONDS",
        help="what the start of processes may take, on top of the bounds (%(default)s)",
    )
    parser.add_argument("--command", default="", choices=[mode[0] for mode in MODES])
    parser.add_argument("--takeover", choices=[j.value for j in Judgement])
    parser.add_argument(
        "--quiet", type=float, metavar="SECONDS", help="strike nothing, and count false takeovers"
    )
    parser.add_argument("--busy", type=int, default=0, help="with --quiet: busy processes beside")
    parser.add_argument("--interval-test", type=float, default=0.1, help="with --quiet: -t")
    parser.add_argument("--check-count", type=int, default=3, help="with --quiet")
    parser.add_argument("--markdown", metavar="FILE", help="write the summary there")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a good campaign, too")
    parser.add_argument("--list", action="store_true", help="list the faults and families")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """Run one; the exit status."""
    options = parse(words)
    if options.list:
        for fault in FAULTS:
            print(f"{fault.family:12} {fault.name}")
        return 0
    if missing := abilities.what_is_missing():
        print(f"skipped: {missing}", file=sys.stderr)
        return SKIPPED
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with folders(keep=options.keep) as (disk, memory):
        stage = Stage(disk, memory, abilities.build(memory))
        try:
            good = _watch(options, stage) if options.quiet else _strike(options, stage)
        finally:
            stage.close()
        if not good:
            print(f"FAILED. Logs: {disk}; records: {memory}", flush=True)
            raise SystemExit(1)
    return 0


def _watch(options: argparse.Namespace, stage: Stage) -> bool:
    judgement = Judgement(options.takeover or Judgement.WITNESS)
    plan = Watch(
        options.quiet, options.interval_test, options.check_count, judgement, options.busy, _say
    )
    return watch(plan, stage)


def _strike(options: argparse.Namespace, stage: Stage) -> bool:
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    judgement = Judgement(options.takeover) if options.takeover else None
    plan = Plan(
        seed=seed,
        faults=options.faults,
        only=tuple(options.only),
        judgement=judgement,
        command=options.command,
        starts_s=options.starts,
        first_chapter=options.chapter,
        say=_say,
    )
    _say(f"seed {seed}")
    began_s, before = time.monotonic(), report.load()
    campaign = Campaign(plan, stage)
    good = campaign.run()
    text = _summary(campaign.tally, stage, seed, time.monotonic() - began_s, before)
    _say("\n" + text)
    if options.markdown:
        with open(options.markdown, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    if not good:
        _say(f"again: make faults FAULTS={options.faults} SEED={seed}")
    return good


def _say(text: str) -> None:
    print(text, flush=True)


def _summary(tally: Tally, stage: Stage, seed: int, took_s: float, before: str) -> str:
    lacking = stage.lacking()
    lines = [
        f"{report.environment(stage.network.description)}; witness: "
        f"{stage.witness.description if stage.witness else 'none'}; seed {seed}, "
        f"{took_s / 60:.1f} minutes; load {before} before, {report.load()} after.",
        "",
        *(f"- {note}" for note in tally.notes()),
        *(f"- Not made here: {what}." for what in lacking),
        "",
        report.as_markdown(tally.table()),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
