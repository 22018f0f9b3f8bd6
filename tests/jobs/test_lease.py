"""One run at a time in one folder: the second says who holds it; who is dead holds nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ray_jobs.__main__ import main
from retrieval_core.run.lease import Lease
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
