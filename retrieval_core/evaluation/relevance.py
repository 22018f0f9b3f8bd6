"""Which candidates hold the query's motif, judged bucket by bucket of the catalogue.

A fabric is relevant to a query when they share a category. Each bucket of labels is judged on its own against the pools
of all arms, so no process holds the labels of the whole gallery.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retrieval_core.evaluation.motif_size import CLASSES, Sizes, pair_class
from retrieval_core.evaluation.outcomes import Ints, QueryOutcome
from retrieval_core.files import storage, tables
from retrieval_core.process import no_collection


class Queries(NamedTuple):
    """The query list, in order and without repeats."""

    paths: list[str]
    categories: list[tuple[str, ...]]


class Judgement(NamedTuple):
    """What one bucket of the gallery, or all of them, say about the pools."""

    relevant_by_size: Ints  # (S, Q) relevant fabrics by size class of their motif (``motif_size``) and query
    hits: dict[str, tuple[Ints, Ints, Ints]]  # arm -> (query rows, ranks from 1, size classes) of relevant candidates

    @property
    def relevant(self) -> Ints:
        """(Q,) relevant fabrics of each query."""
        counts_Q: Ints = self.relevant_by_size.sum(axis=0)
        return counts_Q


def read_query_plan(path: str) -> Queries:
    """The query list from its plan. Memory O(queries)."""
    table = tables.read_table(path, columns=["path", "categories", "position"]).sort_by("position")
    categories = [tuple(sorted(names)) for names in table.column("categories").to_pylist()]
    return Queries(table.column("path").to_pylist(), categories)


@no_collection()
def judge_bucket(plan: str, queries: Queries, pools: Mapping[str, str], sizes: Sizes | None = None) -> Judgement:
    """Count relevant fabrics and find the hits of one bucket. Memory O(bucket + queries + hits).

    ``plan`` is the bucket's plan file. ``pools`` names the candidate_pool.parquet of each arm, read a row group at a
    time. ``sizes`` gives the size classes of the motifs of the bucket's fabrics, where they are known.
    """
    sizes = sizes or {}
    table = tables.read_table(plan, columns=["path", "categories"])
    held = dict(
        zip(table.column("path").to_pylist(), map(frozenset, table.column("categories").to_pylist()), strict=True)
    )
    wanted = [frozenset(names) for names in queries.categories]
    counts = _count(held, wanted, sizes)
    by_size = np.array([counts[names] for names in wanted], dtype=np.int64).reshape(-1, CLASSES).T
    row_of = {path: row for row, path in enumerate(queries.paths)}
    labelled = pa.array([path for path, names in held.items() if names], pa.string())
    hits = {}
    for arm, pool in pools.items():
        rows: list[int] = []
        ranks: list[int] = []
        classes: list[int] = []
        with storage.open_read(pool) as file:
            for batch in pq.ParquetFile(file).iter_batches(columns=["query_path", "image_path", "rank"]):
                inside = batch.filter(pc.is_in(batch.column("image_path").cast(pa.string()), labelled))
                for query, image, rank in zip(*(column.to_pylist() for column in inside.columns), strict=True):
                    shared = wanted[row_of[query]] & held[image]
                    if shared:
                        rows.append(row_of[query])
                        ranks.append(rank)
                        classes.append(pair_class(sizes.get(image, {}), shared))
        hits[arm] = (np.array(rows, np.int64), np.array(ranks, np.int64), np.array(classes, np.int64))
    return Judgement(by_size, hits)


def _count(
    held: Mapping[str, frozenset[str]], wanted: Sequence[frozenset[str]], sizes: Sizes
) -> dict[frozenset[str], list[int]]:
    """The number of relevant fabrics in each size class, for each distinct set of wanted categories."""
    sets = set(wanted)
    by_category: dict[str, list[frozenset[str]]] = defaultdict(list)
    for names in sets:
        for name in names:
            by_category[name].append(names)
    counts = {names: [0] * CLASSES for names in sets}
    for path, categories in held.items():
        known = sizes.get(path, {})
        for names in {names for category in categories for names in by_category.get(category, ())}:
            counts[names][pair_class(known, names & categories)] += 1
    return counts


def unite(judgements: Iterable[Judgement]) -> Judgement:
    """The judgement of all buckets, at least one. Memory O(queries + hits), however many buckets."""
    by_size: Ints | None = None
    hits: dict[str, list[tuple[Ints, Ints, Ints]]] = defaultdict(list)
    for judgement in judgements:
        by_size = judgement.relevant_by_size if by_size is None else by_size + judgement.relevant_by_size
        for arm, found in judgement.hits.items():
            hits[arm].append(found)
    assert by_size is not None, "a plan has at least one bucket"
    joined = {}
    for arm, parts in hits.items():
        rows, ranks, sizes = map(np.concatenate, zip(*parts, strict=True))
        joined[arm] = rows, ranks, sizes
    return Judgement(by_size, joined)


def outcomes_of(queries: Queries, judged: Judgement, arm: str, rejected: set[str]) -> list[QueryOutcome]:
    """One outcome for each labelled query from the judgement of all buckets. Memory O(queries + hits)."""
    relevant = judged.relevant.tolist()
    rows, ranks, _ = judged.hits[arm]
    order = np.lexsort((ranks, rows))
    rows, ranks = rows[order], ranks[order]
    starts = np.searchsorted(rows, np.arange(len(queries.paths) + 1))
    return [
        QueryOutcome(path, categories, relevant[row], ranks[starts[row] : starts[row + 1]], path not in rejected)
        for row, (path, categories) in enumerate(zip(*queries, strict=True))
        if categories
    ]
