"""Tables of partial rankings, and their merge."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from retrieval_core.ranking.partials import PARTIAL_SCHEMA, PLACE, VECTOR, merge_partials, topk_table
from retrieval_core.ranking.topk import TopK, block_topk
from tests.unit.ranking.naive_ranking import answers


def partial(*rows: tuple[int, float, str]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"query": q, "similarity": s, "image_path": p, "region": 0, "box": None} for q, s, p in rows],
        schema=PARTIAL_SCHEMA,
    )


def test_tables_carry_paths_and_the_winning_region_s_box() -> None:
    topk = TopK(
        np.array([[0.9, 0.5], [0.8, 0.8]], np.float32), np.array([[2, 0], [0, 1]]), np.array([[1, 0], [0, 1]], np.int16)
    )
    boxes = np.arange(3 * 2 * 4, dtype=np.int32).reshape(3, 2, 4)
    table = topk_table(topk, np.array([7, 3], np.int32), pa.array(["a", "b", "é"]), boxes)
    assert table.schema == PARTIAL_SCHEMA
    assert table.column("query").to_pylist() == [7, 7, 3, 3]
    assert table.column("image_path").to_pylist() == ["é", "a", "a", "b"]
    assert table.column("box").to_pylist() == [boxes[f, r].tolist() for f, r in [(2, 1), (0, 0), (0, 0), (1, 1)]]
    merged = merge_partials([table], 1)
    assert merged.schema == PARTIAL_SCHEMA
    assert merged.column("box").to_pylist() == [boxes[0, 0].tolist(), boxes[2, 1].tolist()]
    plain = topk_table(topk, np.array([7, 3], np.int32), pa.chunked_array([["a"], ["b", "c"]]))
    assert plain.column("box").null_count == 4


def test_places_stay_with_their_fabrics() -> None:
    rng = np.random.default_rng(1)
    queries, fabrics = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(7, 2, 4)).astype(np.float32)
    paths, places = pa.array(list("abcdefg")), np.array([4, 0, 6, 2, 5, 1, 3])
    place_of = dict(zip(paths.to_pylist(), places.tolist(), strict=True))
    rows, tables = np.array([2, 5, 9], np.int32), []
    for block in (slice(3), slice(3, None)):
        topk = block_topk(queries, fabrics[block], 2)
        tables.append(topk_table(topk, rows, paths[block], None, fabrics[block], places[block]))
    merged = merge_partials(tables, 3)
    for table in (*tables, merged):
        assert table.schema.names == [*PARTIAL_SCHEMA.names, PLACE, VECTOR]
        assert table.schema.field(PLACE).type == pa.int64()
        assert table[PLACE].to_pylist() == [place_of[path] for path in table["image_path"].to_pylist()]
    assert [len(table) for table in (*tables, merged)] == [6, 6, 9]
    plain = topk_table(block_topk(queries, fabrics, 2), rows, paths, places=places)
    assert plain.schema.names == [*PARTIAL_SCHEMA.names, PLACE]


def test_merging_orders_ties_by_utf8_bytes_and_zero_of_either_sign_as_one() -> None:
    paths = sorted(["Z", "a", "~", "é", "ß", "花", "\uff5e", "\U0001f600"], key=str.encode, reverse=True)
    table = partial(*((0, 0.0 if i % 2 else -0.0, path) for i, path in enumerate(paths)))
    assert merge_partials([table.slice(3), table.slice(0, 3)], 99)["image_path"].to_pylist() == paths[::-1]


def test_merging_nothing_and_merging_what_parquet_gave_back() -> None:
    assert merge_partials([], 3).schema == PARTIAL_SCHEMA
    table = partial((1, 0.5, "a"), (0, 0.25, "a"), (0, 0.5, "b"))
    narrow = table.set_column(2, "image_path", table["image_path"].cast(pa.string()))
    merged = merge_partials([narrow, PARTIAL_SCHEMA.empty_table()], 1)
    assert answers(merged, 2) == [[(0.5, "b", 0)], [(0.5, "a", 0)]]


@pytest.mark.parametrize("second", [0.5, 0.25])
def test_blocks_that_overlap_are_noticed(second: float) -> None:
    with pytest.raises(AssertionError, match="overlap"):
        merge_partials([partial((0, 0.5, "a"), (0, 0.3, "b")), partial((0, second, "a"))], 3)


def test_a_block_out_of_path_order_is_noticed() -> None:
    topk = block_topk(np.ones((1, 2), np.float32), np.ones((2, 1, 2), np.float32), 2)
    with pytest.raises(AssertionError, match="ascending"):
        topk_table(topk, np.zeros(1, np.int32), pa.array(["b", "a"]))


def test_a_merge_keeps_at_least_one() -> None:
    with pytest.raises(ValueError, match="k = 0"):
        merge_partials([], 0)
