"""What was found first, ranked anew by all windows of each fabric: a reduce step over the candidates.

    the candidates of each query block, in the order of the gallery     a file each, and one with the queries' motifs
    -> gallery block by gallery block: windows of its candidates are read once and scored for all queries
    -> merged as the first look is

With ``retrieve.expand`` the windows that match in the fabrics then first expand the motif, and this is done again.
A task holds the windows of the candidates of one shard, the candidates of its block, and the motifs of their queries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_jobs.cluster import gauges
from ray_jobs.cluster.connect import run_tasks, watch
from ray_jobs.console.progress import Progress
from ray_jobs.retrieval.blocks import (
    GalleryBlock,
    QueryBlock,
    cut,
    load_queries,
    merge_tree,
    rows_of,
)
from ray_jobs.run import Run
from retrieval_core.files import storage, tables
from retrieval_core.process import keep_freed_memory
from retrieval_core.ranking.partials import PARTIAL_SCHEMA, PLACE, merge_partials
from retrieval_core.ranking.second_look import EXPANSIONS, Images, Parts, expanded_parts, rescored
from retrieval_core.store.windows import read_places, read_windows, windows_file

_GROUP = 1 << 14
"""Candidates of a row group: what a task reads at least of a file with those of all blocks."""
_COLUMNS = ["query", PLACE, "image_path"]
LEAST_IMAGES, MOST_BLOCKS = 1024, 4096
"""Images of a task at least, and tasks at most: each writes a file a query block."""


class Look(NamedTuple):
    """A query block's part of a second look: files that are read, and the stem of those that are written."""

    candidates: str
    motifs: str
    stem: str

    def scores(self, block: GalleryBlock) -> str:
        """The file with the scores of a gallery block's candidates."""
        return f"{self.stem}-{block.fingerprint}.parquet"


def look_again(
    run: Run, arm: str, queries: Sequence[QueryBlock], gallery: Sequence[GalleryBlock], found: Sequence[str]
) -> list[str]:
    """Rank what each query block ``found`` by all windows; returns the files with the pool's part of each.

    ``queries`` are those that were ranked, which may be expanded; what was found has ``place``.
    """
    keys, store = run.config.retrieve, run.store(arm, "queries")
    slices = [part for block in gallery for part in block.slices]
    images = sum(stop - start for _, start, stop in slices)
    blocks = list(cut(slices, max(LEAST_IMAGES, math.ceil(images / MOST_BLOCKS))))
    # The names of what was found hold fingerprints of queries and gallery.
    looks = [
        Look(f"{stem}-candidates.parquet", f"{stem}-motifs.parquet", f"{stem}-again")
        for stem in (part.removesuffix(".parquet") for part in found)
    ]
    calls = zip(queries, found, looks, [store] * len(looks), [keys.expand > 0] * len(looks), strict=True)
    for _ in run_tasks(_prepare, calls):
        pass
    own = looks
    for turn in range(1, EXPANSIONS + 1 if keys.expand else 1):
        matched = _score(run, arm, blocks, looks, keys.expand, with_matches=True)
        looks = [Look(of.candidates, f"{of.stem}-motifs-{turn}.parquet", f"{of.stem}-{turn}") for of in own]
        to_expand = (
            (of.motifs, part, keys.expand, look.motifs) for of, part, look in zip(own, matched, looks, strict=True)
        )
        for _ in run_tasks(_expand_motifs, to_expand):
            pass
    return _score(run, arm, blocks, looks, keys.top_k)


def _score(
    run: Run, arm: str, gallery: Sequence[GalleryBlock], looks: Sequence[Look], k: int, *, with_matches: bool = False
) -> list[str]:
    name = f"{'expand' if with_matches else 'second look'} ({arm})"
    watched = watch(run.config, run.workspace.work("retrieval", arm))
    tags = gauges.Tags(run.config.run.name, "rescore", arm)
    with Progress(name, len(gallery), "blocks", watch=watched) as progress:
        for _ in run_tasks(_score_block, ((block, looks, k, with_matches) for block in gallery)):
            progress.advance()
            gauges.RANKED.add(1, tags)
    return [merge_tree([look.scores(block) for block in gallery], k) for look in looks]


def _prepare(query: QueryBlock, found: str, look: Look, store: str, expanded: bool) -> None:
    """Write a query block's candidates in the order of the gallery, and the motifs of its queries."""
    if not tables.is_whole_table(look.candidates):
        table = tables.read_table(found)
        if not len(table):
            table = table.select(PARTIAL_SCHEMA.names).append_column(PLACE, pa.array([], pa.int64()))
        tables.write_table(look.candidates, table.select(_COLUMNS).sort_by([(PLACE, "ascending")]), _GROUP)
    if not tables.is_whole_table(look.motifs):
        motifs = load_motifs(query, store)
        if expanded and len(motifs.queries):
            rows, vectors = load_queries(query)
            assert np.array_equal(rows, motifs.queries), "queries that were expanded are those with motifs"
            motifs = motifs.with_wholes(vectors)
        write_motifs(look.motifs, motifs)


def load_motifs(block: QueryBlock, store: str) -> Parts:
    """The motifs of a block's queries that were embedded, in the order of the query list."""
    names = [name.rsplit("/", 1)[-1] for name in block.shards]
    paths, vectors = list[str](), list[np.ndarray]()
    for shard in (storage.join(store, name) for name in names):
        own = tables.read_table(shard, ["path"]).column("path").to_pylist()
        paths += own
        vectors += [kept.windows for kept in read_windows(windows_file(shard), np.arange(len(own)))]
    rows, chosen = rows_of(block, pa.array(paths, pa.string()))
    found = np.stack([vectors[row] for row in chosen]) if len(chosen) else np.empty((0, 1, 1), np.int8)
    return Parts(rows.astype(np.int32), found)


def _expand_motifs(source: str, ranking: str, count: int, target: str) -> None:
    if not tables.is_whole_table(target):
        write_motifs(target, expanded_parts(read_motifs(source), tables.read_table(ranking), count))


def write_motifs(path: str, parts: Parts) -> None:
    """Write motifs to a file; memory O(them)."""
    count, *shape = parts.vectors.shape
    vectors = pa.Array.from_buffers(pa.binary(int(np.prod(shape))), count, [None, pa.py_buffer(parts.vectors)])
    metadata = {"shape": f"{shape[0]} {shape[1]}"}
    tables.write_table(path, pa.table({"query": parts.queries, "motif": vectors}).replace_schema_metadata(metadata))


def read_motifs(path: str) -> Parts:
    """What ``write_motifs`` wrote."""
    table = tables.read_table(path)
    shape = [int(number) for number in table.schema.metadata[b"shape"].split()]
    vectors = np.frombuffer(bytearray().join(table.column("motif").to_pylist()), np.int8).reshape(-1, *shape)
    return Parts(table.column("query").to_numpy(), vectors)


def _score_block(block: GalleryBlock, looks: Sequence[Look], k: int, with_matches: bool) -> None:
    todo = [look for look in looks if not tables.is_whole_table(look.scores(block))]
    images = sum(stop - start for _, start, stop in block.slices)
    candidates = [tables.with_table(look.candidates, _between(block.first, block.first + images)) for look in todo]
    keep_freed_memory()
    scores: list[list[pa.Table]] = [[] for _ in todo]
    asked = [number for number, table in enumerate(candidates) if len(table)]
    if asked:
        motifs = {number: read_motifs(todo[number].motifs) for number in asked}
        places = np.unique(np.concatenate([candidates[number][PLACE].to_numpy() for number in asked]))
        for chosen, kept in read_places(block.slices, block.first, places):
            found = Images(chosen, [image.windows for image in kept], [image.boxes for image in kept])
            for number in asked:
                own = _rows_between(candidates[number], int(chosen[0]), int(chosen[-1]) + 1)
                if len(own):
                    scores[number].append(rescored(own, found, motifs[number], with_matches=with_matches))
    for look, tables_of in zip(todo, scores, strict=True):
        tables.write_table(look.scores(block), merge_partials(tables_of, k))


def _rows_between(table: pa.Table, first: int, stop: int) -> pa.Table:
    start, end = np.searchsorted(table[PLACE].to_numpy(), (first, stop))
    return table.slice(start, end - start)


def _between(first: int, stop: int) -> Callable[[pq.ParquetFile, object], pa.Table]:
    """Reads the rows of images ``first`` to ``stop - 1`` from a file that is ordered by them."""

    def read(reader: pq.ParquetFile, _: object) -> pa.Table:
        place, groups = reader.schema_arrow.get_field_index(PLACE), reader.metadata.num_row_groups
        ranges = [reader.metadata.row_group(group).column(place).statistics for group in range(groups)]
        # A file without rows has a group without statistics.
        chosen = [number for number, of in enumerate(ranges) if of is not None and of.max >= first and of.min < stop]
        return _rows_between(reader.read_row_groups(chosen, use_threads=False), first, stop)

    return read
