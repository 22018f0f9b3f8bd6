"""Imports go one way: from wing to wing downwards, and from `ray_jobs` to `retrieval_core`, which knows no Ray."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import retrieval_core

PACKAGE = Path(retrieval_core.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
PROJECT = [*MODULES, *sorted((ROOT / "ray_jobs").rglob("*.py"))]
FORBIDDEN = {"ray", "ray_jobs"}
FLOORS = (
    {"files", "process"},
    {"config", "store", "ranking"},
    {"images", "data", "model", "evaluation", "run", "simulation"},
    {"encoding", "report"},
    {"training", "serving"},
)
"""The wings of the core from the ground up: each imports from itself and from lower floors."""
FLOOR = {wing: number for number, wings in enumerate(FLOORS) for wing in wings}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
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


def needs(source: str, names: Iterable[str]) -> set[str]:
    """The modules among ``names`` that a module imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (members & set(names)) or {node.module}
    return found & set(names)


def upward(graph: Mapping[str, set[str]]) -> list[str]:
    """Imports of the core that lead to another wing on the same floor or above."""
    bad = []
    for importer, imports in graph.items():
        for name in imports:
            mine, other = (module.split(".")[1] for module in (importer, name))
            if mine != other and FLOOR[other] >= FLOOR[mine]:
                bad.append(f"{importer} imports {name}")
    return sorted(bad)


def graph_of(paths: Iterable[Path]) -> dict[str, set[str]]:
    sources = {module_name(path): path.read_text() for path in paths}
    return {name: needs(source, sources) - {name} for name, source in sources.items()}


def test_imports_of_the_core_lead_down() -> None:
    graph = graph_of(MODULES)
    assert {name.split(".")[1] for name in graph if "." in name} == set(FLOOR), "a wing without a floor"
    del graph["retrieval_core"]
    assert upward(graph) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    order = list(TopologicalSorter(graph_of(PROJECT)).static_order())  # raises CycleError
    assert len(order) == len(PROJECT)


def test_an_import_that_leads_up_and_a_circle_are_seen() -> None:
    names = ["retrieval_core.files.storage", "retrieval_core.report.page", "retrieval_core.data"]
    source = "def f():\n    from retrieval_core.files import storage\nimport retrieval_core.report.page\n"
    assert needs(source, names) == set(names[:2])
    assert upward({names[0]: {names[1]}, names[1]: {names[0]}}) == [f"{names[0]} imports {names[1]}"]
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


def test_importing_the_whole_core_loads_no_engine() -> None:
    script = (
        "import importlib, sys\n"
        f"for name in {[module_name(path) for path in MODULES]!r}: importlib.import_module(name)\n"
        f"sys.exit(str({FORBIDDEN!r} & set(sys.modules)) if {FORBIDDEN!r} & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_tasks_that_list_and_decode_load_no_torch() -> None:
    """It would be most of their start."""
    script = (
        "import sys, ray_jobs.embed, ray_jobs.embedding.plan_store, ray_jobs.embedding.shard_work\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0
