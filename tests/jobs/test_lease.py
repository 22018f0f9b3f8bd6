"""One run at a time in one folder: the second says who holds it; who is dead holds nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ray_jobs.__main__ import main
from retrieval_core.run.lease import LOOK_SECONDS, Lease
from tests.jobs.processes import Processes, identities, wait_until
from tests.jobs.small_data import as_options, settings, write_catalogue

HOLDER = """
import sys
from retrieval_core.run.lease import Lease
with Lease(sys.argv[1]):
    print("held", flush=True)
    input()
"""


@pytest.fixture
def command(weights: Path, tmp_path: Path) -> list[str]:
    """A stage that ends at once, because those before it have not been done."""
    return ["retrieve", *as_options(settings(write_catalogue(tmp_path / "data"), weights, tmp_path / "out"))]


@pytest.fixture
def lease(tmp_path: Path) -> Path:
    return tmp_path / "out" / "trial" / "work" / "lease.json"


def test_second_run_says_who_holds_the_folder(
    command: list[str], lease: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Lease(str(lease)):
        assert main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"process {os.getpid()} on" in line
    assert "run.name" in line
    assert not lease.exists()


@pytest.mark.parametrize("ended", ["killed", "number used again"])
def test_lease_of_a_dead_process_is_taken_over(
    command: list[str], lease: Path, ended: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, lease], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert main(command) == 1
        assert f"process {holder.pid} on" in capsys.readouterr().err
        holder.kill()
    if ended == "number used again":
        # Another process, started at another time, has the number now: this one.
        lease.write_text(json.dumps({**json.loads(lease.read_text()), "pid": os.getpid()}))
    assert main(command) == 1
    message = capsys.readouterr().err
    assert "is running" not in message
    assert "embed.gallery has not been done" in message
    assert not lease.exists()


KEYS: dict[str, Any] = {
    "train__enabled": True,
    "train__epochs": 500,
    "train__batch_size": 2,
    "train__checkpoint_every": 1,
    "train__num_workers": 0,
    "train__loader_threads": 1,
}
STAGES = {
    "training": (KEYS, "checkpoints/step-*.pt"),
    "training-worker": ({**KEYS, "train__num_workers": 1}, "checkpoints/step-*.pt"),
    "embedding": ({"embed__shard_size": 1}, "embeddings/gallery/*.parquet"),
}


@pytest.mark.cluster  # each case starts a Ray of its own
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_lost_its_folder_ends_and_writes_nothing_more(stage: str, weights: Path, tmp_path: Path) -> None:
    """Another host took it over while this one's driver stood still; its workers went on until they looked."""
    keys, written = STAGES[stage]
    root = write_catalogue(tmp_path / "data", fabrics=400, training=6)
    words = ["run", *as_options(settings(root, weights, tmp_path / "out", **keys))]
    folder, log = tmp_path / "out" / "trial", tmp_path / "log"
    lease = folder / "work" / "lease.json"
    with Processes(log, RAY_OVERRIDE_RESOURCES='{"CPU": 2, "GPU": 0}') as processes:
        program = processes.start_program(words)
        wait_until(lambda: len(list(folder.glob(written))) >= 2, program)
        program.send_signal(signal.SIGSTOP)
        other = {**json.loads(lease.read_text()), "token": "other", "host": "far", "pid": 7}
        lease.write_text(json.dumps(other))
        time.sleep(2 * LOOK_SECONDS)
        before = identities(folder, written)
        program.send_signal(signal.SIGCONT)
        assert program.wait(60) == 1
        assert identities(folder, written) == before
        until = time.monotonic() + 30
        while processes.alive() and time.monotonic() < until:
            time.sleep(0.1)
        assert processes.alive() == {}
    assert json.loads(lease.read_text()) == other
    lines = [line for line in log.read_text().splitlines() if line.startswith("fabric-retrieval: ")]
    assert lines[0].startswith(
        f"fabric-retrieval: {lease}: process 7 on far took this folder over; this run has stopped"
    )
    assert "Traceback" not in log.read_text()
    assert not (folder / "first_retrieval_results.json").exists()
