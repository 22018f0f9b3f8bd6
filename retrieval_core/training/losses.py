"""Losses over the whole batch, with the embeddings of all workers.

Shapes: B queries of the global batch, V vectors of a fabric, D width of embeddings, W workers. Embeddings
have L2 norm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F


def triplet_loss(positive_B: Tensor, negative_B: Tensor, margin: float) -> Tensor:
    """Mean of ``max(0, margin - cos(a, p) + cos(a, n))``, the published loss (there with a margin of 0.2).

    From the cosines of each query with a fabric that holds its motif, and with one that does not.
    """
    return F.relu(margin - positive_B + negative_B).mean()


def similarities(queries_BD: Tensor, fabrics_BVD: Tensor) -> Tensor:
    """(B, B) cosines of queries and fabrics, a fabric's being the highest of its V vectors. Memory O(B^2 V)."""
    every_BF = queries_BD @ fabrics_BVD.flatten(0, 1).T
    return every_BF.view(len(queries_BD), *fabrics_BVD.shape[:2]).amax(dim=2)


def info_nce(cosines_BB: Tensor, holds_BB: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE in which a fabric that holds the query's motif is never its negative.

    Fabric i holds the motif of query i. In row i the other fabrics compete with fabric i, in column j the other queries
    with query j, both without the pairs where ``holds_BB`` is true: fabric j holds the motif of query i as well. Its
    diagonal is ignored. ``temperature`` divides the cosines. Returns the mean of both directions. Memory O(B^2).

    Source: InfoNCE (arXiv:1807.03748, eq. 4) in the symmetric form of CLIP (arXiv:2103.00020, figure 3).
    """
    logits_BB = cosines_BB / temperature
    diagonal = torch.eye(len(logits_BB), dtype=torch.bool, device=logits_BB.device)
    logits_BB = logits_BB.masked_fill(holds_BB & ~diagonal, float("-inf"))
    target_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (F.cross_entropy(logits_BB, target_B) + F.cross_entropy(logits_BB.T, target_B)) / 2


class _GatherWithGradients(torch.autograd.Function):
    """all_gather whose backward returns the gradient of this worker's own rows, times the number of workers.

    Every worker computes the same loss from the gathered rows, so its own rows' gradient is complete without further
    communication; DistributedDataParallel then divides by W, which the factor undoes.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: tuple[int, ...], rank: int) -> Tensor:
        ctx.sizes, ctx.rank = sizes, rank
        padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        start = sum(ctx.sizes[: ctx.rank])
        own = gradients[0][start : start + ctx.sizes[ctx.rank]]
        return own * len(ctx.sizes), None, None


def gather_rows(rows: Tensor, sizes: Sequence[int], rank: int) -> Tensor:
    """The rows of all workers in rank order, (sum(sizes), ...), with gradients to the own ones.

    This worker's ``rows`` are (sizes[rank], ...). With one worker they are returned themselves.
    """
    if len(sizes) == 1:
        return rows
    gathered: Tensor = _GatherWithGradients.apply(rows, tuple(sizes), rank)  # type: ignore[no-untyped-call]
    return gathered
