"""Blockwise top-k against a full sort of scores that are summed one term at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_core.ranking import selection, topk
from retrieval_core.ranking.partials import merge_partials, topk_table
from retrieval_core.ranking.topk import ScoreThreshold, block_topk
from tests.unit.ranking.naive_ranking import answers, assert_same, fast_naive_rows, naive_ranking, quickest, random_unit

# Full mantissas of different sizes: sums of their products depend on the order of summation.
AWKWARD = [np.float32(x) for x in (0.1, 1 / 3, -0.1, -1 / 3, 1e-4, 0.7, 3e-5, -0.7, 1.0, -1.0, 0.0)]
# UTF-16 order differs from UTF-8 order in the last two; ß and é sort after every ASCII character.
NAMES = ["a", "B", "a b", "é", "ß", "花", "e\u0301", "Z", "~", "\uff5e", "\U0001f600"]


@contextmanager
def small_machine(select: str, tile_bytes: int) -> Iterator[None]:
    """Few scores at a time; with ``select``, the way to do it, the float32 selection runs on the smallest galleries."""
    with (
        patch.multiple(topk, _RESCORING_COST=0 if select else 32, _SPARE=1, _PASS_QUERIES=3, TILE_BYTES=tile_bytes),
        patch.multiple(selection, TILE_BYTES=tile_bytes, _quickest=quickest(select)),
    ):
        yield


@pytest.fixture(params=["selection", "dense"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both ways of ranking a block, whichever its size would choose."""
    with patch.object(topk, "_RESCORING_COST", 0 if request.param == "selection" else 10**9):
        yield request.param


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
    st.sampled_from(["no threshold", "threshold", "two processes"]),
    st.randoms(use_true_random=False),
)
def test_the_pool_equals_a_full_sort_whatever_the_blocks_and_the_order_of_merging(
    search, query_block, gallery_block, select, tile_bytes, thresholds, random
) -> None:
    queries, gallery, paths, k = search
    order = list(range(len(paths)))
    random.shuffle(order)  # blocks need not be runs of the gallery, only be in path order themselves
    partials = []
    with small_machine(select, tile_bytes):
        for q in range(0, len(queries), query_block):
            by_process = [ScoreThreshold(len(queries[q : q + query_block]), k) for _ in range(2)]
            for f in range(0, len(paths), gallery_block):
                rows = sorted(order[f : f + gallery_block])
                known = by_process[random.randint(0, 1) if thresholds == "two processes" else 0]
                topk = block_topk(
                    queries[q : q + query_block],
                    gallery[rows],
                    k,
                    threshold_Q=None if thresholds == "no threshold" else known.values,
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


@pytest.mark.parametrize("regions", [1, 5])
def test_a_threshold_leaves_out_what_is_below_and_nothing_else(regions: int) -> None:
    queries, gallery = random_unit(0, 20, 16), random_unit(1, 4000, regions, 16)
    whole = block_topk(queries, gallery, 10)
    threshold = whole.scores[:, 4].copy()
    threshold[:3] = 2  # nothing is as good
    threshold[3] = -np.inf
    found = block_topk(queries, gallery, 10, threshold_Q=threshold)
    table = topk_table(found, np.arange(20, dtype=np.int32), pa.array([f"{row:04d}" for row in range(4000)]))
    kept = answers(table, 20)
    for query, row in enumerate(kept):
        expected = [(s, f"{r:04d}", g) for s, r, g in zip(*(part[query].tolist() for part in whole), strict=True)]
        needed = [entry for entry in expected if entry[0] >= threshold[query]]
        assert row[: len(needed)] == needed
        assert row == expected[: len(row)]
    assert len(table) < 17 * 7 + 10, "the threshold left out too little"


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
