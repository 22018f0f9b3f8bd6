"""Projection heads ``Linear -> GELU -> Linear``: empty, or drawn from a seed."""

from __future__ import annotations

import math

import torch
from torch import nn


def new_head(in_dim: int, out_dim: int, seed: int) -> nn.Sequential:
    """An untrained head ``Linear(in, in) -> GELU -> Linear(in, out)``: a function of its arguments only.

    Weights and biases are uniform in +-1/sqrt(fan_in), as in ``nn.Linear``. No global random state is touched.
    """
    head = empty_head(in_dim, in_dim, out_dim).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for index in (0, 2):
            layer = _linear(head, index)
            bound = 1 / math.sqrt(layer.in_features)
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
    return head


def identity_head(in_dim: int, out_dim: int, seed: int) -> nn.Sequential:
    """A head ``Linear(in, 2 in) -> GELU -> Linear(2 in, out)`` that starts as a rotation of its input.

    ``GELU(x) - GELU(-x) = x``, so with first weights ``[I; -I]`` and second weights ``[P, -P]`` the head computes
    ``P x``. With ``out >= in`` P has orthonormal columns and keeps every cosine. With ``out < in`` it is a random
    orthogonal projection, which nearly does (Johnson-Lindenstrauss). So training starts from what the backbone knows.
    """
    wide, narrow = max(in_dim, out_dim), min(in_dim, out_dim)
    generator = torch.Generator().manual_seed(seed)
    columns = torch.linalg.qr(torch.randn(wide, narrow, generator=generator, dtype=torch.float64))[0]
    projection = (columns if out_dim >= in_dim else columns.T).float()
    head = empty_head(in_dim, 2 * in_dim, out_dim).to_empty(device="cpu")
    first, second = _linear(head, 0), _linear(head, 2)
    with torch.no_grad():
        first.weight.copy_(torch.cat([torch.eye(in_dim), -torch.eye(in_dim)]))
        second.weight.copy_(torch.cat([projection, -projection], dim=1))
        for layer in (first, second):
            layer.bias.zero_()
    return head


def empty_head(in_features: int, hidden_features: int, out_features: int) -> nn.Sequential:
    """A head without storage (meta tensors), to be filled."""
    with torch.device("meta"):
        return nn.Sequential(
            nn.Linear(in_features, hidden_features), nn.GELU(), nn.Linear(hidden_features, out_features)
        )


def head_shape(head: nn.Sequential) -> tuple[int, int, int]:
    """``(in_features, hidden_features, out_features)`` of a head."""
    return _linear(head, 0).in_features, _linear(head, 0).out_features, _linear(head, 2).out_features


def _linear(head: nn.Sequential, index: int) -> nn.Linear:
    layer = head[index]
    assert isinstance(layer, nn.Linear), layer
    return layer
