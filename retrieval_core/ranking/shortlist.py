"""The fabrics that may belong to the first k of each query, held while tiles of approximate scores pass by.

Each query has
    width       fabrics wanted: k and some to spare
    margin      how far below the k-th approximate score a fabric may lie and still belong to the first k, because
                approximate scores are off by a known error (``selection.error_margin``)
    threshold   an exact score that k fabrics of other blocks have: fabrics below it are not needed; None at first
    cutoff      the larger of ``threshold - margin`` and the ``width``-th best score, as of the last tidying up

Invariant: a fabric that was seen and is not held scores at most ``threshold - margin``, which puts its exact score
below the threshold, or else ``width`` fabrics are held that score as much or more.

Two values are markers: the score ``FREE`` of a place that no fabric took, and the region ``UNCLEAR`` of a fabric with
several regions within the margin of its best.

Scores are looked at once, while they are in the cache: the largest of each group is compared with the query's cutoff,
and only groups above it are looked into, ``M ln(F / T)`` fabrics a query in a gallery in no particular order.

Shapes: Q queries, F fabrics, R regions, T fabrics of a tile in N groups of G, E fabrics of the last, incomplete group,
M = width, C places of a query, H (query, group) pairs above the cutoff, P (query, fabric) pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

FREE = -torch.inf
UNCLEAR = -1
GROUP = 16  # fabrics of which only the largest score is compared
_PLACES = 3  # places of a query, in widths: with more it is tidied up less often, but the cutoff rises later


class Ranking(NamedTuple):
    """Fabrics of each query, best first."""

    scores: Tensor  # (Q, M) float32
    rows: Tensor  # (Q, M) int64
    regions: Tensor  # (Q, M) int16


class _Found(NamedTuple):
    """Fabrics of a tile that are to be held, query by query."""

    query_P: Tensor
    row_P: Tensor  # in the tile
    scores_PR: Tensor


class Shortlist:
    """The ``width`` best fabrics of each query, and newer ones that have not been compared with them yet.

    A query's fabrics fill its places from the left. When they are full, and after the first tile, the places are tidied
    up: the best move into the first ``width``, the others become free, and the cutoff rises. Memory O(Q M).
    """

    def __init__(self, width: int, margin_Q: Tensor, threshold_Q: Tensor | None) -> None:
        queries, device = len(margin_Q), margin_Q.device
        self.width, self.places, self.margin_Q = width, width * _PLACES, margin_Q
        self.scores_QC = torch.full((queries, self.places), FREE, device=device)
        self.rows_QC = torch.zeros((queries, self.places), dtype=torch.int64, device=device)
        self.regions_QC = torch.zeros((queries, self.places), dtype=torch.int16, device=device)
        self.taken_Q = torch.zeros(queries, dtype=torch.int64, device=device)
        self.has_cutoff = threshold_Q is not None
        self.cutoff_Q = torch.full_like(margin_Q, -torch.inf) if threshold_Q is None else threshold_Q - margin_Q

    def add(self, scores_TRQ: Tensor, start: int) -> None:
        """Hold what is above the cutoff among the fabrics ``start``, ``start + 1``, ...; 0 is the first tile."""
        found = self._above_cutoff(scores_TRQ) if self.has_cutoff else self._best_of_tile(scores_TRQ)
        new_Q = self._count(found)
        if int((self.taken_Q + new_Q).amax()) > self.places:
            self._tidy_up()
            if int(new_Q.amax()) > self.places - self.width:
                found = self._best_of_tile(scores_TRQ)
                new_Q = self._count(found)
        self._hold(found, new_Q, start)
        if not start:
            self._tidy_up()

    def best(self) -> Ranking:
        """The first ``width``, descending."""
        scores, order = self.scores_QC.topk(self.width)
        return Ranking(scores, self.rows_QC.gather(1, order), self.regions_QC.gather(1, order))

    def _above_cutoff(self, scores_TRQ: Tensor) -> _Found:
        tile, regions, queries = scores_TRQ.shape
        groups = tile // GROUP
        grouped_NGRQ = scores_TRQ[: groups * GROUP].view(groups, GROUP, regions, queries)
        query_H, group_H = _true_by_column(grouped_NGRQ.amax((1, 2)) > self.cutoff_Q)
        scores_HGR = grouped_NGRQ[group_H, :, :, query_H]
        # The largest of one costs as much as the largest of many.
        best_HG = scores_HGR.amax(2) if regions > 1 else scores_HGR.squeeze(2)
        above_P, member_P = (best_HG > self.cutoff_Q[query_H, None]).nonzero(as_tuple=True)
        found = _Found(query_H[above_P], group_H[above_P] * GROUP + member_P, scores_HGR[above_P, member_P])
        if groups * GROUP == tile:
            return found
        rest_ERQ = scores_TRQ[groups * GROUP :]  # only at the gallery's end
        query_P, row_P = _true_by_column(rest_ERQ.amax(1) > self.cutoff_Q)
        rest = _Found(query_P, row_P + groups * GROUP, rest_ERQ[row_P, :, query_P])
        order = torch.cat([found.query_P, rest.query_P]).argsort(stable=True)
        return _Found(*(torch.cat(parts)[order] for parts in zip(found, rest, strict=True)))

    def _best_of_tile(self, scores_TRQ: Tensor) -> _Found:
        """The first ``width`` of the tile: without a cutoff, or where more is above it than there are places."""
        best_QT = scores_TRQ.amax(1).T
        row_QM = best_QT.topk(min(self.width, best_QT.shape[1]), sorted=False).indices
        query_QM = torch.arange(len(row_QM), device=row_QM.device)[:, None].expand_as(row_QM)
        query_P, row_P = query_QM.flatten(), row_QM.flatten()
        return _Found(query_P, row_P, scores_TRQ[row_P, :, query_P])

    def _count(self, found: _Found) -> Tensor:
        return torch.bincount(found.query_P, minlength=len(self.taken_Q))

    def _hold(self, found: _Found, new_Q: Tensor, start: int) -> None:
        query_P = found.query_P
        first_Q = new_Q.cumsum(0) - new_Q
        place_P = torch.arange(len(query_P), device=query_P.device) - first_Q[query_P] + self.taken_Q[query_P]
        best_P, region_P = self._reduce_regions(query_P, found.scores_PR)
        self.scores_QC[query_P, place_P] = best_P
        self.rows_QC[query_P, place_P] = found.row_P + start
        self.regions_QC[query_P, place_P] = region_P
        self.taken_Q += new_Q

    def _reduce_regions(self, query_P: Tensor, scores_PR: Tensor) -> tuple[Tensor, Tensor]:
        if scores_PR.shape[1] == 1:
            return scores_PR[:, 0], torch.zeros(len(scores_PR), dtype=torch.int16, device=scores_PR.device)
        best_P, region_P = scores_PR.max(1)
        near_P = (scores_PR >= (best_P - self.margin_Q[query_P])[:, None]).sum(1)
        return best_P, region_P.to(torch.int16).masked_fill_(near_P > 1, UNCLEAR)

    def _tidy_up(self) -> None:
        scores_QM, order_QM = self.scores_QC.topk(self.width, sorted=False)
        for places in (self.rows_QC, self.regions_QC):
            places[:, : self.width] = places.gather(1, order_QM)
        self.scores_QC[:, : self.width], self.scores_QC[:, self.width :] = scores_QM, FREE
        self.cutoff_Q, self.has_cutoff = torch.maximum(self.cutoff_Q, scores_QM.amin(1)), True
        self.taken_Q.fill_(self.width)


def _true_by_column(mask_NQ: Tensor) -> tuple[Tensor, Tensor]:
    """Columns and rows of what is true, column by column."""
    if mask_NQ.device.type != "cpu":
        return mask_NQ.T.nonzero(as_tuple=True)  # type: ignore[return-value]
    # Little is true: numpy skips what is not eight at a time, and sorts 16-bit numbers without comparing them.
    row_H, column_H = np.divmod(np.flatnonzero(mask_NQ.numpy()), mask_NQ.shape[1])
    order = np.argsort(column_H.astype(np.uint16 if mask_NQ.shape[1] <= 1 << 16 else np.int64), kind="stable")
    return torch.from_numpy(column_H[order]), torch.from_numpy(row_H[order])
