"""Query expansion: what a query finds first shows its motif in other colours, sizes and places than its one picture.

Source: Radenovic, Tolias and Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 41(7), 2019,
section 3.2 (weighted query expansion); here a fabric adds the one of its vectors that matched.

Shapes: Q queries, M fabrics found first, D dimensions.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval_core.ranking.partials import VECTOR


def expand_queries(
    queries_QD: NDArray[np.float32], vectors_QMD: NDArray[np.float32], scores_QM: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Each query plus the vectors it matched, each times the sixth power of its similarity; L2-normalised, (Q, D).

    So high a power leaves a query as it was where a motif is rare and the first matches are wrong ones. A similarity of
    0 or less, such as a place without a fabric, adds nothing. Summed as float64 in the order of M, so the result is the
    same however queries are grouped. Memory O(Q D).
    """
    total_QD = queries_QD.astype(np.float64)
    for place in range(scores_QM.shape[1]):
        score_Q1 = np.maximum(scores_QM[:, place, None], 0).astype(np.float64)
        cube_Q1 = score_Q1 * score_Q1 * score_Q1  # a power may differ in the last bit between processors
        total_QD += cube_Q1 * cube_Q1 * vectors_QMD[:, place]
    expanded: NDArray[np.float32] = (total_QD / np.linalg.norm(total_QD, axis=1, keepdims=True)).astype(np.float32)
    return expanded


def first_found(
    ranking: pa.Table, rows_Q: NDArray[np.int64], count: int, dim: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors (Q, M, D) and similarities (Q, M) of the first M = ``count`` fabrics of some queries; zeros for none.

    ``ranking`` is a merged one with vectors; ``rows_Q`` are the queries' rows in the query list. Memory O(its rows D).
    """
    vectors_QMD, scores_QM = np.zeros((len(rows_Q), count, dim), np.float32), np.zeros((len(rows_Q), count), np.float32)
    if len(ranking):
        at_QM = first_rows(ranking, rows_Q, count)
        vectors = ranking[VECTOR].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
        vectors_QMD[at_QM >= 0] = vectors[at_QM[at_QM >= 0]]
        scores_QM[at_QM >= 0] = np.asarray(ranking["similarity"])[at_QM[at_QM >= 0]]
    return vectors_QMD, scores_QM


def first_rows(ranking: pa.Table, rows_Q: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Rows (Q, M) of a merged ranking that hold the first M = ``count`` fabrics of some queries; -1 for none."""
    rows = np.asarray(ranking["query"])
    at_QM: NDArray[np.int64] = np.searchsorted(rows, rows_Q)[:, None] + np.arange(count)
    return np.where(at_QM < np.searchsorted(rows, rows_Q, "right")[:, None], at_QM, -1)
