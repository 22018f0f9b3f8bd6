"""Encoders against a direct forward pass and a histogram counted pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from retrieval_core.encoding.encoders import Encoder, HistogramEncoder, ModelEncoder
from retrieval_core.images.part import Part
from retrieval_core.images.patches import Grid, Windows, window_weights
from retrieval_core.model.backbone import backbone_settings, random_backbone
from retrieval_core.model.clusters import cluster, cluster_motif
from retrieval_core.model.embedder import FabricEmbedder, normalise
from retrieval_core.model.heads import new_head
from retrieval_core.ranking.window_scores import quantised
from tests.unit.drawn_block import PLAIN

CPU = torch.device("cpu")


@pytest.fixture
def model():
    return FabricEmbedder(random_backbone(backbone_settings(PLAIN), 0), new_head(32, 8, 0), "cls").eval()


@pytest.fixture
def of_patches():
    return FabricEmbedder(random_backbone(backbone_settings(PLAIN), 0), new_head(32, 8, 0), "patches").eval()


def views(count, side=28, seed=0, high=None):
    return np.random.default_rng(seed).integers(0, 256, (count, high or side, side, 3), dtype=np.uint8)


def shares(count, patches=4):
    drawn = np.random.default_rng(7).random((count, patches), np.float32)
    return drawn / drawn.sum(axis=1, keepdims=True)


class Recorder(torch.nn.Module):
    """Stands in for the network: remembers what it is given and returns the first pixels."""

    embedding_dim = 4

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, pixels, weights=None):
        self.batches.append(pixels.clone())
        return pixels.flatten(1)[:, :4]


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_encode_is_the_forward_pass_of_the_model(model, count):
    batch = views(count)
    with torch.no_grad():
        expected = model(normalise(torch.from_numpy(batch))).numpy()
    encoder: Encoder = ModelEncoder(model, CPU, "float32", 4)
    result = encoder.encode(batch)
    assert result.shape == (count, 8) == (count, encoder.dim)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), 1, atol=1e-6)


def test_batches_are_cut_in_order_and_the_last_one_repeats_its_last_view():
    recorder, batch = Recorder(), views(5, side=3)
    ModelEncoder(recorder, CPU, "float32", 2).encode(batch)
    expected = normalise(torch.from_numpy(batch[[0, 1, 2, 3, 4, 4]]))
    assert [len(pixels) for pixels in recorder.batches] == [2, 2, 2]
    assert torch.equal(torch.cat(recorder.batches), expected)


def test_a_result_does_not_depend_on_earlier_calls(model):
    encoder = ModelEncoder(model, CPU, "float32", 4)
    first = encoder.encode(views(6))
    encoder.encode(views(3, seed=1))
    assert np.array_equal(first, encoder.encode(views(6)))


def test_the_padding_does_not_reach_the_views(model):
    encoder = ModelEncoder(model, CPU, "float32", 8)
    np.testing.assert_allclose(encoder.encode(views(8))[:3], encoder.encode(views(8)[:3]), atol=1e-6)


def test_images_may_come_in_a_list(model):
    for encoder in (ModelEncoder(model, CPU, "float32", 4), HistogramEncoder()):
        assert np.array_equal(encoder.encode([*views(5)]), encoder.encode(views(5)))
        assert encoder.encode([]).shape == (0, encoder.dim)


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_motif_is_the_weighted_mean_of_its_patches(of_patches, count):
    batch, own = views(count), shares(count)
    found = ModelEncoder(of_patches, CPU, "float32", 2).encode_motifs(batch, own)
    assert (found.shape, found.dtype) == ((count, 8), np.float32)
    pixels = normalise(torch.from_numpy(batch))
    tokens = of_patches.dinov2(pixel_values=pixels, output_hidden_states=True).hidden_states[-1][:, 1:]
    for row in range(count):
        mean = sum(float(share) * token for share, token in zip(own[row], tokens[row], strict=True))
        expected = torch.nn.functional.normalize(of_patches.projection_head(mean), dim=0)
        np.testing.assert_allclose(found[row], expected, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize(("count", "high"), [(1, 28), (3, 56), (5, 84)])
def test_windows_are_those_of_the_model_clustered(of_patches, count, high):
    batch, weights = views(count, 56, high=high), window_weights(Grid(high // 14, 4), Windows((2,), 2, 3))
    found, nearest, none = ModelEncoder(of_patches, CPU, "float32", 2).encode_windows(batch, weights, 3)
    assert none is None
    windows = of_patches(normalise(torch.from_numpy(batch)), torch.from_numpy(weights))
    assert windows.shape == (count, high // 14, 8)
    expected, places = cluster(windows, 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    similarity = np.einsum("nvd,nwd->nvw", found, windows)[:, 1:]
    chosen = np.take_along_axis(similarity, nearest[:, 1:, None], axis=2)[:, :, 0]
    np.testing.assert_allclose(chosen, similarity.max(axis=2), atol=1e-6)
    assert (nearest[:, 0] == -1).all() and nearest.shape == places.shape


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 3, 4])
def test_windows_are_kept_in_8_bits(of_patches, count):
    batch, weights = views(count, 56, high=84), window_weights(Grid(6, 4), Windows((2,), 2, 3))
    encoder = ModelEncoder(of_patches, CPU, "float32", 2)
    found, nearest, kept = encoder.encode_windows(batch, weights, 3, keep=True)
    windows = of_patches(normalise(torch.from_numpy(batch)), torch.from_numpy(weights))
    assert (kept.shape, kept.dtype) == ((count, 6, 8), np.int8)
    np.testing.assert_allclose(kept, quantised(windows), atol=1)
    assert (np.abs(kept.astype(int)).max(axis=2) == 127).all()
    for value, expected in zip((found, nearest), encoder.encode_windows(batch, weights, 3)[:2], strict=True):
        np.testing.assert_array_equal(value, expected)


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_motif_comes_with_its_parts(of_patches, count):
    batch, own = views(count, 42), shares(count, 9)
    own[:, 2:5] = 0
    own /= own.sum(axis=1, keepdims=True)
    encoder = ModelEncoder(of_patches, CPU, "float32", 2)
    found, parts = encoder.encode_parts(batch, own, 3)
    assert (found.shape, found.dtype) == ((count, 8), np.float32)
    assert (parts.shape, parts.dtype) == ((count, 4, 8), np.int8)
    np.testing.assert_allclose(found, encoder.encode_motifs(batch, own), atol=1e-6)
    patches = of_patches(normalise(torch.from_numpy(batch)), torch.eye(9))
    expected = torch.cat([torch.from_numpy(found)[:, None], cluster_motif(patches, torch.from_numpy(own), 3)], dim=1)
    np.testing.assert_allclose(parts, quantised(expected), atol=1)
    assert not (np.abs(parts[:, :1].astype(int) - parts[:, 1:]) <= 1).all(axis=2).any(), "a part is the whole"


@torch.no_grad()
@pytest.mark.parametrize("surrounded", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_part_is_embedded_without_what_surrounds_it(of_patches, surrounded, batch_size):
    (view,), shares_P = views(1, 56), np.zeros(16, np.float32)
    shares_P[[5, 6, 9, 10]] = 0.1, 0.2, 0.3, 0.4
    around_P = np.float32([1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1]) / 12 * surrounded
    encoder = ModelEncoder(of_patches, CPU, "float32", batch_size)
    found, parts = encoder.encode_part(Part(view, shares_P, around_P), 2)
    assert (found.shape, found.dtype, parts.shape, parts.dtype) == ((1, 8), np.float32, (3, 8), np.int8)
    weights = torch.from_numpy(np.stack([shares_P, around_P]))
    whole, around = of_patches(normalise(torch.from_numpy(view[None])), weights)[0]
    patches = torch.from_numpy(encoder.encode_patches(view))
    clusters = cluster_motif(patches[None], torch.from_numpy(shares_P[None]), 2)[0]
    expected = torch.cat([whole[None], clusters]) - 0.4 * around * surrounded
    expected /= expected.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(parts, quantised(expected), atol=1)


@torch.no_grad()
def test_every_patch_of_a_view_is_embedded(of_patches):
    (view,) = views(1, 42, high=56)
    found = ModelEncoder(of_patches, CPU, "float32", 3).encode_patches(view)
    assert (found.shape, found.dtype) == ((12, 8), np.float32)
    expected = of_patches(normalise(torch.from_numpy(view[None])), torch.eye(12))[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_padding_reaches_neither_motifs_nor_windows(of_patches):
    single, wide = (ModelEncoder(of_patches, CPU, "float32", size) for size in (1, 8))
    batch, own, weights = views(3, 56), shares(3, 16), window_weights(Grid(4, 4), Windows((2,), 1, 4))
    np.testing.assert_allclose(single.encode_motifs(batch, own), wide.encode_motifs(batch, own), atol=1e-6)
    pair = [encoder.encode_windows(batch, weights, 4, keep=True) for encoder in (single, wide)]
    for one, other, atol in zip(*pair, (1e-5, 0, 1), strict=True):
        np.testing.assert_allclose(one, other, atol=atol)
    for one, other, atol in zip(*(e.encode_parts(batch, own, 2) for e in (single, wide)), (1e-6, 1), strict=True):
        np.testing.assert_allclose(one, other, atol=atol)


def test_no_views_give_no_embeddings(model, of_patches):
    assert ModelEncoder(model, CPU, "float32", 4).encode(views(0)).shape == (0, 8)
    assert HistogramEncoder().encode(views(0)).shape == (0, 512)
    encoder = ModelEncoder(of_patches, CPU, "float32", 4)
    assert encoder.encode_motifs([], shares(0)).shape == (0, 8)
    found, nearest, none = encoder.encode_windows([], shares(5), 3)
    assert (found.shape, nearest.shape, none) == ((0, 3, 8), (0, 3), None)
    kept = encoder.encode_windows([], shares(5), 3, keep=True)[2]
    assert (kept.shape, kept.dtype) == ((0, 5, 8), np.int8)
    found, parts = encoder.encode_parts([], shares(0), 2)
    assert (found.shape, parts.shape, parts.dtype) == ((0, 8), (0, 3, 8), np.int8)


def test_read_only_views_are_taken_without_a_warning(model, recwarn):
    batch = views(3)
    batch.setflags(write=False)
    ModelEncoder(model, CPU, "float32", 4).encode(batch)
    assert not [warning for warning in recwarn if "writable" in str(warning.message)]


def test_bfloat16_is_close_and_still_of_unit_length(model):
    exact = ModelEncoder(model, CPU, "float32", 4).encode(views(4))
    reduced = ModelEncoder(model, CPU, "bfloat16", 4).encode(views(4))
    assert reduced.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(reduced, axis=1), 1, atol=1e-6)
    assert (exact * reduced).sum(axis=1).min() > 0.99
    assert not np.array_equal(exact, reduced)


def test_the_model_is_put_into_evaluation_mode(model):
    model.train()
    ModelEncoder(model, CPU, "float32", 1)
    assert not model.training


def test_embeddings_that_are_not_finite_are_refused(model):
    with torch.no_grad():
        model.projection_head[2].bias[0] = math.nan
    with pytest.raises(ValueError, match=r"3 of 3 embeddings are not finite in torch.float32"):
        ModelEncoder(model, CPU, "float32", 2).encode(views(3))


def test_windows_that_are_not_finite_are_refused(of_patches):
    with torch.no_grad():
        of_patches.projection_head[2].bias[0] = math.nan
    encoder = ModelEncoder(of_patches, CPU, "float32", 2)
    with pytest.raises(ValueError, match="9 of 9 embeddings are not finite"):
        encoder.encode_windows(views(3), np.eye(4, dtype=np.float32), 3)
    with pytest.raises(ValueError, match="3 of 3 embeddings are not finite"):
        encoder.encode_motifs(views(3), shares(3))
    with pytest.raises(ValueError, match="3 of 3 embeddings are not finite"):
        encoder.encode_parts(views(3), shares(3), 2)


@pytest.mark.parametrize("wanted", [True, False, None])
def test_compiling_is_a_choice_and_off_by_default_on_a_cpu(model, monkeypatch, wanted):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network, **_: compiled.append(network) or network)
    ModelEncoder(model, CPU, "float32", 2, compile=wanted).encode(views(2))
    assert compiled == ([model] if wanted else [])


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("compile", [True, False])
def test_a_gpu_gives_what_the_cpu_gives(model, precision, compile):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    on_cpu = ModelEncoder(model, CPU, "float32", 4).encode(views(6))
    on_gpu = ModelEncoder(model, torch.device("cuda"), precision, 4, compile=compile).encode(views(6))
    assert (on_cpu * on_gpu).sum(axis=1).min() > (0.9999 if precision == "float32" else 0.99)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 28, 28, 3), np.float32),
        np.zeros((28, 28, 3), np.uint8),
        np.zeros((1, 28, 28, 4), np.uint8),
        [np.zeros((28, 28, 3), np.uint8), np.zeros((28, 42, 3), np.uint8)],
    ],
)
def test_views_of_another_shape_or_type_are_refused(model, wrong):
    for encoder in (ModelEncoder(model, CPU, "float32", 2), HistogramEncoder()):
        with pytest.raises(ValueError, match="views must be"):
            encoder.encode(wrong)


def test_a_batch_size_below_one_is_refused(model):
    with pytest.raises(ValueError, match=r"embed\.batch_size = 0"):
        ModelEncoder(model, CPU, "float32", 0)


@settings(max_examples=30)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.just(3))))
def test_histogram_is_the_one_counted_by_hand(batch):
    result = HistogramEncoder().encode(batch)
    for row, view in zip(result, batch, strict=True):
        counts = np.zeros((8, 8, 8))
        for red, green, blue in view.reshape(-1, 3):
            counts[red // 32, green // 32, blue // 32] += 1
        expected = np.sqrt(counts / counts.sum()).ravel()
        np.testing.assert_allclose(row, expected, atol=1e-6)
        assert np.linalg.norm(row) == pytest.approx(1, abs=1e-6)


def test_histogram_of_disjoint_colours_is_orthogonal():
    black, white = np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 255, np.uint8)
    first, second = HistogramEncoder().encode(np.concatenate([black, white]))
    assert first @ second == 0
