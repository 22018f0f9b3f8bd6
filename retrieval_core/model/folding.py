"""Frozen transformer blocks whose weights have taken up biases and scales: the same in fewer passes over memory.

On a CPU in float32, reading and writing every activation to add a bias or multiply by a constant takes 15 % of a pass
of DINOv2 of width 192, 6 % of DINOv2 base. Here LayerScale and the layer norm's gain are part of the weights beside
them, residuals are added by the product itself, and biases behind a layer norm cost nothing:

    A layer norm's output x before its gain and bias has mean zero. With c added to each of its H values it is read by
    weights A + u 1^T as (A + u 1^T)(x + c 1) = A x + c (A 1 + H u), and u is chosen so that the last term is the bias.

Shapes: N images, T tokens of one, H hidden width, E = heads x head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieval_core.model.backbone import scores_of, values_of

_SHIFT = 1.0  # c: of the size of what it is added to, so that neither is rounded away


def fold(model: nn.Module) -> None:
    """Replace each block of a model's DINOv2 by a ``FoldedBlock``, in place; it cannot be trained any more.

    Not for bfloat16, where a normalised token's mean is too far from zero. Memory O(one block) beside the model's own.
    """
    backbone: Any = model.dinov2
    layers = backbone.encoder.layer
    for index in range(len(layers)):
        layers[index] = FoldedBlock(layers[index])


class FoldedBlock(nn.Module):
    """A block of either DINOv2 family, with an MLP or SwiGLU, in evaluation mode and with its weights of now."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        attention, mlp = block.attention, block.mlp
        self.heads, self.head_dim, self.scaling = attention.num_attention_heads, attention.head_dim, attention.scaling
        self.eps = (block.norm1.eps, block.norm2.eps)
        self.gated = hasattr(mlp, "gate_proj")
        widen, narrow = ((mlp.gate_proj, mlp.up_proj), mlp.down_proj) if self.gated else ((mlp.fc1,), mlp.fc2)
        self._activation = mlp.act_fn if self.gated else mlp.activation_fn
        self._in_place = not self.gated and mlp.config.hidden_act == "gelu"
        dtype = block.norm1.weight.dtype
        self.qkv = _buffer(_after_norm(block.norm1, (attention.q_proj, attention.k_proj, attention.v_proj)), dtype)
        self.mix = _buffer(_scaled(attention.o_proj.weight, block.layer_scale1).t(), dtype)
        self.mix_bias = _buffer(_scaled(attention.o_proj.bias, block.layer_scale1), dtype)
        self.widen = _buffer(_after_norm(block.norm2, widen), dtype)
        self.narrow = _buffer(_scaled(narrow.weight, block.layer_scale2).t(), dtype)
        self.narrow_bias = _buffer(_scaled(narrow.bias, block.layer_scale2), dtype)
        self.gain = _buffer(torch.ones_like(block.norm1.weight), dtype)
        self.shift = _buffer(torch.full_like(block.norm1.weight, _SHIFT), dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        """Overwrite tokens, (N, T, H) contiguous, by what the block makes of them, and return them.

        Memory O(N T W), W the wider of 3 E and the MLP.
        """
        images, count, width = tokens.shape
        rows = tokens.view(-1, width)
        qkv = (self._normed(rows, 0) @ self.qkv).view(images, count, 3, self.heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, scale=self.scaling)
        self._add(rows, mixed.transpose(1, 2).reshape(len(rows), -1))
        return tokens

    def cls_after(self, tokens: Tensor) -> Tensor:
        """``self(tokens)[:, :1]`` up to rounding, as ``backbone.cls_after``, with the biases in the weights.

        From tokens (N, T, H), which stay as they are, to (N, 1, H). Memory O(N (T (H + heads) + heads H)).
        """
        seen = self._normed(tokens, 0)
        of_query, of_key, of_value = self.qkv.t().view(3, self.heads, self.head_dim, -1)
        query = torch.einsum("nw,hdw->nhd", seen[:, 0], of_query) * self.scaling
        shares = scores_of(query, of_key, seen).softmax(dim=-1)
        cls = tokens[:, 0].clone()
        self._add(cls, values_of(shares, of_value, seen).flatten(1))
        return cls[:, None]

    def _normed(self, states: Tensor, which: int) -> Tensor:
        return F.layer_norm(states, states.shape[-1:], self.gain, self.shift, self.eps[which])

    def _add(self, rows: Tensor, mixed: Tensor) -> None:
        """Add what attention found (rows, E), then the MLP's result, to rows (rows, H) in place."""
        rows.addmm_(mixed, self.mix).add_(self.mix_bias)
        wide = self._normed(rows, 1) @ self.widen
        if self.gated:
            gate, up = wide.chunk(2, dim=-1)
            wide = self._activation(gate).mul_(up)
        else:  # in place it takes a third of the time: what was just made is still in the cache
            wide = torch.ops.aten.gelu_(wide) if self._in_place else self._activation(wide)
        rows.addmm_(wide, self.narrow).add_(self.narrow_bias)


def _buffer(tensor: Tensor, dtype: torch.dtype) -> nn.Buffer:
    return nn.Buffer(tensor.to(dtype).contiguous())


@torch.no_grad()
def _after_norm(norm: nn.LayerNorm, readers: Sequence[nn.Linear]) -> Tensor:
    """(H, outputs) float64: what reads a layer norm's output plus the shift, with gain and biases folded in."""
    weight = torch.cat([reader.weight.double() for reader in readers])
    bias = weight @ norm.bias.double()
    biases = [torch.zeros(len(reader.weight)) if reader.bias is None else reader.bias for reader in readers]
    bias += torch.cat([part.to(bias) for part in biases])
    weight *= norm.weight.double()
    weight += ((bias - _SHIFT * weight.sum(1)) / (_SHIFT * weight.shape[1]))[:, None]
    return weight.t()


@torch.no_grad()
def _scaled(parameter: Tensor, scale: Any) -> Tensor:
    """A weight (H, inputs) or bias (H,) with its LayerScale folded in, float64."""
    gain: Tensor = scale.lambda1.double()
    return parameter.double() * (gain[:, None] if parameter.dim() == 2 else gain)
