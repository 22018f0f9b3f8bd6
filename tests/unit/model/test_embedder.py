"""The network: what is pooled, what is frozen, and that no global random state is touched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval_core.config.config import ConfigError
from retrieval_core.model.backbone import backbone_settings, empty_backbone, random_backbone
from retrieval_core.model.embedder import IMAGENET_MEAN, IMAGENET_STD, FabricEmbedder, normalise, set_trainable
from retrieval_core.model.heads import new_head
from tests.unit.drawn_block import PLAIN, TINY
from tests.unit.tiny_weights import images

REGISTERS = {"model_type": "dinov2_with_registers", "num_register_tokens": 3, **TINY}


def embedder(values=PLAIN, pooling="cls", head=False, seed=0):
    backbone = random_backbone(backbone_settings(values), seed)
    with torch.no_grad():  # the architecture starts them at zero, where they would not differ from absent ones
        for name, parameter in backbone.named_parameters():
            if "register" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(1))
    width = 64 if pooling == "cls_mean" else 32
    return FabricEmbedder(backbone, new_head(width, 8, seed) if head else None, pooling).eval()


def drawn_weights(*shape):
    """Shares of patches, rows that sum to 1."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(5)).softmax(dim=-1)


def patch_tokens(model, pixels):
    """(N, P, H) of the last block, as transformers gives them."""
    every = model.dinov2(pixel_values=pixels, output_hidden_states=True).hidden_states[-1]
    return every[:, -(pixels.shape[2] // 14) * (pixels.shape[3] // 14) :]


def test_normalise_is_the_published_arithmetic():
    views = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), dtype=np.uint8)
    expected = (views.astype(np.float64) - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    result = normalise(torch.from_numpy(views))
    assert result.shape == (2, 3, 5, 5)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("side", [28, 42])
@pytest.mark.parametrize(("values", "extra"), [(PLAIN, 0), (REGISTERS, 3)])
def test_pooling_is_the_cls_token_and_the_mean_of_patches_only(values, extra, side):
    pixels = images(side=side)
    model = embedder(values, "cls_mean")
    tokens = model.dinov2(pixel_values=pixels).last_hidden_state
    patches = (side // 14) ** 2
    assert tokens.shape[1] == 1 + extra + patches
    expected = torch.cat([tokens[:, 0], tokens[:, -patches:].mean(dim=1)], dim=1)
    torch.testing.assert_close(model.features(pixels), expected)
    torch.testing.assert_close(embedder(values, "cls").features(pixels), tokens[:, 0])
    total = tokens[:, 0] + tokens[:, -patches:].mean(dim=1)
    torch.testing.assert_close(embedder(values, "cls_plus_mean").features(pixels), total)
    assert (model.embedding_dim, embedder(values, "cls_plus_mean").embedding_dim) == (64, 32)


@torch.no_grad()
@pytest.mark.parametrize("values", [PLAIN, REGISTERS])
@pytest.mark.parametrize("sides", [(28, 28), (28, 42), (56, 14)])
def test_patches_are_pooled_by_their_weights(values, sides):
    """By weights that are the same for each image, and by those of each; of patches only, before the layer norm."""
    pixels, model = images(side=56)[:, :, : sides[0], : sides[1]], embedder(values, "patches")
    tokens = patch_tokens(model, pixels)
    count = tokens.shape[1]
    assert count == sides[0] * sides[1] // 14**2 < model.dinov2.embeddings(pixels).shape[1]
    own = drawn_weights(3, 5, count)
    for weights in (own[0], own):
        found = model.features(pixels, weights)
        assert found.shape == (3, 5, 32)
        for image in range(3):
            for row, shares in enumerate(own[image] if weights is own else own[0]):
                mean = sum(share * token for share, token in zip(shares, tokens[image], strict=True))
                torch.testing.assert_close(found[image, row], mean)
        torch.testing.assert_close(model(pixels, weights), found / found.norm(dim=2, keepdim=True))
    assert model.embedding_dim == 32


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["patches", "cls", "cls_mean", "cls_plus_mean"])
@pytest.mark.parametrize("block", [0, 1, 2, 3])
def test_from_any_block_on_the_embedding_is_that_of_the_pixels(pooling, block):
    model, pixels = embedder(REGISTERS, pooling, head=True), images(side=42)
    weights = drawn_weights(4, 9) if pooling == "patches" else None
    tokens = model.tokens_before(block, pixels)
    torch.testing.assert_close(model(tokens, weights, first_block=block), model(pixels, weights))


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["cls", "cls_mean", "cls_plus_mean"])
def test_embedding_is_the_normalised_head_of_the_features(pooling):
    model, pixels = embedder(pooling=pooling, head=True), images()
    first, _, second = model.projection_head
    hidden = torch.nn.functional.gelu(model.features(pixels) @ first.weight.T + first.bias)
    raw = hidden @ second.weight.T + second.bias
    torch.testing.assert_close(model(pixels), raw / raw.norm(dim=1, keepdim=True))
    assert model.embedding_dim == 8


@torch.no_grad()
def test_without_a_head_the_embedding_is_the_normalised_pooled_token():
    model, pixels = embedder(), images()
    features = model.features(pixels)
    torch.testing.assert_close(model(pixels), features / features.norm(dim=1, keepdim=True))


@torch.no_grad()
@pytest.mark.parametrize(("pooling", "weights"), [("cls", None), ("patches", drawn_weights(1, 4))])
def test_embeddings_stay_float32_and_of_unit_length_under_autocast(pooling, weights):
    model, pixels = embedder(pooling=pooling, head=True), images()
    with torch.autocast("cpu", torch.bfloat16):
        reduced = model(pixels, weights)
    assert reduced.dtype == torch.float32
    torch.testing.assert_close(reduced.norm(dim=-1).flatten(), torch.ones(3), atol=1e-6, rtol=0)
    assert not torch.equal(reduced, model(pixels, weights))  # the backbone did run in bfloat16
    assert torch.nn.functional.cosine_similarity(reduced, model(pixels, weights), dim=-1).min() > 0.99


def test_gradients_reach_the_head_under_autocast():
    model = embedder(head=True)
    with torch.autocast("cpu", torch.bfloat16):
        model(images())[:, 0].sum().backward()
    assert model.projection_head[0].weight.grad.abs().sum() > 0
    assert model.dinov2.layernorm.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("pooling", "weights"), [("cls", None), ("cls_plus_mean", None), ("patches", drawn_weights(2, 4))]
)
def test_the_network_compiles_to_one_graph(pooling, weights):
    model, pixels = embedder(pooling=pooling, head=True), images()
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=False)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(pixels, weights), model(pixels, weights))


def test_a_side_that_is_no_multiple_of_the_patch_is_refused_not_cropped():
    with pytest.raises(ConfigError, match=r"model\.image_size = 30: .* patch size 14 .* 28 and 42"):
        embedder()(images(side=30))


@pytest.mark.parametrize("blocks", [0, 1, 2, 3])
def test_only_the_last_blocks_the_final_norm_and_the_head_are_trained(blocks):
    model = embedder(head=True)
    set_trainable(model, 3)
    set_trainable(model, blocks)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    prefixes = tuple(f"dinov2.encoder.layer.{index}." for index in range(3 - blocks, 3))
    expected = {
        name
        for name, _ in model.named_parameters()
        if name.startswith((*prefixes, "dinov2.layernorm.", "projection_head."))
    }
    assert trained == expected
    assert {name.split(".")[0] for name in trained} == {"dinov2", "projection_head"}


@pytest.mark.parametrize("pooling", ["patches", "cls", "cls_mean", "cls_plus_mean"])
@pytest.mark.parametrize("blocks", [0, 2, "all"])
def test_all_that_is_trained_has_a_gradient(pooling, blocks):
    """Distributed training waits for a gradient of every trained parameter."""
    model = embedder(pooling=pooling, head=True)
    set_trainable(model, blocks)
    weights = drawn_weights(2, 4) if pooling == "patches" else None
    model(images(), weights)[..., 0].sum().backward()
    trained = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert [name for name, gradient in trained.items() if gradient is None] == []
    assert ("dinov2.layernorm.weight" in trained) == (pooling != "patches")
    assert ("dinov2.embeddings.cls_token" in trained) == (blocks == "all")


@pytest.mark.parametrize("blocks", [-1, 4])
def test_more_trainable_blocks_than_there_are_is_refused(blocks):
    with pytest.raises(ConfigError, match=rf"train\.trainable_blocks = {blocks}: .* 3 blocks"):
        set_trainable(embedder(), blocks)


def test_a_head_of_another_width_is_refused():
    with pytest.raises(ValueError, match="head reads 64 features, cls pooling of this backbone gives 32"):
        FabricEmbedder(empty_backbone(backbone_settings(PLAIN)), new_head(64, 8, 0), "cls")
