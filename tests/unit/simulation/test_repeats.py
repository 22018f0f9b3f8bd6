"""How cells cover the cloth, against a pixel-by-pixel oracle and against what the names of the trade say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.simulation.repeats import frames, neighbours, tile

KINDS = ("block", "half-drop", "brick", "mirror", "toss", "stripe")


def naive(cell: np.ndarray, kind: str, height: int, width: int, x0: int, y0: int) -> np.ndarray:
    h, w = cell.shape[:2]
    out = np.empty((height, width, *cell.shape[2:]), cell.dtype)
    for i in range(height):
        for j in range(width):
            x, y = x0 + j, y0 + i
            column, row = x // w, y // h
            if kind == "half-drop" and column % 2:
                y += h // 2
            if kind == "brick" and row % 2:
                x += w // 2
            u, v = x % w, y % h
            if kind == "mirror":
                u = w - 1 - u if column % 2 else u
                v = h - 1 - v if row % 2 else v
            out[i, j] = cell[v, u]
    return out


def a_cell(h: int, w: int) -> np.ndarray:
    return np.arange(h * w * 3).reshape(h, w, 3)  # every pixel different


@given(
    st.sampled_from(KINDS),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(-20, 20),
    st.integers(-20, 20),
)
def test_tile_equals_the_naive_loop(kind, half_h, half_w, height, width, x0, y0):
    cell = a_cell(2 * half_h, 2 * half_w)
    assert np.array_equal(tile(cell, kind, height, width, x0, y0), naive(cell, kind, height, width, x0, y0))


def test_half_drop_shifts_alternate_columns_by_half_the_cell():
    cell = a_cell(8, 6)
    cloth = tile(cell, "half-drop", 32, 24)
    first, second, third = cloth[:, :6], cloth[:, 6:12], cloth[:, 12:18]
    assert np.array_equal(second, np.roll(first, -4, axis=0))
    assert not np.array_equal(second, first)
    assert np.array_equal(third, first)
    assert np.array_equal(first[:8], first[8:16])  # and each column repeats by the cell's height


def test_brick_shifts_alternate_rows_by_half_the_cell():
    cell = a_cell(8, 6)
    cloth = tile(cell, "brick", 32, 24)
    first, second, third = cloth[:8], cloth[8:16], cloth[16:24]
    assert np.array_equal(second, np.roll(first, -3, axis=1))
    assert not np.array_equal(second, first)
    assert np.array_equal(third, first)


def test_mirror_reflects_in_both_directions():
    cell = a_cell(8, 6)
    cloth = tile(cell, "mirror", 16, 12)
    assert np.array_equal(cloth, cloth[:, ::-1])
    assert np.array_equal(cloth, cloth[::-1])
    assert np.array_equal(cloth[:8, :6], cell)


@pytest.mark.parametrize("kind", ["block", "toss", "stripe"])
def test_blocks_repeat_straight(kind):
    cell = a_cell(8, 6)
    assert np.array_equal(tile(cell, kind, 16, 12), np.tile(cell, (2, 2, 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_frames_say_where_each_pixel_of_a_cell_lies(kind):
    cell = a_cell(8, 6)
    cloth = tile(cell, kind, 40, 40)
    seen = np.zeros((40, 40), dtype=int)
    for frame in frames(kind, 8, 6, range(-2, 8), range(-2, 9)):
        for y in range(8):
            for x in range(6):
                u = frame.dx + (5 - x if frame.flip_x else x)
                v = frame.dy + (7 - y if frame.flip_y else y)
                if 0 <= u < 40 and 0 <= v < 40:
                    assert np.array_equal(cloth[v, u], cell[y, x])
                    seen[v, u] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("kind", ["block", "half-drop", "brick"])
def test_neighbours_surround_the_cell(kind):
    covered = np.zeros((24, 18), dtype=int)  # the cell at (0, 0) and one cell's width around it
    for frame in neighbours(kind, 8, 6):
        for y in range(8):
            for x in range(6):
                u, v = frame.dx + x + 6, frame.dy + y + 8
                if 0 <= u < 18 and 0 <= v < 24:
                    covered[v, u] += 1
    assert (covered == 1).all()
