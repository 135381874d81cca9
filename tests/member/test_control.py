"""An operator at work on two real members: hbctl from a checkout, over their control sockets."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.member.rig import ROOT, Member, Rig, paused, wait_for

pytestmark = pytest.mark.side_by_side

Told = dict[str, Any]


def number_of(member: Member) -> int:
    return int(member.name[1:])


def command(rig: Rig, member: Member | None, *words: str) -> list[str]:
    which = ("--local", rig.address(number_of(member))) if member else ()
    where = ("--state-dir", str(rig.place / "state"))
    return [sys.executable, str(ROOT / "hbctl"), *words, *where, *which]


def hbctl(rig: Rig, member: Member | None, *words: str) -> subprocess.CompletedProcess[str]:
    """What hbctl says and returns, asked for one member or for all of this machine."""
    return subprocess.run(
        command(rig, member, *words),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def status(rig: Rig, member: Member) -> Told:
    told = json.loads(hbctl(rig, member, "status", "--json").stdout)
    (one,) = told["members"]
    assert isinstance(one, dict)
    return one


def entries(rig: Rig, member: Member, *words: str) -> list[Told]:
    told = json.loads(hbctl(rig, member, "history", "--json", "-n", "1000", *words).stdout)
    found = told["entries"]
    assert isinstance(found, list)
    return found


def control_socket(rig: Rig, member: Member) -> Path:
    """The path of a member's control socket."""
    host, port = rig.address(number_of(member)).split(":")
    return rig.place / "state" / f"default@{host}_{port}" / "control.sock"


def test_status_from_either_machine(rig: Rig) -> None:
    worker, other = rig.pair()
    here, there = status(rig, worker), status(rig, other)
    assert (here["role"], here["peer"]["role"]) == ("worker", "supervisor")
    assert (there["role"], there["peer"]["role"]) == ("supervisor", "worker")
    assert here["epoch"] == there["epoch"] == rig.runs()[-1].epoch
    # Whichever was up first, the other may not have been yet.
    assert here["change"]["evidence"] in ("voted", "refused")
    assert here["change"]["text"].endswith(f"Becoming worker, epoch {here['epoch']}.")
    table = hbctl(rig, None, "status")
    assert table.returncode == 0
    assert f"{worker.name} worker" in table.stdout
    assert f"{other.name} supervisor" in table.stdout
    assert "\x1b" not in table.stdout, "a pipe gets no colours"


def test_status_when_the_peer_is_dead_and_when_all_are(rig: Rig) -> None:
    worker, other = rig.pair()
    run = rig.runs()[-1]
    wait_for(lambda: status(rig, other)["peer_last_run"], "the peer's run to be known")
    worker.kill()
    rig.works(other)
    told = hbctl(rig, other, "status")
    assert told.returncode == 0
    assert "not heard" in told.stdout
    assert f"{other.name} worker" in told.stdout
    before = [e["run"] for e in entries(rig, other, "--member", worker.name, "--runs")]
    assert before == [f"{run.epoch}.1"], "what the dead one ran is known here"
    other.stop()
    nobody = hbctl(rig, other, "status")
    assert nobody.returncode == 3
    assert f"{other.name} not running" in nobody.stdout
    assert entries(rig, other, "--runs")[-1]["member"] == other.name


def test_switchover_from_the_worker_and_from_the_supervisor(rig: Rig) -> None:
    m1, m2 = rig.pair("--stop-timeout", "5")
    for asked in (m1, m1):
        before = rig.runs()[-1].epoch
        source, target = (m1, m2) if m1.is_worker else (m2, m1)
        done = hbctl(rig, asked, "switchover", "--to", target.name)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{target.name} is worker, epoch" in done.stdout
        rig.works(target)
        assert source.is_supervisor
        assert rig.runs()[-1].epoch > before
    assert rig.gap() >= 0
    refused = hbctl(rig, m1, "switchover", "--to", m1.name if m1.is_worker else m2.name)
    assert refused.returncode == 1
    assert "is worker already" in refused.stderr


def test_a_switchover_that_cannot_be_done_is_refused_or_undone(rig: Rig) -> None:
    worker, other = rig.pair("--stop-timeout", "60", "--takeover", "proof")
    order = subprocess.Popen(
        command(rig, worker, "switchover"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: worker.role == "handing-over", "the hand-over to begin")
    with paused(other.pid):
        out, err = order.communicate(timeout=60)
        assert order.returncode == 1
        assert "handing over" in out
        assert "undone" in err
        rig.works(worker)
        alone = hbctl(rig, worker, "switchover")
        assert alone.returncode == 1
    assert len(rig.runs()) == 1, "the run that was waited for has gone on"


def test_a_pause_is_of_both_and_outlives_a_restart(rig: Rig) -> None:
    worker, other = rig.pair(command=rig.work(0.05))
    done = hbctl(rig, other, "pause", "--reason", "the switch is swapped")
    assert done.returncode == 0
    assert f"{worker.name} knows it, too" in done.stdout
    count = len(entries(rig, worker, "--runs"))
    for member in (worker, other):
        assert status(rig, member)["paused"]["reason"] == "the switch is swapped"
        assert "paused by" in hbctl(rig, member, "status").stdout
    assert hbctl(rig, worker, "run", "now").returncode == 1
    assert hbctl(rig, worker, "switchover").returncode == 1
    worker.kill()
    again = rig.member(number_of(worker), command=rig.work(0.05))
    again.hears("Still paused since an earlier life: the switch is swapped")
    wait_for(lambda: status(rig, other)["peer"]["reachable"], "the two to meet again")
    assert not other.is_worker
    assert len(entries(rig, other, "--runs")) <= count + 1, "no run in a pause"
    resumed = hbctl(rig, again, "resume")
    assert resumed.returncode == 0
    wait_for(lambda: again.is_worker or other.is_worker, "a worker after the pause")
    assert [e["kind"] for e in entries(rig, other, "--changes") if "pause" in e["kind"]] == [
        "pause"
    ] * 2


def test_run_now(rig: Rig) -> None:
    worker, other = (
        rig.member(1, "-i", "600", command="true"),
        rig.member(2, "-i", "600", command="true"),
    )
    wait_for(lambda: {worker.role, other.role} == {"worker", "supervisor"}, "the two to settle")
    worker, other = (worker, other) if worker.is_worker else (other, worker)
    wait_for(lambda: status(rig, worker)["last_run"]["ended"], "the first run to end")
    assert hbctl(rig, worker, "run", "now").returncode == 0
    runs = wait_for(lambda: entries(rig, worker, "--runs")[1:], "the second run")
    assert runs[0]["run"].endswith(".2")
    refused = hbctl(rig, other, "run", "now")
    assert refused.returncode == 1
    assert f"ask {worker.name}" in refused.stderr


def test_drill_measures_the_gap_there_and_back(rig: Rig) -> None:
    worker, other = rig.pair(command=rig.work(0.3))
    done = hbctl(rig, worker, "drill", "--stay", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    there, back = json.loads(done.stdout)["switchovers"]
    assert (there["source"], there["target"]) == (worker.name, other.name)
    assert (back["source"], back["target"]) == (other.name, worker.name)
    assert all(move["gap_s"] is not None and 0 <= move["gap_s"] < 30 for move in (there, back))
    rig.works(worker)


def test_the_last_of_the_output_is_kept_and_passed_on(rig: Rig) -> None:
    words = 'echo "said $HA_HEARTBEAT_RUN"; echo wrong >&2; exit 7'
    options = ("-i", "600", "--journal-output", "4096")
    m1, m2 = (rig.member(n, *options, command=words) for n in (1, 2))
    wait_for(lambda: {m1.role, m2.role} == {"worker", "supervisor"}, "the two to settle")
    worker, other = (m1, m2) if m1.is_worker else (m2, m1)
    (run,) = wait_for(lambda: entries(rig, other, "--failed"), "the peer's failure to be known")
    logs = hbctl(rig, other, "logs", run["run"])
    assert f"said {run['run']}" in logs.stdout
    assert "wrong" in logs.stdout
    assert "exit 7" in logs.stdout
    said = f"said {run['run']}\n"
    wait_for(lambda: said in worker.output, "what it said to go where it went before, too")
    wait_for(lambda: worker.said("^wrong$") == 1, "its complaint to go there, too")


def test_output_that_is_kept_survives_the_death_of_the_member(rig: Rig) -> None:
    """No broken pipe: the command ends as its guardian tells it to, with its last words."""
    left = rig.place / "left"
    words = (
        f"trap 'i=0; while [ $i -lt 100 ]; do echo leaving; i=$((i+1)); done; echo done > {left}; "
        f"exit 0' TERM; echo up; while :; do sleep 0.05; done"
    )
    m1 = rig.member(1, "--journal-output", "100", command=words)
    wait_for(lambda: "up" in m1.output, "the command to run")
    m1.kill()
    wait_for(lambda: left.exists() and left.read_text(), "the command to end in its own way")


def test_an_overlap_is_found(rig: Rig) -> None:
    m1 = rig.member(1, command="true")
    wait_for(lambda: m1.is_worker, "m1 to run")
    assert hbctl(rig, m1, "history", "--overlaps").returncode == 0
    state = control_socket(rig, m1).with_name("state.json")
    m1.stop()
    body = json.loads(state.read_text())
    del body["checksum"]
    overlap = {"noted": "2026-01-01", "peer": "m2", "own_epoch": 2, "peer_epoch": 3, "seconds": 4.0}
    state.write_text(json.dumps({**body, "overlaps": [overlap]}))
    found = hbctl(rig, m1, "history", "--overlaps")
    assert found.returncode == 1
    assert "m2 was worker, too" in found.stdout


def test_explain_follows_the_rules(rig: Rig) -> None:
    worker, other = rig.pair()
    told = json.loads(hbctl(rig, other, "explain", "--json").stdout)
    killed = next(loss for loss in told["here"] if "killed" in loss["if"])
    assert killed["evidence"] == "refused"
    assert killed["runs_after_s"] < 1
    cut = next(loss for loss in told["here"] if "link" in loss["if"])
    assert cut["evidence"] == "silent"
    assert 2 < cut["runs_after_s"] < 4
    text = hbctl(rig, worker, "explain").stdout
    assert f"{worker.name} goes on as worker" in text
    assert "Both run from" in text
    hbctl(rig, worker, "pause", "--reason", "nobody acts on anything now")
    assert "Both run" not in hbctl(rig, worker, "explain").stdout
    hbctl(rig, worker, "resume")
    other.kill()
    worker.hears("nobody supervises this worker until it is up again")
    assert "Both run" not in hbctl(rig, worker, "explain").stdout


def test_only_its_owner_can_open_the_socket(rig: Rig) -> None:
    m1 = rig.member(1, command="true")
    path = wait_for(lambda: control_socket(rig, m1).exists() and control_socket(rig, m1), "it")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    if os.geteuid() != 0:
        return
    # Even if somebody opens the file to all, the kernel tells who is there.
    for part in (path, *list(path.parents)[:-2]):
        part.chmod(0o777)
    code = (
        "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); "
        'sys.path; s.connect(sys.argv[1]); s.sendall(b\'{"do": "status"}\\n\'); '
        "print(len(s.recv(100)))"
    )
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert said.stdout.strip() in ("0", ""), said


def test_garbage_on_the_socket_harms_nobody(rig: Rig) -> None:
    m1 = rig.member(1)
    rig.works(m1)
    lines = [b"\n", b"nonsense\n", b'{"do": 5}\n', b'{"do": "dance"}\n', b'{"do": "pause"}\n']
    folder = os.open(control_socket(rig, m1).parent, os.O_RDONLY)
    for line in [*lines, b"x" * 20_000]:
        with socket.socket(socket.AF_UNIX) as talk:
            talk.settimeout(30)
            talk.connect(f"/proc/self/fd/{folder}/control.sock")  # the path is too long for it
            talk.sendall(line)
            answer = json.loads(talk.makefile().readline())
            assert answer["ok"] is False
            assert answer["error"]
    os.close(folder)
    assert status(rig, m1)["role"] == "worker"
