"""The recipe for PostgreSQL, against a server of its own: who is over is refused by SQL."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.member.rig import Rig, wait_for
from tests.recipes.recipe import code, command

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))

pytestmark = [
    pytest.mark.skipif(
        not SERVERS or shutil.which("psql") is None,
        reason="PostgreSQL is not installed (Debian package postgresql)",
    ),
    pytest.mark.skipif(sys.platform == "win32", reason="the recipe is a shell script"),
]


class Database:
    """A server on a socket in a folder of its own, as a user who is not root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.as_user: dict[str, object] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self.as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def start(self) -> None:
        how = ("-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        self._run("initdb", "-D", "data", "-U", "ha", *how)
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off -c shared_buffers=16MB"
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "stop")

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [str(SERVERS[-1] / program), *words],
            cwd=self.folder,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=120,
            **self.as_user,  # type: ignore[call-overload]
        )

    def psql(self, sql: str) -> str:
        return subprocess.run(
            ["psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", *self.where],
            input=sql,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout.strip()

    @property
    def where(self) -> list[str]:
        return ["-h", str(self.folder), "-U", "ha", "-d", "postgres"]


@pytest.fixture
def database() -> Iterator[Database]:
    folder = Path(tempfile.mkdtemp(prefix="ha-pg-"))  # a socket's path may not be long
    made = Database(folder)
    try:
        made.start()
        try:
            made.psql(code("postgresql", "sql", "CREATE FUNCTION"))
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder)


def rollup(place: Path) -> Path:
    """The recipe's script, with its SQL."""
    (place / "rollup.sql").write_text(code("postgresql", "sql", "SELECT fence"))
    made = place / "rollup"
    made.write_text(code("postgresql", "sh", "psql").replace("/etc", str(place)))
    made.chmod(0o755)
    return made


def run_as(script: Path, epoch: int, where: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(script), *where],
        env={**os.environ, "HA_HEARTBEAT_SERVICE": "rollup", "HA_HEARTBEAT_EPOCH": str(epoch)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_who_is_over_is_refused(rig: Rig, database: Database) -> None:
    options, words = command("postgresql", "rollup")
    assert words[0] == "rollup"
    script = rollup(rig.place)
    members = [
        rig.member(n, *options, "-i", "0.2", command=(str(script), *database.where)) for n in (1, 2)
    ]

    def epochs() -> set[int]:
        return {int(line) for line in database.psql("SELECT epoch FROM hits_counted").split()}

    wait_for(epochs, "a run")
    (first,) = epochs()
    worker, other = members if members[0].is_worker else members[::-1]
    wait_for(lambda: other.is_supervisor, "the supervisor")
    worker.kill()
    wait_for(lambda: max(epochs()) > first, "the other's run")
    # What the dead worker may have had on its way arrives now.
    database.psql("INSERT INTO hits DEFAULT VALUES")
    before = database.psql("SELECT count(*) FROM hits_counted WHERE epoch <= " + str(first))
    late = run_as(script, first, database.where)
    assert late.returncode == 3
    assert f"epoch {first} of rollup is over" in late.stderr
    after = database.psql("SELECT count(*) FROM hits_counted WHERE epoch <= " + str(first))
    assert after == before
    wait_for(lambda: database.psql("SELECT sum(number) FROM hits_counted") == "1", "the hit")


def test_a_later_worker_waits_for_an_open_transaction(rig: Rig, database: Database) -> None:
    script = rollup(rig.place)
    with subprocess.Popen(
        ["psql", "-X", "-q", *database.where], stdin=subprocess.PIPE, text=True
    ) as early:
        assert early.stdin is not None
        early.stdin.write("BEGIN; SELECT fence('rollup', 2) \\g /dev/null\n")
        early.stdin.write("INSERT INTO hits_counted VALUES (2, 7);\n")
        early.stdin.flush()
        locks = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        inside = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
        wait_for(lambda: database.psql(inside) == "1", "the early one to have its lock")
        with subprocess.Popen(
            [str(script), *database.where],
            env={**os.environ, "HA_HEARTBEAT_SERVICE": "rollup", "HA_HEARTBEAT_EPOCH": "3"},
        ) as later:
            wait_for(lambda: database.psql(locks) != "0", "the later one to wait")
            early.stdin.write("COMMIT;\n")
            early.stdin.close()
            assert later.wait(60) == 0
        assert early.wait(60) == 0
    assert database.psql("SELECT epoch FROM hits_counted ORDER BY epoch").split() == ["2", "3"]
    assert run_as(script, 2, database.where).returncode == 3
