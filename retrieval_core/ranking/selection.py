"""Which fabrics may belong to the first k: a tiled float32 matrix product and a running selection.

What is found here is approximate and only chooses what is scored exactly: see ``similarity``.

Most of the time is the product's. Its scores are looked at once, while they are in the cache: the largest of each group
of scores is compared with the query's ``width``-th best so far, and only groups that beat it are looked into. In a
gallery in no particular order a query's fabrics beat it ``width ln(F / T)`` times.

The product is torch's or, in one thread, numpy's; where FAISS is installed, a gallery of one view a fabric may be
selected from by its exact search. Which is quickest depends on the processor, as each brings a BLAS of its own: a trial
tells.

Shapes: Q queries, F fabrics, R regions, D dimensions, T fabrics of a tile, M fabrics kept a query, N groups of G
fabrics, P fabrics found in a tile, C places of a query.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from retrieval_core.ranking.exact_scores import matmul_arithmetic, selection_error

TILE_BYTES = 8 << 20  # scores in flight: larger tiles leave the last-level cache, smaller ones cost more calls
_CUDA_TILES = 32  # times as much on a GPU, where a call costs more than memory
_GROUP = 16  # fabrics of which only the largest score is compared
_WORTH_A_TRIAL = 1 << 27  # scores, half a second or so
_TRIAL = (512, 8192)  # queries and fabrics
_FILL = 3  # places of a query, in widths: more are compacted more seldom, but admit more until then

Way = Literal["torch", "numpy", "faiss"]


class Ranking(NamedTuple):
    """Fabrics of each query, best first."""

    scores: Tensor  # (Q, M) float32
    rows: Tensor  # (Q, M) int64
    regions: Tensor  # (Q, M) int16


def error_margin(query_norms: Tensor, longest: float, gallery: Tensor) -> Tensor:
    """How far below the k-th approximate score a fabric may lie and still belong to the first k; (Q, 1) float32."""
    arithmetic, dim = matmul_arithmetic(gallery.device), gallery.shape[2]
    errors = [selection_error(dim, arithmetic, norm * longest) for norm in query_norms.tolist()]
    # Both scores may be one error off; the third error is more than the rounding of the comparison itself.
    return 3 * torch.tensor(errors, device=gallery.device)[:, None]


def select(queries: Tensor, gallery: Tensor, width: int, reach: Tensor, floor: Tensor | None = None) -> Ranking:
    """The ``width`` fabrics of largest approximate score.

    Args:
        queries: (Q, D) float32, finite.
        gallery: (F, R, D) float32, finite, F >= width.
        width: M, at least 1.
        reach: (Q, 1), of ``error_margin``.
        floor: (Q,) float32 exact scores; fabrics below them may be left out.

    Returns:
        (Q, width), best first, ties in any order; what is left out scores at most as much as the last one, or is below
        the floor. Places that are not taken score minus infinity. Region -1 where several may be the best. Memory
        beside the input: ``TILE_BYTES`` of scores (32 times that on a GPU), a part of that, and O(Q width).
    """
    way = _quickest(len(queries) * len(gallery), queries, gallery)
    if way == "torch":
        return _select_by_tiles(queries, gallery, width, reach, floor, way)
    with threadpool_limits(torch.get_num_threads(), user_api="blas"):  # Ray sets torch's threads only
        if way == "faiss":
            return _select_by_faiss(queries, gallery, width)
        return _select_by_tiles(queries, gallery, width, reach, floor, way)


def _select_by_tiles(
    queries: Tensor, gallery: Tensor, width: int, reach: Tensor, floor: Tensor | None, product: Way
) -> Ranking:
    fabrics, regions = gallery.shape[:2]
    tile_bytes = TILE_BYTES * (_CUDA_TILES if queries.device.type == "cuda" else 1)
    tile = max(tile_bytes // (4 * regions * len(queries)) // _GROUP, 1) * _GROUP
    buffer = torch.empty(regions * len(queries) * min(tile, fabrics), device=queries.device)
    kept = _Kept(len(queries), width, reach, floor)
    for start in range(0, fabrics, tile):
        block = gallery[start : start + tile]
        scores_TRQ = buffer[: len(block) * regions * len(queries)].view(len(block), regions, len(queries))
        _product(block.flatten(0, 1), queries, scores_TRQ.flatten(0, 1), product)
        kept.add(scores_TRQ, start)
    return kept.best()


def _select_by_faiss(queries: Tensor, gallery: Tensor, width: int) -> Ranking:
    faiss = _faiss()
    faiss.omp_set_num_threads(torch.get_num_threads())
    scores, rows = faiss.knn(queries.numpy(), gallery.squeeze(1).numpy(), width, metric=faiss.METRIC_INNER_PRODUCT)
    return Ranking(torch.from_numpy(scores), torch.from_numpy(rows), torch.zeros(rows.shape, dtype=torch.int16))


def _product(vectors_VD: Tensor, queries_QD: Tensor, out_VQ: Tensor, way: Way) -> None:
    """All dot products. Vectors before queries, so that each row of the gallery is read once, in order."""
    if way == "numpy":
        np.matmul(vectors_VD.numpy(), queries_QD.numpy().T, out=out_VQ.numpy())
    else:
        torch.mm(vectors_VD, queries_QD.T, out=out_VQ)


@cache
def _faiss() -> Any:
    """The library where it is installed: `pip install "fabric-retrieval[faiss]"`."""
    try:
        import faiss
    except ImportError:
        return None
    return faiss


def _quickest(scores: int, queries: Tensor, gallery: Tensor) -> Way:
    """How to select on this machine; for few scores it does not matter, and a trial would not pay."""
    if queries.device.type != "cpu" or scores < _WORTH_A_TRIAL:
        return "torch"
    seconds = _trial(queries.shape[1], torch.get_num_threads())
    ways: list[Way] = [way for way in seconds if way != "faiss" or gallery.shape[1] == 1]
    return min(ways, key=seconds.__getitem__)


@cache
def _trial(dim: int, threads: int) -> dict[Way, float]:
    """Seconds of each way that there is here, on random vectors; 0.1 to 0.4 s in all, once in a process.

    numpy counts in one thread only: with several, its pool of threads and torch's wait on the same cores.
    """
    rng = np.random.default_rng(0)
    queries, gallery = (torch.from_numpy(rng.standard_normal((rows, dim), np.float32)) for rows in _TRIAL)
    reach = torch.zeros(len(queries), 1)
    ways: dict[Way, Callable[[], Ranking]] = {
        way: partial(_select_by_tiles, queries, gallery[:, None], 1, reach, None, way) for way in ("torch", "numpy")
    }
    if threads > 1:
        del ways["numpy"]
    if _faiss() is not None:
        ways["faiss"] = partial(_select_by_faiss, queries, gallery[:, None], 1)
    seconds: dict[Way, float] = dict.fromkeys(ways, float("inf"))
    with threadpool_limits(threads, user_api="blas"):
        for way in [*ways] * 3:  # the first turn starts threads and loads code
            began = time.perf_counter()
            ways[way]()
            seconds[way] = min(seconds[way], time.perf_counter() - began)
    return seconds


def _true_by_column(mask_NQ: Tensor) -> tuple[Tensor, Tensor]:
    """Columns and rows of what is true, column by column."""
    if mask_NQ.device.type != "cpu":
        return mask_NQ.T.nonzero(as_tuple=True)  # type: ignore[return-value]
    # Little is true: numpy skips what is not eight at a time, and sorts 16-bit numbers without comparing them.
    row_H, column_H = np.divmod(np.flatnonzero(mask_NQ.numpy()), mask_NQ.shape[1])
    order = np.argsort(column_H.astype(np.uint16 if mask_NQ.shape[1] <= 1 << 16 else np.int64), kind="stable")
    return torch.from_numpy(column_H[order]), torch.from_numpy(row_H[order])


class _Kept:
    """The best fabrics so far, each query's in places of its own; places that are not taken score minus infinity."""

    def __init__(self, queries: int, width: int, reach: Tensor, floor: Tensor | None) -> None:
        shape, device = (queries, width * _FILL), reach.device
        self.width, self.reach = width, reach.squeeze(1)
        self.scores = torch.full(shape, -torch.inf, device=device)
        self.rows = torch.zeros(shape, dtype=torch.int64, device=device)
        self.regions = torch.zeros(shape, dtype=torch.int16, device=device)
        self.taken = torch.zeros(queries, dtype=torch.int64, device=device)
        self.has_floor = floor is not None
        self.threshold = torch.full((queries,), -torch.inf, device=device) if floor is None else floor - self.reach
        """Of each query: what does not beat it is below the floor, or ``width`` fabrics score as much or more."""

    def add(self, scores_TRQ: Tensor, start: int) -> None:
        """Take the fabrics ``start``, ``start + 1``, ... that beat the threshold."""
        found = self._above(scores_TRQ) if start or self.has_floor else self._first_of(scores_TRQ)
        new_Q = torch.bincount(found[0], minlength=len(self.taken))
        if int((self.taken + new_Q).amax()) > self.scores.shape[1]:
            self._compact()
            if int(new_Q.amax()) > self.scores.shape[1] - self.width:
                found = self._first_of(scores_TRQ)
                new_Q = torch.bincount(found[0], minlength=len(self.taken))
        query_P, row_P, scores_PR = found
        first_Q = new_Q.cumsum(0) - new_Q
        place_P = torch.arange(len(query_P), device=query_P.device) - first_Q[query_P] + self.taken[query_P]
        best_P, region_P = self._reduce(query_P, scores_PR)
        self.scores[query_P, place_P] = best_P
        self.rows[query_P, place_P] = row_P + start
        self.regions[query_P, place_P] = region_P
        self.taken += new_Q
        if not start:
            self._compact()

    def best(self) -> Ranking:
        """The first ``width``, descending."""
        scores, order = self.scores.topk(self.width)
        return Ranking(scores, self.rows.gather(1, order), self.regions.gather(1, order))

    def _above(self, scores_TRQ: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, row in the tile and scores (P, R) of what beats the threshold, query by query."""
        tile, regions, queries = scores_TRQ.shape
        groups = tile // _GROUP
        whole = scores_TRQ[: groups * _GROUP].view(groups, _GROUP, regions, queries)
        query_H, group_H = _true_by_column(whole.amax((1, 2)) > self.threshold)
        scores_HGR = whole[group_H, :, :, query_H]
        best_HG = scores_HGR.amax(2) if regions > 1 else scores_HGR.squeeze(2)  # over one it costs as much as over many
        hit_P, member_P = (best_HG > self.threshold[query_H, None]).nonzero(as_tuple=True)
        query_P, row_P, scores_PR = query_H[hit_P], group_H[hit_P] * _GROUP + member_P, scores_HGR[hit_P, member_P]
        if groups * _GROUP == tile:
            return query_P, row_P, scores_PR
        rest_ERQ = scores_TRQ[groups * _GROUP :]  # fewer than a group, at the gallery's end
        query_E, row_E = _true_by_column(rest_ERQ.amax(1) > self.threshold)
        order = torch.cat([query_P, query_E]).argsort(stable=True)
        return (
            torch.cat([query_P, query_E])[order],
            torch.cat([row_P, row_E + groups * _GROUP])[order],
            torch.cat([scores_PR, rest_ERQ[row_E, :, query_E]])[order],
        )

    def _first_of(self, scores_TRQ: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same of the first ``width`` of the tile: where it holds more news than there are places."""
        best_QT = scores_TRQ.amax(1).T
        row_QM = best_QT.topk(min(self.width, best_QT.shape[1]), sorted=False).indices
        query_QM = torch.arange(len(row_QM), device=row_QM.device)[:, None].expand_as(row_QM)
        query_P, row_P = query_QM.flatten(), row_QM.flatten()
        return query_P, row_P, scores_TRQ[row_P, :, query_P]

    def _reduce(self, query_P: Tensor, scores_PR: Tensor) -> tuple[Tensor, Tensor]:
        """A fabric's score, and the one region within reach of it, or -1 where there are several."""
        if scores_PR.shape[1] == 1:
            return scores_PR[:, 0], torch.zeros(len(scores_PR), dtype=torch.int16, device=scores_PR.device)
        best_P, region_P = scores_PR.max(1)
        near_P = (scores_PR >= (best_P - self.reach[query_P])[:, None]).sum(1)
        return best_P, region_P.to(torch.int16).masked_fill_(near_P > 1, -1)

    def _compact(self) -> None:
        scores, order = self.scores.topk(self.width, sorted=False)
        for places in (self.rows, self.regions):
            places[:, : self.width] = places.gather(1, order)
        self.scores[:, : self.width], self.scores[:, self.width :] = scores, -torch.inf
        self.threshold = torch.maximum(self.threshold, scores.amin(1))
        self.taken.fill_(self.width)
