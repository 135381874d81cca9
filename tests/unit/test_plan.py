"""What a member carries, and what leads from one plan to another."""

from __future__ import annotations

import dataclasses

import pytest

from ha_heartbeat.config import Address, Config, ConfigError
from ha_heartbeat.plan import MEMBER_WIDE, Plan, changes

WEB = Config(service="web", command=("serve",), state_dir="/x")
DB = Config(service="db", command=("query",), state_dir="/x")
LOG = Config(service="log", command=("tail",), state_dir="/x")


def test_services_stand_in_the_order_of_their_names() -> None:
    plan = Plan((WEB, DB))
    assert plan.services == (DB, WEB)
    assert plan == Plan((DB, WEB))
    for field in MEMBER_WIDE:
        assert getattr(plan, field) == getattr(WEB, field)


def test_what_is_no_plan() -> None:
    with pytest.raises(ConfigError, match="no service to carry"):
        Plan(())
    with pytest.raises(ConfigError, match="two services are called 'web'; rename"):
        Plan((WEB, DB, WEB))
    with pytest.raises(ConfigError, match=r"'db' and 'web' differ in local.*one value for all"):
        Plan((WEB, dataclasses.replace(DB, local=Address("m9", 1))))
    shared = [
        dataclasses.replace(config, vip=(f"192.0.2.10/{prefix}@eth0",))
        for config, prefix in ((WEB, 24), (DB, 32))
    ]
    with pytest.raises(
        ConfigError, match=r"'db' and 'web' both have the virtual address 192\.0\.2"
    ):
        Plan(tuple(shared))


def test_nothing_changes() -> None:
    same = changes(Plan((WEB, DB)), Plan((DB, WEB)))
    assert not same
    assert (same.added, same.removed, same.changed, same.restart) == ((), (), (), ())


def test_added_removed_and_changed() -> None:
    slower = dataclasses.replace(WEB, interval_test_s=20.0)
    found = changes(Plan((WEB, DB)), Plan((slower, LOG)))
    assert found
    assert (found.added, found.removed, found.changed) == ((LOG,), ("db",), (slower,))
    assert found.restart == ()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("local", Address("m3", 1), "local was localhost:22221 and is now m3:1, which a running"),
        ("remote", None, "remote was localhost:22222 and is now none, "),
        ("member", "m1", "member was localhost:22221 and is now m1, "),
        ("wait_for_serversocket_s", 5.5, "wait_for_serversocket was 300 and is now 5.5, "),
        ("journal_mib", 10.0, "journal_size was 256 and is now 10, "),
        ("journal_output_bytes", 10, "journal_output was 0 and is now 10, "),
        ("verbose", True, "verbose was false and is now true, "),
    ],
)
def test_what_needs_a_restart(field: str, value: object, sentence: str) -> None:
    """And a service that is added meanwhile goes with the member as it runs."""
    values = {field: value, **({"member": ""} if field == "local" else {})}
    other = [dataclasses.replace(config, **values) for config in (WEB, LOG)]
    found = changes(Plan((WEB,)), Plan(tuple(other)))
    (told,) = found.restart
    assert told.startswith(sentence)
    assert told.endswith("cannot change; restart it, or put the old value back")
    assert (found.added, found.removed, found.changed) == ((LOG,), (), ())
