"""Exact top-k by blocks: partial rankings in tasks, merged as a tree, written as the candidate pool.

    query blocks x gallery blocks -> partials (a file each) -> merge 8 at a time -> one part a query block -> the pool

``retrieve.expand`` does this twice: what a query finds first makes it an expanded query, which is ranked for the pool.
A file is whole or absent and named by what it was computed from, so a killed stage resumes. A task holds two blocks,
the driver O(blocks). A process remembers k-th best scores of its queries and leaves lower ones out of later partials.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_jobs.cluster import gauges
from ray_jobs.cluster.connect import run_tasks, watch
from ray_jobs.console.progress import Progress
from ray_jobs.run import Run
from retrieval_core.data.shard_plan import plan_file
from retrieval_core.files import storage, tables
from retrieval_core.files.fingerprint import fingerprint
from retrieval_core.process import keep_freed_memory
from retrieval_core.ranking.candidate_pool import write_pool
from retrieval_core.ranking.expansion import expand_queries, first_found
from retrieval_core.ranking.partials import PARTIAL_SCHEMA, merge_partials, topk_table
from retrieval_core.ranking.topk import ScoreThreshold, block_topk
from retrieval_core.run.workspace import POOL_JSON, POOL_PARQUET
from retrieval_core.store.embeddings import MANIFEST, read_manifest, read_vectors, replace_vectors

log = logging.getLogger("fabric_retrieval")
EXPANDED = "expanded"  # name of the store of expanded queries, beside the gallery and the queries
FAN_IN = 8  # partials that a merge holds in memory


class GalleryBlock(NamedTuple):
    """Consecutive embedded images of a store: (shard file, first image, last + 1)."""

    slices: list[tuple[str, int, int]]

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


def retrieve(run: Run) -> None:
    """Rank the gallery for every query, for every arm, and write both pool files of each."""
    for arm in run.arm_names():
        retrieve_arm(run, arm)


def retrieve_arm(run: Run, arm: str) -> dict[str, Any]:
    """Rank the gallery for every query of one arm; returns the stage's record."""
    suffix, top_k = run.suffix(arm), run.config.retrieve.top_k
    gallery, queries = run.done(f"embed.gallery{suffix}"), run.done(f"embed.queries{suffix}")
    inputs = {key: [gallery[key], queries[key]] for key in ("shards", "order")} | {"top_k": top_k}
    if run.config.retrieve.expand:  # left out otherwise, so that pools from before there was a choice stay valid
        inputs["expand"] = run.config.retrieve.expand
    outputs = [storage.join(run.folder(arm), POOL_PARQUET), storage.join(run.folder(arm), POOL_JSON)]
    action = partial(_retrieve, run, arm, outputs)
    return run.workspace.stage(f"retrieve{suffix}", inputs, outputs, action, overwrite=run.overwrite)


def _retrieve(run: Run, arm: str, outputs: Sequence[str]) -> dict[str, Any]:
    keys, store = run.config.retrieve, run.store(arm, "queries")
    regions = read_manifest(run.store(arm, "gallery"))["regions"]
    gallery = list(gallery_blocks(run.store(arm, "gallery"), max(1, keys.gallery_block // regions)))
    plan = plan_file(run.plan(arm, "queries"), 0)
    queries = list(query_blocks(store, plan, keys.query_block))
    log.info("retrieve (%s): %d query blocks x %d gallery blocks", arm, len(queries), len(gallery))
    storage.remove(run.store(arm, EXPANDED))
    if keys.expand:
        found = _rank(run, arm, queries, gallery, regions, keys.expand, to_expand=True)
        store = _expand(store, run.store(arm, EXPANDED), plan, list(zip(queries, found, strict=True)), keys.expand)
        queries = list(query_blocks(store, plan, keys.query_block))
    parts = _rank(run, arm, queries, gallery, regions, keys.top_k)
    counts = next(run_tasks(_write_task, [(parts, plan, outputs[0], outputs[1], regions > 1)]))
    storage.remove(run.workspace.work("retrieval", arm))
    return {**counts, "query_blocks": len(queries), "gallery_blocks": len(gallery)}


def _rank(
    run: Run,
    arm: str,
    queries: Sequence[QueryBlock],
    gallery: Sequence[GalleryBlock],
    regions: int,
    k: int,
    *,
    to_expand: bool = False,
) -> list[str]:
    """Files with the first k fabrics of the queries of each block; with the vectors that matched ``to_expand``."""
    work, expand = run.workspace.work("retrieval", arm), run.config.retrieve.expand
    order = run.done(f"embed.queries{run.suffix(arm)}")["order"][:8]
    # Partials that were made with another gallery may leave out too much.
    whole = fingerprint([block.fingerprint for block in gallery])[:8]
    # Shards of expanded queries have the names of those that they were made from.
    kind = "-to-expand" if to_expand else f"-expanded-{expand}" if expand else ""
    execution, parts = uuid.uuid4().hex, []
    blocks, tags = len(queries) * len(gallery), gauges.Tags(run.config.run.name, "retrieve", arm)
    name = f"{'find first' if to_expand else 'retrieve'} ({arm})"
    with Progress(name, blocks, "blocks", watch=watch(run.config, work)) as progress:
        for query in queries:
            ranking = storage.join(work, f"{whole}-{query.fingerprint}-{order}-{k}{kind}")
            files = [f"{ranking}-{block.fingerprint}.parquet" for block in gallery]
            calls = ((query, block, regions, k, ranking, execution, to_expand) for block in gallery)
            for _ in run_tasks(_rank_block, calls):
                progress.advance()
                gauges.RANKED.add(1, tags)
            parts.append(_merge_tree(files, k))
    return parts


def _expand(source: str, target: str, plan: str, found: Sequence[tuple[QueryBlock, str]], count: int) -> str:
    """Write the store of expanded queries from what each query block found; returns its folder."""
    manifest = read_manifest(source)
    names = [entry["file"] for entry in manifest["shards"]]
    calls = ((storage.join(source, name), storage.join(target, name), plan, found, count) for name in names)
    for _ in run_tasks(_expand_shard, calls):
        pass
    storage.write_json(storage.join(target, MANIFEST), manifest)
    return target


def _expand_shard(source: str, target: str, plan: str, found: Sequence[tuple[QueryBlock, str]], count: int) -> None:
    order = _in_query_order(plan, "path").combine_chunks()

    def expanded(paths: pa.ChunkedArray, queries: np.ndarray) -> np.ndarray:
        rows = np.asarray(pc.index_in(paths, order))
        needed = [part for block, part in found if ((block.start <= rows) & (rows < block.stop)).any()]
        matches = merge_partials([tables.read_table(part) for part in needed], count)
        return expand_queries(queries, *first_found(matches, rows, count, queries.shape[1]))

    replace_vectors(source, target, expanded)


def gallery_blocks(store: str, images: int) -> Iterator[GalleryBlock]:
    """Cut a store into blocks of at most ``images`` embedded images, in shard order. Memory O(shards)."""
    shards = read_manifest(store)["shards"]
    block: list[tuple[str, int, int]] = []
    room = images
    for entry in shards:
        start, count = 0, entry["images"] - entry["rejected"]
        while start < count:
            stop = min(count, start + room)
            block.append((storage.join(store, entry["file"]), start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                yield GalleryBlock(block)
                block, room = [], images
    if block or not any(entry["rows"] for entry in shards):
        yield GalleryBlock(block)


def query_blocks(store: str, plan: str, queries: int) -> Iterator[QueryBlock]:
    """Cut the query list into blocks of at most ``queries``. Memory O(queries) small integers."""
    files = [storage.join(store, entry["file"]) for entry in read_manifest(store)["shards"]]
    shards = np.asarray(_in_query_order(plan, "shard"))
    number = {shard: index for index, shard in enumerate(np.unique(shards).tolist())}
    for start in range(0, len(shards), queries):
        stop = min(len(shards), start + queries)
        needed = np.unique(shards[start:stop]).tolist()
        yield QueryBlock([files[number[shard]] for shard in needed], start, stop, plan)


def _rank_block(
    query: QueryBlock,
    block: GalleryBlock,
    regions: int,
    k: int,
    ranking: str,
    execution: str,
    with_vectors: bool = False,
) -> None:
    file = f"{ranking}-{block.fingerprint}.parquet"
    if tables.is_whole_table(file):
        return
    keep_freed_memory()
    rows, queries = load_queries(query)
    gallery = read_vectors(block.slices, regions, boxes=regions > 1)
    if not len(rows) or not len(gallery.paths):
        tables.write_table(file, PARTIAL_SCHEMA.empty_table())
        return
    threshold = _score_threshold(execution, query.fingerprint, len(rows), k)
    top = block_topk(queries, gallery.embeddings_FRD, k, threshold_Q=threshold.values)
    boxes, vectors = gallery.boxes_FR4 if regions > 1 else None, gallery.embeddings_FRD if with_vectors else None
    tables.write_table(file, topk_table(top, rows, gallery.paths, boxes, vectors))
    threshold.add(block.fingerprint, top.scores)


@lru_cache(maxsize=1)
def _score_threshold(execution: str, query_block: str, queries: int, k: int) -> ScoreThreshold:
    """One for all gallery blocks that this process ranks for a query block in one execution of the stage."""
    return ScoreThreshold(queries, k)


def load_queries(block: QueryBlock) -> tuple[np.ndarray, np.ndarray]:
    """Rows in the query list, ascending, and vectors (Q, D) of a block's queries that were embedded."""
    paths = _in_query_order(block.plan, "path").combine_chunks().slice(block.start, block.stop - block.start)
    found = read_vectors([(name, 0, tables.row_count(name)) for name in block.shards], 1)
    rows = np.asarray(pc.index_in(found.paths, paths).fill_null(-1))
    chosen = np.flatnonzero(rows >= 0)
    chosen = chosen[np.argsort(rows[chosen])]
    return block.start + rows[chosen], found.embeddings_FRD[chosen, 0]


def _merge_tree(files: Sequence[str], k: int) -> str:
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


def _write_task(parts: Sequence[str], plan: str, parquet: str, json: str, boxes: bool) -> dict[str, int]:
    return write_pool(parts, _in_query_order(plan, "path").to_pylist(), parquet, json, with_boxes=boxes)._asdict()


def _in_query_order(plan: str, column: str) -> pa.ChunkedArray:
    return tables.read_table(plan, columns=[column, "position"]).sort_by("position").column(column)
