"""Relevant fabrics that are not in the pool, and the rank that each of them has.

No stage keeps what ranks below the last candidate. It is found again for a few queries at a time: first the relevant
fabrics whose exact score (``exact_scores``) ranks them there, then the number of fabrics that rank before each. Both
passes read the store bucket by bucket, one shard in memory at a time.

Shapes: Q queries, R vectors of a fabric, D dimensions, F fabrics of a shard, P (query, fabric) pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from retrieval_core.files import storage, tables
from retrieval_core.ranking.exact_scores import exact_score_matrix, exact_scores
from retrieval_core.store.embeddings import Box, Vectors, read_manifest, read_vectors

_SCORES = 1 << 22  # in memory at a time: 32 MB as float64


class Question(NamedTuple):
    """A query whose lost fabrics are asked for."""

    categories: frozenset[str]
    vector_D: NDArray[np.float32]
    found: frozenset[str]  # paths of its candidates


class Lost(NamedTuple):
    """A relevant fabric that is not in the pool; of a rejected one only path and location are known.

    Score and rank are those of the first look.
    """

    path: str
    location: str
    similarity: float | None = None
    box: Box | None = None
    rank: int | None = None
    pixels: int | None = None  # of the whole fabric

    @property
    def sort_key(self) -> tuple[bool, float, bytes]:
        """Sorts as the pool does: by descending score, then by path; rejected fabrics last."""
        return self.similarity is None, -(self.similarity or 0.0), self.path.encode()


def nearest(lost: Iterable[Lost], limit: int) -> list[Lost]:
    """The first ``limit`` in the order of the pool."""
    return sorted(lost, key=lambda fabric: fabric.sort_key)[:limit]


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
    """The nearest ``limit`` relevant fabrics of a bucket that the pool lost, for each query, without ranks yet.

    ``plan`` and ``shards`` are the bucket's files, with ``regions`` vectors per fabric. At least one question is
    needed. Memory O(bucket + P + one shard).
    """
    locations, wanted = _relevant(plan, questions)
    best = [list[Lost]() for _ in questions]
    for shard in shards:
        vectors = read_vectors([(shard, 0, tables.row_count(shard) // regions)], regions, boxes=True)
        for row, path in enumerate(vectors.paths.to_pylist()):
            asked = wanted.pop(path, [])
            width, height = vectors.boxes_FR4[row, 0, 2:].tolist()  # region 0 is the whole fabric
            for number, (similarity, box) in zip(asked, _best_regions(vectors, row, questions, asked), strict=True):
                if path not in questions[number].found:
                    fabric = Lost(path, locations[path], similarity, box, pixels=width * height)
                    best[number] = nearest([*best[number], fabric], limit)
    for path, asked in sorted(wanted.items()):  # rejected: in the plan, but in no shard
        for number in asked:
            best[number] = [*best[number], Lost(path, locations[path])][:limit]
    return best


def _relevant(plan: str, questions: Sequence[Question]) -> tuple[dict[str, str], dict[str, list[int]]]:
    """Location of each relevant fabric, and the numbers of the questions that it is relevant to."""
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
    """Exact similarity of one fabric to each query in ``asked``, and the box of the vector that has it."""
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
    """For each target, how many fabrics of some shards have a larger score, or an equal one and a smaller path.

    ``targets`` maps the number of a question to the (similarity, path) of the fabrics to rank. Time O(F R D Q), memory
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
    smaller = [row for row in equal if paths[row].as_py().encode() < path.encode()]
    return int((scores_F > similarity).sum()) + len(smaller)
