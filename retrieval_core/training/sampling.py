"""Which query meets which fabric in which step: every draw is a function of (seed, epoch, position).

Nothing here keeps a random state, so a resumed or distributed run draws what an undisturbed one would.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from retrieval_core.data.datasets import DataError, Labelled, Record
from retrieval_core.data.records import query_id
from retrieval_core.store.embeddings import Box

Boxes = Mapping[str, Sequence[tuple[str, Box]]]
"""(category, box) of each printed motif, by the path of the fabric."""

SEEN = 1 / 3


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

        Args:
            split: queries and fabrics.
            seed: of every draw.
            labels: what makes a fabric a positive: a category shared with the query, or the query's own id among the
                fabric's elements. Either way a fabric that shares a category is never a negative.

        Raises:
            DataError: if no query has both a fabric that holds its motif and one that does not, or element ids are
                asked for and no fabric has any.
        """
        if labels == "element" and not any(fabric.elements for fabric in split.fabrics):
            raise DataError(
                "train.labels = 'element': no training fabric lists the ids of its elements; use train.labels=category"
            )
        self.split = split
        self.seed = seed
        names = sorted({name for record in (*split.queries, *split.fabrics) for name in record.categories})
        number = {name: index for index, name in enumerate(names)}
        self._number = number
        self._fabric_categories = [frozenset(number[name] for name in fabric.categories) for fabric in split.fabrics]
        self.most_categories = max((len(categories) for categories in self._fabric_categories), default=0)
        """M: of one fabric."""
        self._query_categories = [frozenset(number[name] for name in query.categories) for query in split.queries]
        most = max(map(len, self._query_categories), default=0)
        self.shown_QN = np.array(
            [sorted(categories) + [-2] * (most - len(categories)) for categories in self._query_categories],
            dtype=np.int64,
        ).reshape(len(split.queries), most)
        """(queries of the split, N): categories of each query, filled up with -2. Compared by ``shares``."""
        holders: dict[int, list[int]] = defaultdict(list)
        for row, categories in enumerate(self._fabric_categories):
            for category in categories:
                holders[category].append(row)
        self._holders = {category: np.array(rows) for category, rows in holders.items()}
        self._of_element: dict[str, list[int]] | None = None
        if labels == "element":
            self._of_element = defaultdict(list)
            for row, fabric in enumerate(split.fabrics):
                for element in fabric.elements:
                    self._of_element[element].append(row)
        self.usable = np.array([row for row in range(len(split.queries)) if self._is_usable(row)], dtype=np.int64)
        if not len(self.usable):
            raise DataError(
                f"training: none of the {len(split.queries)} queries has a fabric that holds its motif among the "
                f"{len(split.fabrics)} training fabrics; see `fabric-retrieval check`"
            )

    def epoch_order(self, epoch: int) -> np.ndarray:
        """The usable queries in this epoch's order, (n,) int64."""
        return np.random.default_rng([self.seed, epoch]).permutation(self.usable)

    def draw(self, epoch: int, position: int, query: int, attempt: int = 0) -> Draw:
        """Draw the fabrics of one sample.

        Args:
            epoch: from 0.
            position: in the epoch's order.
            query: row of the query; another one takes its place from the second attempt on, when an image of the
                first could not be read.
            attempt: from 0.
        """
        rng = np.random.default_rng([self.seed, epoch, position + 1, attempt])
        if attempt:
            query = int(rng.choice(self.usable))
        categories = self._query_categories[query]
        positives, relatives = self._positives(query), self._relatives(categories)
        positive = int(positives[rng.integers(len(positives))])
        while True:  # nearly every fabric is a negative: a draw or two
            negative = int(rng.integers(len(self.split.fabrics)))
            if not categories & self._fabric_categories[negative]:
                break
            if len(relatives) * 2 > len(self.split.fabrics):
                others = np.setdiff1d(np.arange(len(self.split.fabrics)), relatives)
                negative = int(others[rng.integers(len(others))])
                break
        return Draw(query, positive, negative, rng)

    def numbers(self, categories: Iterable[str]) -> np.ndarray:
        """(M,) int64: the categories of a view of a fabric, ascending, filled up with -1."""
        found = sorted(self._number[name] for name in categories)
        return np.array(found + [-1] * (self.most_categories - len(found)), dtype=np.int64)

    def _is_usable(self, query: int) -> bool:
        relatives = self._relatives(self._query_categories[query])
        return len(self._positives(query)) > 0 and 0 < len(relatives) < len(self.split.fabrics)

    def _positives(self, query: int) -> np.ndarray:
        """Rows of the fabrics that hold the query's motif."""
        relatives = self._relatives(self._query_categories[query])
        if self._of_element is None:
            return relatives
        found = self._of_element.get(query_id(self.split.queries[query].path), [])
        return np.intersect1d(found, relatives)

    def _relatives(self, categories: frozenset[int]) -> np.ndarray:
        """Rows of the fabrics that share a category."""
        rows = [self._holders[category] for category in sorted(categories) if category in self._holders]
        if len(rows) == 1:
            return rows[0]
        return np.unique(np.concatenate(rows)) if rows else np.empty(0, dtype=np.int64)


def shares(shown_QN: Tensor, held_FM: Tensor) -> Tensor:
    """(Q, F) bool: view j of a fabric, whose ``numbers`` are row j, holds a motif of query i, row i of ``shown_QN``.

    On the device of its arguments, which is never waited for. Memory O(Q F M).
    """
    found_QF = torch.zeros(len(shown_QN), len(held_FM), dtype=torch.bool, device=held_FM.device)
    for shown_Q in shown_QN.unbind(dim=1):
        found_QF |= (shown_Q[:, None, None] == held_FM).any(dim=2)
    return found_QF


def worker_sizes(batch: int, workers: int) -> list[int]:
    """How many of a batch's queries each worker takes: equal but for the first ``batch % workers``."""
    share, rest = divmod(batch, workers)
    return [share + (worker < rest) for worker in range(workers)]


def crop_window(
    width: int, height: int, share: float, hold: Sequence[Box], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """A window with ``share`` of the sides, around one of the boxes to hold if there are any.

    Args:
        width: of the fabric, pixels.
        height: of the fabric, pixels.
        share: side of the window as a share of the image's sides, in (0, 1].
        hold: boxes (x0, y0, x1, y1) of the motif; one is drawn, the larger the likelier since small ones are cut off
            by the edge, and lies inside the window where it fits.
        rng: the sample's stream.

    Returns:
        (x0, y0, x1, y1) inside the image.
    """
    if share >= 1:
        return 0, 0, width, height
    box = _draw_box(hold, rng) if hold else None
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


def _draw_box(boxes: Sequence[Box], rng: np.random.Generator) -> Box:
    areas = np.array([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes], dtype=float)
    return boxes[int(rng.choice(len(boxes), p=areas / areas.sum()))]


def motif_boxes_of(fabric: Record, query: Record, boxes: Boxes) -> list[Box]:
    """Where the query's motif is printed on the fabric, as far as it is known."""
    return [box for category, box in boxes.get(fabric.path, ()) if category in query.categories]


def categories_in(window: Box, fabric: Record, query: Record, boxes: Boxes) -> set[str]:
    """What a window of a fabric shows: the query's motif, and every other one of which it holds enough to know it.

    Enough is a third of a printed motif's box. Where the fabric's boxes are not known, all that the fabric holds: a
    window may show any of it, so none of it counts as absent.
    """
    known = boxes.get(fabric.path)
    if not known:
        return set(fabric.categories)
    seen = {category for category, box in known if _share_inside(box, window) >= SEEN}
    return (seen | set(query.categories)) & set(fabric.categories)


def _share_inside(box: Box, window: Box) -> float:
    sides = [min(box[axis + 2], window[axis + 2]) - max(box[axis], window[axis]) for axis in (0, 1)]
    return max(0, sides[0]) * max(0, sides[1]) / ((box[2] - box[0]) * (box[3] - box[1]))
