"""Which fabrics may belong to the first k: a tiled float32 matrix product and a running selection.

What is found here is approximate and only chooses what is scored exactly: see ``similarity``.

Shapes: Q queries, F fabrics, R regions, D dimensions, T fabrics of a tile, M fabrics kept a query, N groups of G
fabrics.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from retrieval_core.exact_scores import matmul_arithmetic, selection_error

TILE_BYTES = 32 << 20  # scores in flight: larger tiles leave the last-level cache, smaller ones select more often
_GROUP = 8  # fabrics of which only the largest score takes part in a tile's first selection


class Ranking(NamedTuple):
    """Fabrics of each query, best first."""

    scores: Tensor  # (Q, M) float32
    rows: Tensor  # (Q, M) int64
    regions: Tensor  # (Q, M) int16


def reach_of(query_norms: Tensor, longest: float, gallery: Tensor) -> Tensor:
    """How far below the k-th approximate score a fabric may lie and still belong to the first k; (Q, 1) float32."""
    arithmetic, dim = matmul_arithmetic(gallery.device), gallery.shape[2]
    errors = [selection_error(dim, arithmetic, norm * longest) for norm in query_norms.tolist()]
    # Both scores may be one error off; the third error is more than the rounding of the comparison itself.
    return 3 * torch.tensor(errors, device=gallery.device)[:, None]


def select(queries: Tensor, gallery: Tensor, width: int, reach: Tensor) -> Ranking:
    """The ``width`` fabrics of largest approximate score, best first; region -1 where several may be the best."""
    fabrics, regions = gallery.shape[:2]
    tile = max(TILE_BYTES // (4 * regions * len(queries)) // _GROUP, 1) * _GROUP
    buffer = torch.empty(regions * len(queries) * min(tile, fabrics), device=queries.device)
    kept = Ranking(
        torch.empty(len(queries), 0, device=queries.device),
        torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device),
        torch.empty(len(queries), 0, dtype=torch.int16, device=queries.device),
    )
    # The last tile but one ends at a multiple of the group; the few fabrics after it make their own.
    edges = sorted({*range(0, fabrics, tile), fabrics // _GROUP * _GROUP, fabrics})
    for start, end in pairwise(edges):
        scores_RQT = buffer[: regions * len(queries) * (end - start)].view(regions, len(queries), end - start)
        for region, scores_QT in enumerate(scores_RQT):
            torch.mm(queries, gallery[start:end, region].T, out=scores_QT)
        scores_QM, columns_QM = _largest(scores_RQT.amax(0) if regions > 1 else scores_RQT[0], width)
        found = Ranking(scores_QM, columns_QM + start, _sole_region(scores_RQT, scores_QM, columns_QM, reach))
        kept = _best(Ranking(*(torch.cat(both, 1) for both in zip(kept, found, strict=True))), width)
    return kept


def _largest(scores_QT: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Values and columns of the ``width`` largest scores of each row, in no order."""
    queries, total = scores_QT.shape
    groups = total // _GROUP
    if total % _GROUP or groups <= width:
        values, columns = scores_QT.topk(min(width, total), sorted=False)
        return values, columns
    # The largest `width` scores lie in the `width` groups of largest maximum. A group is every `groups`-th column,
    # so that the maxima are taken along whole rows of memory; this costs a fraction of a top-k over all columns.
    scores_QGN = scores_QT.view(queries, _GROUP, groups)
    chosen_QM = scores_QGN.amax(1).topk(width, sorted=False).indices
    members = scores_QGN.gather(2, chosen_QM[:, None].expand(-1, _GROUP, -1)).flatten(1)
    values, places = members.topk(width, sorted=False)
    return values, chosen_QM.gather(1, places % width) + places // width * groups


def _sole_region(scores_RQT: Tensor, best_QM: Tensor, columns_QM: Tensor, reach: Tensor) -> Tensor:
    """int16 (Q, M): the one region within reach of the fabric's best score, or -1 where there are several."""
    if len(scores_RQT) == 1:
        return torch.zeros_like(columns_QM, dtype=torch.int16)
    threshold_QM = best_QM - reach
    near_QM = torch.zeros_like(columns_QM, dtype=torch.int16)
    sole_QM = torch.zeros_like(near_QM)
    for region, scores_QT in enumerate(scores_RQT):
        within = scores_QT.gather(1, columns_QM) >= threshold_QM
        near_QM += within
        sole_QM.masked_fill_(within, region)
    return sole_QM.masked_fill_(near_QM > 1, -1)


def _best(ranking: Ranking, width: int) -> Ranking:
    """The ``width`` largest scores of each query in descending order, ties in any."""
    scores, order = ranking.scores.topk(min(width, ranking.scores.shape[1]))
    return Ranking(scores, ranking.rows.gather(1, order), ranking.regions.gather(1, order))
