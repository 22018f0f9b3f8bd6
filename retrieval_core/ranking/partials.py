"""Partial rankings as tables: what a block's ranking is written as, and the merge of several.

Merging keeps (similarity descending, path ascending as UTF-8 bytes), whatever the order in which blocks are merged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval_core.ranking.topk import TopK

PARTIAL_SCHEMA = pa.schema(
    [
        pa.field("query", pa.int32(), nullable=False),  # row of the query in the query list
        pa.field("similarity", pa.float32(), nullable=False),
        pa.field("image_path", pa.large_string(), nullable=False),
        pa.field("region", pa.int16(), nullable=False),
        pa.field("box", pa.list_(pa.int32(), 4)),  # x0, y0, x1, y1 of the region; null without regions
    ]
)

VECTOR = "vector"
"""Column of a table that keeps vectors: a list of D float32."""
PLACE = "place"
"""Column of a table for a second look: the number of the image in the gallery, from 0, shard after shard."""


def topk_table(
    topk: TopK,
    queries: NDArray[np.int32],
    paths: pa.Array | pa.ChunkedArray,
    boxes: NDArray[np.int32] | None = None,
    vectors_FRD: NDArray[np.float32] | None = None,
    places: NDArray[np.int64] | None = None,
) -> pa.Table:
    """A block's ranking as a table that can be merged with those of other blocks.

    The (Q, K) ranking becomes a row of ``PARTIAL_SCHEMA`` for each fabric, at most QK, in its order. ``queries`` (Q,)
    are rows of the query list. ``paths`` (F,) are ascending as UTF-8 bytes, no two equal. ``boxes`` (F, R, 4) are x0,
    y0, x1, y1 of each region in pixels; None leaves ``box`` null. With ``vectors_FRD`` a column ``vector`` has the one
    that matched, and with ``places`` (F,) a column ``place``. Memory O(QK), times D with vectors.
    """
    assert len(queries) == len(topk.scores), (len(queries), topk.scores.shape)
    assert pc.all(pc.less(paths[:-1], paths[1:])).as_py() is not False, "fabrics must be in ascending order of paths"
    taken = topk.scores > -np.inf
    rows, regions = topk.rows[taken], topk.regions[taken]
    box_type = PARTIAL_SCHEMA.field("box").type
    if boxes is None:
        box = pa.nulls(len(rows), box_type)
    else:
        box = pa.FixedSizeListArray.from_arrays(pa.array(boxes[rows, regions].reshape(-1), pa.int32()), 4)
    table = pa.table(
        [
            pa.array(np.repeat(np.asarray(queries, np.int32), taken.sum(1))),
            pa.array(topk.scores[taken]),
            paths.take(pa.array(rows)).cast(pa.large_string()),
            pa.array(regions),
            box,
        ],
        schema=PARTIAL_SCHEMA,
    )
    if places is not None:
        table = table.append_column(PLACE, pa.array(places[rows]))
    if vectors_FRD is not None:
        matched = pa.array(vectors_FRD[rows, regions].reshape(-1))
        table = table.append_column(VECTOR, pa.FixedSizeListArray.from_arrays(matched, vectors_FRD.shape[2]))
    return table


def merge_partials(tables: Sequence[pa.Table], k: int) -> pa.Table:
    """The first k of each query over several blocks; merging merged tables with the same k gives the same.

    Tables are those of ``topk_table``, for any queries and blocks; no (query, path) may be in two. The merged one is
    ordered by query, similarity descending, path as UTF-8 bytes. Time O(N log N) and memory O(N) in the rows of all
    tables. Raises ValueError for ``k < 1``.
    """
    if k < 1:
        raise ValueError(f"k = {k}: must be at least 1")
    table = pa.concat_tables([PARTIAL_SCHEMA.empty_table(), *map(_as_written, tables)], promote_options="default")
    assert not pc.any(pc.is_nan(table["similarity"])).as_py(), "a similarity is not a number"
    # Arrow compares strings by bytes, and -0 equals 0.
    order = pc.sort_indices(
        table, sort_keys=[("query", "ascending"), ("similarity", "descending"), ("image_path", "ascending")]
    ).to_numpy()
    query = table["query"].to_numpy()[order]
    place = np.arange(len(query)) - np.searchsorted(query, query)
    merged = table.take(pa.array(order[place < k])).combine_chunks()
    _assert_unique(merged)
    return merged


def _as_written(table: pa.Table) -> pa.Table:
    """A table as ``topk_table`` made it: Parquet gives other types of strings back."""
    others = [field for field in table.schema if field.name not in PARTIAL_SCHEMA.names]
    return table.cast(pa.schema([*PARTIAL_SCHEMA, *others]))


def _assert_unique(table: pa.Table) -> None:
    pairs = table.select(["query", "image_path"])
    pairs = pairs.take(pc.sort_indices(pairs, sort_keys=[("query", "ascending"), ("image_path", "ascending")]))
    before, after = pairs.slice(0, max(len(pairs) - 1, 0)), pairs.slice(1)
    twice = pc.and_(*(pc.equal(before[name], after[name]) for name in pairs.column_names))
    assert not pc.any(twice).as_py(), "a fabric was ranked twice for one query: two blocks overlap"
