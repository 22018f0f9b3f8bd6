"""The similarity of the second look: of the parts of a query's motif and all windows of a fabric, both in 8 bits.

The rule: the similarity of a part and a window is their cosine, in float64: the product divided by the window's
length, then by the part's. That of a part and a fabric is the largest over the fabric's windows; that of a query and a
fabric is the mean over the query's parts, added in order and rounded to float32.

The product of two 8-bit vectors is a whole number below 2^24 for up to 1,040 dimensions, which float32 sums without an
error in any order, in any arithmetic that holds 8 bits (TF32, bfloat16) and on any device. So scores are equal to the
rule's everywhere, and no margin is needed.

Shapes: Q queries, P parts of one, F fabrics, W windows of one, C queries a fabric is compared with, D dimensions.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LARGEST = 127
"""Absolute value of the largest number of an 8-bit vector."""
_EXACT = 1024
"""Dimensions whose products float32 sums without an error: 1024 * 127^2 < 2^24."""
_BYTES = 8 << 20
"""Bytes of float32 windows at a time: more than these would leave a core's cache."""


class WindowScores(NamedTuple):
    """Fabrics compared with C queries each."""

    scores: NDArray[np.float32]  # (F, C)
    cosines: NDArray[np.float32]  # (F, C, P) of each part with its best window
    windows: NDArray[np.int64]  # (F, C, P) the best window, the first of equal ones


def quantised(vectors_XD: Tensor) -> Tensor:
    """Vectors (..., D) as int8, each scaled so that its largest number becomes 127: one that is all 0 stays so."""
    largest_X1 = vectors_XD.abs().amax(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    # The quotient is at most 1, where its reciprocal could overflow.
    return (vectors_XD / largest_X1 * _LARGEST).round_().to(torch.int8)


def lengths(vectors_XD: Tensor) -> Tensor:
    """The Euclidean norms of int8 vectors, float64; 1 for one that is all 0, whose cosines are then 0."""
    return _lengths_of(_exact_parts(vectors_XD))


def window_scores(windows: list[Tensor], parts_QPD: Tensor, queries_FC: Tensor) -> WindowScores:
    """Compare F fabrics that have equally many windows, at least 1, with C queries each.

    ``windows`` of a fabric (W, D) and ``parts_QPD`` are int8 on one device, ``queries_FC`` int64 rows of the queries.
    Memory O(F C P) and a constant, and O(W (C P + D)) for the largest fabric.
    """
    count, (wide, dim) = queries_FC.shape[1], windows[0].shape
    step = max(1, _BYTES // (4 * wide * max(dim, count * parts_QPD.shape[1])))
    found = []
    for start in range(0, len(windows), step):
        windows_BWD, queries_BC = torch.stack(windows[start : start + step]), queries_FC[start : start + step]
        # Of the queries that are asked for only: a call is for a few of many.
        motifs, fabrics = _exact_parts(parts_QPD[queries_BC].flatten(1, 2)), _exact_parts(windows_BWD)
        products_BXW = _summed(torch.bmm(x, w.transpose(1, 2)) for x, w in zip(motifs, fabrics, strict=True))
        best_BX, places_BX = products_BXW.div_(_lengths_of(fabrics)[:, None]).max(dim=2)
        found.append(((best_BX / _lengths_of(motifs)).view(*queries_BC.shape, -1), places_BX))
    cosines_FCP = torch.cat([cosines for cosines, _ in found])
    places_FCP = torch.cat([places for _, places in found]).view(cosines_FCP.shape)
    total_FC = torch.zeros(cosines_FCP.shape[:2], dtype=torch.float64, device=cosines_FCP.device)
    for part in range(cosines_FCP.shape[2]):  # in order, as the sum of floating-point numbers depends on it
        total_FC += cosines_FCP[:, :, part]
    scores_FC = (total_FC / cosines_FCP.shape[2]).to(torch.float32)
    return WindowScores(scores_FC.cpu().numpy(), cosines_FCP.to(torch.float32).cpu().numpy(), places_FCP.cpu().numpy())


def _exact_parts(vectors_XD: Tensor) -> list[Tensor]:
    """The numbers of int8 vectors as float32, as many together as their products may be summed in float32."""
    return [part.to(torch.float32) for part in torch.split(vectors_XD, _EXACT, dim=-1)]


def _summed(parts: Iterable[Tensor]) -> Tensor:
    return functools.reduce(torch.add, (part.to(torch.float64) for part in parts))


def _lengths_of(parts: Iterable[Tensor]) -> Tensor:
    """The lengths of vectors in ``_exact_parts``."""
    squares_X = _summed(map(_squares, parts))
    # By NumPy: the root of PyTorch on a CPU may differ in the last bit.
    return torch.from_numpy(np.maximum(np.sqrt(squares_X.cpu().numpy()), 1)).to(squares_X.device)


def _squares(vectors_XD: Tensor) -> Tensor:
    if not vectors_XD.is_cpu:
        return vectors_XD.square().sum(dim=-1)
    numbers_XD = vectors_XD.numpy()  # NumPy reads them once, PyTorch writes the squares in between
    return torch.from_numpy(np.asarray(np.einsum("...d,...d->...", numbers_XD, numbers_XD)))
