"""Search in the terminal: rank a finished embedding store for new query images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_jobs.cluster.connect import run_tasks
from ray_jobs.retrieval.blocks import GalleryBlock, gallery_blocks
from ray_jobs.run import Run
from retrieval_core.config.config import ConfigError
from retrieval_core.encoding.arms import model_arm
from retrieval_core.encoding.views import views_of
from retrieval_core.images.decoding import read_content
from retrieval_core.images.rgb import ImageRejected
from retrieval_core.ranking.expansion import expand_queries, first_found
from retrieval_core.ranking.partials import merge_partials, topk_table
from retrieval_core.ranking.second_look import Parts
from retrieval_core.ranking.topk import block_topk
from retrieval_core.serving.search_index import refuse_other_model, shards_of
from retrieval_core.serving.second_look import look_again
from retrieval_core.store.embeddings import read_manifest, read_vectors


def search(run: Run, images: Sequence[str], top: int) -> int:
    """Print the first ``top`` fabrics for each image; 1 if an image could not be read."""
    if top < 1:
        raise ConfigError(f"--top {top}: must be at least 1")
    config, store = run.config, run.store(run.main, "gallery")
    run.done("embed.gallery")
    run.require_windows(run.main)
    arm = model_arm(run.main, run.model, config.run.seed)
    manifest = read_manifest(store)
    refuse_other_model(store, manifest, arm, config)
    views = views_of(config, arm.model, "queries")
    cuts, names = [], []
    for image in images:
        try:
            cuts.append(views.of(read_content(image, config.images.max_pixels), config.images))
            names.append(image)
        except ImageRejected as rejected:
            print(f"{image}: {rejected.reason}: {rejected.detail}")
    if not names:
        return 1
    twice = run.looks_twice(run.main)
    encoded = views.embed_all(arm.build(config.embed.batch_size, config.run.seed), cuts, keep=twice)
    queries, regions, expand = encoded.vectors[:, 0], manifest["regions"], config.retrieve.expand
    blocks = list(gallery_blocks(store, max(1, config.retrieve.gallery_block // regions)))
    if expand:
        found = _rank(queries, blocks, regions, expand, with_vectors=True)
        first = first_found(found, np.arange(len(names)), expand, queries.shape[1])
        queries = expand_queries(queries, *first)
    ranking = _rank(queries, blocks, regions, max(top, config.retrieve.rescore) if twice else top)
    if encoded.kept is not None:
        numbers, vectors = np.arange(len(names), dtype=np.int32), np.stack([kept.windows for kept in encoded.kept])
        motifs = Parts(numbers, vectors).with_wholes(queries) if expand else Parts(numbers, vectors)
        shards = [(file, 0, images) for file, images in shards_of(store, manifest)]
        calls = (
            (
                shards,
                ranking.filter(pc.equal(ranking.column("query"), number)),
                Parts(numbers[number : number + 1], motifs.vectors[number : number + 1]),
                *(top, expand),
            )
            for number in numbers.tolist()
        )
        ranking = pa.concat_tables(run_tasks(look_again, calls))
    for row, name in enumerate(names):
        print(name)
        found = ranking.filter(pc.equal(ranking.column("query"), row))
        for place, entry in enumerate(found.to_pylist(), 1):
            print(f"{place:5}  {entry['similarity']:.4f}  {entry['image_path']}")
    return 0 if len(names) == len(images) else 1


def _rank(
    queries: np.ndarray, blocks: Sequence[GalleryBlock], regions: int, k: int, *, with_vectors: bool = False
) -> pa.Table:
    calls = ((queries, block, regions, k, with_vectors) for block in blocks)
    return merge_partials(list(run_tasks(_rank_block, calls)), k)


def _rank_block(queries: np.ndarray, block: GalleryBlock, regions: int, k: int, with_vectors: bool) -> pa.Table:
    gallery = read_vectors(block.slices, regions)
    top, rows = block_topk(queries, gallery.embeddings_FRD, k), np.arange(len(queries), dtype=np.int32)
    vectors, places = gallery.embeddings_FRD if with_vectors else None, block.first + gallery.order_F
    return topk_table(top, rows, gallery.paths, vectors_FRD=vectors, places=places)
