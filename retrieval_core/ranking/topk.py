"""Exact top-k of a block of the gallery; ``partials`` merges several.

A float32 matrix product selects every fabric that may belong to the first k, and the rule of ``exact_scores`` rescores
those few. So the result does not depend on the arithmetic of the product or on the sizes of blocks. A fabric has R
views (regions); its score is the largest over them, reduced before the cut to k. The terms width, margin, threshold,
``FREE`` and ``UNCLEAR`` are those of ``shortlist``.

Shapes: Q queries, F fabrics of a block, R regions, D dimensions, V = F R vectors, T fabrics of a tile, K = min(k, F),
M fabrics a query that were selected or scored so far, P (query, fabric) pairs, U of them with an unclear region.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retrieval_core.ranking.exact_scores import exact_score_matrix, exact_scores, norm_bound
from retrieval_core.ranking.selection import TILE_BYTES, error_margin, select
from retrieval_core.ranking.shortlist import UNCLEAR, Ranking

_PASS_QUERIES = 1024  # with fewer a matrix product is slower; with more a tile holds too few fabrics to select among
_SPARE = 28  # fabrics selected beyond k at least: near-ties of the k-th, which the exact scores put in order
_RESCORING_COST = 32  # of an exact score of a selected fabric, in exact scores of a whole matrix
_LONGEST = 1e18  # the product of two longer vectors could overflow float32
_LAST_ROW = (1 << 32) - 1  # rows are the low half of a sort key
_FREE_KEY = (-0x7F800001 << 32) | _LAST_ROW  # the sort key of minus infinity and row 0


class TopK(NamedTuple):
    """The first K fabrics of each query, best first; places that a score threshold left free come last, with -inf."""

    scores: NDArray[np.float32]  # (Q, K)
    rows: NDArray[np.int64]  # (Q, K), fabrics of the block
    regions: NDArray[np.int16]  # (Q, K), the smallest region that has the score


class ScoreThreshold:
    """The k-th best score of each query over the blocks ranked so far: it makes every further block quicker to rank.

    A fabric among the first k of the whole gallery scores at least as much as the k-th of any part of it. So a
    threshold holds for all blocks of its gallery, in any order, and for no other gallery. Memory O(Q k).
    """

    def __init__(self, queries: int, k: int) -> None:
        self._best_Qk = np.full((queries, k), -np.inf, np.float32)
        self._blocks: set[str] = set()

    @property
    def values(self) -> NDArray[np.float32] | None:
        """(Q,) for ``block_topk``; None while no block was added."""
        threshold_Q: NDArray[np.float32] = self._best_Qk.min(1)
        return threshold_Q if self._blocks else None

    def add(self, block: str, scores_QK: NDArray[np.float32]) -> None:
        """Take the scores of a block; those of one that is ranked again are ignored, as no fabric may count twice."""
        if block in self._blocks:
            return
        self._blocks.add(block)
        k = self._best_Qk.shape[1]
        both = np.concatenate([self._best_Qk, scores_QK], 1)
        self._best_Qk = np.partition(both, both.shape[1] - k, axis=1)[:, -k:]


def block_topk(
    queries_QD: NDArray[np.floating] | Tensor,
    gallery_FRD: NDArray[np.floating] | Tensor,
    k: int,
    *,
    threshold_Q: NDArray[np.float32] | None = None,
    device: str | torch.device = "cpu",
) -> TopK:
    """Rank a block of the gallery for each query.

    Args:
        queries_QD: (Q, D) float32 or float16, each no longer than 1e18 (embeddings are L2-normalised).
        gallery_FRD: (F, R, D) likewise, fabrics ordered by path as UTF-8 bytes: equal scores go to the smaller row.
        k: fabrics kept per query, at least 1; more than F gives all F.
        threshold_Q: (Q,) of ``ScoreThreshold``: fabrics that score less are not needed, and most are left out.
        device: where the arithmetic runs.

    Returns:
        (Q, min(k, F)), the same on every device, but for what is below the threshold. Memory beside the input: O(FRD)
        if it is float16 or goes to another device, O(F R + Q min(k, F)), and for the pass under way a constant (about
        200 MB) plus O(1024 k R).

    Raises:
        ValueError: for ``k < 1``, wrong shapes or types, or a vector that is not finite.
    """
    if k < 1:
        raise ValueError(f"k = {k}: must be at least 1")
    with torch.inference_mode():
        queries = _vectors(queries_QD, "query", 2, torch.device(device))
        gallery = _vectors(gallery_FRD, "gallery", 3, torch.device(device))
        if queries.shape[1] != gallery.shape[2]:
            raise ValueError(
                f"queries have {queries.shape[1]} dimensions, the gallery {gallery.shape[2]}; embed both with one model"
            )
        assert gallery.shape[0] <= _LAST_ROW and 1 <= gallery.shape[1] <= np.iinfo(np.int16).max, gallery.shape
        query_norms, gallery_norms = _norms(queries, "query"), _norms(gallery, "gallery")
        k = min(k, len(gallery))
        ranking = _empty(len(queries), k, torch.device("cpu"))
        threshold = None if threshold_Q is None else torch.from_numpy(threshold_Q).to(queries.device)
        for start in range(0, len(queries) if k else 0, _PASS_QUERIES):
            part = slice(start, start + _PASS_QUERIES)
            margin_Q1 = error_margin(query_norms[part], float(gallery_norms.amax()), gallery)
            part_threshold = None if threshold is None else threshold[part]
            _put(ranking, part, _rank(queries[part], gallery, k, margin_Q1, part_threshold))
    return TopK(*(whole.numpy() for whole in ranking))


def _vectors(array: NDArray[np.floating] | Tensor, name: str, ndim: int, device: torch.device) -> Tensor:
    if isinstance(array, np.ndarray):
        with warnings.catch_warnings():  # shared memory is read-only, and is only read here
            warnings.simplefilter("ignore", UserWarning)
            array = torch.from_numpy(np.ascontiguousarray(array))
    if array.ndim != ndim or array.dtype not in {torch.float32, torch.float16} or not array.shape[-1]:
        raise ValueError(
            f"{name} vectors of shape {tuple(array.shape)} and type {array.dtype}: must be float32 or float16, "
            f"{'(Q, D)' if ndim == 2 else '(F, R, D)'}, D at least 1"
        )
    return array.to(device=device, dtype=torch.float32).contiguous()


def _norms(vectors: Tensor, name: str) -> Tensor:
    norms = norm_bound(vectors)
    bad = torch.logical_not(norms <= _LONGEST)  # not <= is also true of NaN
    if bad.any():
        row = bad.nonzero()[0].tolist()
        raise ValueError(f"{name} vector {row} is not finite or is longer than {_LONGEST:g}; embed that image again")
    return norms


def _rank(queries: Tensor, gallery: Tensor, k: int, margin_Q1: Tensor, threshold_Q: Tensor | None) -> Ranking:
    width = k + max(_SPARE, k // 4)
    if width >= len(gallery) or width * _RESCORING_COST >= gallery.shape[0] * gallery.shape[1]:
        return _rank_densely(queries, gallery, k)
    selected = select(queries, gallery, width, margin_Q1, threshold_Q)
    contends_QM = _contenders(selected.scores, k, margin_Q1, threshold_Q)
    # Where even the last one selected contends, others that do may have been left out: look at every fabric.
    crowded_Q = contends_QM[:, -1]
    ranking = _empty(len(queries), k, queries.device)
    if not crowded_Q.all():
        few = Ranking(*(part[~crowded_Q] for part in selected))
        _put(ranking, ~crowded_Q, _rescore(queries[~crowded_Q], gallery, k, few, contends_QM[~crowded_Q]))
    if crowded_Q.any():
        _put(ranking, crowded_Q, _rank_densely(queries[crowded_Q], gallery, k))
    return ranking


def _contenders(scores_QM: Tensor, k: int, margin_Q1: Tensor, threshold_Q: Tensor | None) -> Tensor:
    """Which selected fabrics may be among the first k and reach the threshold; they come first in each row."""
    least_Q1 = scores_QM[:, k - 1 : k]
    if threshold_Q is not None:
        least_Q1 = torch.maximum(least_Q1, threshold_Q[:, None])
    return scores_QM >= least_Q1 - margin_Q1


def _empty(queries: int, k: int, device: torch.device) -> Ranking:
    types = (torch.float32, torch.int64, torch.int16)
    return Ranking(*(torch.empty(queries, k, dtype=dtype, device=device) for dtype in types))


def _put(ranking: Ranking, queries: slice | Tensor, part: Ranking) -> None:
    for target, values in zip(ranking, part, strict=True):
        target[queries] = values.to(target.device)


def _rescore(queries: Tensor, gallery: Tensor, k: int, selected: Ranking, contends_QM: Tensor) -> Ranking:
    regions = gallery.shape[1]
    vectors_VD = gallery.view(-1, gallery.shape[2])
    query_P, column_P = contends_QM.nonzero(as_tuple=True)
    row_P, region_P = selected.rows[query_P, column_P], selected.regions[query_P, column_P].to(torch.int64)
    score_P = exact_scores(queries, query_P, vectors_VD, row_P * regions + region_P.clamp(min=0))
    pair_U = (region_P == UNCLEAR).nonzero().squeeze(1)
    if len(pair_U):
        every_R = torch.arange(regions, device=queries.device)
        scores_UR = exact_scores(queries, query_P[pair_U, None], vectors_VD, row_P[pair_U, None] * regions + every_R)
        region_P[pair_U] = scores_UR.argmax(1)  # the first of equal ones
        score_P[pair_U] = scores_UR.amax(1)
    shape = (len(queries), max(int(column_P.max()) + 1 if len(column_P) else 0, k))
    keys = torch.full(shape, _FREE_KEY, device=queries.device)
    keys[query_P, column_P] = _sort_keys(score_P, row_P)
    region_QM = torch.zeros(shape, dtype=torch.int16, device=queries.device)
    region_QM[query_P, column_P] = region_P.to(torch.int16)
    return _first_k(keys, region_QM, k)


def _rank_densely(queries: Tensor, gallery: Tensor, k: int) -> Ranking:
    """Score every fabric by the rule; for many near-ties, or k not far below the number of fabrics."""
    # As large as the selection's tile, though several float64 arrays of its shape are in use; at least k, so that
    # keeping the first k so far costs no more than scoring.
    tile = max(TILE_BYTES // (8 * max(len(queries), queries.shape[1])), k)
    keys = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    regions_QM = torch.empty(len(queries), 0, dtype=torch.int16, device=queries.device)
    for start in range(0, len(gallery), tile):
        block = gallery[start : start + tile]
        best_QT = exact_score_matrix(queries, block[:, 0])
        region_QT = torch.zeros_like(best_QT, dtype=torch.int16)
        for region in range(1, gallery.shape[1]):
            scores_QT = exact_score_matrix(queries, block[:, region])
            region_QT.masked_fill_(scores_QT > best_QT, region)
            torch.maximum(best_QT, scores_QT, out=best_QT)
        rows_T = torch.arange(start, start + len(block), device=queries.device)
        keys, order = torch.cat([keys, _sort_keys(best_QT, rows_T)], 1).topk(min(k, start + len(block)), sorted=False)
        regions_QM = torch.cat([regions_QM, region_QT], 1).gather(1, order)
    return _first_k(keys, regions_QM, k)


def _sort_keys(scores: Tensor, rows: Tensor) -> Tensor:
    """One int64 for (score descending, row ascending): the larger key comes first, and no two are equal."""
    bits = scores.view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # float32 order as int32 order
    return (ordered.to(torch.int64) << 32) | (_LAST_ROW - rows)


def _first_k(keys: Tensor, regions: Tensor, k: int) -> Ranking:
    keys, order = keys.topk(k)
    ordered = (keys >> 32).to(torch.int32)
    scores = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)
    return Ranking(scores, _LAST_ROW - (keys & _LAST_ROW), regions.gather(1, order))
