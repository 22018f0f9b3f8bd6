"""Where is the motif? The best-matching tile of each training fabric, for data sets that do not say.

Training on crops needs to know where a motif is printed. Without ``motif_boxes.csv`` the model itself is asked before
training: of the tiles of a fabric, the one most similar to the queries of a category it holds is where that motif is
taken to be. It is the selection step of multiple-instance learning (Dietterich et al., Artificial Intelligence 89,
1997), done once.

Shapes: F fabrics, R tiles, D dimensions, C categories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from retrieval_core.config.config import Config
from retrieval_core.data.datasets import Labelled, Record
from retrieval_core.images.regions import cut_views
from retrieval_core.images.rgb import ImageRejected, read_image
from retrieval_core.store.embeddings import Box

GRID, OVERLAP = 5, 0.5
CLOSE = 0.03
"""Tiles this near in cosine to the best one are as good: a print repeats."""
_FABRICS = 16  # decoded at a time

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def find_pseudo_boxes(
    encode: Encode, config: Config, split: Labelled, fabrics: Sequence[int]
) -> dict[str, list[tuple[str, Box]]]:
    """Find a place for every category that a fabric is labelled with.

    Args:
        encode: (N, S, S, 3) uint8 views to (N, D) unit vectors.
        config: image size and how images are read.
        split: of training.
        fabrics: rows of the split to look at, a worker's share.

    Returns:
        (category, box) in pixels by the path of the fabric, as ``load_motif_boxes``; a fabric or a category whose
        images cannot be read has none. Memory O(C D + boxes) and a few fabrics' tiles.
    """
    categories, centres_CD = _category_centres(encode, config, split)
    number = {name: row for row, name in enumerate(categories)}
    found: dict[str, list[tuple[str, Box]]] = {}
    with ThreadPoolExecutor(config.train.loader_threads) as pool:
        for start in range(0, len(fabrics), _FABRICS):
            records = [split.fabrics[row] for row in fabrics[start : start + _FABRICS]]
            for record, loaded in zip(records, pool.map(lambda r: _tiles(r, config), records), strict=True):
                known = [name for name in record.categories if name in number]
                if loaded is None or not known:
                    continue
                views, boxes = loaded
                scores_KR = centres_CD[[number[name] for name in known]] @ encode(views).T
                near_KR = scores_KR >= scores_KR.max(axis=1, keepdims=True) - CLOSE
                found[record.path] = [
                    (name, tuple(box))
                    for name, near_R in zip(known, near_KR, strict=True)
                    for box in boxes[near_R].tolist()
                ]
    return found


def _category_centres(encode: Encode, config: Config, split: Labelled) -> tuple[list[str], NDArray[np.float32]]:
    """The categories that queries show, and the mean embedding of the queries of each, (C, D)."""
    held = {name for fabric in split.fabrics for name in fabric.categories}
    sums: dict[str, NDArray[np.float32]] = {}
    with ThreadPoolExecutor(config.train.loader_threads) as pool:
        queries = [query for query in split.queries if held & set(query.categories)]
        for start in range(0, len(queries), config.embed.batch_size):
            part = queries[start : start + config.embed.batch_size]
            loaded = list(pool.map(lambda q: _whole(q, config), part))
            usable = [(query, view) for query, view in zip(part, loaded, strict=True) if view is not None]
            if not usable:
                continue
            embeddings = encode(np.stack([view for _, view in usable]))
            for (query, _), embedding in zip(usable, embeddings, strict=True):
                for name in query.categories:
                    sums[name] = sums.get(name, np.zeros_like(embedding)) + embedding
    categories = sorted(sums)
    if not categories:
        return [], np.zeros((0, 1), np.float32)
    centres_CD = np.stack([sums[name] for name in categories])
    return categories, centres_CD / np.maximum(np.linalg.norm(centres_CD, axis=1, keepdims=True), 1e-12)


def _whole(record: Record, config: Config) -> NDArray[np.uint8] | None:
    loaded = _load(record, config, (1,), 0.0)
    return None if loaded is None else loaded[0][0]


def _tiles(record: Record, config: Config) -> tuple[NDArray[np.uint8], NDArray[np.int32]] | None:
    return _load(record, config, (GRID,), OVERLAP)


def _load(
    record: Record, config: Config, grids: tuple[int, ...], overlap: float
) -> tuple[NDArray[np.uint8], NDArray[np.int32]] | None:
    try:
        image = read_image(record.location, config.images)
    except ImageRejected:
        return None  # training itself lists what it cannot read
    return cut_views(image, config.images, config.model.image_size, grids, overlap)
