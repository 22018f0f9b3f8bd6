"""Which query meets which fabric in which step: every draw is a function of (seed, epoch, position).

Nothing here keeps a random state, so a resumed or distributed run draws what an undisturbed one would.
Shapes: Q queries, F fabrics, N categories of a query at most, M of a fabric at most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from retrieval_core.data.datasets import DataError, Labelled, Record
from retrieval_core.data.records import query_id
from retrieval_core.store.embeddings import Box

Boxes = Mapping[str, Sequence[tuple[str, Box]]]  # (category, box) of each printed motif, by the fabric's path

K = TypeVar("K")

RECOGNISABLE_SHARE = 1 / 3  # of a motif's box that a window must contain to count as showing the motif


class Draw(NamedTuple):
    """One training sample: row numbers in the labelled split, and its own random stream."""

    query: int
    positive: int
    negative: int
    rng: np.random.Generator


class PairSampler:
    """Draws a positive (and a negative) fabric for every training query. Memory O(labels)."""

    def __init__(self, split: Labelled, seed: int, labels: Literal["category", "element"] = "category") -> None:
        """Index the split.

        ``labels`` says what makes a fabric a positive: a category shared with the query, or the query's own id among
        the fabric's elements. Either way a fabric that shares a category is never a negative. DataError if no query has
        both a positive and a negative, or no fabric the elements that are asked for.
        """
        if labels == "element" and not any(fabric.elements for fabric in split.fabrics):
            raise DataError(
                "train.labels = 'element': no training fabric lists the ids of its elements; use train.labels=category"
            )
        self.split, self.seed = split, seed
        names = sorted({name for record in (*split.queries, *split.fabrics) for name in record.categories})
        self._number = {name: index for index, name in enumerate(names)}
        self._query_categories = [self._numbers_of(query) for query in split.queries]
        self._fabric_categories = [self._numbers_of(fabric) for fabric in split.fabrics]
        self.most_categories = max(map(len, self._fabric_categories), default=0)  # M
        most = max(map(len, self._query_categories), default=0)
        self.shown_QN = np.array([_padded(categories, most, -2) for categories in self._query_categories], np.int64)
        """(Q, N) categories of each query, padded with -2. Compared by ``shares``."""
        self._fabrics_of_category = _rows_by_member(self._fabric_categories)
        self._fabrics_of_element: dict[str, np.ndarray] | None = None
        if labels == "element":
            self._fabrics_of_element = _rows_by_member([fabric.elements for fabric in split.fabrics])
        self.usable = np.array([row for row in range(len(split.queries)) if self._is_usable(row)], dtype=np.int64)
        if not len(self.usable):
            raise DataError(
                f"training: none of the {len(split.queries)} queries has a fabric that holds its motif among the "
                f"{len(split.fabrics)} training fabrics; see `fabric-retrieval check`"
            )

    def _numbers_of(self, record: Record) -> frozenset[int]:
        return frozenset(self._number[name] for name in record.categories)

    def epoch_order(self, epoch: int) -> np.ndarray:
        """The usable queries in this epoch's order, (n,) int64."""
        return np.random.default_rng([self.seed, epoch]).permutation(self.usable)

    def draw(self, epoch: int, position: int, query: int, attempt: int = 0) -> Draw:
        """Draw the fabrics for a row of the queries at a position in the epoch's order; all numbers are from 0.

        After the first attempt, which met an unreadable image, another query takes its place.
        """
        rng = np.random.default_rng([self.seed, epoch, position + 1, attempt])
        if attempt:
            query = int(rng.choice(self.usable))
        categories = self._query_categories[query]
        positives, relatives = self._positives(query), self._relatives(categories)
        positive = int(positives[rng.integers(len(positives))])
        fabrics = len(self.split.fabrics)
        negative = int(rng.integers(fabrics))
        while categories & self._fabric_categories[negative]:  # seldom: nearly every fabric is a negative
            if len(relatives) * 2 > fabrics:
                others = np.setdiff1d(np.arange(fabrics), relatives)
                negative = int(others[rng.integers(len(others))])
            else:
                negative = int(rng.integers(fabrics))
        return Draw(query, positive, negative, rng)

    def numbers(self, categories: Iterable[str]) -> np.ndarray:
        """(M,) int64: the categories of a view of a fabric, ascending, padded with -1."""
        return np.array(_padded([self._number[name] for name in categories], self.most_categories, -1), np.int64)

    def _is_usable(self, query: int) -> bool:
        relatives = self._relatives(self._query_categories[query])
        return len(self._positives(query)) > 0 and 0 < len(relatives) < len(self.split.fabrics)

    def _positives(self, query: int) -> np.ndarray:
        relatives = self._relatives(self._query_categories[query])
        if self._fabrics_of_element is None:
            return relatives
        own = self._fabrics_of_element.get(query_id(self.split.queries[query].path))
        return relatives[:0] if own is None else np.intersect1d(own, relatives)

    def _relatives(self, categories: frozenset[int]) -> np.ndarray:
        """Rows of the fabrics that share a category."""
        by_category = self._fabrics_of_category
        rows = [by_category[category] for category in sorted(categories) if category in by_category]
        if len(rows) == 1:
            return rows[0]
        return np.unique(np.concatenate(rows)) if rows else np.empty(0, dtype=np.int64)


def _rows_by_member(sets: Sequence[Iterable[K]]) -> dict[K, np.ndarray]:
    """For each member the rows of the sets that have it, ascending int64."""
    rows: dict[K, list[int]] = defaultdict(list)
    for row, members in enumerate(sets):
        for member in members:
            rows[member].append(row)
    return {member: np.array(found, dtype=np.int64) for member, found in rows.items()}


def _padded(numbers: Iterable[int], width: int, padding: int) -> list[int]:
    ascending = sorted(numbers)
    return ascending + [padding] * (width - len(ascending))


def shares(shown_QN: Tensor, held_FM: Tensor) -> Tensor:
    """(Q, F) bool: the view of fabric j, with ``numbers`` in row j, holds a motif of query i, row i of ``shown_QN``.

    On the device of its arguments, which is never waited for. Memory O(Q F M).
    """
    found_QF = torch.zeros(len(shown_QN), len(held_FM), dtype=torch.bool, device=held_FM.device)
    for shown_Q in shown_QN.unbind(dim=1):
        found_QF |= (shown_Q[:, None, None] == held_FM).any(dim=2)
    return found_QF


def worker_sizes(batch: int, workers: int) -> list[int]:
    """Queries of a batch that each worker takes: equal but for the first ``batch % workers``, which take one more."""
    share, rest = divmod(batch, workers)
    return [share + (worker < rest) for worker in range(workers)]


def crop_window(width: int, height: int, share: float, hold: Sequence[Box], rng: np.random.Generator) -> Box:
    """A window of a fabric of width x height pixels, with ``share`` of its sides, in (0, 1].

    One of the boxes to ``hold`` is drawn, the larger the likelier since small ones are cut off by the edge. The window
    holds it if it fits. Without boxes the window lies anywhere.
    """
    if share >= 1:
        return 0, 0, width, height
    box = None
    if hold:
        areas = np.array([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in hold], dtype=float)
        box = hold[int(rng.choice(len(hold), p=areas / areas.sum()))]
    sides = max(1, round(width * share)), max(1, round(height * share))
    corner = []
    for axis, (side, length) in enumerate(zip(sides, (width, height), strict=True)):
        low, high = 0, length - side
        if box is not None:
            # Starts at which the window holds the box, or lies inside a box that is larger than it.
            first, last = sorted((box[axis + 2] - side, box[axis]))
            low, high = min(max(first, 0), high), min(max(last, 0), high)
        corner.append(int(rng.integers(low, high + 1)))
    return corner[0], corner[1], corner[0] + sides[0], corner[1] + sides[1]


def motif_boxes_of(fabric: Record, query: Record, boxes: Boxes) -> list[Box]:
    """Where the query's motif is printed on the fabric, as far as it is known."""
    return [box for category, box in boxes.get(fabric.path, ()) if category in query.categories]


def categories_in(window: Box, fabric: Record, query: Record, boxes: Boxes) -> set[str]:
    """The categories that a window of a fabric shows: the query's, and every other one that is recognisable in it.

    If the fabric's boxes are not known, no category that it holds counts as absent, since the window may show it.
    """
    known = boxes.get(fabric.path)
    if not known:
        return set(fabric.categories)
    seen = {category for category, box in known if share_inside(box, window) >= RECOGNISABLE_SHARE}
    return (seen | set(query.categories)) & set(fabric.categories)


def share_inside(box: Box, window: Box) -> float:
    """The share of a box's area that lies in a window."""
    sides = [min(box[axis + 2], window[axis + 2]) - max(box[axis], window[axis]) for axis in (0, 1)]
    return max(0, sides[0]) * max(0, sides[1]) / ((box[2] - box[0]) * (box[3] - box[1]))
