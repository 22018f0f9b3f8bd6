"""Pseudo-boxes: where the start weights see the motifs of the training fabrics, for data sets that do not say.

A motif is taken to be in the tile of the fabric that is most similar to the queries of its category. This is the
selection step of multiple-instance learning (Dietterich et al., Artificial Intelligence 89, 1997), done once.
Shapes: N views, S their side, R tiles of a fabric, D dimensions, C categories, K of them on a fabric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from retrieval_core.config.config import Config
from retrieval_core.data.datasets import Labelled, Record
from retrieval_core.data.motif_boxes import load_motif_boxes
from retrieval_core.images.regions import cut_views
from retrieval_core.images.rgb import ImageRejected, read_image
from retrieval_core.store.embeddings import Box

TILES_PER_SIDE = 5
TILE_OVERLAP = 0.5  # share of its side by which a tile overlaps the next one
SCORE_MARGIN = 0.03  # cosine by which a tile may miss the best one and be as good: a print repeats its motif
FABRICS_PER_BATCH = 16  # decoded at a time

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # views (N, S, S, 3) to unit vectors (N, D)


def needs_pseudo_boxes(config: Config) -> bool:
    """Whether training is to look for the motifs first: it crops, was asked to, and the data set does not say."""
    return config.train.locate and config.train.crops and not load_motif_boxes(config.data)


def find_pseudo_boxes(
    encode: Encode, config: Config, split: Labelled, fabrics: Sequence[int]
) -> dict[str, list[tuple[str, Box]]]:
    """Find a place for every category of the ``fabrics``, rows of the training split that are a worker's share.

    Returns (category, box) in pixels by the path of the fabric, as ``load_motif_boxes``. A fabric or a category whose
    images cannot be read has none. Memory O(C D + boxes) and a few fabrics' tiles.
    """
    categories, centres_CD = _category_centres(encode, config, split)
    number = {name: row for row, name in enumerate(categories)}
    found: dict[str, list[tuple[str, Box]]] = {}
    tiles = partial(_cut, config=config, tiles_per_side=TILES_PER_SIDE)
    with ThreadPoolExecutor(config.train.loader_threads) as pool:
        for start in range(0, len(fabrics), FABRICS_PER_BATCH):
            records = [split.fabrics[row] for row in fabrics[start : start + FABRICS_PER_BATCH]]
            for record, loaded in zip(records, pool.map(tiles, records), strict=True):
                known = [name for name in record.categories if name in number]
                if loaded is None or not known:
                    continue
                views, boxes = loaded
                scores_KR = centres_CD[[number[name] for name in known]] @ encode(views).T
                good_KR = scores_KR >= scores_KR.max(axis=1, keepdims=True) - SCORE_MARGIN
                found[record.path] = [
                    (name, tuple(box))
                    for name, good_R in zip(known, good_KR, strict=True)
                    for box in boxes[good_R].tolist()
                ]
    return found


def _category_centres(encode: Encode, config: Config, split: Labelled) -> tuple[list[str], NDArray[np.float32]]:
    """The categories that queries show, and the mean direction of the queries of each, (C, D)."""
    held = {name for fabric in split.fabrics for name in fabric.categories}
    queries = [query for query in split.queries if held & set(query.categories)]
    sums: dict[str, NDArray[np.float32]] = {}
    with ThreadPoolExecutor(config.train.loader_threads) as pool:
        for start in range(0, len(queries), config.embed.batch_size):
            part = queries[start : start + config.embed.batch_size]
            loaded = zip(part, pool.map(partial(_cut, config=config, tiles_per_side=1), part), strict=True)
            readable = [(query, cut[0]) for query, cut in loaded if cut is not None]
            if not readable:
                continue
            embeddings = encode(np.concatenate([view for _, view in readable]))
            for (query, _), embedding in zip(readable, embeddings, strict=True):
                for name in query.categories:
                    sums[name] = sums.get(name, np.zeros_like(embedding)) + embedding
    if not sums:
        return [], np.zeros((0, 1), np.float32)
    categories = sorted(sums)
    centres_CD = np.stack([sums[name] for name in categories])
    return categories, centres_CD / np.maximum(np.linalg.norm(centres_CD, axis=1, keepdims=True), 1e-12)


def _cut(record: Record, config: Config, tiles_per_side: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]] | None:
    """Views (R, S, S, 3) of an image and their boxes (R, 4); None if it cannot be read, which training itself lists."""
    try:
        image = read_image(record.location, config.images)
    except ImageRejected:
        return None
    return cut_views(image, config.images, config.model.image_size, (tiles_per_side,), TILE_OVERLAP)
