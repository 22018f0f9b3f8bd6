"""Grids and windows of patches, against loops a reader can check by eye."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retrieval_core.config.config import ConfigError
from retrieval_core.config.sections import EmbedConfig
from retrieval_core.images.patches import (
    RATIOS,
    Grid,
    Windows,
    boxes_in_pixels,
    grid_of,
    grid_of_view,
    window_boxes,
    window_weights,
    windows_of,
)

PATCHES = st.integers(1, 12)
GRIDS = st.builds(Grid, PATCHES, PATCHES)
WINDOWS = st.builds(
    Windows, st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple), st.integers(1, 6), st.just(1)
)
SIDES = st.integers(1, 5000)


def naive_boxes(grid, windows):
    def starts(length, side):
        found = [start for start in range(length) if start % windows.stride == 0 and start + side <= length]
        return found if found[-1] == length - side else [*found, length - side]

    boxes = []
    for side in windows.sides:
        high, wide = min(side, grid.rows), min(side, grid.columns)
        for y in starts(grid.rows, high):
            boxes += [[x, y, x + wide, y + high] for x in starts(grid.columns, wide)]
    return boxes


class TestGrids:
    @pytest.mark.parametrize("ratio", RATIOS)
    @pytest.mark.parametrize("size", [224, 336, 448])
    def test_it_has_the_proportions_and_as_many_patches_as_the_square(self, size, ratio):
        side = size // 14
        grid = grid_of(round(3000 * ratio), 3000, size)
        assert abs(grid.columns - side * ratio**0.5) <= 0.5
        assert abs(grid.rows - side / ratio**0.5) <= 0.5
        assert abs(grid.columns * grid.rows / side**2 - 1) < 0.05

    def test_a_square_stays_one(self):
        assert grid_of(500, 500, 336) == Grid(24, 24)
        assert Grid(24, 24).pixels == (336, 336)

    @given(SIDES, SIDES)
    def test_no_other_shape_is_nearer_and_upright_images_have_the_transposed_one(self, width, height):
        grid = grid_of(width, height, 336)
        shapes = {grid_of(round(600 * ratio), 600, 336) for ratio in RATIOS}
        shapes |= {Grid(shape.columns, shape.rows) for shape in shapes}
        assert len(shapes) == 2 * len(RATIOS) - 1 and grid in shapes

        def distance(shape):
            ratios = sorted([shape.columns / shape.rows, width / height])
            return ratios[1] / ratios[0]

        assert distance(grid) == pytest.approx(min(map(distance, shapes)))
        assert grid_of(height, width, 336) == Grid(grid.columns, grid.rows)

    @given(SIDES, SIDES, st.integers(4, 146))
    def test_any_image_has_patches_and_its_view_the_same_ones(self, width, height, side):
        grid = grid_of(width, height, 14 * side)
        assert min(grid) >= 1
        assert grid_of_view(*grid.pixels) == grid


class TestWindows:
    @given(GRIDS, WINDOWS)
    def test_they_are_those_of_a_plain_loop(self, grid, windows):
        boxes = window_boxes(grid, windows)
        assert boxes.tolist() == naive_boxes(grid, windows)
        assert boxes[-1, 2:].tolist() == [grid.columns, grid.rows]
        assert (boxes >= 0).all() and (boxes[:, :2] < boxes[:, 2:]).all()

    @given(GRIDS, st.integers(1, 6), st.data())
    def test_they_cover_everything_when_they_do_not_jump(self, grid, side, data):
        windows = Windows((side,), data.draw(st.integers(1, side)), 1)
        seen = np.zeros(grid, bool)
        for x0, y0, x1, y1 in window_boxes(grid, windows):
            seen[y0:y1, x0:x1] = True
        assert seen.all()

    @given(GRIDS, WINDOWS)
    def test_their_weights_give_plain_means(self, grid, windows):
        values = np.random.default_rng(0).normal(size=(*grid, 3))
        weights = window_weights(grid, windows)
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
        means = [values[y0:y1, x0:x1].mean(axis=(0, 1)) for x0, y0, x1, y1 in window_boxes(grid, windows)]
        np.testing.assert_allclose(weights @ values.reshape(-1, 3), means, atol=1e-5)

    @given(GRIDS, WINDOWS, SIDES, SIDES)
    @example(Grid(7, 7), Windows((2,), 2, 1), 29, 29)  # 7 * (29 / 7) > 29
    def test_in_pixels_they_hold_their_patches_and_the_last_is_the_whole(self, grid, windows, width, height):
        boxes = boxes_in_pixels(grid, windows, width, height)
        patches = window_boxes(grid, windows)
        assert boxes.dtype == np.int32 and len(boxes) == len(patches) + 1
        assert boxes[-1].tolist() == [0, 0, width, height]
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= [width, height]).all()
        for corner, outwards in ((slice(0, 2), 1), (slice(2, 4), -1)):
            # In whole numbers: pixels times patches of an axis.
            inside = (patches[:, corner] * [width, height] - boxes[:-1, corner] * [grid.columns, grid.rows]) * outwards
            assert (inside >= 0).all() and (inside < [grid.columns, grid.rows]).all()


class TestConfiguration:
    @pytest.mark.parametrize(
        ("keys", "windows"),
        [
            ({}, Windows((2,), 2, 10)),
            ({"windows": [2, 4], "window_stride": 1, "vectors": 30}, Windows((2, 4), 1, 30)),
            ({"vectors": 1}, Windows((2,), 2, 1)),
        ],
    )
    def test_windows_are_those_of_the_keys(self, keys, windows):
        assert windows_of(EmbedConfig(**keys)) == windows

    def test_more_vectors_than_the_whole_and_the_fewest_windows_are_refused(self):
        # 56 pixels are 4 x 4 patches, or 7 x 2 for the longest fabric: 4 windows of 2, the fewest.
        keys = {"fabric_size": 56, "windows": [2], "window_stride": 2}
        assert windows_of(EmbedConfig(**keys, vectors=5)).vectors == 5
        with pytest.raises(ConfigError, match=r"embed\.vectors = 6: .* the 4 windows .* embed\.fabric_size = 56 "):
            windows_of(EmbedConfig(**keys, vectors=6))
        with pytest.raises(ConfigError, match=r"embed\.vectors = 10: .* lower embed\.window_stride"):
            windows_of(EmbedConfig(**keys))
