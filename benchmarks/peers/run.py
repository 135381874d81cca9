"""`python3 benchmarks/peers/run.py`: ha-heartbeat beside other programs that do a like job.

Installs what is missing of them, measures each cell in a process of its own (cell.py), and writes
docs/comparison.md when everything was measured. Trials that wait for seconds are made side by side,
in networks and control groups of their own; those of milliseconds one after the other, and alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from benchmarks import processes, report
from benchmarks.groups import GroupError
from benchmarks.hosts import Hosts
from benchmarks.network import Namespaces, NetworkError
from benchmarks.peers import comparison
from benchmarks.peers.catalog import MEASURES, PROGRAMS, is_slow, settings_of
from benchmarks.peers.comparison import Key, Told
from benchmarks.peers.install import InstallError, install
from benchmarks.peers.peer import Settings

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CELL = os.path.join(ROOT, "benchmarks", "peers", "cell.py")
DOCUMENT = os.path.join(ROOT, "docs", "comparison.md")
LOOK_S = 0.05
CALM_S = 3.0
"""Who waits so long for a word of its peer is not troubled by a dozen others on the machine."""
TRIALS = 20
SLOW_TRIALS = 10
COLD_TRIALS = 6
"""Each of these brings up all three hosts anew."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Measure ha-heartbeat and other programs under the same faults."
    )
    parser.add_argument(
        "-n",
        "--trials",
        type=int,
        metavar="N",
        help=f"of each cell ({TRIALS}; {SLOW_TRIALS} where one takes seconds, "
        f"{COLD_TRIALS} cold starts)",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=PROGRAMS,
        metavar="PROGRAM",
        help=f"this program, may be repeated: {', '.join(PROGRAMS)}",
    )
    parser.add_argument(
        "--settings",
        action="append",
        metavar="KEY",
        help="these settings of it, may be repeated: defaults, fastest, ...",
    )
    parser.add_argument(
        "--measure",
        action="append",
        choices=MEASURES,
        metavar="MEASURE",
        help=f"this measure, may be repeated: {', '.join(MEASURES)}",
    )
    parser.add_argument(
        "--idle-s", type=float, default=60.0, help="length of the idle window (%(default)s)"
    )
    parser.add_argument(
        "--lanes",
        type=int,
        default=16,
        help="how many slow cells are measured side by side (%(default)s)",
    )
    parser.add_argument("--no-install", action="store_true", help="leave out what is not installed")
    parser.add_argument(
        "--raw", metavar="FILE", default="", help="write every single trial there, as JSON, in ns"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="write docs/comparison.md also when not everything was measured",
    )
    options = parser.parse_args(words)
    if (options.trials is not None and options.trials < 1) or options.lanes < 1:
        parser.error("at least one trial and one lane are needed")
    return options


def main(words: Sequence[str]) -> int:
    """Exit status 0 when every cell was measured or its program is absent, 1 when one failed."""
    options = parse(words)
    if reason := why_not():
        print(f"not measured: {reason}")
        return 0
    absent = _absent(options)
    keys = _keys(options, absent)
    if not keys:
        print("no cell has these names", *absent.values(), sep="\n", file=sys.stderr)
        return 1
    before = report.load()
    with tempfile.TemporaryDirectory(prefix="hb-peers-") as folder:
        cells = _measure(keys, options, folder)
    head = f"{report.environment(Namespaces.description)}, a control group for each host"
    load = f"load of the machine: {before} before, {report.load()} after (1, 5 and 15 minutes)"
    found = comparison.sections(cells, absent)
    print(head, "", comparison.as_text(found), "", load, sep="\n")
    if options.raw:
        with open(options.raw, "w", encoding="utf-8") as file:
            json.dump({" ".join(key): told for key, told in cells.items()}, file, indent=1)
    if options.write or not (options.only or options.settings or options.measure):
        _write("\n\n".join([head, load, comparison.as_markdown(found)]))
    failed = [key for key, told in cells.items() if "failure" in told]
    for key in failed:
        print(f"{' '.join(key)}: {cells[key]['failure']}", file=sys.stderr)
    return int(bool(failed))


def why_not() -> str:
    """Why nothing can be measured here; "" if it can."""
    try:
        with processes.uninterrupted(), tempfile.TemporaryDirectory() as folder:
            network = Namespaces()
            try:
                Hosts(network, os.path.join(folder, "logs")).close()
            finally:
                network.close()
    except (NetworkError, GroupError, OSError) as problem:
        return str(problem)
    return ""


def _absent(options: argparse.Namespace) -> dict[str, str]:
    """Why which of the wanted programs cannot be measured; installs what can be."""
    absent = {}
    for key in options.only or PROGRAMS:
        program = PROGRAMS[key]
        try:
            if not options.no_install:
                install(program.debian, program.pip)
            program.version()
        except InstallError as problem:
            absent[key] = str(problem)
        except (OSError, subprocess.CalledProcessError):
            absent[key] = "it is not installed"
    return absent


def _keys(options: argparse.Namespace, absent: dict[str, str]) -> list[Key]:
    return [
        (program.key, settings.key, measure)
        for program in PROGRAMS.values()
        if program.key in (options.only or PROGRAMS) and program.key not in absent
        for settings in program.settings
        if settings.key in (options.settings or [settings.key])
        for measure in options.measure or MEASURES
        if measure in (settings.measures or MEASURES)
    ]


def _measure(keys: Sequence[Key], options: argparse.Namespace, folder: str) -> dict[Key, Told]:
    """The slow ones side by side; the idle ones all together; then the rest, one by one."""
    idle = [key for key in keys if key[2] == "idle"]
    slow = [key for key in keys if key[2] not in ("idle", "memory") and _is_slow(key)]
    slow.sort(key=lambda key: -_settings(key).silence_s)  # the longest first
    calm = [key for key in slow if _settings(key).silence_s >= CALM_S]
    quick = [key for key in keys if key not in idle and key not in slow]
    lively = [key for key in slow if key not in calm]
    fewer = max(options.lanes // 3, 1)
    told: dict[Key, Told] = {}
    for group, lanes in ((calm, options.lanes), (lively, fewer), (idle, len(idle)), (quick, 1)):
        told |= _side_by_side(group, lanes, options, folder)
    return told


def _settings(key: Key) -> Settings:
    return settings_of(PROGRAMS[key[0]], key[1])


def _is_slow(key: Key) -> bool:
    return is_slow(PROGRAMS[key[0]], _settings(key), MEASURES[key[2]])


def _count(key: Key, wanted: int | None) -> int:
    if wanted is not None:
        return wanted
    if key[2] == "cold":
        return COLD_TRIALS
    return SLOW_TRIALS if _is_slow(key) else TRIALS


def _side_by_side(
    keys: Iterable[Key], lanes: int, options: argparse.Namespace, folder: str
) -> dict[Key, Told]:
    """Run the cells, at most so many at a time."""
    waiting = list(keys)
    running: dict[Key, subprocess.Popen[bytes]] = {}
    told: dict[Key, Told] = {}
    try:
        while waiting or running:
            while waiting and len(running) < lanes:
                key = waiting.pop(0)
                running[key] = _begin(key, options, folder)
            for key, process in list(running.items()):
                if process.poll() is not None:
                    del running[key]
                    told[key] = _told(_path(folder, key), process.returncode)
                    print(f"{' '.join(key)} done", file=sys.stderr, flush=True)
            time.sleep(LOOK_S)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    return told


def _path(folder: str, key: Key) -> str:
    return os.path.join(folder, "-".join(key))


def _begin(key: Key, options: argparse.Namespace, folder: str) -> subprocess.Popen[bytes]:
    amount = (str(_count(key, options.trials)), str(options.idle_s))
    words = (sys.executable, CELL, *key, *amount, _path(folder, key))
    with processes.uninterrupted():
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)


def _told(path: str, status: int) -> Told:
    if not os.path.exists(path):
        return {"failure": f"the cell ended with exit status {status}"}
    with open(path, encoding="utf-8") as file:
        told: Told = json.load(file)
    return told


def _write(text: str) -> None:
    with open(DOCUMENT, encoding="utf-8") as file:
        document = file.read()
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(comparison.place(document, text))


if __name__ == "__main__":
    processes.exit_with(main)
