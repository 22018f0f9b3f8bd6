"""A training with the activation cache ends with the model of one without, on one worker or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ray_jobs.__main__ import main
from tests.jobs.small_data import as_options, settings, write_catalogue

KEYS: dict[str, Any] = {
    "train__enabled": True,
    "train__trainable_blocks": 1,
    "train__augmentation": "none",
    "train__batch_size": 3,
    "train__epochs": 4,
    "train__select": "last",
    "train__cache_max_gb": 0.5,
}


WINDOWS: dict[str, Any] = {"model__pooling": "patches", "embed__fabric_size": 56, "embed__vectors": 3}


@pytest.mark.parametrize("more", [{}, WINDOWS], ids=["whole", "windows"])
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.cluster)])
def test_kept_activations_change_no_model(
    ray_cluster: None,
    weights: Path,
    tmp_path: Path,
    workers: int,
    more: dict[str, Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    root = write_catalogue(tmp_path / "data", training=6)

    def model(*, cached: bool) -> dict[str, torch.Tensor]:
        keys = {
            **KEYS,
            **more,
            "train__num_workers": workers,
            "train__cache_activations": cached,
            "run__name": f"is-{cached}",
        }
        assert main(["train", *as_options(settings(root, weights, tmp_path / "out", **keys))]) == 0
        return load_file(tmp_path / "out" / f"is-{cached}" / "model" / "model.safetensors")

    expected = model(cached=False)
    if not workers:
        assert "activation cache" not in capfd.readouterr().err
    found = model(cached=True)
    assert found.keys() == expected.keys()
    # Not each by itself: AdamW moves a key's bias, whose gradient is nothing but rounding, as far as any other.
    whole = [torch.cat([tensors[name].flatten() for name in sorted(tensors)]) for tensors in (found, expected)]
    assert float((whole[0] - whole[1]).norm() / whole[1].norm()) < 1e-4
    if not workers:
        lines = [line for line in capfd.readouterr().err.splitlines() if "activation cache: " in line]
        assert len(lines) == 4 and " views, " in lines[-1] and "GB of at most 0.50" in lines[-1]
