"""Resizing, region boxes and views, against OpenCV, Pillow and their definitions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retrieval_core.config_sections import EmbedConfig, ImagesConfig
from retrieval_core.images import load_views, read_image, region_boxes, resize, turned
from retrieval_core.region_pooling import pool_regions
from retrieval_core.views import views_of
from tests.odd_images import BLUE, MEAN, encode, quadrants, smooth_noise, with_orientation

DEFAULT = ImagesConfig()


sides = st.integers(1, 60)


class TestResize:
    @given(h=sides, w=sides, height=sides, width=sides, seed=st.integers(0, 99))
    @settings(max_examples=150, deadline=None)
    def test_published_agrees_with_opencv(self, h, w, height, width, seed):
        image = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
        ours = resize(image, (height, width), "published")
        assert ours.shape == (height, width, 3) and ours.dtype == np.uint8
        theirs = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        assert np.abs(ours.astype(int) - theirs.reshape(ours.shape)).max() <= 1

    @given(h=sides, w=sides, height=sides, width=sides)
    @settings(max_examples=50, deadline=None)
    def test_published_by_its_definition(self, h, w, height, width):
        image = np.random.default_rng(h).integers(0, 256, (h, w, 3), dtype=np.uint8)
        ours = resize(image, (height, width), "published")
        y, x = height // 2, width - 1
        sy = min(max((y + 0.5) * h / height - 0.5, 0), h - 1)
        sx = min(max((x + 0.5) * w / width - 0.5, 0), w - 1)
        near = [
            (j, i, max(0, 1 - abs(sy - j)) * max(0, 1 - abs(sx - i))) for j in range(h) for i in range(w)
        ]  # the tent of bilinear interpolation
        expected = sum(weight * image[j, i].astype(float) for j, i, weight in near)
        assert np.abs(ours[y, x] - expected).max() <= 0.501

    def test_antialias_is_pillows(self):
        image = np.asarray(smooth_noise())
        expected = np.asarray(smooth_noise().resize((24, 16), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(resize(image, (16, 24), "antialias"), expected)

    def test_antialias_averages_where_published_skips(self):
        stripes = np.zeros((64, 64, 3), dtype=np.uint8)
        stripes[:, ::4] = 255
        assert np.ptp(resize(stripes, 8, "antialias")[:, 1:-1]) < 40
        assert np.ptp(resize(stripes, 9, "published")[:, 1:-1]) > 100

    @pytest.mark.parametrize("mode", ["antialias", "published"])
    def test_same_size_is_the_same_image(self, mode):
        image = np.asarray(smooth_noise())
        np.testing.assert_array_equal(resize(image, image.shape[:2], mode), image)

    def test_impossible(self):
        with pytest.raises(ValueError, match="cubic"):
            resize(quadrants(), 8, "cubic")
        with pytest.raises(ValueError, match="at least 1"):
            resize(quadrants(), (8, 0), "published")


class TestRegions:
    @given(w=st.integers(1, 300), h=st.integers(1, 300), n=st.integers(1, 7), overlap=st.floats(0, 0.95))
    @settings(max_examples=150, deadline=None)
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
    @settings(max_examples=100, deadline=None)
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
        path = tmp_path / "turned.png"
        path.write_bytes(encode(smooth_noise(40, 60), "PNG", exif=with_orientation(6)))
        images = ImagesConfig(resize=mode)
        upright = read_image(str(path), images)
        assert upright.shape == (60, 40, 3)
        views, boxes = load_views(str(path), images, 14, (1, 3), 0.25)
        assert views.shape == (10, 14, 14, 3) and views.dtype == np.uint8
        np.testing.assert_array_equal(boxes, region_boxes(40, 60, (1, 3), 0.25))
        for view, (x0, y0, x1, y1) in zip(views, boxes, strict=True):
            np.testing.assert_array_equal(view, resize(upright[y0:y1, x0:x1].copy(), 14, mode))

    def test_default_is_one_whole_view(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(encode(Image.fromarray(quadrants()), "PNG"))
        views, boxes = load_views(str(path), DEFAULT, 20)
        assert boxes.tolist() == [[0, 0, 40, 30]]
        assert np.abs(views[0].mean((0, 1)) - MEAN).max() < 3

    def test_fewer_pixels_than_tiles(self, tmp_path):
        path = tmp_path / "one.png"
        path.write_bytes(encode(Image.new("RGB", (1, 1), BLUE), "PNG"))
        views, _ = load_views(str(path), DEFAULT, 8, (1, 4))
        assert views.shape == (17, 8, 8, 3) and (views == BLUE).all()


class TestTurned:
    @pytest.mark.parametrize("quarters", [1, 2, 3])
    def test_a_quarter_turn_moves_every_pixel_counter_clockwise(self, quarters):
        view = np.array(smooth_noise(32, 32).convert("RGB"))
        found = turned(view, 90 * quarters).astype(int)
        inner = slice(1, -1)
        assert np.abs(found - np.rot90(view, quarters)).max(axis=2)[inner, inner].max() <= 1

    def test_the_corners_show_the_ground(self):
        view = np.full((41, 41, 3), (250, 240, 200), np.uint8)
        view[10:31, 10:31] = (10, 120, 30)
        found = turned(view, 30)
        for corner in (found[0, 0], found[0, -1], found[-1, 0], found[-1, -1]):
            assert corner.tolist() == [250, 240, 200]
        assert found[20, 20].tolist() == [10, 120, 30]

    def test_scale_enlarges_what_is_in_the_middle(self):
        view = np.zeros((40, 40, 3), np.uint8)
        view[15:25, 15:25] = 255
        assert (turned(view, 0, 2.0)[..., 0] > 127).sum() == pytest.approx(400, rel=0.05)

    def test_no_turn_is_the_view_itself(self):
        view = np.array(smooth_noise(20, 20).convert("RGB"))
        np.testing.assert_array_equal(turned(view, 0.0), view)


class TestStoredVectors:
    """What ``Views`` makes of an image, and of the embeddings of its views."""

    def views(self, role, **keys):
        return views_of(EmbedConfig(**keys), 14, role)

    def embeddings(self, rows, dim=6):
        found = np.random.default_rng(rows).normal(size=(rows, dim)).astype(np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def test_a_query_is_turned_and_averaged(self, tmp_path):
        path = tmp_path / "q.png"
        path.write_bytes(encode(Image.fromarray(quadrants()), "PNG"))
        views = self.views("queries", query_turns=[0, -20, 20], regions=[1, 3])
        pixels, boxes = views.load(str(path), DEFAULT)
        assert (views.each, views.vectors, boxes.tolist()) == (3, 1, [[0, 0, 40, 30]] * 3)
        whole = load_views(str(path), DEFAULT, 14)[0][0]
        for view, degrees in zip(pixels, [0, -20, 20], strict=True):
            np.testing.assert_array_equal(view, turned(whole, degrees))
        embeddings = self.embeddings(6)
        pooled, kept = views.pool(embeddings, np.stack([boxes, boxes]))
        mean = embeddings.reshape(2, 3, 6).mean(axis=1)
        np.testing.assert_allclose(pooled, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)
        assert kept.shape == (2, 1, 4)

    def test_a_query_is_one_view_by_default(self):
        embeddings, boxes = self.embeddings(4), np.zeros((4, 1, 4), np.int32)
        assert self.views("queries", regions=[1, 3]).pool(embeddings, boxes)[0] is embeddings

    @pytest.mark.parametrize("vectors", [1, 3, 10])
    @pytest.mark.parametrize("images", [0, 4])
    def test_regions_are_pooled_with_their_boxes(self, vectors, images):
        views = self.views("gallery", regions=[1, 3], vectors=vectors)
        boxes = np.random.default_rng(0).integers(0, 99, (images, 10, 4)).astype(np.int32)
        pooled, kept = views.pool(self.embeddings(10 * images), boxes)
        assert (views.each, views.vectors) == (10, vectors)
        assert (pooled.shape, kept.shape) == ((images * vectors, 6), (images, vectors, 4))
        expected, source = pool_regions(self.embeddings(10 * images).reshape(images, 10, 6), vectors)
        np.testing.assert_array_equal(pooled, expected.reshape(-1, 6))
        for row in range(images):
            np.testing.assert_array_equal(kept[row], boxes[row][source[row]])
