"""`python3 benchmarks/run.py`: measure what a member costs and how fast it takes over.

Starts members of this checkout as real processes, each in a network namespace of its own where
that is possible (root), and removes all of it at the end. The figures come from the records that
the command keeps of its own life, not from what the members say.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks import (
    control,
    idle,
    journal,
    partition,
    partition_witness,
    processes,
    report,
    simulator,
    takeover_profile,
    takeovers,
)
from benchmarks.bench import Bench
from benchmarks.members import BenchmarkError
from benchmarks.network import make_network
from benchmarks.recorder import build_payload, describe_start_up, measure_start_up_ns
from benchmarks.report import Result, Times

Scenario = Callable[[Bench], Sequence[Result]]


def _takeover(title: str, strike: takeovers.Strike, lasting: bool) -> Scenario:
    return functools.partial(takeovers.measure, title=title, strike=strike, lasting=lasting)


SCENARIOS: dict[str, Scenario] = {
    "kill": _takeover("kill -9 of the member", takeovers.kill_member, False),
    "kill-lasting": _takeover(
        "kill -9 of the member, lasting command", takeovers.kill_member, True
    ),
    "kill-all": _takeover(
        "kill -9 of member, guardian and command", takeovers.kill_everything, True
    ),
    "stop": _takeover("SIGTERM, idle", takeovers.ask_to_stop, False),
    "stop-lasting": _takeover("SIGTERM, lasting command", takeovers.ask_to_stop_lasting, True),
    "profile": functools.partial(takeover_profile.measure, lasting=False),
    "profile-lasting": functools.partial(takeover_profile.measure, lasting=True),
    "partition": partition.measure,
    "partition-witness": partition_witness.measure,
    "switchover": control.measure,
    "journal": journal.measure,
    "idle": idle.measure,
    "simulator": simulator.measure,
}
TAKEOVERS = 100
MORE_TAKEOVERS = {"partition-witness": partition_witness.TAKEOVERS}
"""How many unless told otherwise, and where a promise has to be seen kept more often than that."""
SMOKE = {"takeovers": 3, "idle_s": 1.0, "simulated_runs": 3}


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Measure what a member costs and how it takes over."
    )
    more = ", ".join(f"{number} for {name}" for name, number in MORE_TAKEOVERS.items())
    parser.add_argument(
        "-n", "--takeovers", type=int, help=f"a scenario ({TAKEOVERS}; {more})", metavar="N"
    )
    parser.add_argument(
        "--only", action="append", choices=SCENARIOS, help="this scenario; may be repeated"
    )
    parser.add_argument(
        "--idle-s", type=float, default=60.0, help="length of the idle window (%(default)s)"
    )
    parser.add_argument(
        "--simulated-runs", type=int, default=200, help="seeds to simulate (%(default)s)"
    )
    parser.add_argument("--smoke", action="store_true", help="only see whether everything works")
    parser.add_argument(
        "--markdown", metavar="FILE", default="", help="write the tables there, too"
    )
    parser.add_argument(
        "--raw", metavar="FILE", default="", help="write every single time there, as JSON, in ns"
    )
    options = parser.parse_args(words)
    if options.smoke:
        vars(options).update(SMOKE)
    if options.takeovers is not None and options.takeovers < 1:
        parser.error("at least one takeover is needed")
    return options


def main(words: Sequence[str]) -> int:
    """Exit status 0 when all scenarios were measured or cannot be here, 1 when one failed."""
    options = parse(words)
    shared_memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with (
        tempfile.TemporaryDirectory(prefix="hb-bench-") as disk,
        tempfile.TemporaryDirectory(prefix="hb-bench-", dir=shared_memory) as memory,
    ):
        network = None
        try:
            with processes.uninterrupted():
                network = make_network()
            amount = (options.takeovers or TAKEOVERS, options.idle_s, options.simulated_runs)
            bench = Bench(network, build_payload(disk), disk, memory, *amount)
            names = options.only or list(SCENARIOS)
            more = {} if options.takeovers else MORE_TAKEOVERS
            return _measure(bench, names, more, options.markdown, options.raw)
        finally:
            if network is not None:
                with processes.uninterrupted():
                    network.close()


def _measure(
    bench: Bench, names: Sequence[str], more: Mapping[str, int], markdown: str, raw: str
) -> int:
    """Measure the scenarios of these names, print what came of it, and go on after a failure."""
    start_up_ns = measure_start_up_ns(bench.payload, os.path.join(bench.memory, "start-up"))
    head = (
        report.environment(bench.network.description),
        f"command: {describe_start_up(bench.payload, start_up_ns)}",
    )
    print(*head, "", sep="\n", flush=True)
    results: list[Result] = []
    before = report.load()
    failed = False
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            takeovers_wanted = more.get(name, bench.takeovers)
            results += SCENARIOS[name](bench._replace(takeovers=takeovers_wanted))
        except BenchmarkError as error:
            failed = True
            print(f"{name}: {error}", file=sys.stderr)
            results.append(report.Absent(name, str(error).splitlines()[0]))
    load = f"load of the machine: {before} before, {report.load()} after (1, 5 and 15 minutes)"
    tables = report.tables(results)
    print("\n\n".join([*map(report.as_text, tables), load]))
    if markdown:
        _write(markdown, "\n\n".join([*head, load, *map(report.as_markdown, tables)]))
    if raw:
        times = [result for result in results if isinstance(result, Times)]
        _write(raw, json.dumps({result.title: result.took_ns for result in times}, indent=1))
    return int(failed)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n")


if __name__ == "__main__":
    processes.exit_with(main)
