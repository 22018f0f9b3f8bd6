"""Tiny DINOv2 weights for tests, as transformers and the published training write them."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.models.dinov2.modeling_dinov2 import Dinov2Config, Dinov2Model
from transformers.models.dinov2_with_registers.modeling_dinov2_with_registers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
)

from retrieval_core.config.sections import ModelConfig
from retrieval_core.model.weights import WeightsError, load_model

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14, "image_size": 28}
LAST = "encoder.layer.1.attention.output.dense.bias"


def transformers_model(registers=False, swiglu=False):
    """A backbone without a parameter of zero or one, so that a test notices a swapped or lost tensor."""
    family, settings = (
        (Dinov2WithRegistersModel, Dinov2WithRegistersConfig) if registers else (Dinov2Model, Dinov2Config)
    )
    model = family(settings(**TINY, use_swiglu_ffn=swiglu)).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + 0.1)
    return model


def config(folder, **keys):
    return ModelConfig(**({"weights": str(folder), "pooling": "cls", "image_size": 28, "embedding_dim": 8} | keys))


def images(count=3, side=28):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def cls_tokens(model, pixels):
    return model(pixel_values=pixels).last_hidden_state[:, 0]


def tensors_of(folder):
    return load_file(folder / "model.safetensors")


def rewrite(folder, tensors):
    save_file(tensors, folder / "model.safetensors")


def refusal(found, **keys):
    """The message with which ``load_model`` refuses weights; one line."""
    with pytest.raises(WeightsError) as error:
        load_model(config(found, **keys), 0, with_head=False)
    assert "\n" not in str(error.value)
    return str(error.value)


def same_bits(one, other):
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class PublishedExtractor(nn.Module):
    """The published network, written as its own training code does."""

    def __init__(self, backbone):
        super().__init__()
        self.dinov2 = backbone
        self.projection_head = nn.Sequential(nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 8))

    def forward(self, pixels):
        projected = self.projection_head(self.dinov2(pixel_values=pixels).last_hidden_state[:, 0, :])
        return nn.functional.normalize(projected, p=2, dim=1)


def in_published_names(state):
    swaps = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value"}
    renamed = {}
    for name, tensor in state.items():
        published = name
        for new, old in (swaps | {"o_proj": "output.dense"}).items():
            published = published.replace(f"attention.{new}", f"attention.{old}")
        renamed[published] = tensor
    return renamed


def save_published(path, network, prefix="", **changes):
    """A dict as the published training saves every fifth epoch, optimiser and scheduler included."""
    optimiser = torch.optim.AdamW(network.projection_head.parameters(), lr=1e-5, weight_decay=1e-4)
    network(images()).sum().backward()
    optimiser.step()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=80, eta_min=1e-7)
    state = {prefix + name: tensor for name, tensor in in_published_names(network.state_dict()).items()}
    content = {
        "epoch": 100,
        "feature_extractor_state_dict": state,
        "optimizer_state_dict": optimiser.state_dict(),
        "scheduler_state_dict": scheduler.state_dict(),
        "loss": 0.19,
    }
    torch.save(content | changes, path)
