"""How deep the pool must be: recall and precision at every depth, and how many candidates most of the recall takes.

The target is the **pool recall**: the mean recall over queries of the whole pool as it was written, recall@K. It is
not the recall of an endless list: relevant fabrics beyond K are unknown to it, and a deeper pool may find them. So the
depths that reach a share of it are an answer only together with what the last tenth of the depth still gained: where
that is not small, the curve is still rising at K, and a deeper pool would find more and move the target. A pool that
holds the whole gallery has nothing left to find.

The target is also not ``reachable_recall`` (``metrics``), which compares with the best that k candidates allow.

Letters: K depth of the pool, ``retrieve.top_k`` or the gallery's size where that is smaller.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retrieval_core.evaluation.metrics import Floats, QueryOutcome, recall_curve
from retrieval_core.files import storage

RECALL_BY_DEPTH = "recall_by_depth.csv"
PRECISION_BY_DEPTH = "precision_by_depth.csv"
SHARES = (0.90, 0.95, 0.99)
ROUNDING = 1e-9  # of the target: nine hits of 0.1 sum to a hair less than 0.9


def share_key(share: float) -> str:
    """The name of a share in every file: ``0.90``."""
    return f"{share:.2f}"


def recall_by_depth(outcomes: Sequence[QueryOutcome], pool_depth: int) -> Floats:
    """Mean recall at each depth 1..K, never falling.

    Args:
        outcomes: one per query; those without a relevant fabric do not count, rejected ones count as 0.
        pool_depth: K.

    Returns:
        (K,) float64; (0,) without an evaluated query or without a candidate. Memory O(H + K), time O(H log H + K) for
        H hits.
    """
    curve = recall_curve(outcomes, range(1, pool_depth + 1)) if pool_depth > 0 else []
    return np.array([recall for _, recall in curve], dtype=np.float64)


def precision_by_depth(outcomes: Sequence[QueryOutcome], pool_depth: int) -> Floats:
    """Mean precision at each depth 1..K: hits among the first k, divided by k even where a list is shorter.

    Args and returns as ``recall_by_depth``. Memory and time O(H + K).
    """
    evaluated = [outcome for outcome in outcomes if outcome.relevant > 0]
    if not evaluated or pool_depth < 1:
        return np.empty(0, dtype=np.float64)
    ranks_H = np.concatenate([outcome.hit_ranks for outcome in evaluated])
    hits_K = np.bincount(ranks_H[ranks_H <= pool_depth], minlength=pool_depth + 1)[1:]
    precision_K: Floats = np.cumsum(hits_K) / (np.arange(1, pool_depth + 1) * len(evaluated))
    return precision_K


def depth_figures(recall_K: Floats, pool_depth: int, gallery_size: int) -> dict[str, Any]:
    """What the curve of one arm says about the depth to choose, ready for JSON.

    Args:
        recall_K: as ``recall_by_depth`` gives it.
        pool_depth: K.
        gallery_size: fabrics that could be candidates.

    Returns:
        ``pool_depth``; ``whole_gallery``, True when a deeper pool cannot find more; ``pool_recall``, recall@K;
        ``depth_for`` ``{"0.90": k, "0.95": k, "0.99": k}``, the smallest k with recall@k >= share * pool_recall, up to
        rounding; ``recall_gained_by_last_tenth``, recall@K less the recall at nine tenths of K, rounded down (0 at
        depth 0). Without an evaluated query the figures are null, and without a single hit the depths are: no depth
        reaches a share of nothing. Memory O(1), time O(log K).
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
    """Write ``recall_by_depth.csv`` or its like whole: ``depth`` and a column an arm, K rows; without data empty cells.

    Args:
        path: a path or URL.
        curves: arm -> (K,) or, without data, (0,); columns in this order.
        pool_depth: K.
    """
    columns = [recall_K.tolist() if len(recall_K) else [None] * pool_depth for recall_K in curves.values()]
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
