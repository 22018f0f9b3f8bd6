"""A node that does not see what the others see is found before anything is computed, and named."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.nodes import Cluster
from tests.jobs.small_data import as_options, settings, write_catalogue

pytestmark = pytest.mark.cluster
MAY_UNSHARE = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("probe")


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[Cluster]:
    with Cluster(place / "log", nodes=1, cpus=1) as found:
        yield found


def said(cluster: Cluster, code: int, *words: str) -> str:
    """What a command prints that must end with this code."""
    before = cluster.log.stat().st_size
    assert cluster.driver(words).wait(timeout=300) == code
    return cluster.log.read_bytes()[before:].decode(errors="replace")


def test_shared_paths_are_found_in_order(cluster: Cluster, weights: Path, place: Path) -> None:
    root = write_catalogue(place / "data")
    assert "check: ready to run" in said(cluster, 0, "check", *as_options(settings(root, weights, place / "out")))
    assert not (place / "out").exists()


@pytest.mark.skipif(not MAY_UNSHARE, reason="may not mount a file system of a node's own")
@pytest.mark.parametrize(("hidden", "command"), [("out", "check"), ("data", "run")])
def test_what_one_node_has_for_itself(cluster: Cluster, weights: Path, place: Path, hidden: str, command: str) -> None:
    root = write_catalogue(place / "data")
    out = place / "out"
    out.mkdir(exist_ok=True)
    mount = f'mount -t tmpfs tmpfs "{place / hidden}" && exec "$@"'
    cluster.add(prefix=["unshare", "--mount", "sh", "-c", mount, "sh"])
    text = said(cluster, 1, command, *as_options(settings(root, weights, out)))
    cluster.kill(cluster.nodes[-1])
    key = {"out": "run.output_dir: ", "data": f"data.root = {root}: "}[hidden]
    lines = [line for line in text.splitlines() if key in line]
    assert len(lines) == 1, text
    assert "node 127.0.0.1 (" in lines[0]
    assert str(place / hidden) in lines[0]
    assert "name a folder that all nodes share, or a URL" in lines[0]
    assert not list(out.rglob("*probe*"))
    assert not (out / "trial" / "embeddings").exists()
