"""How deep the pool must be: recall and precision at every depth, and the depths that reach a share of the recall.

The shares are of the **pool recall**, the mean recall@K of the pool as it was written. Relevant fabrics beyond K are
unknown to it, so read a depth together with what the last tenth of K gained: where that is not small, the curve still
rises at K, and a deeper pool would find more. A pool that holds the whole gallery has nothing left to find.

Letters: K depth of the pool, ``retrieve.top_k`` or the gallery's size where that is smaller.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retrieval_core.evaluation.outcomes import Floats, QueryOutcome, evaluated, flat_hits, relevant_counts
from retrieval_core.files import storage

RECALL_BY_DEPTH = "recall_by_depth.csv"
PRECISION_BY_DEPTH = "precision_by_depth.csv"
SHARES = (0.90, 0.95, 0.99)
ROUNDING = 1e-9  # share of the target that may be missing: nine hits of 0.1 sum to a little less than 0.9


def share_key(share: float) -> str:
    """Name of a share in every file: ``0.90``."""
    return f"{share:.2f}"


def recall_by_depth(outcomes: Sequence[QueryOutcome], pool_depth: int) -> Floats:
    """Mean recall at each depth 1..K, never falling; rejected queries count as 0.

    Returns (K,), or (0,) without an evaluated query or candidate. Memory O(H + K), time O((H + K) log H) for H hits.
    """
    judged = evaluated(outcomes)
    if not judged or pool_depth < 1:
        return np.empty(0, dtype=np.float64)
    query_H, rank_H, _ = flat_hits(judged)
    order_H = np.argsort(rank_H, kind="stable")
    share_H = 1 / relevant_counts(judged)[query_H[order_H]]
    found = np.concatenate([[0.0], np.cumsum(share_H)]) / len(judged)
    at_K = np.searchsorted(rank_H[order_H], np.arange(1, pool_depth + 1), side="right")
    # A running sum of R times 1/R may end a rounding error above the whole.
    recall_K: Floats = np.minimum(found[at_K], 1.0)
    return recall_K


def precision_by_depth(outcomes: Sequence[QueryOutcome], pool_depth: int) -> Floats:
    """As ``recall_by_depth``, of the precision: hits among the first k, divided by k even where a list is shorter."""
    judged = evaluated(outcomes)
    if not judged or pool_depth < 1:
        return np.empty(0, dtype=np.float64)
    _, rank_H, _ = flat_hits(judged)
    hits_K = np.bincount(rank_H[rank_H <= pool_depth], minlength=pool_depth + 1)[1:]
    precision_K: Floats = np.cumsum(hits_K) / (np.arange(1, pool_depth + 1) * len(judged))
    return precision_K


def depth_figures(recall_K: Floats, pool_depth: int, gallery_size: int) -> dict[str, Any]:
    """The depths that the recall curve of one arm suggests, ready for JSON; ``gallery_size`` fabrics can be candidates.

    Returns ``pool_depth``; ``whole_gallery``, True when a deeper pool cannot find more; ``pool_recall``, recall@K;
    ``depth_for`` ``{"0.90": k, "0.95": k, "0.99": k}``, the smallest k with recall@k >= share * pool_recall, up to
    rounding; ``recall_gained_by_last_tenth``, recall@K less the recall at nine tenths of K, rounded down (0 at depth
    0). The figures are null without an evaluated query, the depths also without a hit. Memory O(1), time O(log K).
    """
    assert len(recall_K) in (0, pool_depth)
    pool_recall = float(recall_K[-1]) if len(recall_K) else None
    depths: list[int] | list[None] = [None] * len(SHARES)
    if pool_recall:
        targets = np.array(SHARES) * pool_recall - ROUNDING * pool_recall
        depths = (np.searchsorted(recall_K, targets, side="left") + 1).tolist()
    before = pool_depth * 9 // 10
    gained = None if pool_recall is None else pool_recall - (float(recall_K[before - 1]) if before else 0.0)
    return {
        "pool_depth": pool_depth,
        "whole_gallery": pool_depth >= gallery_size,
        "pool_recall": pool_recall,
        "depth_for": dict(zip(map(share_key, SHARES), depths, strict=True)),
        "recall_gained_by_last_tenth": gained,
    }


def write_by_depth(path: str, curves: Mapping[str, Floats], pool_depth: int) -> None:
    """Write a CSV file of curves: ``depth`` and a column for each arm, K rows; the cells of a (0,) curve are empty."""
    columns = [curve_K.tolist() if len(curve_K) else [None] * pool_depth for curve_K in curves.values()]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["depth", *curves])
    writer.writerows(zip(range(1, pool_depth + 1), *columns, strict=True))
    storage.write_bytes(path, text.getvalue().encode())


def read_by_depth(path: str) -> dict[str, list[tuple[int, float]]]:
    """Arm -> points (k, figure) of what ``write_by_depth`` wrote; no points for an arm without data. O(arms K)."""
    header, *rows = csv.reader(io.StringIO(storage.read_bytes(path).decode(), newline=""))
    return {
        arm: [(int(row[0]), float(row[column])) for row in rows if row[column]]
        for column, arm in enumerate(header[1:], start=1)
    }
