"""Resizing, against OpenCV, Pillow and their definitions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retrieval_core.images.resizing import resize
from tests.odd_images import quadrants, smooth_noise

sides = st.integers(1, 60)


class TestResize:
    @given(h=sides, w=sides, size=sides, seed=st.integers(0, 99))
    @settings(max_examples=150)
    def test_published_agrees_with_opencv(self, h, w, size, seed):
        image = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
        ours = resize(image, size, "published")
        assert ours.shape == (size, size, 3) and ours.dtype == np.uint8
        theirs = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
        assert np.abs(ours.astype(int) - theirs.reshape(ours.shape)).max() <= 1

    @given(h=sides, w=sides, size=sides)
    @settings(max_examples=50)
    def test_published_by_its_definition(self, h, w, size):
        image = np.random.default_rng(h).integers(0, 256, (h, w, 3), dtype=np.uint8)
        ours = resize(image, size, "published")
        y, x = size // 2, size - 1
        sy = min(max((y + 0.5) * h / size - 0.5, 0), h - 1)
        sx = min(max((x + 0.5) * w / size - 0.5, 0), w - 1)
        near = [
            (j, i, max(0, 1 - abs(sy - j)) * max(0, 1 - abs(sx - i))) for j in range(h) for i in range(w)
        ]  # the tent of bilinear interpolation
        expected = sum(weight * image[j, i].astype(float) for j, i, weight in near)
        assert np.abs(ours[y, x] - expected).max() <= 0.501

    def test_antialias_is_pillows(self):
        image = np.asarray(smooth_noise())
        expected = np.asarray(smooth_noise().resize((24, 24), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(resize(image, 24, "antialias"), expected)

    def test_antialias_averages_where_published_skips(self):
        stripes = np.zeros((64, 64, 3), dtype=np.uint8)
        stripes[:, ::4] = 255
        assert np.ptp(resize(stripes, 8, "antialias")[:, 1:-1]) < 40
        assert np.ptp(resize(stripes, 9, "published")[:, 1:-1]) > 100

    @pytest.mark.parametrize("mode", ["antialias", "published"])
    def test_same_size_is_the_same_image(self, mode):
        image = np.asarray(smooth_noise(40, 40))
        np.testing.assert_array_equal(resize(image, 40, mode), image)

    def test_impossible(self):
        with pytest.raises(ValueError, match="cubic"):
            resize(quadrants(), 8, "cubic")
        with pytest.raises(ValueError, match="at least 1"):
            resize(quadrants(), 0, "published")
