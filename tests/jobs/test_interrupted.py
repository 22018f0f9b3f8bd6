"""Ctrl-C and SIGTERM: their exit code, a line that says how to go on, no process left, the folder free for others."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.processes import Processes, identities, wait_until
from tests.jobs.small_data import as_options, settings, write_catalogue

KEYS: dict[str, Any] = {
    "train__enabled": True,
    "train__epochs": 500,
    "train__batch_size": 2,
    "train__checkpoint_every": 1,
    "train__num_workers": 0,
    "train__loader_threads": 1,
}
STAGES = {
    "training": (KEYS, lambda folder: any((folder / "checkpoints").glob("step-*.pt"))),
    "training-worker": (
        {**KEYS, "train__num_workers": 1},
        lambda folder: any((folder / "checkpoints").glob("step-*.pt")),
    ),
    "embedding": ({"embed__shard_size": 1}, lambda folder: len(identities(folder / "embeddings" / "gallery")) >= 3),
    "ranking": (
        {"embed__shard_size": 64, "retrieve__gallery_block": 1},
        lambda folder: len(identities(folder / "work" / "retrieval" / "frozen")) >= 3,
    ),
    "start": ({}, lambda folder: any((folder / "work" / "logs").glob("*.txt"))),
}
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
# As a terminal does, to every process of the group; or to the program, as a supervisor does, which may repeat itself.
CASES = [
    *((stage, signal.SIGINT, "group") for stage in ("training", "training-worker", "embedding")),
    *((stage, signal.SIGTERM, "program") for stage in STAGES),
    ("training-worker", signal.SIGTERM, "group"),
    ("embedding", signal.SIGTERM, "group"),
    ("embedding", signal.SIGTERM, "twice"),
    ("embedding", signal.SIGHUP, "group"),
]


@pytest.mark.cluster  # each case starts a Ray of its own
@pytest.mark.parametrize(("stage", "sent", "to"), CASES)
def test_a_signal_stops_cleanly_and_the_last_line_says_how_to_go_on(
    stage: str, sent: signal.Signals, to: str, weights: Path, tmp_path: Path
) -> None:
    keys, reached = STAGES[stage]
    root = write_catalogue(tmp_path / "data", fabrics=400, training=6)
    words = ["run", "--overwrite", *as_options(settings(root, weights, tmp_path / "out", **keys))]
    folder, log = tmp_path / "out" / "trial", tmp_path / "log"
    with Processes(log, RAY_OVERRIDE_RESOURCES='{"CPU": 2, "GPU": 0}') as processes:
        program = processes.start_program(words)
        wait_until(_ready(reached, folder), program)
        for _ in range(2 if to == "twice" else 1):
            (os.killpg if to == "group" else os.kill)(program.pid, sent)
        assert program.wait(60) == CODES[sent]
        until = time.monotonic() + 60
        while processes.alive() and time.monotonic() < until:
            time.sleep(0.1)
        assert processes.alive() == {}
    said = log.read_text()
    last = said.splitlines()[-1]
    assert last.startswith("fabric-retrieval: stopped")
    assert last.endswith(shlex.join(["fabric-retrieval", *(word for word in words if word != "--overwrite")]))
    assert "Traceback" not in said
    assert not (folder / "work" / "lease.json").exists()
    assert not (folder / "first_retrieval_results.json").exists()
    (kept,) = (folder / "work" / "logs").glob("*-run-*.txt")
    assert "KeyboardInterrupt" in kept.read_text()


def _ready(reached: Callable[[Path], bool], folder: Path) -> Callable[[], bool]:
    return lambda: reached(folder)
