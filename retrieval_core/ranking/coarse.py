"""Which fabrics may be among the first k of a query, from 8-bit copies of their vectors: a quarter of the bytes.

A copy ``s c`` of a vector v is a scale times whole numbers, and so is that of the query u, ``a h``. Their product is a
whole number, and off by a known distance:

    |u v - a s (h c)| = |(u - a h) v + a h (v - s c)| <= |u - a h| |v| + |a h| |v - s c|

So a fabric whose score is that far below the k-th best needs no exact score. The products of the others with the query
itself, ``u s c``, are off by |u| |v - s c| only, which leaves fewer. No fabric that may be among the first is left out.

Shapes: F fabrics, R vectors of one, V = F R, D dimensions.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retrieval_core.ranking.exact_scores import selection_error

_LARGEST = 63
"""Absolute value of the largest number of a copy. Where a processor has no instruction for products of 8-bit numbers
(VNNI), oneDNN adds two of them in 16 bits, one factor raised by 128: (63 + 128) * 63 * 2 < 2^15, but not with 127."""
_TILE = 1 << 21
"""Vectors multiplied at a time, with 8 bytes for each: a call takes some milliseconds however few they are."""
_ROWS = 1 << 12
"""Fabrics whose copies are multiplied with the query itself at a time."""
_ROUNDING = 2.0**-20
"""Share of the lengths of query and vector that the rounding of a few float32 operations stays below."""


class Coarse(NamedTuple):
    """Fabrics in 8 bits, 6 bytes a fabric and 4 a vector besides; arrays in memory or mapped from a file."""

    codes_FRD: NDArray[np.int8]
    scales_FR: NDArray[np.float32]
    lengths_F: NDArray[np.float32]  # of the longest vector of a fabric, or more
    errors_F: NDArray[np.float32]  # the largest distance of a vector of a fabric from its copy, or more


def coarse(vectors_FRD: NDArray[np.floating]) -> Coarse:
    """The copies of finite vectors. Memory O(F R D) float32."""
    vectors = vectors_FRD.astype(np.float32)
    # The quotient below is at most 63, where the reciprocal of a tiny scale could overflow.
    scales_FR = np.maximum(np.abs(vectors).max(axis=2), np.finfo(np.float32).tiny * _LARGEST) / _LARGEST
    codes_FRD = np.rint(vectors / scales_FR[:, :, None]).astype(np.int8)
    distances_FR = np.linalg.norm(vectors - codes_FRD * scales_FR[:, :, None], axis=2)
    return Coarse(codes_FRD, scales_FR, _above(np.linalg.norm(vectors, axis=2).max(1)), _above(distances_FR.max(1)))


def contenders(query_D: NDArray[np.float32], fabrics: Coarse, k: int) -> NDArray[np.int64]:
    """Rows, ascending, of all fabrics that may be among the first k, at least min(k, F). Memory O(F) and a constant.

    Equal scores are in nobody's favour: a fabric that may score as much as the k-th is among them.
    """
    if k >= len(fabrics.codes_FRD):
        return np.arange(len(fabrics.codes_FRD))
    own = coarse(query_D[None, None])
    scale, error, length = (float(part.reshape(-1)[0]) for part in (own.scales_FR, own.errors_F, own.lengths_F))
    score_F = scale * np.concatenate(list(_products(torch.from_numpy(own.codes_FRD[0, 0]), fabrics)))
    # The copy of the query is at most its error longer than the query.
    away_F = error * fabrics.lengths_F + (length + error) * fabrics.errors_F
    away_F += _ROUNDING * (length + error) * (fabrics.lengths_F + fabrics.errors_F)
    rows_C = _reaching(score_F, away_F, k)
    nearer_C = np.concatenate(
        [_scores(query_D, fabrics, rows) for rows in np.split(rows_C, range(_ROWS, len(rows_C), _ROWS))]
    )
    bound_C = fabrics.lengths_F[rows_C] + fabrics.errors_F[rows_C]
    away_C = length * fabrics.errors_F[rows_C] + selection_error(len(query_D), "float32", length * float(bound_C.max()))
    return rows_C[_reaching(nearer_C, away_C + _ROUNDING * length * bound_C, k)]


def _reaching(score_N: NDArray[np.floating], away_N: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """Which scores may be among the k largest, each being away from the truth by so much at most."""
    threshold = np.partition(score_N - away_N, len(score_N) - k)[len(score_N) - k]
    return np.flatnonzero(score_N + away_N >= threshold)


def _scores(query_D: NDArray[np.float32], fabrics: Coarse, rows_N: NDArray[np.int64]) -> NDArray[np.float32]:
    """The largest product of the query and the copies of some fabrics."""
    scores_NR = fabrics.codes_FRD[rows_N].astype(np.float32) @ query_D * fabrics.scales_FR[rows_N]
    best_N: NDArray[np.float32] = scores_NR.max(axis=1)
    return best_N


def _products(code_D: Tensor, fabrics: Coarse) -> Iterator[NDArray[np.float32]]:
    """The largest product of each fabric's scaled copies and a code, tile by tile."""
    regions, dim = fabrics.codes_FRD.shape[1:]
    step = max(1, _TILE // regions)
    for start in range(0, len(fabrics.codes_FRD), step):
        with warnings.catch_warnings():  # mapped files are read-only, and are only read here
            warnings.simplefilter("ignore", UserWarning)
            codes_VD = torch.from_numpy(fabrics.codes_FRD[start : start + step]).view(-1, dim)
            scales_TR = torch.from_numpy(fabrics.scales_FR[start : start + step])
        scores_TR = torch._int_mm(codes_VD, code_D[:, None]).to(torch.float32).view(-1, regions).mul_(scales_TR)
        yield (scores_TR[:, 0] if regions == 1 else scores_TR.amax(dim=1)).numpy()


def _above(values: NDArray[np.float32]) -> NDArray[np.float32]:
    # The rounding of a float32 norm is far below 1/1000, and squares that underflow hide less than 1e-16.
    bound: NDArray[np.float32] = values * np.float32(1.001) + np.float32(1e-16)
    return bound
