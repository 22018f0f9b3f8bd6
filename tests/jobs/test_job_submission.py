"""`ray job submit` to a cluster of one node: the program travels, data and results stay where the paths say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.processes import Processes
from tests.jobs.ray_head import Head
from tests.jobs.small_data import as_options, query_paths, settings, write_catalogue

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """Without authentication: it listens on loopback only, and for this test only."""
    log = tmp_path_factory.mktemp("head") / "log"
    with Processes(log, RAY_AUTH_MODE="disabled") as processes:
        processes.environment.pop("RAY_OVERRIDE_RESOURCES", None)
        yield Head(processes)


def test_submitted_job_writes_where_the_configuration_says(head: Head, weights: Path, tmp_path: Path) -> None:
    root = write_catalogue(tmp_path / "data")
    assert head.submit("run", *as_options(settings(root, weights, tmp_path / "out"))) == 0
    pool = json.loads((tmp_path / "out" / "first_retrieval_results.json").read_text())
    assert list(pool) == query_paths(root)
    assert all(len(candidates) == 12 and Path(candidates[0]["image_path"]).exists() for candidates in pool.values())
    assert (tmp_path / "out" / "trial" / "report.html").exists()


def test_relative_output_is_refused(head: Head, weights: Path, tmp_path: Path) -> None:
    root = write_catalogue(tmp_path / "data")
    before = head.processes.log.stat().st_size
    assert head.submit("run", *as_options(settings(root, weights, Path("Output/lost")))) != 0
    said = head.processes.log.read_bytes()[before:].decode()
    assert "run.output_dir = 'Output/lost'" in said
    assert "exit code 2" in said
