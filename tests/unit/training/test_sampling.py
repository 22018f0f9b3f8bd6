"""Draws: which query meets which fabric, and which part of it, as a function of (seed, epoch, position) alone."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from retrieval_core.data.datasets import DataError, Labelled, Record
from retrieval_core.training.sampling import (
    PairSampler,
    categories_in,
    crop_window,
    motif_boxes_of,
    shares,
    worker_sizes,
)

LABELS = st.lists(st.frozensets(st.sampled_from("abcd"), max_size=3), min_size=1, max_size=8)


def split(queries, fabrics):
    """A split from categories, one string or set an image."""
    return Labelled(
        [Record(f"q{n}.png", f"/q{n}.png", tuple(sorted(names))) for n, names in enumerate(queries)],
        [Record(f"f{n}.png", f"/f{n}.png", tuple(sorted(names))) for n, names in enumerate(fabrics)],
    )


def naive_holds(labelled, query, fabric):
    return bool(set(labelled.queries[query].categories) & set(labelled.fabrics[fabric].categories))


def naive_usable(labelled):
    fabrics = range(len(labelled.fabrics))
    return [
        query
        for query in range(len(labelled.queries))
        if len({naive_holds(labelled, query, fabric) for fabric in fabrics}) == 2
    ]


def stream(rng):
    return rng.random(3).tolist()


@given(LABELS, LABELS, st.integers(0, 2**32 - 1), st.integers(0, 50))
def test_positives_hold_the_motif_and_negatives_do_not(queries, fabrics, seed, epoch):
    labelled = split(queries, fabrics)
    usable = naive_usable(labelled)
    assume(usable)
    sampler = PairSampler(labelled, seed)
    assert sampler.usable.tolist() == usable
    order = sampler.epoch_order(epoch)
    assert sorted(order.tolist()) == usable
    assert order.tolist() == sampler.epoch_order(epoch).tolist()
    for position, query in enumerate(order.tolist()):
        for attempt in range(3):
            draw = sampler.draw(epoch, position, query, attempt)
            assert draw.query in usable
            assert attempt or draw.query == query
            assert naive_holds(labelled, draw.query, draw.positive)
            assert not naive_holds(labelled, draw.query, draw.negative)


@given(LABELS, LABELS)
def test_holds_is_the_shared_category(queries, fabrics):
    labelled = split(queries, fabrics)
    assume(naive_usable(labelled))
    rows, columns = [0, len(queries) - 1], list(range(len(fabrics)))
    sampler = PairSampler(labelled, 0)
    held_FM = np.stack([sampler.numbers(fabric.categories) for fabric in labelled.fabrics])
    assert held_FM.shape == (len(fabrics), max(map(len, fabrics)))
    found = shares(torch.from_numpy(sampler.shown_QN[rows]), torch.from_numpy(held_FM))
    assert found.dtype == torch.bool
    assert found.tolist() == [[naive_holds(labelled, row, column) for column in columns] for row in rows]


@given(LABELS, LABELS)
def test_a_split_without_a_usable_query_is_refused(queries, fabrics):
    labelled = split(queries, fabrics)
    assume(not naive_usable(labelled))
    with pytest.raises(DataError, match=rf"none of the {len(queries)} queries .* {len(fabrics)} training fabrics"):
        PairSampler(labelled, 0)


MANY = split(["a", "b", "c", "ab", "", "x"] * 5, ["a", "b", "c", "", "abc"] * 6)


def test_a_draw_does_not_depend_on_what_was_drawn_before():
    one, other = PairSampler(MANY, 7), PairSampler(MANY, 7)
    calls = [
        (epoch, position, int(one.usable[position]), a) for epoch in (0, 1) for position in range(9) for a in (0, 2)
    ]
    forward = {call: one.draw(*call) for call in calls}
    backward = {call: other.draw(*call) for call in reversed(calls)}
    for call in calls:
        assert forward[call][:3] == backward[call][:3]
        assert stream(forward[call].rng) == stream(backward[call].rng)


def test_draws_differ_by_seed_epoch_position_and_attempt():
    def draws(seed, epoch, shift=0, attempt=0):
        sampler = PairSampler(MANY, seed)
        found = [sampler.draw(epoch, position + shift, 0, attempt) for position in range(20)]
        return str([(draw[:3], stream(draw.rng)) for draw in found])

    variants = [(0, 0), (1, 0), (0, 1), (0, 0, 1), (0, 0, 0, 1), (0, 0, 0, 2)]
    assert len({draws(*variant) for variant in variants}) == len(variants)
    assert draws(0, 0) == draws(0, 0)


def test_no_two_samples_share_a_stream():
    def seed_of(rng):
        return tuple(rng.bit_generator.seed_seq.generate_state(4).tolist())

    sampler = PairSampler(MANY, 0)
    rngs = [
        sampler.draw(epoch, position, 0, attempt).rng
        for epoch in range(4)
        for position in range(6)
        for attempt in range(3)
    ]
    orders = [np.random.default_rng([0, epoch]) for epoch in range(4)]
    assert len({seed_of(rng) for rng in (*rngs, *orders)}) == len(rngs) + len(orders)


def test_epochs_and_seeds_have_their_own_order():
    orders = {tuple(PairSampler(MANY, seed).epoch_order(epoch).tolist()) for seed in (0, 1) for epoch in (0, 1, 2)}
    assert len(orders) == 6


def test_every_positive_and_negative_is_drawn_alike():
    labelled = split(["ab"], [{"a"}, {"b"}, {"a", "b"}, {"c"}, set()])
    sampler = PairSampler(labelled, 0)
    draws = [sampler.draw(0, position, 0) for position in range(3000)]
    for drawn, expected in (([d.positive for d in draws], [0, 1, 2]), ([d.negative for d in draws], [3, 4])):
        counts = Counter(drawn)
        assert sorted(counts) == expected
        assert max(counts.values()) < 1.2 * min(counts.values())


def test_a_negative_among_many_positives_is_found():
    labelled = split(["a"], ["a"] * 500 + ["b"])
    assert PairSampler(labelled, 0).draw(0, 0, 0).negative == 500


@pytest.mark.parametrize("workers", range(1, 6))
@pytest.mark.parametrize("batch", [1, 4, 5, 64])
def test_worker_sizes_share_a_batch_out(batch, workers):
    sizes = worker_sizes(batch, workers)
    assert (sum(sizes), len(sizes)) == (batch, workers)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - sizes[-1] <= 1


# ---- crops


@st.composite
def crops(draw):
    """(width, height, share, boxes inside the image)."""
    width, height = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    boxes = []
    for _ in range(draw(st.integers(0, 3))):
        x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        boxes.append((x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))))
    return width, height, draw(st.floats(0.01, 1.0)), boxes


def overlap(window, box, axis):
    return min(window[axis + 2], box[axis + 2]) - max(window[axis], box[axis])


@given(crops(), st.integers(0, 100))
def test_a_window_lies_inside_and_holds_the_box_where_it_fits(crop, seed):
    width, height, share, boxes = crop
    window = crop_window(width, height, share, boxes, np.random.default_rng(seed))
    assert 0 <= window[0] < window[2] <= width
    assert 0 <= window[1] < window[3] <= height
    sides = window[2] - window[0], window[3] - window[1]
    assert sides == (max(1, round(width * share)), max(1, round(height * share)))
    if not boxes:
        return

    def as_full_as_can_be(box):
        lengths = box[2] - box[0], box[3] - box[1]
        return all(overlap(window, box, axis) == min(sides[axis], lengths[axis]) for axis in (0, 1))

    assert any(as_full_as_can_be(box) for box in boxes)


@given(crops(), st.integers(0, 9), st.integers(1, 30))
def test_a_box_over_the_edge_leaves_the_window_inside(crop, seed, reach):
    width, height, share, _ = crop
    box = (-reach, height - 1, width + reach, height + reach)
    window = crop_window(width, height, share, [box], np.random.default_rng(seed))
    assert 0 <= window[0] < window[2] <= width
    assert 0 <= window[1] < window[3] <= height
    assert window[3] == height


def test_the_whole_image_needs_no_draw():
    rng = np.random.default_rng(0)
    assert crop_window(30, 20, 1.0, [(1, 1, 2, 2)], rng) == (0, 0, 30, 20)
    assert stream(rng) == stream(np.random.default_rng(0))


def test_windows_are_spread_over_all_places():
    rng = np.random.default_rng(0)
    starts = Counter(crop_window(12, 12, 0.5, [], rng)[0] for _ in range(3000))
    assert sorted(starts) == list(range(7))
    held = Counter(crop_window(12, 12, 0.5, [(5, 0, 8, 3)], rng)[0] for _ in range(3000))
    assert sorted(held) == [2, 3, 4, 5]


def test_larger_boxes_are_drawn_more_often():
    rng = np.random.default_rng(0)
    large, small = (0, 0, 30, 30), (90, 90, 100, 100)
    kept = Counter(crop_window(100, 100, 0.3, [large, small], rng) == (0, 0, 30, 30) for _ in range(1000))
    assert 850 < kept[True] < 950


def test_the_boxes_of_a_pair_are_those_of_the_shared_motifs():
    fabric, query = Record("f.png", "", ("a", "b", "c")), Record("q.png", "", ("a", "c"))
    boxes = {"f.png": [("a", (0, 0, 1, 1)), ("b", (1, 1, 2, 2)), ("c", (2, 2, 3, 3)), ("a", (4, 4, 5, 5))], "g.png": []}
    assert motif_boxes_of(fabric, query, boxes) == [(0, 0, 1, 1), (2, 2, 3, 3), (4, 4, 5, 5)]
    assert motif_boxes_of(Record("g.png", ""), query, boxes) == []
    assert motif_boxes_of(Record("unknown.png", ""), query, boxes) == []


@given(crops(), st.data())
def test_a_window_shows_what_it_holds_a_third_of(crop, data):
    width, height, share, known = crop
    window = crop_window(width, height, share, [], np.random.default_rng(0))
    names = data.draw(st.lists(st.sampled_from("abc"), min_size=len(known), max_size=len(known)))
    fabric, query = Record("f.png", "", tuple(sorted({*names, "q"}))), Record("q.png", "", ("q", "z"))
    boxes = {"f.png": list(zip(names, known, strict=True))} if known else {}
    found = categories_in(window, fabric, query, boxes)
    if not known:
        assert found == set(fabric.categories)
        return

    def pixels(box):
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    shown = {
        name
        for name, box in zip(names, known, strict=True)
        if 3 * len(pixels(box) & pixels(window)) >= len(pixels(box))
    }
    assert found == shown | {"q"}


def test_elements_choose_the_positives_and_categories_the_negatives():
    """Two drawings of a rose: the query finds its own, and the other one is no negative."""
    queries = [Record("in/7,rose.png", "", ("rose",)), Record("in/8,rose.png", "", ("rose",))]
    held = [(("rose",), ("7",)), (("rose",), ("8",)), (("rose", "bear"), ("7", "9")), (("bear",), ("9",))]
    fabrics = [Record(f"f{n}.png", "", names, ids) for n, (names, ids) in enumerate(held)]
    sampler = PairSampler(Labelled(queries, fabrics), 0, "element")
    assert sampler.usable.tolist() == [0, 1]
    drawn = [[sampler.draw(0, position, row) for position in range(200)] for row in (0, 1)]
    assert [{draw.positive for draw in of_query} for of_query in drawn] == [{0, 2}, {1}]
    assert all(draw.negative == 3 for of_query in drawn for draw in of_query)
    assert PairSampler(Labelled(queries, fabrics), 0).draw(0, 0, 0).positive in {0, 1, 2}


def test_elements_that_nobody_lists_are_refused():
    with pytest.raises(DataError, match=r"train\.labels = 'element'.*train\.labels=category"):
        PairSampler(split(["a"], ["a", "b"]), 0, "element")


def test_the_refusal_says_what_to_look_at():
    with pytest.raises(DataError, match=re.escape("see `fabric-retrieval check`")):
        PairSampler(split(["a"], ["b"]), 0)
