"""Recall by the size of the printed motif: small ones in large fabrics are what is hard to find.

The size of a motif in a fabric is the area of its median box in ``motif_boxes.csv`` as a share of the fabric's area; a
box may extend beyond its image. Sizes fall into classes 1, 2, ..., each below its edge in ``EDGES`` and the last
without one; class 0 holds the pairs whose size is not known: no box, or a fabric that was rejected.

Letters: Q queries, S classes with class 0, H hits.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval_core.evaluation.metrics import metric_key
from retrieval_core.files import tables
from retrieval_core.store.embeddings import Box

EDGES = (0.01, 0.02, 0.05, 0.1)
UNKNOWN = 0
CLASSES = len(EDGES) + 2
Boxes = Mapping[str, Sequence[tuple[str, Box]]]  # fabric -> (category, box)
Sizes = Mapping[str, Mapping[str, int]]  # fabric -> category -> class


def size_class(area: float) -> int:
    """Class of a motif by its share of the fabric's area; an edge is the start of the next class."""
    return bisect_right(EDGES, area) + 1


def pair_class(sizes: Mapping[str, int], shared: Container[str]) -> int:
    """Class of a (query, fabric) pair: that of the largest motif they share; ``UNKNOWN`` without a size."""
    return max((found for category, found in sizes.items() if category in shared), default=UNKNOWN)


def sizes_of(boxes: Boxes, shards: Sequence[str]) -> dict[str, dict[str, int]]:
    """Size classes of the motifs of the fabrics that have boxes and were embedded.

    The shards say how large a fabric is; only paths and boxes are read. Memory O(boxes + one shard).
    """
    sizes: dict[str, dict[str, int]] = {}
    for shard in shards:
        table = tables.read_table(shard, columns=["path", "region", "box"])
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        for path, region, (_, _, width, height) in rows:
            if region == 0 and path in boxes:  # region 0 is the whole fabric
                sizes[path] = _classes(boxes[path], width * height)
    return sizes


def motif_share(boxes: Sequence[tuple[str, Box]], shared: Container[str], whole: int) -> float | None:
    """Share of a fabric's ``whole`` pixels that the largest motif in ``shared`` takes; None without a box of one."""
    return max((share for category, share in _shares(boxes, whole).items() if category in shared), default=None)


def _classes(boxes: Sequence[tuple[str, Box]], whole: int) -> dict[str, int]:
    return {category: size_class(share) for category, share in _shares(boxes, whole).items()}


def _shares(boxes: Sequence[tuple[str, Box]], whole: int) -> dict[str, float]:
    areas: dict[str, list[int]] = {}
    for category, (x0, y0, x1, y1) in boxes:
        areas.setdefault(category, []).append((x1 - x0) * (y1 - y0))
    return {category: median(found) / whole for category, found in areas.items()}


def recall_by_size(
    relevant_SQ: NDArray[np.int64],
    rows_H: NDArray[np.int64],
    ranks_H: NDArray[np.int64],
    sizes_H: NDArray[np.int64],
    ks: Sequence[int],
) -> list[dict[str, Any]]:
    """Recall at each k in each size class: the mean over the queries with a relevant fabric in the class.

    Rejected queries count as 0, as in every headline figure. ``relevant_SQ`` counts the relevant fabrics of each class
    and query. ``rows_H``, ``ranks_H`` and ``sizes_H`` are the query, the rank from 1 and the class of each hit.

    Returns for each class that has a fabric ``{"from", "to", "queries", "fabrics", "recall@k", ...}``; ``to`` is null
    for the largest, ``fabrics`` counts (query, fabric) pairs. Empty where no size is known. O(S (Q + H)).
    """
    found = []
    for number, (low, high) in enumerate(pairwise([0.0, *EDGES, None]), start=UNKNOWN + 1):
        relevant_Q = relevant_SQ[number]
        asked_Q = relevant_Q > 0
        if not asked_Q.any():
            continue
        entry = {"from": low, "to": high, "queries": int(asked_Q.sum()), "fabrics": int(relevant_Q.sum())}
        for k in ks:
            near_H = (sizes_H == number) & (ranks_H <= k)
            hits_Q = np.bincount(rows_H[near_H], minlength=len(relevant_Q))
            entry[metric_key("recall", k)] = float((hits_Q[asked_Q] / relevant_Q[asked_Q]).mean())
        found.append(entry)
    return found
