"""What Prometheus reads of a run agrees with what went in."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.jobs.processes import Processes, wait_until
from tests.jobs.ray_head import LOOPBACK, Head
from tests.jobs.small_data import as_options, fabric_path, settings, write_catalogue

pytestmark = pytest.mark.cluster

FABRICS, QUERIES = 12, 5
SAMPLE = re.compile(r"^ray_fabric_retrieval_(\w+)\{(.*)\} (\S+)$", re.MULTILINE)


def page(address: str) -> str:
    """What the exporter answers; nothing while it is not there."""
    try:
        with urlopen(address, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def figures(text: str) -> dict[tuple[str, str, str, str], float]:
    """(name, run, stage, arm) -> value."""
    found = {}
    for name, labels, value in SAMPLE.findall(text):
        tags = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        found[name, tags["run"], tags["stage"], tags["arm"]] = float(value)
    return found


def test_counts_are_those_of_the_inputs(weights: Path, tmp_path: Path) -> None:
    root = write_catalogue(tmp_path / "data", fabrics=FABRICS, queries=QUERIES)
    fabric_path(root, 3).write_bytes(b"no image")
    quick = {"RAY_metrics_report_interval_ms": "100", "RAY_AUTH_MODE": "disabled"}
    with Processes(tmp_path / "log", **LOOPBACK, **quick) as processes:
        head = Head(processes)
        options = settings(root, weights, tmp_path / "out", retrieve__gallery_block=4)
        seen: dict[tuple[str, str, str, str], float] = {}
        wait_until(lambda: page(head.metrics) != "", processes.started[0])
        words = [sys.executable, "-m", "ray_jobs", "run", *as_options(options)]
        run = processes.start(words, RAY_ADDRESS=head.state)

        def ended() -> bool:
            seen.update(figures(page(head.metrics)))
            return run.poll() is not None

        wait_until(ended, processes.started[0])
        assert run.returncode == 0
    totals = {key: value for key, value in seen.items() if key[0].endswith("_total")}
    assert totals == {
        ("images_embedded_total", "trial", "embed.gallery", "frozen"): FABRICS - 1,
        ("images_rejected_total", "trial", "embed.gallery", "frozen"): 1,
        ("images_embedded_total", "trial", "embed.queries", "frozen"): QUERIES,
        ("blocks_ranked_total", "trial", "retrieve", "frozen"): 3,
    }
    assert seen["images_per_second", "trial", "embed.gallery", "frozen"] > 0
    assert 0 < seen["actors_busy_ratio", "trial", "embed.gallery", "frozen"] <= 1
