"""tools/to_float16.py: a model of half the size that is read like any other."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch
from safetensors.torch import load_file

from retrieval_core.model.weights import load_model, save_model
from tests.unit.tiny_weights import config, transformers_model

TOOL = Path(__file__).parents[2] / "tools" / "to_float16.py"


def test_it_is_rounded_once_and_read_back(tmp_path: Path) -> None:
    transformers_model().save_pretrained(tmp_path / "start")
    model = load_model(config(tmp_path / "start"), 0, with_head=True)
    save_model(model, str(tmp_path / "whole"))
    runpy.run_path(str(TOOL))["main"](tmp_path / "whole", tmp_path / "half")
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    read = load_model(config(tmp_path / "half"), 0, with_head=False).state_dict()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(read[name], tensor.half().float(), rtol=0, atol=0)
