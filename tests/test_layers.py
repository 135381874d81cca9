"""Imports point inwards, seen in the source and in a running interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ha_heartbeat"

# For each part of the package, the other parts that it may import; None stands for all.
MAY_IMPORT: dict[str, set[str] | None] = {
    "__init__": {"config", "guardian", "library", "shell"},  # by name, when asked for
    "__main__": None,
    "cli": None,
    "ctl": None,
    "config": {"core", "places"},
    "configfile": {"config", "options", "plan", "tables", "toml_lines", "tomlfile"},
    "core": set(),
    "guardian": set(),
    "install": {"cli", "config", "core", "options", "plan", "witness_server"},
    "journal": set(),
    "library": {"config", "core", "guardian", "shell"},
    "options": set(),
    "places": set(),
    "plan": {"config", "options"},
    "shell": {
        "config",
        "core",
        "guardian",
        "journal",
        "places",
        "plan",
        "vip",
        "wire",
        "witnesses",
    },
    "sim": {"core", "wire"},
    "tables": {"config", "options", "plan", "toml_lines", "tomlfile"},
    "toml_lines": set(),
    "tomlfile": {"toml_lines"},
    "vip": {"guardian"},
    "wire": {"core"},
    "witness_server": {"config", "shell", "witnesses"},
    "witnesses": set(),
}

# What a part may take that has to be installed, as an extra: these are no members.
EXTRAS = {
    "ctl": {"rich", "shtab"},
    "vip": {"pyroute2"},
    "witness_server": {"httptools", "uvloop"},
}

# What the core may take from the standard library: no clock, no chance, no input or output.
PURE = {
    "__future__",
    "abc",
    "bisect",
    "collections",
    "copy",
    "dataclasses",
    "enum",
    "functools",
    "heapq",
    "itertools",
    "math",
    "operator",
    "types",
    "typing",
}
# What must not even arrive indirectly. `os`, `time` and `sys` are missing here: the interpreter has
# `time` and `sys` loaded from its start, and before 3.12 `typing` brings `os` by way of contextlib.
IMPURE = {
    "_random",
    "_socket",
    "asyncio",
    "datetime",
    "logging",
    "pathlib",
    "random",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "uuid",
}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(module: str) -> str:
    """`core` of `ha_heartbeat.core.types`, and `__init__` of the package itself."""
    return [*module.split("."), "__init__"][1]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Every module that the file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide what is imported"
            assert node.module is not None
            found.add(node.module)
            if node.module == "ha_heartbeat":
                found |= {f"ha_heartbeat.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", sources(), ids=module_of)
def test_imports_point_inwards(path: Path) -> None:
    own = part_of(module_of(path))
    assert own in MAY_IMPORT, f"say in MAY_IMPORT what {own} may import"
    allowed = MAY_IMPORT[own]
    if allowed is None:
        return
    ours = {name for name in imports_of(path) if name.split(".")[0] == "ha_heartbeat"}
    wrong = {
        name for name in ours if part_of(name) not in allowed | {own, "__init__", "__version__"}
    }
    assert not wrong


def test_the_campaign_knows_nothing_of_the_program() -> None:
    """It starts members and reads what they print; its judge knows the records alone."""
    for path in sorted((ROOT / "faults").glob("*.py")):
        ours = {name.split(".")[0] for name in imports_of(path)}
        assert "ha_heartbeat" not in ours, path
    judge = {name for name in imports_of(ROOT / "faults" / "checker.py") if "faults" in name}
    assert judge == {"faults.history", "faults.recorder"}


@pytest.mark.parametrize("path", sources(), ids=module_of)
def test_core_and_wire_stay_with_what_they_need(path: Path) -> None:
    own, names = part_of(module_of(path)), imports_of(path)
    if own == "core":
        outside = {name.split(".")[0] for name in names} - {"ha_heartbeat"}
        assert outside <= PURE
    if own == "wire":
        core = {name for name in names if name.startswith("ha_heartbeat.core")}
        assert core <= {"ha_heartbeat.core.types"}


def test_the_witness_server_takes_one_light_module_of_the_shell() -> None:
    own = [path for path in sources() if part_of(module_of(path)) == "witness_server"]
    names = set().union(*(imports_of(path) for path in own))
    assert {name for name in names if name.startswith("ha_heartbeat.shell")} == {
        "ha_heartbeat.shell.notify"
    }
    loaded = loaded_by("import ha_heartbeat.shell.notify")
    assert {name for name in loaded if name.startswith("ha_heartbeat.")} == {
        "ha_heartbeat.shell",
        "ha_heartbeat.shell.notify",
    }


def test_nothing_but_the_standard_library_at_run_time() -> None:
    for path in sources():
        outside = {name.split(".")[0] for name in imports_of(path)} - {"ha_heartbeat"}
        extra = EXTRAS.get(part_of(module_of(path)), set())
        assert outside <= sys.stdlib_module_names | {"_winapi", "_typeshed"} | extra, path


def loaded_by(code: str) -> set[str]:
    """The modules that an interpreter without site-packages has loaded after this code."""
    result = subprocess.run(
        [
            sys.executable,
            "-S",
            "-E",
            "-c",
            f"{code}\nimport sys; print('\\n' + ' '.join(sys.modules))",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.splitlines()[-1].split())


def modules_in(part: str) -> list[str]:
    return [module_of(path) for path in sources() if part_of(module_of(path)) == part]


def test_the_core_loads_nothing_that_acts() -> None:
    # typing, enum and dataclasses bring what they need (re, ast, inspect and the like): that much
    # is no business of ours, and all of it is pure.
    allowed = loaded_by("import dataclasses, enum, typing, collections, math, bisect, heapq, copy")
    assert not allowed & IMPURE
    for module in modules_in("core"):
        loaded = loaded_by(f"import {module}")
        assert not loaded & IMPURE, module
        extra = {name.split(".")[0] for name in loaded - allowed} - {"ha_heartbeat"}
        assert extra <= PURE | {f"_{name}" for name in PURE}, module


def test_help_and_usage_errors_are_light() -> None:
    heavy = {"argparse", "asyncio", "difflib", "json", "socket", "sqlite3", "ssl", "subprocess"}
    for arguments in (["--help"], ["--version"], ["-i", "nan", "ls"]):
        loaded = loaded_by(f"from ha_heartbeat.cli import main; main({arguments!r})")
        assert not loaded & heavy
        assert not {name for name in loaded if name.startswith("ha_heartbeat.shell")}


def test_the_package_itself_is_light() -> None:
    loaded = loaded_by("import ha_heartbeat")
    assert {name for name in loaded if name.startswith("ha_heartbeat")} == {"ha_heartbeat"}
    assert not loaded & {"asyncio", "importlib.util", "logging", "threading", "typing"}
    listed = loaded_by("import ha_heartbeat; assert 'elected' in dir(ha_heartbeat)")
    assert "ha_heartbeat.library" not in listed
    used = loaded_by("import ha_heartbeat; ha_heartbeat.elected")
    assert "ha_heartbeat.library.election" in used


def test_a_status_is_light() -> None:
    """It is asked for often: nothing of the member is loaded, and no table's library in a pipe."""
    heavy = {"asyncio", "dataclasses", "rich", "ssl", "subprocess", "ha_heartbeat.config"}
    loaded = loaded_by(
        "from ha_heartbeat.ctl.main import main; main(['status', '--state-dir', '/nowhere'])"
    )
    assert not loaded & heavy
    assert not {
        name for name in loaded if name.startswith(("ha_heartbeat.shell", "ha_heartbeat.core"))
    }


def test_the_shell_can_be_imported_here() -> None:
    for module in modules_in("shell"):
        loaded_by(f"import {module}")
