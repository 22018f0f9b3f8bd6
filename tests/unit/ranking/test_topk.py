"""Blockwise top-k against a full sort of scores that are summed one term at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import faiss
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_core.ranking import exact_scores as exact
from retrieval_core.ranking import selection, topk
from retrieval_core.ranking.topk import PARTIAL_SCHEMA, Floor, TopK, block_topk, merge_partials, topk_table

# Full mantissas of different sizes: sums of their products depend on the order of summation.
AWKWARD = [np.float32(x) for x in (0.1, 1 / 3, -0.1, -1 / 3, 1e-4, 0.7, 3e-5, -0.7, 1.0, -1.0, 0.0)]
# UTF-16 order differs from UTF-8 order in the last two; ß and é sort after every ASCII character.
NAMES = ["a", "B", "a b", "é", "ß", "花", "e\u0301", "Z", "~", "\uff5e", "\U0001f600"]

Answer = list[tuple[float, str, int]]  # (topk, path, region), best first


def naive_score(query: np.ndarray, vector: np.ndarray) -> np.float32:
    total = 0.0
    for a, b in zip(query.tolist(), vector.tolist(), strict=True):
        total += a * b
    return np.float32(total)


def naive_ranking(query: np.ndarray, gallery: np.ndarray, paths: list[str], k: int) -> Answer:
    """Every region of every fabric scored, then one full sort."""
    answer = []
    for fabric, path in zip(gallery, paths, strict=True):
        scores = [naive_score(query, vector) for vector in fabric]
        answer.append((float(max(scores)), path, scores.index(max(scores))))
    return sorted(answer, key=lambda item: (-item[0], item[1].encode()))[:k]


def fast_naive_rows(queries: np.ndarray, gallery: np.ndarray, k: int) -> TopK:
    """The same on arrays: numpy's accumulate is sequential by definition."""
    scores, rows, regions = [], [], []
    for query in queries.astype(np.float64):
        each = np.add.accumulate(gallery.astype(np.float64) * query, axis=2)[:, :, -1].astype(np.float32)
        best = each.max(1)
        order = np.lexsort((np.arange(len(best)), -best))[:k]
        scores.append(best[order])
        rows.append(order)
        regions.append(each.argmax(1)[order])
    return TopK(np.array(scores), np.array(rows), np.array(regions))


def assert_same(found: TopK, expected: TopK) -> None:
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.regions, expected.regions)
    assert (found.scores.dtype, found.rows.dtype, found.regions.dtype) == (np.float32, np.int64, np.int16)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def random_unit(seed: int, *shape: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal(shape))


@contextmanager
def small_machine(select: str, tile_bytes: int) -> Iterator[None]:
    """Few scores at a time; with ``select``, the way to do it, the float32 selection runs on the smallest galleries."""
    with (
        patch.multiple(topk, _DENSE=0 if select else 32, _MARGIN=1, _PASS_QUERIES=3, TILE_BYTES=tile_bytes),
        patch.multiple(selection, TILE_BYTES=tile_bytes, _quickest=quickest(select)),
    ):
        yield


def quickest(way: str) -> Callable[..., str]:
    """In place of the trial; FAISS does not know regions."""
    return lambda scores, queries, gallery: "torch" if way == "faiss" and gallery.shape[1] > 1 else way or "torch"


@pytest.fixture(params=["selection", "dense"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both ways of ranking a block, whichever its size would choose."""
    with patch.object(topk, "_DENSE", 0 if request.param == "selection" else 10**9):
        yield request.param


def answers(table: pa.Table, queries: int) -> list[Answer]:
    result: list[Answer] = [[] for _ in range(queries)]
    for row in table.to_pylist():
        result[row["query"]].append((row["similarity"], row["image_path"], row["region"]))
    return result


@st.composite
def searches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[str], int]:
    """Queries, gallery in path order, paths and k: few different vectors, so that ties and near-ties abound."""
    dim, regions = draw(st.integers(1, 5)), draw(st.sampled_from([1, 5]))
    vectors = st.lists(st.sampled_from(AWKWARD), min_size=dim, max_size=dim)
    pool = np.array(draw(st.lists(vectors, min_size=1, max_size=6)), np.float32)
    pool = np.concatenate([pool, pool[:, ::-1], np.nextafter(pool, np.float32(2))])
    if draw(st.booleans()):
        pool = pool.astype(np.float16)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    fabrics = draw(st.integers(1, 40))
    gallery = pool[rng.integers(len(pool), size=(fabrics, regions))]
    names = rng.choice([f"{name}/{n}.png" for name in NAMES for n in range(9)], fabrics, replace=False)
    paths = sorted(names.tolist(), key=str.encode)
    return pool[rng.integers(len(pool), size=5)], gallery, paths, draw(st.integers(1, fabrics + 3))


@settings(max_examples=60)
@given(
    searches(),
    st.sampled_from([1, 7, 1000]),
    st.sampled_from([1, 7, 1000]),
    st.sampled_from(["", "torch", "numpy", "faiss"]),
    st.sampled_from([1, 2000, 1 << 20]),
    st.sampled_from(["no floor", "floor", "two processes"]),
    st.randoms(use_true_random=False),
)
def test_the_pool_equals_a_full_sort_whatever_the_blocks_and_the_order_of_merging(
    search, query_block, gallery_block, select, tile_bytes, floors, random
) -> None:
    queries, gallery, paths, k = search
    order = list(range(len(paths)))
    random.shuffle(order)  # blocks need not be runs of the gallery, only be in path order themselves
    partials = []
    with small_machine(select, tile_bytes):
        for q in range(0, len(queries), query_block):
            floor = {process: Floor(len(queries[q : q + query_block]), k) for process in (0, 1)}
            for f in range(0, len(paths), gallery_block):
                rows = sorted(order[f : f + gallery_block])
                known = floor[random.randint(0, 1) if floors == "two processes" else 0]
                topk = block_topk(
                    queries[q : q + query_block],
                    gallery[rows],
                    k,
                    floor_Q=None if floors == "no floor" else known.values,
                )
                for _ in range(random.randint(1, 2)):  # one that is ranked again counts once
                    known.add(f"{f}", topk.scores)
                numbers = np.arange(q, q + len(topk.scores), dtype=np.int32)
                partials.append(topk_table(topk, numbers, pa.array([paths[row] for row in rows])))
    while len(partials) > 1:  # any tree
        random.shuffle(partials)
        cut = random.randint(2, len(partials))
        partials = [merge_partials(partials[:cut], k), *partials[cut:]]
    merged = merge_partials(partials, k)
    assert answers(merged, len(queries)) == [naive_ranking(query, gallery, paths, k) for query in queries]
    assert merged["query"].to_pylist() == sorted(merged["query"].to_pylist())


@pytest.mark.parametrize("regions", [1, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.usefixtures("path")
def test_several_tiles_and_passes_of_ordinary_vectors(regions: int, dtype: type) -> None:
    queries, gallery = random_unit(0, 300, 16).astype(dtype), random_unit(1, 1003, regions, 16).astype(dtype)
    tile_bytes = 4 * regions * 256 * 400
    with patch.object(selection, "TILE_BYTES", tile_bytes), patch.object(topk, "TILE_BYTES", tile_bytes):
        assert_same(block_topk(queries, gallery, 10), fast_naive_rows(queries, gallery, 10))


@pytest.mark.parametrize("way", ["torch", "numpy", "faiss"])
def test_every_way_selects_the_same(way: str) -> None:
    queries, gallery = random_unit(0, 300, 16), random_unit(1, 9000, 1, 16)
    own = block_topk(queries, gallery, 10)
    with (
        patch.object(selection, "_quickest", quickest(way)),
        patch.object(faiss, "knn", wraps=faiss.knn) as knn,
        patch.object(np, "matmul", wraps=np.matmul) as matmul,
    ):
        assert_same(block_topk(queries, gallery, 10), own)
    assert (knn.call_count, matmul.call_count > 0) == (int(way == "faiss"), way == "numpy")


def test_a_trial_tells_the_quickest_way_where_there_is_enough_to_compute() -> None:
    queries, gallery, regions = torch.zeros(2, 4), torch.zeros(8, 1, 4), torch.zeros(8, 2, 4)
    with patch.object(selection, "_trial", lambda dim, threads: {"torch": 2.0, "numpy": 1.5, "faiss": 1.0}):
        assert selection._quickest(1 << 20, queries, gallery) == "torch"
        assert selection._quickest(1 << 30, queries, gallery) == "faiss"
        assert selection._quickest(1 << 30, queries, regions) == "numpy"


@pytest.mark.parametrize("installed", [True, False])
def test_the_trial_times_what_is_installed(installed: bool) -> None:
    with (
        patch.object(selection, "_faiss", lambda: faiss if installed else None),
        patch.object(selection, "_TRIAL", (8, 64)),
    ):
        several, one = (selection._trial.__wrapped__(16, threads) for threads in (2, 1))
    assert set(several) == {"torch"} | ({"faiss"} if installed else set())
    assert set(one) == {"numpy"} | set(several)
    assert all(0 < seconds < 60 for seconds in one.values())


@pytest.mark.parametrize("regions", [1, 5])
def test_a_floor_leaves_out_what_is_below_and_nothing_else(regions: int) -> None:
    queries, gallery = random_unit(0, 20, 16), random_unit(1, 4000, regions, 16)
    whole = block_topk(queries, gallery, 10)
    floor = whole.scores[:, 4].copy()
    floor[:3] = 2  # nothing is as good
    floor[3] = -np.inf
    found = block_topk(queries, gallery, 10, floor_Q=floor)
    table = topk_table(found, np.arange(20, dtype=np.int32), pa.array([f"{row:04d}" for row in range(4000)]))
    kept = answers(table, 20)
    for query, row in enumerate(kept):
        expected = [(s, f"{r:04d}", g) for s, r, g in zip(*(part[query].tolist() for part in whole), strict=True)]
        needed = [entry for entry in expected if entry[0] >= floor[query]]
        assert row[: len(needed)] == needed
        assert row == expected[: len(row)]
    assert len(table) < 17 * 7 + 10, "the floor left out too little"


def near_ties(fabrics: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors that differ in the last bits only."""
    rng = np.random.default_rng(2)
    gallery = np.repeat(random_unit(3, 1, 64), fabrics, axis=0)
    gallery = gallery.view(np.int32) + rng.integers(-1, 2, gallery.shape, dtype=np.int32)
    return random_unit(4, 8, 64), gallery.view(np.float32)[:, None]


@pytest.mark.usefixtures("path")
def test_near_ties_that_float32_puts_in_another_order() -> None:
    queries, cluster = near_ties(60)
    gallery = np.concatenate([random_unit(5, 700, 1, 64) * np.float32(0.01), cluster])
    queries = np.where(queries @ cluster[0].T < 0, -queries, queries)  # the cluster is what every query finds
    expected = fast_naive_rows(queries, gallery, 40)
    approximate = np.argsort(-(queries @ gallery[:, 0].T), axis=1, kind="stable")[:, :40]
    assert (approximate != expected.rows).any(), "the case does not tell float32 arithmetic from the rule"
    assert_same(block_topk(queries, gallery, 40), expected)


@pytest.mark.parametrize("regions", [1, 3])
@pytest.mark.usefixtures("path")
def test_more_duplicates_than_the_selection_holds_go_by_path(regions: int) -> None:
    queries, placeholder = random_unit(6, 5, 8), random_unit(7, 1, 1, 8)
    queries[0] = placeholder  # only this query finds the image that the catalogue holds hundreds of times
    gallery = random_unit(8, 1200, regions, 8)
    gallery[100:900:2] = placeholder
    found = block_topk(queries, gallery, 50)
    assert_same(found, fast_naive_rows(queries, gallery, 50))
    assert found.rows[0].tolist() == list(range(100, 200, 2))


@pytest.mark.usefixtures("path")
def test_a_whole_catalogue_of_one_image() -> None:
    gallery = np.repeat(random_unit(9, 1, 4, 8), 1500, axis=0)
    found = block_topk(random_unit(10, 3, 8), gallery, 20)
    assert (found.rows == np.arange(20)).all()
    assert_same(found, fast_naive_rows(random_unit(10, 3, 8), gallery, 20))


@pytest.mark.usefixtures("path")
def test_the_smallest_of_equal_regions_wins() -> None:
    gallery = random_unit(11, 900, 1, 8).repeat(4, axis=1)
    gallery[:, 0] *= np.float32(0.5)
    queries = random_unit(12, 4, 8)
    found = block_topk(queries, gallery, 9)
    assert (found.regions == 1).all()
    assert_same(found, fast_naive_rows(queries, gallery, 9))


def test_scores_of_either_sign_and_orthogonal_vectors() -> None:
    gallery = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0, 1]][:, None] * np.float32(-1)
    found = block_topk(np.eye(4, dtype=np.float32)[:1], gallery, 6)
    assert found.rows.tolist() == [[1, 2, 3, 5, 0, 4]]
    assert found.scores.tolist() == [[0, 0, 0, 0, -1, -1]]
    assert not np.signbit(found.scores[0, :4]).any()


def test_a_negative_score_too_small_for_float32_is_plain_zero() -> None:
    query, vector, zero = torch.tensor([[-2.6e-23]]), torch.tensor([[2.6e-23]]), torch.zeros(1, dtype=torch.int64)
    assert not exact.exact_scores(query, zero, vector, zero).signbit().any()
    assert not exact.exact_score_matrix(query, vector).signbit().any()


@pytest.mark.parametrize(("fabrics", "queries"), [(0, 3), (4, 0), (0, 0)])
def test_nothing_to_search_or_to_search_for(fabrics: int, queries: int) -> None:
    found = block_topk(np.ones((queries, 2), np.float32), np.ones((fabrics, 1, 2), np.float32), 5)
    assert found.scores.shape == found.rows.shape == found.regions.shape == (queries, min(5, fabrics))


def test_read_only_arrays_and_tensors_are_taken_as_they_are(recwarn: pytest.WarningsRecorder) -> None:
    queries, gallery = random_unit(13, 2, 4), random_unit(14, 9, 1, 4)
    expected = fast_naive_rows(queries, gallery, 3)
    queries.setflags(write=False)
    gallery.setflags(write=False)
    assert_same(block_topk(queries, gallery, 3), expected)
    assert_same(block_topk(torch.tensor(queries), torch.tensor(gallery), 3), expected)
    assert not recwarn.list


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, np.float32(3e38)])
def test_vectors_that_are_not_finite_are_refused_by_row(bad: float) -> None:
    good = np.ones((4, 2, 3), np.float32)
    gallery = good.copy()
    gallery[2, 1, 0] = bad
    with pytest.raises(ValueError, match=r"gallery vector \[2, 1\] is not finite"):
        block_topk(good[:, 0], gallery, 2)
    with pytest.raises(ValueError, match=r"query vector \[2\] is not finite"):
        block_topk(gallery[:, 1], good, 2)


def test_wrong_arguments_name_the_value() -> None:
    queries, gallery = np.ones((2, 3), np.float32), np.ones((4, 1, 3), np.float32)
    with pytest.raises(ValueError, match="k = 0"):
        block_topk(queries, gallery, 0)
    with pytest.raises(ValueError, match=r"float64.*must be float32 or float16"):
        block_topk(queries.astype(np.float64), gallery, 1)
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(F, R, D\)"):
        block_topk(queries, gallery[:, 0], 1)
    with pytest.raises(ValueError, match="3 dimensions, the gallery 2"):
        block_topk(queries, gallery[:, :, :2], 1)
    with pytest.raises(ValueError, match="k = 0"):
        merge_partials([], 0)


def test_reduced_precision_of_the_process_changes_no_result() -> None:
    queries, gallery = random_unit(15, 20, 32), random_unit(16, 1500, 2, 32)
    expected = fast_naive_rows(queries, gallery, 10)
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "bf16"
        assert exact.matmul_arithmetic(torch.device("cpu")) == "bfloat16"
        assert_same(block_topk(queries, gallery, 10), expected)
    finally:
        matmul.fp32_precision = before
    assert exact.matmul_arithmetic(torch.device("cpu")) == "float32"


@pytest.mark.parametrize("arithmetic", ["tf32", "bfloat16"])
def test_a_product_of_rounded_inputs_selects_no_wrong_fabric(arithmetic: exact.Arithmetic) -> None:
    """What an accelerator would do: truncate the inputs, multiply, and be corrected by the bound of that arithmetic."""
    queries, gallery = random_unit(17, 10, 32), random_unit(18, 3000, 1, 32)
    mask = {"tf32": -(1 << 13), "bfloat16": -(1 << 16)}[arithmetic]
    exact_mm = torch.mm

    def coarse_mm(left: torch.Tensor, right: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        left, right = ((part.contiguous().view(torch.int32) & mask).view(torch.float32) for part in (left, right))
        return exact_mm(left, right, out=out)

    with (
        patch.object(torch, "mm", coarse_mm),
        patch.object(selection, "matmul_arithmetic", lambda device: arithmetic),
    ):
        assert_same(block_topk(queries, gallery, 30), fast_naive_rows(queries, gallery, 30))


finite = st.floats(-1e9, 1e9, width=32)


@settings(max_examples=60)
@given(st.data(), st.integers(1, 12), st.integers(1, 4), st.integers(1, 5))
def test_exact_scores_are_the_sequential_sum(data: st.DataObject, dim: int, queries: int, vectors: int) -> None:
    # Each value and its opposite: sums cancel, and what remains depends on the order.
    values = st.one_of(finite, st.sampled_from([1e8, -1e8, 1.0, 2.0**-12, 1 / 3]))
    draw = [data.draw(st.lists(values, min_size=n * dim, max_size=n * dim)) for n in (queries, vectors)]
    q, v = (np.array(part, np.float32).reshape(-1, dim) for part in draw)
    expected = [[naive_score(query, vector) for vector in v] for query in q]
    pairs = exact.exact_scores(
        torch.tensor(q), torch.arange(queries)[:, None], torch.tensor(v), torch.arange(vectors)[None]
    )
    assert pairs.tolist() == expected
    assert exact.exact_score_matrix(torch.tensor(q), torch.tensor(v)).tolist() == expected


def test_a_sum_halfway_between_two_floats_is_summed_in_order() -> None:
    # 1 + 2^-24 lies halfway between two float32. The four 2^-54 are lost one by one when they come after the 1, and
    # tip the balance when they come first.
    query = torch.tensor([[1.0, 2.0**-12, *[2.0**-27] * 4]])
    zero = torch.zeros(1, dtype=torch.int64)
    with patch.object(exact, "sequential_sum", wraps=exact.sequential_sum) as summed:
        for vector, expected in [(query, 1.0), (query.flip(1), 1 + 2.0**-23)]:
            assert exact.exact_scores(vector, zero, vector, zero).item() == expected
            assert exact.exact_score_matrix(vector, vector).item() == expected
    assert summed.call_count == 4


@pytest.mark.parametrize("dim", [1, 3, 64, 768])
def test_float32_products_stay_within_the_bound(dim: int) -> None:
    rng = np.random.default_rng(dim)
    queries = rng.standard_normal((40, dim)).astype(np.float32)
    vectors = np.concatenate([rng.standard_normal((60, dim)), np.tile(queries[:20], 1) * [[1.001]]]).astype(np.float32)
    norms = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)
    found = np.abs(
        (queries @ vectors.T).astype(np.float64)
        - exact.exact_score_matrix(*map(torch.tensor, (queries, vectors))).numpy()
    )
    bound = exact.selection_error(dim, "float32", 1.0)
    assert (found <= bound * norms).all()
    assert bound < 2.0**-23 * (dim + 1), "a bound this wide would rescore fabrics for nothing"
    assert exact.selection_error(dim, "bfloat16", 1.0) > exact.selection_error(dim, "tf32", 1.0) > bound


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


def partial(*rows: tuple[int, float, str]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"query": q, "similarity": s, "image_path": p, "region": 0, "box": None} for q, s, p in rows],
        schema=PARTIAL_SCHEMA,
    )


def test_merging_orders_ties_by_utf8_bytes_and_zero_of_either_sign_as_one() -> None:
    paths = sorted(NAMES, key=str.encode, reverse=True)
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
