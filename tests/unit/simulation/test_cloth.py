"""Layouts, grounds and printed cells: they join, show every motif, and the boxes hold what is printed."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_core.simulation.cloth import Cell, Design, cut, draw_design, motif_boxes, print_cell
from retrieval_core.simulation.colours import draw_colourway
from retrieval_core.simulation.grounds import GROUNDS, draw_ground
from retrieval_core.simulation.layouts import KINDS, Layout, Placement, draw_layout
from retrieval_core.simulation.motifs import catalogue
from retrieval_core.simulation.photograph import photograph
from retrieval_core.simulation.repeats import Repeat, tile

MOTIFS = list(catalogue(1))[:30]


def layout_of(kind: str, motifs: int, size: int) -> Layout:
    """The first layout of a kind; a kind that is never drawn runs out of seeds."""
    drawn = (draw_layout(np.random.default_rng(seed), motifs, size) for seed in range(1000))
    return next(layout for layout in drawn if layout.kind == kind)


def a_cell(seed: int, motifs: int, size: int) -> Cell:
    rng = np.random.default_rng(seed)
    chosen = [MOTIFS[i] for i in rng.choice(len(MOTIFS), motifs, replace=False)]
    return print_cell(
        draw_design(rng, chosen, size), np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    )


@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from([32, 33, 64, 256, 500]))
def test_layout_holds_every_motif_in_a_cell_that_fits(seed, motifs, size):
    layout = draw_layout(np.random.default_rng(seed), motifs, size)
    assert {p.motif for p in layout.placements} == set(range(motifs))
    most = size // 2 if layout.kind == "mirror" else size
    for side in (layout.height, layout.width):
        assert 0 < side <= most
        assert side % (2 * layout.pitch) == 0
    for p in layout.placements:
        assert 0 <= p.x <= layout.width
        assert 0 <= p.y <= layout.height


def test_all_repeats_are_drawn():
    assert set(KINDS) == set(get_args(Repeat))
    for kind in KINDS:
        layout = layout_of(kind, 2, 128)
        assert (kind == "stripe") == bool(layout.bands)


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("kind", ["block", "half-drop", "brick", "mirror"])
def test_patterned_ground_goes_on_across_the_joins(ground, kind):
    layout = layout_of(kind, 2, 128)
    rng = np.random.default_rng(0)
    colourway = draw_colourway(rng, MOTIFS[0].inks)
    cell = draw_ground(np.random.default_rng(1), ground, layout, colourway)
    h, w, pitch = layout.height, layout.width, layout.pitch
    assert cell.shape == (h, w, 3)
    cloth = tile(cell, kind, 4 * h, 4 * w).astype(int)
    if ground not in ("gradient", "filler"):
        # An unbroken pattern has one period everywhere: a join that did not meet would show.
        assert np.array_equal(cloth[pitch:], cloth[:-pitch])
        assert np.array_equal(cloth[:, pitch:], cloth[:, :-pitch])
    if ground == "gradient":
        steps = max(np.abs(np.diff(cloth, axis=axis)).max() for axis in (0, 1))
        spread = cloth.max(axis=(0, 1)) - cloth.min(axis=(0, 1))
        assert steps <= 1 + spread.max() * np.pi / min(h, w) * 1.1


@pytest.mark.parametrize("kind", ["block", "half-drop", "brick", "toss"])
@pytest.mark.parametrize(("x", "y"), [(61.0, 30.0), (3.0, 45.0), (30.0, 2.0), (33.0, 79.0), (62.0, 78.0), (1.0, 1.0)])
def test_motif_across_a_cell_edge_is_whole(kind, x, y):
    """A motif on an edge or a corner looks, on the cloth, like the same motif in the middle of a cell."""

    def instance(x: float, y: float) -> np.ndarray:
        placement = Placement(0, x, y, 36.0, 0.0, False)
        layout = Layout(kind, 80, 64, 4, (placement,))
        cell = print_cell(
            Design(tuple(MOTIFS[:1]), layout, "plain"), np.random.default_rng(1), np.random.default_rng(2)
        )
        (stamp,) = cell.stamps
        cloth = tile(cell.pixels, kind, 240, 192, -64, -80)
        top, left = stamp.y + 80, stamp.x + 64
        return cloth[top : top + stamp.seen.shape[0], left : left + stamp.seen.shape[1]]

    assert np.array_equal(instance(x, y), instance(32.0, 40.0))


@given(
    st.integers(0, 10_000), st.integers(1, 5), st.sampled_from([32, 96]), st.integers(-300, 300), st.integers(-300, 300)
)
@settings(max_examples=40)
def test_every_motif_has_a_box_and_boxes_hold_what_is_printed(seed, motifs, size, x0, y0):
    cell = a_cell(seed, motifs, size)
    boxes = motif_boxes(cell, size, x0, y0)
    assert {box.motif for box in boxes} == set(range(motifs))
    inside = np.zeros((size, size), dtype=bool)
    for box in boxes:
        assert 0 <= box.x0 < box.x1 <= size
        assert 0 <= box.y0 < box.y1 <= size
        inside[box.y0 : box.y1, box.x0 : box.x1] = True
    # What is printed inside the cell, tiled as the cloth is, must lie in the boxes.
    bare = Cell(cell.pixels, cell.layout, ())
    assert motif_boxes(bare, size, x0, y0) == []
    printed = np.zeros((cell.layout.height, cell.layout.width), dtype=bool)
    for stamp in cell.stamps:
        ys, xs = np.nonzero(stamp.seen)
        ys, xs = ys + stamp.y, xs + stamp.x
        keep = (ys >= 0) & (xs >= 0) & (ys < printed.shape[0]) & (xs < printed.shape[1])
        printed[ys[keep], xs[keep]] = True
    shown = tile(printed, cell.layout.kind, size, size, x0, y0)
    assert inside[shown].all()


def test_boxes_are_tight():
    design = draw_design(np.random.default_rng(5), MOTIFS[:1], 128)
    layout = design.layout._replace(kind="block", height=128, width=128, pitch=4, bands=())
    placement = layout.placements[0]._replace(x=64.0, y=64.0, size=60.0, turn=0.0, flip=False)
    lone = Design(design.motifs, layout._replace(placements=(placement,)), "plain")
    cell = print_cell(lone, np.random.default_rng(1), np.random.default_rng(2))
    (box,) = motif_boxes(cell, 128, 0, 0)
    image = cut(cell, 128, 0, 0).astype(int)
    differs = np.abs(image - image[0, 0]).max(axis=2) > 0
    ys, xs = np.nonzero(differs)
    # Faint antialiased pixels may lie one pixel outside.
    assert abs(box.x0 - xs.min()) <= 1
    assert abs(box.x1 - 1 - xs.max()) <= 1
    assert abs(box.y0 - ys.min()) <= 1
    assert abs(box.y1 - 1 - ys.max()) <= 1


@pytest.mark.parametrize("kind", ["half-drop", "brick", "mirror"])
def test_printed_cloth_repeats_as_its_name_says(kind):
    layout = layout_of(kind, 2, 96)
    cell = print_cell(Design(tuple(MOTIFS[:2]), layout, "dots"), np.random.default_rng(1), np.random.default_rng(2))
    h, w = layout.height, layout.width
    cloth = tile(cell.pixels, kind, 3 * h, 3 * w)
    if kind == "half-drop":
        assert np.array_equal(cloth[: 2 * h, w : 2 * w], cloth[h // 2 : h // 2 + 2 * h, :w])
    elif kind == "brick":
        assert np.array_equal(cloth[h : 2 * h, : 2 * w], cloth[:h, w // 2 : w // 2 + 2 * w])
    else:
        assert np.array_equal(cloth[: 2 * h, : 2 * w], cloth[: 2 * h, : 2 * w][::-1, ::-1])


def test_mirror_axes_cut_no_motif():
    drawn = (draw_layout(np.random.default_rng(seed), 1 + seed % 3, 128) for seed in range(600))
    mirrored = [layout for layout in drawn if layout.kind == "mirror"]
    assert len(mirrored) > 20
    for layout in mirrored:
        cell = print_cell(
            Design(tuple(MOTIFS[:3]), layout, "plain"), np.random.default_rng(1), np.random.default_rng(2)
        )
        for stamp in cell.stamps:
            assert stamp.x >= 0
            assert stamp.y >= 0
            assert stamp.x + stamp.seen.shape[1] <= layout.width
            assert stamp.y + stamp.seen.shape[0] <= layout.height


def test_same_design_in_two_colourings_keeps_its_drawing():
    design = draw_design(np.random.default_rng(4), MOTIFS[:3], 96)
    first = print_cell(design, np.random.default_rng(10), np.random.default_rng(1))
    second = print_cell(design, np.random.default_rng(11), np.random.default_rng(1))
    assert motif_boxes(first, 96, 0, 0) == motif_boxes(second, 96, 0, 0)
    assert not np.array_equal(first.pixels, second.pixels)


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(-200, 200))
@settings(max_examples=25)
def test_photograph_differs_and_keeps_every_motif_inside(seed, motifs, x0):
    cell = a_cell(seed, motifs, 96)
    taken = photograph(np.random.default_rng(seed), cell, 96, x0, -x0)
    assert taken.pixels.shape == (96, 96, 3)
    assert taken.pixels.dtype == np.uint8
    assert not np.array_equal(taken.pixels, cut(cell, 96, x0, -x0))
    assert {box.motif for box in taken.boxes} == set(range(motifs))
    for box in taken.boxes:
        assert 0 <= box.x0 < box.x1 <= 96
        assert 0 <= box.y0 < box.y1 <= 96


def test_photograph_shows_the_motif_where_its_box_says():
    design = draw_design(np.random.default_rng(5), MOTIFS[:1], 128)
    layout = design.layout._replace(kind="block", height=128, width=128, pitch=4, bands=())
    placement = layout.placements[0]._replace(x=64.0, y=64.0, size=50.0, turn=0.0, flip=False)
    lone = Design(design.motifs, layout._replace(placements=(placement,)), "plain")
    cell = print_cell(lone, np.random.default_rng(1), np.random.default_rng(2))
    for seed in range(5):
        taken = photograph(np.random.default_rng(seed), cell, 128, 0, 0)
        box = max(taken.boxes, key=lambda b: (b.x1 - b.x0) * (b.y1 - b.y0))
        picture = taken.pixels.astype(float)
        inside = picture[box.y0 : box.y1, box.x0 : box.x1].reshape(-1, 3)
        above = picture[max(0, box.y0 - 8) : box.y0 - 2, box.x0 : box.x1].reshape(-1, 3)
        assert inside.std(axis=0).max() > 2 * above.std(axis=0).max()
