"""The pool and its judgements as trec_eval, ranx and other programs read them: ``run.trec`` and ``qrels.trec``.

A line of the run is ``query Q0 fabric rank similarity tag``, one of the judgements ``query 0 fabric 1``; only relevant
fabrics are listed. Names are the paths of the pool, in which white space, the separator of columns, and the per cent
sign are URL-quoted (``%20`` for a space); ``urllib.parse.unquote`` turns a name back.

Those programs sort by the score alone, each with its own rule for ties (trec_eval puts the larger name first). So that
all see the pool's order, an equal similarity is lowered by the smallest step a float32 can make; others stay.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from retrieval_core.evaluation.relevance import Queries
from retrieval_core.files import storage, tables
from retrieval_core.ranking.candidate_pool import QueryCandidates, read_pool

RUN = "run.trec"
QRELS = "qrels.trec"
_LAST_SPACE = 0x3000  # the last white space of Unicode
_ESCAPES = {code: quote(chr(code)) for code in range(_LAST_SPACE + 1) if chr(code).isspace() or chr(code) == "%"}


def escaped(name: str) -> str:
    """A path as a word of a TREC file."""
    return name.translate(_ESCAPES)


def strictly_descending(similarities_K: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The largest (K,) values that fall from each to the next and are at most the given ones, finite and descending."""
    # Bit patterns of float32, read as integers and mirrored below zero, count the float32 values in order.
    bits_K = similarities_K.view(np.int32).astype(np.int64)
    number_K = np.where(bits_K < 0, -(bits_K & 0x7FFFFFFF), bits_K)
    place_K = np.arange(len(number_K))
    number_K = np.minimum.accumulate(number_K + place_K) - place_K
    bits_K = np.where(number_K < 0, -number_K | 0x80000000, number_K)
    return bits_K.astype(np.uint32).view(np.float32)


def write_run(pool: str, target: str, tag: str) -> None:
    """Write ``candidate_pool.parquet`` as a run, whole or not at all; a query without candidates has no line.

    ``tag`` is the run's name, one word. Memory O(candidates of a query).
    """
    with storage.atomic_write(target) as file:
        for candidates in read_pool(pool):
            file.write(_run_lines(candidates, tag).encode())


def _run_lines(candidates: QueryCandidates, tag: str) -> str:
    query = escaped(candidates.query_path)
    scores = strictly_descending(candidates.similarities).astype(np.float64).tolist()
    ranked = enumerate(zip(candidates.image_paths, scores, strict=True), 1)
    return "".join(f"{query} Q0 {escaped(image)} {rank} {score!r} {tag}\n" for rank, (image, score) in ranked)


def write_bucket_qrels(plan: str, queries: Queries, target: str) -> None:
    """Write a bucket's judgements in query order, whole or not at all. Memory O(bucket x categories of a fabric)."""
    table = tables.read_table(plan, columns=["path", "categories"])
    holders: dict[str, list[int]] = {name: [] for names in queries.categories for name in names}
    for row, names in enumerate(table.column("categories").to_pylist()):
        for name in set(names) & holders.keys():
            holders[name].append(row)
    fabrics = [escaped(path) for path in table.column("path").to_pylist()]
    with storage.atomic_write(target) as file:
        for path, names in zip(*queries, strict=True):
            query = escaped(path)
            relevant = sorted({row for name in names for row in holders[name]})
            file.write("".join(f"{query} 0 {fabrics[row]} 1\n" for row in relevant).encode())


def join_qrels(parts: Iterable[str], target: str) -> None:
    """Concatenate the buckets' judgements into one file, whole or not at all. Memory O(1)."""
    with storage.atomic_write(target) as file:
        for part in parts:
            with storage.open_read(part) as reader:
                shutil.copyfileobj(reader, file, 1 << 20)
