"""`fabric-retrieval serve` as a shell sees it: it answers until it is stopped, or says what is wrong."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ray_jobs.__main__ import main
from ray_jobs.run import Run
from retrieval_core.config.config import load_config
from retrieval_core.encoding.arms import model_arm
from retrieval_core.files import storage
from tests.jobs.small_data import as_options, fabric_path, settings, write_catalogue
from tests.unit.serving.small_store import embed


def embedded(tmp_path: Path, weights: Path) -> list[str]:
    """Settings of a run whose gallery is embedded, without Ray."""
    root = write_catalogue(tmp_path / "data")
    values = settings(root, weights, tmp_path / "out", serve__port=0)
    run = Run(load_config(None, values))
    paths = [str(fabric_path(root, index)) for index in range(12)]
    arm = model_arm(run.main, run.model, run.config.run.seed)
    embed(run.config, paths, Path(run.store(run.main, "gallery")), arm=arm)
    storage.write_json(run.workspace.work("stages", "embed.gallery.json"), {"fingerprint": "made by hand"})
    return values


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_it_is_stopped(weights: Path, tmp_path: Path, stop: signal.Signals) -> None:
    options = as_options(embedded(tmp_path, weights))
    with subprocess.Popen(
        [sys.executable, "-m", "ray_jobs", "serve", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        address = re.search(r"http://\S+", process.stdout.readline())
        if address is None:
            process.kill()
            pytest.fail(process.stderr.read())
        image = fabric_path(tmp_path / "data", 3).read_bytes()
        answer = httpx.post(f"{address[0]}api/search", files={"image": image}, timeout=60).json()
        process.send_signal(stop)
        assert process.wait(30) == (0 if stop == signal.SIGINT else -stop)
        said = process.stderr.read()
        assert "Traceback" not in said
        assert ("fabric-retrieval: stopped by SIGTERM" in said) == (stop == signal.SIGTERM)
    assert answer["results"][0]["path"] == str(fabric_path(tmp_path / "data", 3))


def test_what_is_wrong_is_said_in_a_line(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = embedded(tmp_path, weights)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", *as_options([*values, f"serve.port={port}"])]) == 1
    assert f"serve.port = {port}" in capsys.readouterr().err
    assert main(["serve", *as_options([*values, "model.image_size=42"])]) == 1
    assert "run `fabric-retrieval embed`" in capsys.readouterr().err
    assert main(["serve", *as_options([*values, "run.name=other"])]) == 1
    assert "embed.gallery has not been done" in capsys.readouterr().err
    assert main(["serve", "--set", "serve.port=70000"]) == 2
    assert "serve.port = 70000" in capsys.readouterr().err
