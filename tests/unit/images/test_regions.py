"""Region boxes and the views cut out of an image, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retrieval_core.config.sections import ImagesConfig
from retrieval_core.images.regions import cut_views, region_boxes
from retrieval_core.images.resizing import resize
from retrieval_core.images.rgb import read_image
from tests.odd_images import BLUE, MEAN, encode, quadrants, smooth_noise, with_orientation

DEFAULT = ImagesConfig()


class TestRegions:
    @given(w=st.integers(1, 300), h=st.integers(1, 300), n=st.integers(1, 7), overlap=st.floats(0, 0.95))
    @settings(max_examples=150)
    def test_tiles_cover_the_image_and_stay_inside(self, w, h, n, overlap):
        boxes = region_boxes(w, h, [n], overlap)
        assert boxes.shape == (n * n, 4) and boxes.dtype == np.int32
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= w).all() and (boxes[:, 3] <= h).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        seen = np.zeros((h, w), dtype=bool)
        for x0, y0, x1, y1 in boxes:
            seen[y0:y1, x0:x1] = True
        assert seen.all()
        rows = boxes.reshape(n, n, 4)
        assert (rows[:, :, 1] == rows[:, :1, 1]).all() and (rows[:, :, 0] == rows[:1, :, 0]).all()
        assert (np.diff(rows[:, 0, 1]) >= 0).all() and (np.diff(rows[0, :, 0]) >= 0).all()

    @given(side=st.integers(100, 1000), n=st.integers(2, 6), overlap=st.floats(0, 0.9))
    @settings(max_examples=100)
    def test_neighbours_overlap_by_the_asked_share(self, side, n, overlap):
        boxes = region_boxes(side, side, [n], overlap)[:n].astype(float)
        tile = side / (n - (n - 1) * overlap)
        assert np.abs(boxes[:, 2] - boxes[:, 0] - tile).max() <= 1
        assert np.abs(boxes[:-1, 2] - boxes[1:, 0] - overlap * tile).max() <= 1
        assert boxes[0, 0] == 0 and boxes[-1, 2] == side

    def test_by_eye(self):
        assert region_boxes(70, 40, [1, 2], 0.0).tolist() == [
            [0, 0, 70, 40],
            [0, 0, 35, 20],
            [35, 0, 70, 20],
            [0, 20, 35, 40],
            [35, 20, 70, 40],
        ]
        # t = 70 / (2 - 0.25) = 40: neighbours share 10 of 40 pixels.
        assert region_boxes(70, 70, [2], 0.25)[:2].tolist() == [[0, 0, 40, 40], [30, 0, 70, 40]]

    def test_grids_keep_their_order(self):
        both = region_boxes(90, 50, [3, 1], 0.2)
        assert both[-1].tolist() == [0, 0, 90, 50]
        np.testing.assert_array_equal(both[:9], region_boxes(90, 50, [3], 0.2))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [((0, 5, [1], 0.1), "0 x 5"), ((5, 5, [], 0.1), "grid"), ((5, 5, [0], 0.1), "grid"), ((5, 5, [2], 1.0), "1.0")],
    )
    def test_impossible(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            region_boxes(*arguments)


class TestViews:
    @pytest.mark.parametrize("mode", ["antialias", "published"])
    def test_each_view_is_its_box_resized_by_itself(self, tmp_path, mode):
        path = tmp_path / "sideways.png"
        path.write_bytes(encode(smooth_noise(40, 60), "PNG", exif=with_orientation(6)))
        images = ImagesConfig(resize=mode)
        upright = read_image(str(path), images)
        assert upright.shape == (60, 40, 3)
        views, boxes = cut_views(upright, images, 14, (1, 3), 0.25)
        assert views.shape == (10, 14, 14, 3) and views.dtype == np.uint8
        np.testing.assert_array_equal(boxes, region_boxes(40, 60, (1, 3), 0.25))
        for view, (x0, y0, x1, y1) in zip(views, boxes, strict=True):
            np.testing.assert_array_equal(view, resize(upright[y0:y1, x0:x1].copy(), 14, mode))

    def test_default_is_one_whole_view(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(encode(Image.fromarray(quadrants()), "PNG"))
        views, boxes = cut_views(read_image(str(path), DEFAULT), DEFAULT, 20)
        assert boxes.tolist() == [[0, 0, 40, 30]]
        assert np.abs(views[0].mean((0, 1)) - MEAN).max() < 3

    def test_fewer_pixels_than_tiles(self, tmp_path):
        path = tmp_path / "one.png"
        path.write_bytes(encode(Image.new("RGB", (1, 1), BLUE), "PNG"))
        views, _ = cut_views(read_image(str(path), DEFAULT), DEFAULT, 8, (1, 4))
        assert views.shape == (17, 8, 8, 3) and (views == BLUE).all()

    @pytest.mark.parametrize("mode", ["antialias", "published"])
    @given(w=st.integers(1, 90), h=st.integers(1, 90), grid=st.integers(1, 4), size=st.integers(1, 40))
    @settings(max_examples=60)
    def test_a_picture_gives_the_views_of_its_pixels(self, mode, w, h, grid, size):
        noise = np.random.default_rng(h).integers(0, 256, (h, w, 3), dtype=np.uint8)
        picture = Image.fromarray(noise)
        images, grids = ImagesConfig(resize=mode), (1, grid)
        (views, boxes), (expected, same) = (cut_views(of, images, size, grids) for of in (picture, np.array(picture)))
        np.testing.assert_array_equal(views, expected)
        np.testing.assert_array_equal(boxes, same)
