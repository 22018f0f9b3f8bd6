"""Relevant fabrics that are not in the pool, and the rank that each of them got.

A pool ends at its last candidate, and no stage keeps what stands below it. What was lost is found again for a few
queries at a time: the exact score (``exact_scores``) of every relevant fabric against that of the last candidate, then
a count of the fabrics that stand before it. Both go over the store bucket by bucket, a shard in memory at a time.

Shapes: Q queries asked about, R vectors of a fabric, D dimensions, F fabrics of a shard, P (query, fabric) pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from retrieval_core.files import storage, tables
from retrieval_core.ranking.exact_scores import exact_score_matrix, exact_scores
from retrieval_core.store.embeddings import Box, Vectors, read_manifest, read_vectors

_SCORES = 1 << 22  # scores in memory at a time: 32 MB as float64


class Question(NamedTuple):
    """What is asked about one query.

    Attributes:
        categories: of the query.
        vector_D: its embedding, float32.
        last: similarity and path of its last candidate.
    """

    categories: frozenset[str]
    vector_D: NDArray[np.float32]
    last: tuple[float, str]


class Lost(NamedTuple):
    """A relevant fabric that is not in the pool; one that was rejected has neither score nor rank nor box."""

    path: str
    location: str
    similarity: float | None = None
    box: Box | None = None
    rank: int | None = None

    @property
    def place(self) -> tuple[bool, float, bytes]:
        """Sorts as the pool does: score descending, then path as UTF-8 bytes; rejected ones last."""
        return self.similarity is None, -(self.similarity or 0.0), self.path.encode(errors="surrogateescape")


def query_vectors(store: str, paths: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """Vectors (D,) of some queries by path, without the rejected ones. Memory O(one shard + paths D)."""
    wanted = pa.array(list(paths), pa.string())
    found: dict[str, NDArray[np.float32]] = {}
    for entry in read_manifest(store)["shards"]:
        shard = read_vectors([(storage.join(store, entry["file"]), 0, entry["rows"])], 1)
        for row in np.flatnonzero(np.asarray(pc.is_in(shard.paths, wanted))).tolist():
            found[shard.paths[row].as_py()] = shard.embeddings_FRD[row, 0].copy()
    return found


def lost_in_bucket(
    plan: str, shards: Sequence[str], regions: int, questions: Sequence[Question], limit: int
) -> list[list[Lost]]:
    """The relevant fabrics of a bucket that the pool lost, for each query, without ranks yet.

    Args:
        plan: the bucket's plan file.
        shards: its shards.
        regions: rows a fabric.
        questions: at least one.
        limit: fabrics returned a query.

    Returns:
        At most ``limit`` for each question, nearest first. Memory O(bucket + P + one shard).
    """
    locations, wanted = _relevant(plan, questions)
    best = [list[Lost]() for _ in questions]
    for shard in shards:
        vectors = read_vectors([(shard, 0, tables.row_count(shard) // regions)], regions, boxes=True)
        for row, path in enumerate(vectors.paths.to_pylist()):
            asked = wanted.pop(path, [])
            for number, (similarity, box) in zip(asked, _best_regions(vectors, row, questions, asked), strict=True):
                lost = Lost(path, locations[path], similarity, box)
                if lost.place > Lost(questions[number].last[1], "", questions[number].last[0]).place:
                    best[number] = sorted([*best[number], lost], key=lambda one: one.place)[:limit]
    for path, asked in sorted(wanted.items()):  # in the plan, but in no shard
        for number in asked:
            best[number] = [*best[number], Lost(path, locations[path])][:limit]
    return best


def _relevant(plan: str, questions: Sequence[Question]) -> tuple[dict[str, str], dict[str, list[int]]]:
    """Location of each fabric of a bucket that is relevant to a question, and the numbers of those questions."""
    by_category: dict[str, list[int]] = defaultdict(list)
    for number, question in enumerate(questions):
        for name in question.categories:
            by_category[name].append(number)
    table = tables.read_table(plan, columns=["path", "location", "categories"])
    locations, wanted = {}, {}
    for path, location, names in zip(*(column.to_pylist() for column in table.columns), strict=True):
        asked = sorted({number for name in names for number in by_category.get(name, ())})
        if asked:
            locations[path], wanted[path] = location, asked
    return locations, wanted


def _best_regions(
    vectors: Vectors, row: int, questions: Sequence[Question], asked: Sequence[int]
) -> list[tuple[float, Box | None]]:
    """Exact similarity of one fabric for each query in ``asked``, and the box of the vector that has it."""
    if not asked:
        return []
    queries_QD = torch.from_numpy(np.stack([questions[number].vector_D for number in asked]))
    vectors_RD = torch.from_numpy(np.ascontiguousarray(vectors.embeddings_FRD[row]))
    rows_R = torch.arange(len(vectors_RD))
    scores_QR = exact_scores(queries_QD, torch.arange(len(asked))[:, None], vectors_RD, rows_R[None, :])
    best_Q = scores_QR.argmax(1).tolist()  # the first of equal ones
    boxes_R4 = vectors.boxes_FR4[row].tolist()
    return [
        (float(scores_QR[place, best]), tuple(boxes_R4[best]) if len(rows_R) > 1 else None)
        for place, best in enumerate(best_Q)
    ]


def count_before(
    shards: Sequence[str],
    regions: int,
    questions: Sequence[Question],
    targets: Mapping[int, Sequence[tuple[float, str]]],
) -> dict[int, list[int]]:
    """How many fabrics of some shards stand before given places of the endless ranking.

    Args:
        shards: files of the store.
        regions: rows a fabric.
        questions: the queries.
        targets: number of a question -> (similarity, path) of places in its ranking.

    Returns:
        For each place the fabrics with a larger score, or an equal one and a smaller path. Time O(F R D Q), memory
        O(one shard) and a constant.
    """
    counts = {number: [0] * len(places) for number, places in targets.items()}
    numbers = list(targets)
    for shard in shards:
        vectors = read_vectors([(shard, 0, tables.row_count(shard) // regions)], regions)
        if not len(vectors.paths):
            continue
        step = max(1, _SCORES // len(vectors.paths))
        for start in range(0, len(numbers), step):
            part = numbers[start : start + step]
            scores_QF = _scores(np.stack([questions[number].vector_D for number in part]), vectors.embeddings_FRD)
            for number, scores_F in zip(part, scores_QF, strict=True):
                for place, (similarity, path) in enumerate(targets[number]):
                    counts[number][place] += _before(scores_F, vectors.paths, np.float32(similarity), path)
    return counts


def _scores(queries_QD: NDArray[np.float32], gallery_FRD: NDArray[np.float32]) -> NDArray[np.float32]:
    queries, gallery = torch.from_numpy(queries_QD), torch.from_numpy(gallery_FRD)
    best_QF = exact_score_matrix(queries, gallery[:, 0].contiguous())
    for region in range(1, gallery.shape[1]):
        torch.maximum(best_QF, exact_score_matrix(queries, gallery[:, region].contiguous()), out=best_QF)
    scores: NDArray[np.float32] = best_QF.numpy()
    return scores


def _before(scores_F: NDArray[np.float32], paths: pa.Array, similarity: np.float32, path: str) -> int:
    equal = np.flatnonzero(scores_F == similarity).tolist()
    mark = path.encode(errors="surrogateescape")
    smaller = [row for row in equal if paths[row].as_py().encode(errors="surrogateescape") < mark]
    return int((scores_F > similarity).sum()) + len(smaller)
