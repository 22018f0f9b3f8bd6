"""Where a model runs, and in which number type."""

from __future__ import annotations

import pytest
import torch

from retrieval_core.model.devices import pick_device, resolve_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_precision_is_the_one_that_is_named_and_float32_on_a_cpu_by_default():
    assert resolve_precision("auto", CPU) == torch.float32
    assert resolve_precision("bfloat16", CPU) == torch.bfloat16
    assert resolve_precision("float32", CUDA) == torch.float32
    with pytest.raises(ValueError, match="'half'"):
        resolve_precision("half", CPU)


@pytest.mark.parametrize("able", [True, False])
def test_auto_precision_asks_the_device(monkeypatch, able):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: able)
    assert resolve_precision("auto", CUDA) == (torch.bfloat16 if able else torch.float32)


@pytest.mark.parametrize("there", [True, False])
def test_the_device_is_cuda_when_there_is_one(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert pick_device().type == ("cuda" if there else "cpu")
