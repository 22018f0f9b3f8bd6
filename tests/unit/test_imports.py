"""Imports go one way: `ray_jobs` uses `retrieval_core`, which runs and is tested without Ray."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import retrieval_core

PACKAGE = Path(retrieval_core.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN = {"ray", "ray_jobs"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str) -> Iterator[str]:
    """Packages that a module names in an import statement, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_the_walk_sees_imports_wherever_they_stand() -> None:
    source = "import ray.data\ndef f():\n    from ray_jobs.run import Run\n    from .ray import x\n"
    assert set(imported(source)) == {"ray", "ray_jobs"}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_the_core_names_no_engine(path: Path) -> None:
    assert not set(imported(path.read_text())) & FORBIDDEN


def test_importing_the_whole_core_loads_no_engine() -> None:
    script = (
        "import importlib, sys\n"
        f"for name in {[module_name(path) for path in MODULES]!r}: importlib.import_module(name)\n"
        f"sys.exit(str({FORBIDDEN!r} & set(sys.modules)) if {FORBIDDEN!r} & set(sys.modules) else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=PACKAGE.parent, check=False
    )
    assert done.returncode == 0, done.stderr


def test_tasks_that_list_and_decode_load_no_torch() -> None:
    """It would be most of their start."""
    script = (
        "import sys, ray_jobs.embed, ray_jobs.embedding.plan_store, ray_jobs.embedding.shard_work\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=PACKAGE.parent, check=False).returncode == 0
