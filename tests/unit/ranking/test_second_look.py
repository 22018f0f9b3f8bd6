"""The second look: against a loop over candidates, and however candidates are divided."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_core.ranking.partials import PARTIAL_SCHEMA, PLACE, merge_partials
from retrieval_core.ranking.second_look import (
    COSINES,
    MATCHES,
    Images,
    Parts,
    expanded_parts,
    occurrences,
    rescored,
)

DIM, X = 5, 3
NO_PAIR = np.zeros((0, 2), int)


def some_images(rng: np.random.Generator, count: int, first: int = 0) -> Images:
    """Images with one to four windows of few different numbers; every second place is another's."""
    numbers = rng.integers(1, 5, count).tolist()
    return Images(
        first + 2 * np.arange(count),
        [rng.integers(-2, 3, (number, DIM)).astype(np.int8) for number in numbers],
        [rng.integers(0, 999, (number, 4)).astype(np.int32) for number in numbers],
    )


def some_parts(rng: np.random.Generator, count: int) -> Parts:
    queries = np.sort(rng.choice(30, count, replace=False)).astype(np.int32)
    return Parts(queries, rng.integers(-2, 3, (count, X, DIM)).astype(np.int8))


def some_pairs(rng: np.random.Generator, images: Images, parts: Parts) -> np.ndarray:
    """(place, query) of some candidates, ordered by place."""
    chosen = rng.random((len(images.places), len(parts.queries))) < 0.6
    return np.array(
        [
            (place, query)
            for i, place in enumerate(images.places)
            for q, query in enumerate(parts.queries)
            if chosen[i, q]
        ]
        or NO_PAIR
    )


def candidates(pairs: np.ndarray) -> pa.Table:
    return pa.table(
        {
            "query": pa.array(pairs[:, 1].astype(np.int32)),
            "image_path": pa.array([path_of(place) for place in pairs[:, 0]], pa.string()),
            PLACE: pa.array(pairs[:, 0].astype(np.int64)),
        }
    )


def path_of(place: int) -> str:
    return f"{place * 37 % 100:02}.png"  # in another order than places


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of whole numbers, divided by the length of the second, then of the first."""
    squares = [sum(int(number) ** 2 for number in row) for row in (b, a)]
    product = sum(int(x) * int(y) for x, y in zip(a, b, strict=True))
    return product / (math.sqrt(squares[0]) or 1) / (math.sqrt(squares[1]) or 1)


def naive(pairs: np.ndarray, images: Images, parts: Parts) -> list[dict]:
    """A row of the table for each candidate."""
    rows = []
    for place, query in pairs.tolist():
        image, vectors = images.places.tolist().index(place), parts.vectors[parts.queries.tolist().index(query)]
        windows, best, cosines = images.windows[image], [], []
        for part in vectors:
            found = [cosine(part, window) for window in windows]
            best.append(found.index(max(found)))
            cosines.append(max(found))
        row = {"query": query, "similarity": float(np.float32(sum(cosines) / X)), "image_path": path_of(place)}
        row |= {"region": 0, "box": images.boxes[image][best[0]].tolist()}
        row |= {MATCHES: b"".join(windows[window].tobytes() for window in best)}
        rows.append(row | {COSINES: np.array(cosines, np.float32).tolist()})
    return rows


@settings(max_examples=60)
@given(st.integers(0, 9999), st.integers(1, 6), st.integers(1, 5))
def test_every_candidate_has_the_score_of_a_loop(seed: int, images: int, queries: int) -> None:
    rng = np.random.default_rng(seed)
    gallery, parts = some_images(rng, images), some_parts(rng, queries)
    pairs = some_pairs(rng, gallery, parts)
    expected = naive(pairs, gallery, parts)
    table = rescored(candidates(pairs), gallery, parts, with_matches=True)
    assert table.schema.names == [*PARTIAL_SCHEMA.names, MATCHES, COSINES]
    assert table.schema.field(MATCHES).type == pa.binary(X * DIM)
    assert table.to_pylist() == expected
    plain = rescored(candidates(pairs), gallery, parts)
    assert plain.schema == PARTIAL_SCHEMA
    assert plain.equals(table.select(PARTIAL_SCHEMA.names))


@settings(max_examples=40)
@given(st.integers(0, 9999), st.integers(1, 4), st.integers(0, 5), st.integers(0, 3))
def test_the_ranking_does_not_depend_on_the_division(seed: int, k: int, image_cut: int, query_cut: int) -> None:
    rng = np.random.default_rng(seed)
    gallery, parts = some_images(rng, 5), some_parts(rng, 3)
    pairs = some_pairs(rng, gallery, parts)
    whole = merge_partials([rescored(candidates(pairs), gallery, parts, with_matches=True)], k)
    tables = []
    for some in (slice(image_cut), slice(image_cut, None)):
        part = Images(gallery.places[some], gallery.windows[some], gallery.boxes[some])
        for rows in (slice(query_cut), slice(query_cut, None)):
            asked = Parts(parts.queries[rows], parts.vectors[rows])
            here = np.isin(pairs[:, 0], part.places) & np.isin(pairs[:, 1], asked.queries)
            tables.append(rescored(candidates(pairs[here]), part, asked, with_matches=True))
    merged = merge_partials([PARTIAL_SCHEMA.empty_table(), *tables[::-1]], k)
    assert merged.to_pylist() == whole.to_pylist()
    assert merge_partials([merge_partials(tables[:2], k), merge_partials(tables[2:], k)], k).equals(merged)


def test_images_and_queries_without_a_candidate_may_be_there() -> None:
    rng = np.random.default_rng(3)
    gallery, parts = some_images(rng, 6, first=100), some_parts(rng, 4)
    pairs = np.array([(104, parts.queries[2]), (108, parts.queries[0]), (108, parts.queries[3])])
    table = rescored(candidates(pairs), gallery, parts, with_matches=True)
    assert table.to_pylist() == naive(pairs, gallery, parts)
    nothing = rescored(candidates(NO_PAIR), gallery, parts, with_matches=True)
    assert nothing.schema == table.schema and len(nothing) == 0


def test_the_box_is_that_of_the_window_most_like_the_whole_motif() -> None:
    windows = np.array([[127, 0], [0, 127]], np.int8)
    images = Images(np.array([4]), [windows], [np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.int32)])
    parts = Parts(np.array([9], np.int32), np.array([[[10, 90], [127, 0], [127, 0]]], np.int8))
    (row,) = rescored(candidates(np.array([(4, 9)])), images, parts, with_matches=True).to_pylist()
    assert row["box"] == [5, 6, 7, 8]
    assert row[MATCHES] == bytes([0, 127, 127, 0, 127, 0])
    assert row[COSINES] == [np.float32(90 / math.sqrt(8200)), 1, 1]
    assert row["similarity"] == np.float32((90 / math.sqrt(8200) + 2) / 3)


# ---- parts


def test_queries_are_found_by_their_rows() -> None:
    parts = Parts(np.array([2, 5, 11], np.int32), np.zeros((3, X, DIM), np.int8))
    assert parts.of(np.array([11, 2, 2, 5], np.int32)).tolist() == [2, 0, 0, 1]


def test_other_wholes_leave_the_parts_as_they_were() -> None:
    parts = Parts(np.array([2, 5], np.int32), np.arange(12, dtype=np.int8).reshape(2, 3, 2))
    other = parts.with_wholes(np.array([[0.6, -0.3], [0, 0.2]], np.float32))
    assert other.queries is parts.queries
    assert other.vectors.dtype == np.int8
    assert other.vectors.tolist() == [[[127, -64], [2, 3], [4, 5]], [[0, 127], [8, 9], [10, 11]]]
    assert parts.vectors[0, 0].tolist() == [0, 1], "they were changed"
    columns = np.array([[0.6, 0], [-0.3, 0.2]], np.float32).T
    np.testing.assert_array_equal(parts.with_wholes(columns).vectors, other.vectors)


# ---- expansion


def ranking(rows: list[tuple[int, float, np.ndarray, list[float]]]) -> pa.Table:
    """A merged ranking of (query, similarity, matches (X, D), cosines)."""
    table = PARTIAL_SCHEMA.empty_table().to_pylist()
    table += [
        {"query": query, "similarity": score, "image_path": f"{place:03}", "region": 0, "box": [0, 0, 1, 1]}
        for place, (query, score, _, _) in enumerate(rows)
    ]
    matches = pa.array([vectors.astype(np.int8).tobytes() for _, _, vectors, _ in rows], pa.binary(rows[0][2].size))
    cosines = pa.array([row[3] for row in rows], pa.list_(pa.float32(), len(rows[0][3])))
    with_matches = pa.Table.from_pylist(table, PARTIAL_SCHEMA).append_column(MATCHES, matches)
    return merge_partials([with_matches.append_column(COSINES, cosines)], 99)


def test_a_match_counts_as_the_sixth_power_of_its_cosine() -> None:
    parts = Parts(np.array([3], np.int32), np.array([[[127, 0, 0], [0, 90, 0]]], np.int8))
    first, second = np.array([[0, 40, 0], [0, 0, 127]]), np.array([[0, 0, 127], [0, 0, 5]])
    found = expanded_parts(parts, ranking([(3, 0.9, first, [0.9, -0.9]), (3, 0.8, second, [0.8, 0.5])]), 2)
    assert found.vectors[0, 0].tolist() == [127, round(127 * 0.9**6), round(127 * 0.8**6)]
    assert found.vectors[0, 1].tolist() == [0, 127, round(127 * 0.5**6)]
    only_first = expanded_parts(parts, ranking([(3, 0.9, first, [0.9, -0.9]), (3, 0.8, second, [0.8, 0.5])]), 1)
    assert only_first.vectors.tolist() == [[[127, round(127 * 0.9**6), 0], [0, 127, 0]]]


def naive_expansion(parts: Parts, rows: list[dict], count: int) -> np.ndarray:
    """Numbers of expanded parts, before they are rounded."""
    expanded = np.empty(parts.vectors.shape)
    for place, query in enumerate(parts.queries.tolist()):
        first = [row for row in rows if row["query"] == query][:count]
        for part in range(X):
            vector = parts.vectors[place, part].astype(float)
            total = vector / np.linalg.norm(vector)
            for row in first:
                match = np.frombuffer(row[MATCHES], np.int8).reshape(X, DIM)[part].astype(float)
                if row[COSINES][part] > 0:
                    total = total + row[COSINES][part] ** 6 * match / np.linalg.norm(match)
            expanded[place, part] = total / np.abs(total).max() * 127
    return expanded


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_each_part_is_expanded_by_what_it_matched_itself(count: int) -> None:
    """There are six images: 9 are more than any query has."""
    rng = np.random.default_rng(count)
    gallery, parts = some_images(rng, 6), some_parts(rng, 5)
    for vectors in [*gallery.windows, *parts.vectors]:
        vectors[:, 0] += 3  # none is all 0, and most cosines are positive
    pairs = some_pairs(rng, gallery, parts)
    pairs = pairs[pairs[:, 1] != parts.queries[1]]  # this query found nothing
    merged = merge_partials([rescored(candidates(pairs), gallery, parts, with_matches=True)], 7)
    found = expanded_parts(parts, merged, count)
    assert found.queries is parts.queries and found.vectors.dtype == np.int8
    np.testing.assert_allclose(found.vectors, naive_expansion(parts, merged.to_pylist(), count), atol=0.501)
    assert np.abs(found.vectors.astype(int)).max(axis=2).tolist() == [[127] * X] * 5


def test_nothing_was_found() -> None:
    parts = some_parts(np.random.default_rng(0), 2)
    found = expanded_parts(parts, merge_partials([], 2), 2)
    np.testing.assert_array_equal(found.vectors, parts.vectors)
    np.testing.assert_array_equal(found.queries, parts.queries)


# ---- every occurrence


def naive_occurrences(windows: np.ndarray, boxes: np.ndarray, motif: np.ndarray) -> list[tuple[int, ...]]:
    """Groups of windows that hang together, grown window by window."""
    cosines = [
        sum(int(x) * int(y) for x, y in zip(window, motif, strict=True)) / (np.linalg.norm(window.astype(float)) or 1)
        for window in windows
    ]
    alike = [row for row, cosine in enumerate(cosines) if cosine > 0 and cosine >= 0.8 * max(cosines)]
    found = []
    while alike:
        group = [max(alike, key=lambda row: (cosines[row], -row))]
        for row in group:
            group += [other for other in alike if other not in group and touch(boxes[row], boxes[other])]
        alike = [row for row in alike if row not in group]
        found.append((*boxes[group, :2].min(axis=0).tolist(), *boxes[group, 2:].max(axis=0).tolist()))
    return found


def touch(left: np.ndarray, right: np.ndarray) -> bool:
    return all(left[axis] <= right[axis + 2] and right[axis] <= left[axis + 2] for axis in (0, 1))


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.sampled_from([1, 3, 8]))
def test_occurrences_are_the_windows_like_the_motif_that_hang_together(seed: int, count: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    places = rng.permutation(36)[:count]
    low = np.stack([places % 6, places // 6], axis=1) * 10
    boxes = np.concatenate([low, low + 10], axis=1).astype(np.int32)
    windows, motif = rng.integers(-9, 10, (count, dim)).astype(np.int8), rng.integers(-9, 10, dim).astype(np.int8)
    assert occurrences(windows, boxes, motif) == naive_occurrences(windows, boxes, motif)


def test_a_print_with_two_motifs_has_two_occurrences() -> None:
    side = np.arange(5)
    boxes = np.stack([side * 10, side * 0, side * 10 + 10, side * 0 + 10], axis=1).astype(np.int32)
    windows = np.array([[8, 9], [9, 8], [-9, 9], [-9, 9], [7, 7]], np.int8)
    assert occurrences(windows, boxes, np.array([1, 1], np.int8)) == [(40, 0, 50, 10), (0, 0, 20, 10)]
    assert occurrences(windows[2:4], boxes[2:4], np.array([1, -1], np.int8)) == []  # nothing is like it
