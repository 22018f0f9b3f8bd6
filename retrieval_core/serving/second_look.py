"""The second look of one query, in memory: what ``ray_jobs/retrieval/second_look.py`` does block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval_core.ranking.partials import PLACE, merge_partials
from retrieval_core.ranking.second_look import EXPANSIONS, Images, Parts, expanded_parts, occurrences, rescored
from retrieval_core.store.windows import Kept, read_places

OCCURRENCES = "occurrences"


def look_again(
    shards: Sequence[tuple[str, int, int]],
    found: pa.Table,
    boxes_of: Mapping[int, NDArray[np.int32]],
    motif: Parts,
    k: int,
    expand: int,
) -> pa.Table:
    """Rank what a query found first by all windows of each fabric; returns the first k, as ``merge_partials`` does.

    A column ``occurrences`` has the boxes of every place where the fabric shows the motif.

    ``shards`` are all of the gallery: file, 0, and the number of its images. ``found`` has ``place``, ``motif`` the one
    query; ``boxes_of`` a place are those of its windows (W, 4). With ``expand`` the windows that match in the fabrics
    then first expand its parts. Memory O(windows of what was found).
    """
    candidates = found.sort_by([(PLACE, "ascending")])
    places, kept = list[np.ndarray](), list[Kept]()
    for chosen, images in read_places(shards, 0, candidates[PLACE].to_numpy(), boxes=False):
        places.append(chosen)
        kept += images
    if not kept:
        return merge_partials([], k).append_column(OCCURRENCES, pa.array([], pa.list_(pa.list_(pa.int32(), 4))))
    seen_places = np.concatenate(places)
    seen = Images(seen_places, [image.windows for image in kept], [boxes_of[place] for place in seen_places.tolist()])
    expanded = motif
    for _ in range(EXPANSIONS if expand else 0):
        first = merge_partials([rescored(candidates, seen, expanded, with_matches=True)], expand)
        expanded = expanded_parts(motif, first, expand)
    ranking = merge_partials([rescored(candidates, seen, expanded)], k)
    rows = np.searchsorted(seen.places, candidates[PLACE].to_numpy()).tolist()
    row_of = dict(zip(candidates["image_path"].to_pylist(), rows, strict=True))
    ranked = (row_of[path] for path in ranking["image_path"].to_pylist())
    shown = [occurrences(seen.windows[row], seen.boxes[row], expanded.vectors[0, 0]) for row in ranked]
    return ranking.append_column(OCCURRENCES, pa.array(shown, pa.list_(pa.list_(pa.int32(), 4))))
