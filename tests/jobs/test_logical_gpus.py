"""Training asks for GPUs where the cluster says it has some, and computes on the CPU where there are none in truth.

That embedding does so too is seen in ``test_odd_gallery``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ray_jobs.pipeline import run_stage
from ray_jobs.run import Run
from tests.jobs.logical_gpus import watch_gpus
from tests.jobs.small_data import config, write_catalogue


@pytest.mark.skipif(torch.cuda.is_available(), reason="the logical GPUs must not be real")
def test_two_workers_train_with_a_gpu_each(ray_cluster: None, weights: Path, tmp_path: Path) -> None:
    root = write_catalogue(tmp_path / "data", training=6)
    keys = {"train__enabled": True, "train__max_steps": 2, "train__batch_size": 4, "train__loader_threads": 1}
    run = Run(config(root, weights, tmp_path / "out", **keys))
    with watch_gpus() as seen:
        run_stage(run, "train")
    record = run.done("train")
    assert (record["workers"], record["steps"], record["device"]) == (2, 2, "cpu")
    assert max(seen) == 2.0
    assert (tmp_path / "out" / "trial" / "model" / "model.safetensors").exists()
