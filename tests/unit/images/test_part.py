"""A part of a fabric as the query: its view, the weights of its patches, and the box that a click means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrieval_core.images.part import around_click, cut_part, part_at

GREEN, RED = (20, 120, 40), (200, 30, 40)


def fabric(width=240, height=180):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def with_square(box, size=(240, 180), ground=GREEN, colour=RED):
    picture = Image.new("RGB", size, ground)
    picture.paste(colour, box)
    return picture


class TestView:
    def test_a_part_is_seen_with_as_much_around_it(self):
        part = cut_part(with_square((100, 60, 140, 100)), (100, 60, 140, 100), 98)
        assert (part.view.shape, part.view.dtype) == ((196, 196, 3), np.uint8)
        red = (part.view == RED).all(axis=2)
        assert red[51:145, 51:145].all() and not red[:47].any() and not red[:, 149:].any()

    def test_its_middle_is_the_query_and_what_is_beyond_it_is_not(self):
        part = cut_part(fabric(), (100, 60, 140, 100), 98)
        shares, around = part.shares.reshape(14, 14), part.around.reshape(14, 14)
        assert shares.sum() == pytest.approx(1) and around.sum() == pytest.approx(1)
        # The middle of the part, 0.7 of 7 patches, begins 4.55 patches from the left.
        assert (shares > 0).nonzero()[0].min() == 4 and (shares > 0).nonzero()[0].max() == 9
        assert shares[4, 6] == pytest.approx(0.45 * shares[6, 6])
        assert not around[3:11, 3:11].any() and around[0].all() and around[:, 13].all()

    @pytest.mark.parametrize("box", [(0, 0, 40, 40), (200, 140, 240, 180), (0, 150, 60, 180)])
    def test_at_an_edge_the_view_is_moved_into_the_picture(self, box):
        picture = fabric()
        part, side = cut_part(picture, box, 98), 2 * max(box[2] - box[0], box[3] - box[1])
        x, y = (0 if box[0] == 0 else 240 - side), (0 if box[1] == 0 else 180 - side)
        expected = picture.resize((196, 196), Image.Resampling.BILINEAR, (x, y, x + side, y + side))
        np.testing.assert_array_equal(part.view, expected)
        assert part.around.sum() == pytest.approx(1)

    def test_a_narrow_picture_keeps_its_proportions_and_what_is_beyond_it_counts_for_nothing(self):
        part = cut_part(with_square((20, 90, 60, 130), (80, 400)), (0, 60, 80, 180), 98)
        red = (part.view == RED).all(axis=2)
        assert np.ptp(red.nonzero()[0]) == pytest.approx(np.ptp(red.nonzero()[1]), abs=2)
        covered = part.around.reshape(14, 14).any(axis=0)
        # 80 of 240 pixels are 4.67 of 14 patches, in the middle.
        assert covered.nonzero()[0].tolist() == [4, 5, 6, 7, 8, 9]

    def test_a_part_that_is_all_has_no_surroundings(self):
        part = cut_part(fabric(100, 100), (0, 0, 100, 100), 56)
        assert not part.around.any() and part.shares.sum() == pytest.approx(1)

    @given(st.tuples(st.integers(1, 300), st.integers(1, 300)), st.data())
    def test_any_part_of_any_picture_has_weights(self, size, data):
        x0, y0 = (data.draw(st.integers(0, side - 1)) for side in size)
        x1, y1 = (data.draw(st.integers(start + 1, side)) for start, side in zip((x0, y0), size, strict=True))
        part = cut_part(fabric(*size), (x0, y0, x1, y1), 28)
        assert part.view.shape == (56, 56, 3)
        assert part.shares.shape == part.around.shape == (16,) and part.shares.dtype == np.float32
        assert part.shares.min() >= 0 and part.shares.sum() == pytest.approx(1, abs=1e-5)
        assert part.around.min() >= 0
        assert part.around.sum() == pytest.approx(1, abs=1e-5) or not part.around.any()


def patches_of(view, colour=RED):
    """A patch is one of two unit vectors, by whether most of it has the motif's colour."""
    motif = (view == colour).all(axis=2).reshape(24, 14, 24, 14).mean((1, 3)).ravel() > 0.5
    return np.where(motif[:, None], np.float32([1, 0]), np.float32([0, 1]))


def agreement(one, other):
    across, down = (min(one[axis + 2], other[axis + 2]) - max(one[axis], other[axis]) for axis in (0, 1))
    shared = max(0, across) * max(0, down)
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (sum(areas) - shared)


class TestClick:
    @pytest.mark.parametrize(
        ("box", "size"),
        [
            ((150, 150, 190, 190), (400, 300)),
            ((150, 150, 174, 190), (400, 300)),
            ((150, 150, 200, 176), (400, 300)),
            ((2, 2, 40, 40), (400, 300)),
            ((360, 262, 398, 298), (400, 300)),
            ((10, 600, 40, 630), (60, 900)),
        ],
    )
    def test_a_click_in_the_middle_finds_the_motif(self, box, size):
        picture, at = with_square(box, size), ((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)
        view, square = around_click(picture, at)
        assert view.shape == (336, 336, 3) and square.side**2 == pytest.approx(size[0] * size[1] / 4)
        for start, side in zip(square, size, strict=False):
            # Within the picture, or beyond both of its edges where it is narrower.
            assert min(0, side - square.side) <= start <= max(0, side - square.side)
        assert agreement(part_at(patches_of(view), square, at), box) > 0.6

    def test_another_print_of_the_motif_nearby_is_not_taken_along(self):
        picture, box = with_square((150, 150, 180, 180), (400, 300)), (190, 150, 220, 180)
        picture.paste(RED, box)
        view, square = around_click(picture, (205, 165))
        assert agreement(part_at(patches_of(view), square, (205, 165)), box) > 0.6

    @given(st.tuples(st.integers(1, 300), st.integers(1, 300)), st.data(), st.integers(0, 99))
    def test_any_click_means_a_part_of_the_picture(self, size, data, seed):
        at = tuple(data.draw(st.integers(0, side - 1)) for side in size)
        view, square = around_click(fabric(*size), at)
        assert view.shape == (336, 336, 3)
        patches = np.random.default_rng(seed).normal(size=(576, 4)).astype(np.float32)
        x0, y0, x1, y1 = part_at(patches / np.linalg.norm(patches, axis=1, keepdims=True), square, at)
        assert x0 <= at[0] < x1 and y0 <= at[1] < y1
        assert square.x - 1 < x0 and x1 < square.x + square.side + 1
