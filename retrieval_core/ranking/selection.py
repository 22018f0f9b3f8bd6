"""Which fabrics may belong to the first k: a float32 matrix product, tile by tile, and a shortlist.

Scores in here are approximate and only choose what ``topk`` scores exactly. Time goes into the product, which is
torch's or, in one thread, numpy's; where FAISS is installed, its exact search may select from a gallery of one region a
fabric. Each brings its own BLAS, so which is quickest depends on the processor: a trial tells.

Shapes: Q queries, F fabrics, R regions, D dimensions, V = F R vectors, T fabrics of a tile, M fabrics selected a query.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from retrieval_core.ranking.exact_scores import matmul_arithmetic, selection_error
from retrieval_core.ranking.shortlist import GROUP, Ranking, Shortlist

TILE_BYTES = 8 << 20  # scores in flight: larger tiles leave the last-level cache, smaller ones cost more calls
_CUDA_TILES = 32  # times as much on a GPU, where a call costs more than memory
_TRIAL_PAYS = 1 << 27  # scores to compute, which take about half a second
_TRIAL_SHAPE = (512, 8192)  # queries and fabrics

Way = Literal["torch", "numpy", "faiss"]


def error_margin(query_norms: Tensor, longest: float, gallery: Tensor) -> Tensor:
    """How far below the k-th approximate score a fabric may lie and still belong to the first k; (Q, 1) float32."""
    arithmetic, dim = matmul_arithmetic(gallery.device), gallery.shape[2]
    errors = [selection_error(dim, arithmetic, norm * longest) for norm in query_norms.tolist()]
    # Both scores may be one error off; the third error is more than the rounding of the comparison itself.
    return 3 * torch.tensor(errors, device=gallery.device)[:, None]


def select(
    queries: Tensor, gallery: Tensor, width: int, margin_Q1: Tensor, threshold_Q: Tensor | None = None
) -> Ranking:
    """The ``width`` fabrics of largest approximate score, for finite float32 queries (Q, D) and a gallery (F, R, D).

    Returns (Q, M), best first, ties in any order, with ``FREE`` and ``UNCLEAR``; M = ``width``, from 1 to F. What is
    left out scores at most as much as the last one, or its exact score is below ``threshold_Q``. Memory beside the
    input: ``TILE_BYTES`` of scores (32 times that on a GPU), a part of that, and O(Q M).
    """
    way = _quickest(len(queries) * len(gallery), queries, gallery)
    if way == "torch":
        return _select_by_tiles(queries, gallery, width, margin_Q1, threshold_Q, way)
    with threadpool_limits(torch.get_num_threads(), user_api="blas"):  # Ray sets torch's threads only
        if way == "faiss":
            return _select_by_faiss(queries, gallery, width)
        return _select_by_tiles(queries, gallery, width, margin_Q1, threshold_Q, way)


def _select_by_tiles(
    queries: Tensor, gallery: Tensor, width: int, margin_Q1: Tensor, threshold_Q: Tensor | None, product: Way
) -> Ranking:
    fabrics, regions = gallery.shape[:2]
    tile_bytes = TILE_BYTES * (_CUDA_TILES if queries.device.type == "cuda" else 1)
    tile = max(tile_bytes // (4 * regions * len(queries)) // GROUP, 1) * GROUP
    buffer = torch.empty(regions * len(queries) * min(tile, fabrics), device=queries.device)
    shortlist = Shortlist(width, margin_Q1.squeeze(1), threshold_Q)
    for start in range(0, fabrics, tile):
        block = gallery[start : start + tile]
        scores_TRQ = buffer[: len(block) * regions * len(queries)].view(len(block), regions, len(queries))
        _product(block.flatten(0, 1), queries, scores_TRQ.flatten(0, 1), product)
        shortlist.add(scores_TRQ, start)
    return shortlist.best()


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
    if queries.device.type != "cpu" or scores < _TRIAL_PAYS:
        return "torch"
    seconds = _trial(queries.shape[1], torch.get_num_threads())
    ways: list[Way] = [way for way in seconds if way != "faiss" or gallery.shape[1] == 1]
    return min(ways, key=seconds.__getitem__)


@cache
def _trial(dim: int, threads: int) -> dict[Way, float]:
    """Seconds of each way that there is here, on random vectors; 0.1 to 0.4 s in all, once in a process.

    numpy takes part with one thread only: with several, its pool of threads and torch's compete for the cores.
    """
    rng = np.random.default_rng(0)
    queries, gallery = (torch.from_numpy(rng.standard_normal((rows, dim), np.float32)) for rows in _TRIAL_SHAPE)
    margin_Q1 = torch.zeros(len(queries), 1)
    ways: dict[Way, Callable[[], Ranking]] = {
        way: partial(_select_by_tiles, queries, gallery[:, None], 1, margin_Q1, None, way) for way in ("torch", "numpy")
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
