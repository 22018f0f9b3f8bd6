"""What ``Views`` makes of an image, and of the embeddings of its views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval_core.config.config import Config, ConfigError
from retrieval_core.config.sections import EmbedConfig, ImagesConfig, ModelConfig
from retrieval_core.encoding.encoders import ModelEncoder
from retrieval_core.encoding.region_pooling import pool_regions
from retrieval_core.encoding.views import PARTS, Cut, Views, views_of
from retrieval_core.images.motif import cut_motif
from retrieval_core.images.patches import Grid, Windows, boxes_in_pixels, window_weights
from retrieval_core.images.regions import cut_views
from retrieval_core.model.embedder import normalise
from retrieval_core.ranking.window_scores import quantised
from tests.odd_images import encode, photograph, quadrants, with_orientation
from tests.unit.tiny_split import make_model

DEFAULT, REDUCED = ImagesConfig(), ImagesConfig(jpeg="reduced")


class TestReducedJpeg:
    @pytest.mark.parametrize(
        "views",
        [Views(56), Views(56, (1, 3)), Views(56, windows=Windows((2,), 2, 3))],
        ids=["whole", "tiles", "windows"],
    )
    @pytest.mark.parametrize(("orientation", "size"), [(1, (1601, 1203)), (6, (1600, 1208))])
    def test_its_views_are_those_of_the_whole_one(self, views, orientation, size):
        content = encode(photograph(*size), "JPEG", quality=92, exif=with_orientation(orientation))
        expected, boxes, _ = views.of(content, DEFAULT)
        found, same, _ = views.of(content, REDUCED)
        np.testing.assert_array_equal(same, boxes)
        difference = np.abs(found.astype(int) - expected)
        assert not np.array_equal(found, expected), "nothing was reduced"
        assert difference.mean() < 1.5 and np.quantile(difference, 0.99) <= 6


class Given:
    """An encoder that has its embeddings already."""

    dim = 6

    def __init__(self, embeddings):
        self.embeddings = embeddings

    def encode(self, views):
        assert len(views) == len(self.embeddings)
        return self.embeddings


class TestStoredVectors:
    def views(self, role, **keys):
        config = Config(model=ModelConfig(pooling="cls", image_size=14), embed=EmbedConfig(**keys))
        return views_of(config, config.model, role)

    def embeddings(self, rows, dim=6):
        found = np.random.default_rng(rows).normal(size=(rows, dim)).astype(np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def test_a_query_is_one_view(self):
        views = self.views("queries", regions=[1, 3], vectors=4)
        cut = views.of(encode(Image.fromarray(quadrants()), "PNG"), DEFAULT)
        assert (views.per_image, views.rows, cut.boxes.tolist()) == (1, 1, [[0, 0, 40, 30]])
        np.testing.assert_array_equal(cut.pixels, cut_views(quadrants(), DEFAULT, 14)[0])
        embeddings = self.embeddings(4)
        kept, boxes = views.embed(Given(embeddings), [cut] * 4)
        np.testing.assert_array_equal(kept, embeddings[:, None])
        assert boxes.tolist() == [[[0, 0, 40, 30]]] * 4

    @pytest.mark.parametrize("vectors", [1, 3, 10])
    @pytest.mark.parametrize("images", [0, 4])
    def test_regions_are_pooled_with_their_boxes(self, vectors, images):
        views = self.views("gallery", regions=[1, 3], vectors=vectors)
        boxes = np.random.default_rng(0).integers(0, 99, (images, 10, 4)).astype(np.int32)
        cuts = [Cut(np.zeros((10, 14, 14, 3), np.uint8), own) for own in boxes]
        pooled, kept = views.embed(Given(self.embeddings(10 * images)), cuts)
        assert (views.per_image, views.rows) == (10, vectors)
        assert (pooled.shape, kept.shape) == ((images, vectors, 6), (images, vectors, 4))
        expected, source = pool_regions(self.embeddings(10 * images).reshape(images, 10, 6), vectors)
        np.testing.assert_array_equal(pooled, expected)
        for row in range(images):
            np.testing.assert_array_equal(kept[row], boxes[row][source[row]])

    @pytest.mark.parametrize(("role", "vectors"), [("queries", 3), ("gallery", 3), ("gallery", 10)])
    def test_none_has_windows_to_keep(self, role, vectors):
        views = self.views(role, regions=[1, 3], vectors=vectors)
        cuts = [Cut(np.zeros((views.per_image, 14, 14, 3), np.uint8), np.ones((views.per_image, 4), np.int32))] * 2
        given = Given(self.embeddings(2 * views.per_image))
        found = views.embed_all(given, cuts, keep=True)
        assert found.kept is None
        for value, expected in zip(found[:2], views.embed(given, cuts), strict=True):
            np.testing.assert_array_equal(value, expected)


@pytest.fixture(scope="module")
def model():
    return make_model(pooling="patches").eval()


@pytest.fixture
def encoder(model):
    return ModelEncoder(model, torch.device("cpu"), "float32", 2)


@torch.no_grad()
def windows_in(model, cut, weights):
    """(W, D) of one image, from the model itself."""
    return model(normalise(torch.tensor(cut.pixels)), torch.tensor(weights))[0].numpy()


class TestWindows:
    VIEWS = Views(84, windows=Windows((2,), 2, 4))
    SIZES = ((90, 90), (240, 80), (95, 85), (60, 190), (7, 500))

    def cuts(self):
        return [self.VIEWS.of(encode(photograph(*size), "PNG"), DEFAULT) for size in self.SIZES]

    def test_a_fabric_is_one_view_in_its_proportions(self):
        shapes = [cut.pixels.shape for cut in self.cuts()]
        assert shapes == [(1, high, wide, 3) for high, wide in [(84, 84), (42, 140), (84, 84), (140, 42), (140, 42)]]
        assert [cut.boxes.tolist() for cut in self.cuts()] == [[[0, 0, *size]] for size in self.SIZES]
        assert (self.VIEWS.per_image, self.VIEWS.rows) == (1, 4)

    def test_images_of_any_shape_in_one_call_are_each_what_they_are_alone(self, encoder):
        embeddings, boxes = self.VIEWS.embed(encoder, self.cuts())
        assert (embeddings.shape, boxes.shape, boxes.dtype) == ((5, 4, 8), (5, 4, 4), np.int32)
        for row, cut in enumerate(self.cuts()):
            alone, its_boxes = self.VIEWS.embed(encoder, [cut])
            np.testing.assert_allclose(alone[0], embeddings[row], atol=1e-5)
            np.testing.assert_array_equal(its_boxes[0], boxes[row])

    def test_a_box_is_that_of_a_window_most_like_the_vector(self, model, encoder):
        embeddings, boxes = self.VIEWS.embed(encoder, self.cuts())
        for cut, size, vectors, found in zip(self.cuts(), self.SIZES, embeddings, boxes, strict=True):
            assert found[0].tolist() == [0, 0, *size]
            assert (found[:, :2] >= 0).all() and (found[:, :2] < found[:, 2:]).all() and (found[:, 2:] <= size).all()
            grid = Grid(cut.pixels.shape[1] // 14, cut.pixels.shape[2] // 14)
            windows = windows_in(model, cut, window_weights(grid, self.VIEWS.windows))
            every = boxes_in_pixels(grid, self.VIEWS.windows, *size).tolist()
            mean = windows.mean(axis=0)
            np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), atol=1e-5)
            for vector, box in zip(vectors[1:], found[1:].tolist(), strict=True):
                assert windows[every.index(box)] @ vector == pytest.approx((windows @ vector).max(), abs=1e-5)

    def test_a_motif_is_embedded_by_its_patches(self, model, encoder):
        views = Views(42, mask="auto")
        pictures = [Image.new("RGB", (200, 150), "white") for _ in range(3)]
        for picture, box in zip(pictures, [(20, 30, 60, 60), (90, 10, 110, 140), (0, 0, 200, 150)], strict=True):
            picture.paste(photograph(box[2] - box[0], box[3] - box[1]), box[:2])
        cuts = [views.of(encode(picture, "PNG"), DEFAULT) for picture in pictures]
        embeddings, boxes = views.embed(encoder, cuts)
        assert boxes.tolist() == [[[0, 0, 200, 150]]] * 3 and views.rows == 1
        for picture, cut, found in zip(pictures, cuts, embeddings, strict=True):
            view, shares = cut_motif(picture, None, 42, "auto")
            np.testing.assert_array_equal(cut.pixels, view[None])
            np.testing.assert_array_equal(cut.shares, shares)
            np.testing.assert_allclose(found, windows_in(model, cut, shares[None]), atol=1e-5)

    def test_all_windows_of_fabrics_of_any_shape_are_kept(self, model, encoder):
        cuts = self.cuts()
        found = self.VIEWS.embed_all(encoder, cuts, keep=True)
        for value, expected in zip(found[:2], self.VIEWS.embed(encoder, cuts), strict=True):
            np.testing.assert_array_equal(value, expected)
        assert len(found.kept) == 5 and len({len(kept.windows) for kept in found.kept}) > 1
        for cut, size, kept in zip(cuts, self.SIZES, found.kept, strict=True):
            grid = Grid(cut.pixels.shape[1] // 14, cut.pixels.shape[2] // 14)
            windows = windows_in(model, cut, window_weights(grid, self.VIEWS.windows))
            assert (kept.windows.shape, kept.windows.dtype) == (windows.shape, np.int8)
            np.testing.assert_allclose(kept.windows, quantised(torch.from_numpy(windows)), atol=1)
            assert kept.boxes.dtype == np.int32
            np.testing.assert_array_equal(kept.boxes, boxes_in_pixels(grid, self.VIEWS.windows, *size)[:-1])
        assert self.VIEWS.embed_all(encoder, cuts, keep=False).kept is None

    def test_motifs_are_kept_with_their_parts(self, encoder):
        views = Views(42, mask="auto")
        cuts = [views.of(encode(photograph(*size), "PNG"), DEFAULT) for size in ((60, 60), (90, 70), (50, 80))]
        found = views.embed_all(encoder, cuts, keep=True)
        vectors, boxes = views.embed(encoder, cuts)
        np.testing.assert_allclose(found.vectors, vectors, atol=1e-6)
        np.testing.assert_array_equal(found.boxes, boxes)
        wholes, parts = encoder.encode_parts(
            [cut.pixels[0] for cut in cuts], np.array([cut.shares for cut in cuts]), PARTS
        )
        assert len(found.kept) == 3
        for row, kept in enumerate(found.kept):
            np.testing.assert_array_equal(found.vectors[row, 0], wholes[row])
            np.testing.assert_array_equal(kept.windows, parts[row])
            assert kept.windows.shape == (1 + PARTS, 8)
            assert kept.boxes.tolist() == [boxes[row, 0].tolist()] * (1 + PARTS)
        assert views.embed_all(encoder, cuts, keep=False).kept is None

    def test_transparency_reaches_the_mask(self):
        picture = Image.new("RGBA", (100, 100), (255, 255, 255, 0))
        picture.paste((255, 255, 255, 255), (40, 10, 60, 90))
        content = encode(picture, "PNG")
        shares = {
            mask: Views(42, mask=mask).of(content, DEFAULT).shares.reshape(3, 3) for mask in ("auto", "alpha", "none")
        }
        for mask in ("auto", "alpha"):
            assert shares[mask][:, 1].sum() == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(shares["none"], 1 / 9, atol=1e-6)

    def test_no_images_give_no_vectors(self, encoder):
        for views, rows in ((self.VIEWS, 4), (Views(42, mask="auto"), 1)):
            embeddings, boxes = views.embed(encoder, [])
            assert (embeddings.shape, boxes.shape) == ((0, rows, 8), (0, rows, 4))
            assert views.embed_all(encoder, [], keep=True).kept == []


@pytest.mark.parametrize(
    ("pooling", "network", "role", "expected"),
    [
        ("patches", True, "gallery", Views(112, windows=Windows((3,), 1, 5))),
        ("patches", True, "queries", Views(28, mask="alpha")),
        ("patches", False, "gallery", Views(112)),
        ("patches", False, "queries", Views(28)),
        ("cls", True, "gallery", Views(28, (1, 3), vectors=5)),
        ("cls", True, "queries", Views(28)),
        ("cls", False, "gallery", Views(28, (1, 3), vectors=5)),
    ],
)
def test_the_views_of_an_arm(pooling, network, role, expected):
    tiles = {"regions": [1, 3]} if pooling == "cls" else {}
    config = Config(
        images=ImagesConfig(query_mask="alpha"),
        model=ModelConfig(pooling=pooling, image_size=28),
        embed=EmbedConfig(fabric_size=112, windows=[3], window_stride=1, vectors=5, **tiles),
    )
    assert views_of(config, config.model if network else None, role) == expected


def test_too_few_windows_are_refused():
    config = Config(embed=EmbedConfig(fabric_size=56))
    with pytest.raises(ConfigError, match=r"embed\.vectors = 10: more than the whole and the \d windows"):
        views_of(config, config.model, "gallery")
