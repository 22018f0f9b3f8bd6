"""Pretraining: random weights in, a backbone that any run can start from out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Dinov2Model

from ray_jobs.__main__ import main
from retrieval_core.config.sections import ModelConfig
from retrieval_core.model.weights import load_model
from tests.jobs.small_data import as_options, settings

KEYS: dict[str, Any] = {
    "model__init": "random",
    "train__enabled": True,
    "train__num_workers": 0,
    "train__trainable_blocks": "all",
    "train__batch_size": 4,
    "train__max_steps": 3,
    "train__select": "last",
    "train__learning_rate": 1e-3,
    "train__crop_start": 0.5,
    "simulate__train_motifs": 6,
    "simulate__val_motifs": 2,
    "simulate__test_motifs": 2,
    "simulate__train_fabrics": 8,
    "simulate__val_fabrics": 4,
    "simulate__test_fabrics": 4,
    "simulate__fabric_size": 64,
    "simulate__query_size": 32,
}


def test_a_backbone_is_taught_and_left_for_others(
    ray_cluster: None, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = as_options(settings(tmp_path / "data", weights, tmp_path / "out", **KEYS))
    assert main(["pretrain", *options]) == 0
    folder = tmp_path / "out" / "trial" / "backbone"
    card = (folder / "README.md").read_text()
    assert "3 steps, about 24 images of 28 px" in card and "6 motifs, 8 fabrics" in card
    tensors = load_file(folder / "model.safetensors")
    assert all(name.startswith("dinov2.") for name in tensors)
    assert "projection_head" not in json.loads((folder / "config.json").read_text())

    keys: dict[str, Any] = {"image_size": 28, "pooling": "cls"}
    start = load_model(ModelConfig(weights=str(weights), init="random", **keys), 0, with_head=False)
    taught = load_model(ModelConfig(weights=str(folder), **keys), 0, with_head=False)
    moved = {
        name
        for (name, before), after in zip(start.named_parameters(), taught.parameters(), strict=True)
        if not torch.equal(before, after)
    }
    still = {name for name, _ in start.named_parameters()} - moved
    assert all("mask_token" in name for name in still)
    plain = Dinov2Model.from_pretrained(folder)
    pixels = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = plain(pixel_values=pixels).last_hidden_state[:, 0]
        torch.testing.assert_close(taught.dinov2(pixel_values=pixels).last_hidden_state[:, 0], expected)

    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert main(["pretrain", *options]) == 0
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_pretraining_from_weights_is_refused(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = {**KEYS, "model__init": "pretrained"}
    assert main(["pretrain", *as_options(settings(tmp_path / "data", weights, tmp_path / "out", **keys))]) == 2
    assert "model.init=random" in capsys.readouterr().err
