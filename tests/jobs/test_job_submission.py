"""`ray job submit` to a cluster of one node: the program travels, data and results stay where the paths say."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.jobs.processes import PROJECT, Processes, free_ports, wait_until
from tests.jobs.small_data import as_options, query_paths, settings, write_catalogue

pytestmark = pytest.mark.cluster
RAY = str(Path(sys.executable).with_name("ray"))


class Head:
    """A Ray head with a job server, on ports of its own."""

    def __init__(self, processes: Processes) -> None:
        ports = free_ports(3)
        self.processes = processes
        self.address = f"http://127.0.0.1:{ports[0]}"
        options = {
            "--node-ip-address": "127.0.0.1",
            "--dashboard-port": ports[0],
            "--port": ports[1],
            "--ray-client-server-port": ports[2],
            "--num-cpus": 2,
            "--num-gpus": 0,
        }
        words = [str(word) for pair in options.items() for word in pair]
        head = processes.start([RAY, "start", "--head", "--block", "--disable-usage-stats", *words])
        wait_until(self._answers, head)

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.address}/api/jobs/", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def submit(self, *words: str) -> int:
        """Exit code of `ray job submit`, which waits for the job's end."""
        command = [sys.executable, "-m", "ray_jobs", *words]
        submit = [RAY, "job", "submit", "--address", self.address, "--working-dir", str(PROJECT), "--", *command]
        return self.processes.start(submit).wait(timeout=300)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """Without authentication: it listens on this machine only, and for this test only."""
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
