"""The similarity of two stored vectors, and how far faster arithmetic may be from it.

The rule: the float64 dot product in index order, rounded to float32. Products of two float32 (or float16) numbers are
exact in float64, so the rule is a plain sequential sum and does not depend on fused multiply-add. Zero is +0.

A sum in any other order is within a known distance of the sequential one. Where both ends of that interval round to
the same float32, that is the score; only the rest (about one in a million) is summed in order.

Shapes: Q queries, V vectors, P pairs, T vectors of a tile, D dimensions.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Arithmetic = Literal["float32", "tf32", "bfloat16"]

_PRODUCTS = {"cpu": 1 << 17, "cuda": 1 << 23}  # at a time: 1 MB fits a core's own cache; a GPU wants few calls
_FLOAT32, _FLOAT64 = 2.0**-24, 2.0**-53  # unit roundoffs
_SMALLEST_NORMAL = 2.0**-126


def exact_scores(queries_QD: Tensor, query_rows: Tensor, vectors_VD: Tensor, vector_rows: Tensor) -> Tensor:
    """Similarities by the rule, of pairs of rows: float32, of the shape to which the int64 rows broadcast.

    Queries and vectors are float32 or float16, finite and on one device. ``arange(Q)[:, None]`` with (Q, C) rows scores
    C candidates a query. Time O(PD) for P pairs; memory O(P + QD) and a constant.
    """
    shape = np.broadcast_shapes(query_rows.shape, vector_rows.shape)
    query_P, vector_P = query_rows.expand(shape).reshape(-1), vector_rows.expand(shape).reshape(-1)
    scores_P = torch.empty(len(query_P), dtype=torch.float32, device=queries_QD.device)
    queries, error_Q = queries_QD.to(torch.float64), _order_error(queries_QD.shape[1]) * norm_bound(queries_QD)
    step = max(_PRODUCTS.get(queries_QD.device.type, _PRODUCTS["cuda"]) // queries_QD.shape[1], 1)
    for start in range(0, len(query_P), step):
        pairs = slice(start, start + step)
        vectors_PD = vectors_VD.index_select(0, vector_P[pairs])
        products_PD = queries.index_select(0, query_P[pairs]).mul_(vectors_PD)
        error_P = error_Q[query_P[pairs]] * norm_bound(vectors_PD)
        scores_P[pairs], uncertain_P = _rounded(products_PD.sum(1), error_P)
        if uncertain_P.any():
            scores_P[pairs][uncertain_P] = sequential_sum(products_PD[uncertain_P]).to(torch.float32).add_(0.0)
    return scores_P.view(shape)


def exact_score_matrix(queries_QD: Tensor, vectors_TD: Tensor) -> Tensor:
    """Similarities by the rule, of every query with every vector; almost all come from one float64 matrix product.

    Queries and vectors are finite float32 on one device; T >= 1. Returns (Q, T) float32. Memory O(QT + (Q + T) D).
    """
    queries, vectors = queries_QD.to(torch.float64), vectors_TD.to(torch.float64)
    error_Q1 = _order_error(queries.shape[1]) * norm_bound(vectors_TD).amax() * norm_bound(queries_QD)[:, None]
    scores_QT, uncertain_QT = _rounded(queries @ vectors.T, error_Q1)
    query_P, vector_P = uncertain_QT.nonzero(as_tuple=True)
    scores_QT[query_P, vector_P] = exact_scores(queries_QD, query_P, vectors_TD, vector_P)
    return scores_QT


def sequential_sum(products_PD: Tensor) -> Tensor:
    """The sums over D of the rule, in index order. float64 (P, D) -> (P,)."""
    total_P = torch.zeros(len(products_PD), dtype=torch.float64, device=products_PD.device)
    for products_P in products_PD.T.contiguous():
        total_P += products_P
    return total_P


def selection_error(dim: int, arithmetic: Arithmetic, norms: float) -> float:
    """Largest distance between a similarity from a matrix product in ``arithmetic`` and the similarity by the rule.

    With u the unit roundoff and gamma_n = nu / (1 - nu), a float32 dot product of n terms in any order, fused or not,
    errs by at most gamma_n |x|.|y| <= gamma_n ||x|| ||y||; the rule's own float64 sum and its rounding to float32 are
    added, and n times the smallest normal number for terms that underflow. tf32 and bfloat16 first round (or truncate)
    both inputs, which adds 2v + v^2 with v the error of one input, and their accumulators, float32 too, may truncate.
    ``dim`` is n, at most 2^20; ``norms`` is an upper bound on ||x|| ||y||.

    Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. (2002), section 3.1; for inputs of
    lower precision P. Blanchard et al., Mixed Precision Block Fused Multiply-Add, SIAM J. Sci. Comput. 42 (2020).
    """
    assert 1 <= dim <= 1 << 20, dim
    input_error = {"float32": 0.0, "tf32": 2.0**-10, "bfloat16": 2.0**-7}[arithmetic]
    accumulator = _FLOAT32 if arithmetic == "float32" else 4 * _FLOAT32
    product = (1 + input_error) ** 2 * (1 + _gamma(dim, accumulator)) - 1
    rule = _gamma(dim, _FLOAT64) + _FLOAT32 * (1 + _gamma(dim, _FLOAT64))
    return (product + rule) * norms + 2 * dim * _SMALLEST_NORMAL


def norm_bound(vectors_XD: Tensor) -> Tensor:
    """Upper bounds on the Euclidean norms along the last axis, float64; not finite where a value is not."""
    # The rounding of a float32 norm is far below 1/1000, and squares that underflow hide less than 1e-16.
    norms: Tensor = torch.linalg.vector_norm(vectors_XD.to(torch.float32), dim=-1)
    return norms.to(torch.float64) * 1.001 + 1e-16


def matmul_arithmetic(device: torch.device) -> Arithmetic:
    """The arithmetic that the process lets PyTorch use for a float32 matrix product on ``device``."""
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    setting = backend.matmul.fp32_precision
    return {"tf32": "tf32", "bf16": "bfloat16"}.get(setting, "float32")  # type: ignore[return-value]


def _gamma(terms: int, roundoff: float) -> float:
    return terms * roundoff / (1 - terms * roundoff)


def _order_error(dim: int) -> float:
    # Two orders differ by at most 2 gamma_n ||x|| ||y||; twice that also covers the rounding of the interval's ends.
    return 4 * _gamma(dim, _FLOAT64)


def _rounded(approximate: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """float32 scores, and where their rounding is uncertain."""
    low, high = (approximate - error).to(torch.float32), (approximate + error).to(torch.float32)
    return high.add_(0.0), low != high  # -0 + 0 = +0
