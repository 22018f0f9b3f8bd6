"""What ``Views`` makes of an image, and of the embeddings of its views."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from retrieval_core.config.sections import EmbedConfig, ImagesConfig
from retrieval_core.encoding.region_pooling import pool_regions
from retrieval_core.encoding.views import Views, views_of
from retrieval_core.images.regions import cut_views
from retrieval_core.images.resizing import rotated
from tests.odd_images import encode, photograph, quadrants, with_orientation

DEFAULT, REDUCED = ImagesConfig(), ImagesConfig(jpeg="reduced")


class TestReducedJpeg:
    @pytest.mark.parametrize("grids", [(1,), (1, 3)])
    @pytest.mark.parametrize(("orientation", "size"), [(1, (1601, 1203)), (6, (1600, 1208))])
    def test_its_views_are_those_of_the_whole_one(self, grids, orientation, size):
        content = encode(photograph(*size), "JPEG", quality=92, exif=with_orientation(orientation))
        views = Views(56, grids, 0.25)
        expected, boxes = views.of(content, DEFAULT)
        found, same = views.of(content, REDUCED)
        np.testing.assert_array_equal(same, boxes)
        difference = np.abs(found.astype(int) - expected)
        assert not np.array_equal(found, expected), "nothing was reduced"
        assert difference.mean() < 1.5 and np.quantile(difference, 0.99) <= 6

    def test_a_query_is_rotated_like_a_whole_one(self):
        content, views = encode(photograph(801, 603), "JPEG", quality=92), Views(56, (1,), 0.25, rotations=(0.0, 30.0))
        (expected, boxes), (found, same) = (views.of(content, images) for images in (DEFAULT, REDUCED))
        np.testing.assert_array_equal(same, boxes)
        assert 0 < np.abs(found.astype(int) - expected).mean() < 1.5


class TestStoredVectors:
    def views(self, role, **keys):
        return views_of(EmbedConfig(**keys), 14, role)

    def embeddings(self, rows, dim=6):
        found = np.random.default_rng(rows).normal(size=(rows, dim)).astype(np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def test_a_query_is_rotated_and_averaged(self):
        views = self.views("queries", query_turns=[0, -20, 20], regions=[1, 3])
        pixels, boxes = views.of(encode(Image.fromarray(quadrants()), "PNG"), DEFAULT)
        assert (views.per_image, views.rows, boxes.tolist()) == (3, 1, [[0, 0, 40, 30]] * 3)
        whole = cut_views(quadrants(), DEFAULT, 14)[0][0]
        for view, degrees in zip(pixels, [0, -20, 20], strict=True):
            np.testing.assert_array_equal(view, rotated(whole, degrees))
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
        assert (views.per_image, views.rows) == (10, vectors)
        assert (pooled.shape, kept.shape) == ((images * vectors, 6), (images, vectors, 4))
        expected, source = pool_regions(self.embeddings(10 * images).reshape(images, 10, 6), vectors)
        np.testing.assert_array_equal(pooled, expected.reshape(-1, 6))
        for row in range(images):
            np.testing.assert_array_equal(kept[row], boxes[row][source[row]])
