"""Exact top-k by blocks: partial rankings in tasks, merged as a tree, written as the candidate pool.

    query blocks x gallery blocks -> partials (a file each) -> merge 8 at a time -> one part a query block -> the pool

``retrieve.expand`` does this twice: what a query finds first makes it an expanded query, which is ranked for the pool.
``retrieve.rescore`` ranks what was found anew by all windows (``retrieval/second_look.py``) before it becomes the pool.
A file is whole or absent and named by what it was computed from, so a killed stage resumes. A task holds two blocks,
the driver O(blocks). A process remembers k-th best scores of its queries and leaves lower ones out of later partials.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_jobs.cluster import gauges
from ray_jobs.cluster.connect import run_tasks, watch
from ray_jobs.console.progress import Progress
from ray_jobs.retrieval.blocks import (
    GalleryBlock,
    QueryBlock,
    gallery_blocks,
    in_query_order,
    load_queries,
    merge_tree,
    query_blocks,
)
from ray_jobs.retrieval.second_look import look_again
from ray_jobs.run import Run
from retrieval_core.data.shard_plan import plan_file
from retrieval_core.files import storage, tables
from retrieval_core.files.fingerprint import fingerprint
from retrieval_core.process import keep_freed_memory
from retrieval_core.ranking.candidate_pool import write_pool
from retrieval_core.ranking.expansion import expand_queries, first_found
from retrieval_core.ranking.partials import PARTIAL_SCHEMA, merge_partials, topk_table
from retrieval_core.ranking.second_look import EXPANSIONS
from retrieval_core.ranking.topk import ScoreThreshold, block_topk
from retrieval_core.run.workspace import POOL_JSON, POOL_PARQUET
from retrieval_core.store.embeddings import MANIFEST, read_manifest, read_vectors, replace_vectors

log = logging.getLogger("fabric_retrieval")
EXPANDED = "expanded"  # name of the store of expanded queries, beside the gallery and the queries


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
    if run.looks_twice(arm):
        run.require_windows(arm)
        inputs["rescore"] = [run.config.retrieve.depth, gallery["windows"], EXPANSIONS]
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
    if run.looks_twice(arm):
        parts = look_again(run, arm, queries, gallery, _rank(run, arm, queries, gallery, regions, keys.depth))
    else:
        parts = _rank(run, arm, queries, gallery, regions, keys.top_k)
    counts = next(run_tasks(_write_task, [(parts, plan, *outputs, regions > 1 or run.looks_twice(arm))]))
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
    """Files with the first k fabrics of the queries of each block; with the vectors that matched ``to_expand``.

    For a second look they have the fabrics' places in the gallery.
    """
    work, expand = run.workspace.work("retrieval", arm), run.config.retrieve.expand
    order = run.done(f"embed.queries{run.suffix(arm)}")["order"][:8]
    # Partials that were made with another gallery may leave out too much.
    whole = fingerprint([block.fingerprint for block in gallery])[:8]
    # Shards of expanded queries have the names of those that they were made from.
    kind = "-to-expand" if to_expand else f"-expanded-{expand}" if expand else ""
    kind += "-places" if run.looks_twice(arm) else ""
    execution, parts = uuid.uuid4().hex, []
    blocks, tags = len(queries) * len(gallery), gauges.Tags(run.config.run.name, "retrieve", arm)
    name = f"{'find first' if to_expand else 'retrieve'} ({arm})"
    with Progress(name, blocks, "blocks", watch=watch(run.config, work)) as progress:
        for query in queries:
            ranking = storage.join(work, f"{whole}-{query.fingerprint}-{order}-{k}{kind}")
            files = [f"{ranking}-{block.fingerprint}.parquet" for block in gallery]
            calls = (
                (query, block, regions, k, ranking, execution, to_expand, run.looks_twice(arm)) for block in gallery
            )
            for _ in run_tasks(_rank_block, calls):
                progress.advance()
                gauges.RANKED.add(1, tags)
            parts.append(merge_tree(files, k))
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
    order = in_query_order(plan, "path").combine_chunks()

    def expanded(paths: pa.ChunkedArray, queries: np.ndarray) -> np.ndarray:
        rows = np.asarray(pc.index_in(paths, order))
        needed = [part for block, part in found if ((block.start <= rows) & (rows < block.stop)).any()]
        matches = merge_partials([tables.read_table(part) for part in needed], count)
        return expand_queries(queries, *first_found(matches, rows, count, queries.shape[1]))

    replace_vectors(source, target, expanded)


def _rank_block(
    query: QueryBlock,
    block: GalleryBlock,
    regions: int,
    k: int,
    ranking: str,
    execution: str,
    with_vectors: bool = False,
    with_places: bool = False,
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
    places = block.first + gallery.order_F if with_places else None
    tables.write_table(file, topk_table(top, rows, gallery.paths, boxes, vectors, places))
    threshold.add(block.fingerprint, top.scores)


@lru_cache(maxsize=1)
def _score_threshold(execution: str, query_block: str, queries: int, k: int) -> ScoreThreshold:
    """One for all gallery blocks that this process ranks for a query block in one execution of the stage."""
    return ScoreThreshold(queries, k)


def _write_task(parts: Sequence[str], plan: str, parquet: str, json: str, boxes: bool) -> dict[str, int]:
    return write_pool(parts, in_query_order(plan, "path").to_pylist(), parquet, json, with_boxes=boxes)._asdict()
