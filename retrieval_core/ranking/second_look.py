"""The second look: the fabrics that a query found first, ranked anew by all of their windows.

Source of the mean over parts of the best match: Khattab and Zaharia, "ColBERT", SIGIR 2020, section 3.3 (MaxSim).

Shapes: Q queries, X of a query its motif and the parts of it, C candidates, N images, W windows of one, D dimensions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from retrieval_core.ranking.expansion import expand_queries, first_rows
from retrieval_core.ranking.partials import PARTIAL_SCHEMA, PLACE
from retrieval_core.ranking.window_scores import lengths, quantised, window_scores

ALIKE = 0.8
"""Share of the best window's cosine with a motif that another window of the fabric has where the motif is again."""
EXPANSIONS = 2
"""Times that a second look expands the motif and looks again, where queries are expanded."""
Box = tuple[int, int, int, int]
MATCHES, COSINES = "matches", "cosines"
"""Columns of a ranking that is to be expanded: the X windows that matched the parts, and their similarities."""


class Parts(NamedTuple):
    """The motifs of some queries."""

    queries: NDArray[np.int32]  # (Q,) rows of the query list, ascending
    vectors: NDArray[np.int8]  # (Q, X, D), the whole motif first

    def of(self, queries: NDArray[np.int32]) -> NDArray[np.int64]:
        """The rows of ``vectors`` of queries that are there."""
        return np.searchsorted(self.queries, queries)

    def with_wholes(self, vectors_QD: NDArray[np.float32]) -> Parts:
        """With other vectors of the whole motifs, such as expanded ones."""
        whole_Q1D = quantised(torch.from_numpy(np.ascontiguousarray(vectors_QD))).numpy()[:, None]
        return self._replace(vectors=np.concatenate([whole_Q1D, self.vectors[:, 1:]], axis=1))


class Images(NamedTuple):
    """Images with their windows."""

    places: NDArray[np.int64]  # (N,) numbers of the images in the gallery, ascending
    windows: Sequence[NDArray[np.int8]]  # N of (W, D)
    boxes: Sequence[NDArray[np.int32]]  # N of (W, 4)


def rescored(candidates: pa.Table, images: Images, parts: Parts, *, with_matches: bool = False) -> pa.Table:
    """Score C candidates by all of their windows.

    ``candidates`` have ``query``, ``place`` and ``image_path``, ordered by place; all of their images and queries are
    there. Returns a table that ``merge_partials`` takes, in the same order: ``similarity`` by the rule of
    ``window_scores``, ``box`` that of the window most like the whole motif. ``with_matches`` adds the window most like
    each part (X D numbers) and its cosine (X), for ``expanded_parts``. Memory O(windows of the images), and O(C X D)
    with matches.
    """
    image_C = np.searchsorted(images.places, candidates[PLACE].to_numpy())
    query_C = parts.of(candidates["query"].to_numpy())
    starts, counts = np.unique(image_C, return_index=True, return_counts=True)[1:]
    # Images with equally many windows and queries are one product.
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
        alike[len(images.windows[image_C[start]]), count].append(start)
    score_C, box_C4 = np.empty(len(candidates), np.float32), np.empty((len(candidates), 4), np.int32)
    kept, (parts_of_one, dim) = len(candidates) if with_matches else 0, parts.vectors.shape[1:]
    match_CXD, cosine_CX = np.empty((kept, parts_of_one, dim), np.int8), np.empty((kept, parts_of_one), np.float32)
    vectors_QXD = torch.from_numpy(parts.vectors)
    for (_, count), firsts in alike.items():
        rows_FC = np.array(firsts)[:, None] + np.arange(count)
        chosen = image_C[firsts].tolist()
        windows = [torch.from_numpy(images.windows[image]) for image in chosen]
        found = window_scores(windows, vectors_QXD, torch.from_numpy(query_C[rows_FC]))
        score_C[rows_FC] = found.scores
        for image, rows, best_CX in zip(chosen, rows_FC, found.windows, strict=True):
            box_C4[rows] = images.boxes[image][best_CX[:, 0]]
            if with_matches:
                match_CXD[rows] = images.windows[image][best_CX]
        if with_matches:
            cosine_CX[rows_FC] = found.cosines
    box = pa.FixedSizeListArray.from_arrays(pa.array(box_C4.reshape(-1)), 4)
    columns = [
        candidates["query"],
        pa.array(score_C),
        candidates["image_path"].cast(pa.large_string()),
        pa.array(np.zeros(len(candidates), np.int16)),
        box,
    ]
    table = pa.table(columns, schema=PARTIAL_SCHEMA)
    if not with_matches:
        return table
    matches = pa.Array.from_buffers(pa.binary(parts_of_one * dim), kept, [None, pa.py_buffer(match_CXD)])
    cosines = pa.FixedSizeListArray.from_arrays(pa.array(cosine_CX.reshape(-1)), parts_of_one)
    return table.append_column(MATCHES, matches).append_column(COSINES, cosines)


def expanded_parts(parts: Parts, ranking: pa.Table, count: int) -> Parts:
    """Each part plus the windows that it matched of the first M = ``count`` fabrics, as ``expand_queries`` adds them.

    ``ranking`` is a merged one of ``rescored`` tables with matches. Memory O(Q M X D).
    """
    if not len(ranking):
        return parts
    at_QM, (_, parts_of_one, dim) = first_rows(ranking, parts.queries.astype(np.int64), count), parts.vectors.shape
    matches = np.frombuffer(b"".join(ranking[MATCHES].to_pylist()), np.int8).reshape(-1, parts_of_one, dim)
    cosines = ranking[COSINES].combine_chunks().flatten().to_numpy().reshape(-1, parts_of_one)
    cosine_QMX = np.where(at_QM[:, :, None] >= 0, cosines[at_QM], 0)
    vectors_QXMD = _normalised(matches[at_QM].swapaxes(1, 2)).reshape(-1, count, dim)
    cosine_QXM = cosine_QMX.swapaxes(1, 2).reshape(-1, count)
    expanded = expand_queries(_normalised(parts.vectors).reshape(-1, dim), vectors_QXMD, cosine_QXM)
    return parts._replace(vectors=quantised(torch.from_numpy(expanded)).numpy().reshape(parts.vectors.shape))


def occurrences(windows_WD: NDArray[np.int8], boxes_W4: NDArray[np.int32], motif_D: NDArray[np.int8]) -> list[Box]:
    """Where a fabric shows a motif: boxes around windows like it that touch each other, the most similar one first.

    A window is like the motif if its cosine is at least ``ALIKE`` of the best one's, which must be above 0. Time and
    memory O(W D + U^2) for U windows that are.
    """
    # The cosines times the motif's length, which is the same for all.
    cosine_W = windows_WD.astype(np.int32) @ motif_D.astype(np.int32) / lengths(torch.from_numpy(windows_WD)).numpy()
    alike_U = np.flatnonzero((cosine_W > 0) & (cosine_W >= ALIKE * cosine_W.max()))
    low_U2, high_U2 = boxes_W4[alike_U, :2], boxes_W4[alike_U, 2:]
    touch_UU = np.all((low_U2[:, None] <= high_U2) & (low_U2 <= high_U2[:, None]), axis=2)
    found, left_U = list[Box](), np.ones(len(alike_U), bool)
    for first in np.argsort(-cosine_W[alike_U], kind="stable"):
        if not left_U[first]:
            continue
        group_U, size = touch_UU[first], 0
        while group_U.sum() > size:  # with all that touch it, and all that touch those
            size, group_U = group_U.sum(), touch_UU[group_U].any(axis=0)
        left_U &= ~group_U
        corners = np.concatenate([low_U2[group_U].min(axis=0), high_U2[group_U].max(axis=0)])
        found.append(tuple(corners.tolist()))
    return found


def _normalised(vectors_XD: NDArray[np.int8]) -> NDArray[np.float32]:
    divided: NDArray[np.float32] = (vectors_XD / lengths(torch.from_numpy(vectors_XD)).numpy()[..., None]).astype(
        np.float32
    )
    return divided
