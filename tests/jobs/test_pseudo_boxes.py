"""Training that looks for the motifs first: done once, by all workers together, and kept for a resumed run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ray_jobs.__main__ import main
from tests.jobs.small_data import as_options, settings, write_catalogue

TRAINING = 6
KEYS: dict[str, Any] = {
    "train__enabled": True,
    "train__locate": True,
    "train__crop_start": 0.5,
    "train__crop_end": 0.5,
    "train__batch_size": 3,
    "train__max_steps": 2,
}


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.cluster)])
def test_motifs_are_looked_for_once(ray_cluster: None, weights: Path, tmp_path: Path, workers: int) -> None:
    root = write_catalogue(tmp_path / "data", training=TRAINING)
    keys = {**KEYS, "train__num_workers": workers}
    assert main(["train", *as_options(settings(root, weights, tmp_path / "out", **keys))]) == 0
    (file,) = (tmp_path / "out" / "trial" / "work").glob("located-*.json")
    found = json.loads(file.read_text())
    assert len(found) == TRAINING
    for boxes in found.values():
        assert all(len(box) == 4 and 0 <= box[0] < box[2] <= 32 for _, box in boxes)
    assert {name for boxes in found.values() for name, _ in boxes} == {f"train motif {n}" for n in range(3)}

    before = file.stat().st_mtime_ns
    model = tmp_path / "out" / "trial" / "model" / "model.safetensors"
    first = model.read_bytes()
    assert main(["train", "--overwrite", *as_options(settings(root, weights, tmp_path / "out", **keys))]) == 0
    assert file.stat().st_mtime_ns == before
    assert model.read_bytes() == first
