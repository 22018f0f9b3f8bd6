"""Blocks of the stores, and the merge of what was ranked in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_jobs.cluster.connect import run_tasks
from retrieval_core.files import storage, tables
from retrieval_core.files.fingerprint import fingerprint
from retrieval_core.ranking.partials import merge_partials
from retrieval_core.store.embeddings import read_manifest, read_vectors

FAN_IN = 8  # partials that a merge holds in memory


class GalleryBlock(NamedTuple):
    """Consecutive embedded images of a store: (shard file, first image, last + 1)."""

    slices: list[tuple[str, int, int]]
    first: int = 0  # number of the first one in the store

    @property
    def fingerprint(self) -> str:
        """Of the block's content, as names of shards hold the fingerprints of theirs."""
        return fingerprint([(name.rsplit("/", 1)[-1], start, stop) for name, start, stop in self.slices])[:16]


class QueryBlock(NamedTuple):
    """Queries ``start`` to ``stop - 1`` of the list, and the shards that hold them."""

    shards: list[str]
    start: int
    stop: int
    plan: str

    @property
    def fingerprint(self) -> str:
        return fingerprint([[name.rsplit("/", 1)[-1] for name in self.shards], self.start, self.stop])[:16]


def gallery_blocks(store: str, images: int) -> Iterator[GalleryBlock]:
    """Cut a store into blocks of at most ``images`` embedded images, in shard order. Memory O(shards)."""
    entries = read_manifest(store)["shards"]
    return cut(
        [(storage.join(store, entry["file"]), 0, entry["images"] - entry["rejected"]) for entry in entries], images
    )


def cut(slices: Sequence[tuple[str, int, int]], images: int) -> Iterator[GalleryBlock]:
    """Cut all images of a store, in order, into blocks of at most ``images``; an empty one if there are none."""
    block: list[tuple[str, int, int]] = []
    room, first = images, 0
    for file, begin, end in slices:
        start = begin
        while start < end:
            stop = min(end, start + room)
            block.append((file, start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                yield GalleryBlock(block, first)
                block, room, first = [], images, first + images
    if block or first == 0:
        yield GalleryBlock(block, first)


def query_blocks(store: str, plan: str, queries: int) -> Iterator[QueryBlock]:
    """Cut the query list into blocks of at most ``queries``. Memory O(queries) small integers."""
    files = [storage.join(store, entry["file"]) for entry in read_manifest(store)["shards"]]
    shards = np.asarray(in_query_order(plan, "shard"))
    number = {shard: index for index, shard in enumerate(np.unique(shards).tolist())}
    for start in range(0, len(shards), queries):
        stop = min(len(shards), start + queries)
        needed = np.unique(shards[start:stop]).tolist()
        yield QueryBlock([files[number[shard]] for shard in needed], start, stop, plan)


def load_queries(block: QueryBlock) -> tuple[np.ndarray, np.ndarray]:
    """Rows in the query list, ascending, and vectors (Q, D) of a block's queries that were embedded."""
    found = read_vectors([(name, 0, tables.row_count(name)) for name in block.shards], 1)
    rows, chosen = rows_of(block, found.paths)
    return rows, found.embeddings_FRD[chosen, 0]


def rows_of(block: QueryBlock, paths: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Rows in the query list, ascending, of those of some ``paths`` that are a block's queries, and their places."""
    listed = in_query_order(block.plan, "path").combine_chunks().slice(block.start, block.stop - block.start)
    rows = np.asarray(pc.index_in(paths, listed).fill_null(-1))
    chosen = np.flatnonzero(rows >= 0)
    chosen = chosen[np.argsort(rows[chosen])]
    return block.start + rows[chosen], chosen


def merge_tree(files: Sequence[str], k: int) -> str:
    """Merge partial rankings of the same queries, ``FAN_IN`` at a time; returns the file with the first k of each."""
    level = 0
    while len(files) > 1:
        groups = [list(files[start : start + FAN_IN]) for start in range(0, len(files), FAN_IN)]
        merged = [f"{group[0].removesuffix('.parquet')}-m{level}.parquet" for group in groups]
        for _ in run_tasks(_merge_group, ((group, k, target) for group, target in zip(groups, merged, strict=True))):
            pass
        files, level = merged, level + 1
    return files[0]


def _merge_group(files: list[str], k: int, target: str) -> None:
    if not tables.is_whole_table(target):
        tables.write_table(target, merge_partials([tables.read_table(file) for file in files], k))


def in_query_order(plan: str, column: str) -> pa.ChunkedArray:
    """A column of the plan of the queries, in the order of the query list."""
    return tables.read_table(plan, columns=[column, "position"]).sort_by("position").column(column)
