"""Folded blocks against the blocks they were made from."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.model.backbone import backbone_settings, random_backbone
from retrieval_core.model.embedder import FabricEmbedder, pooled_width
from retrieval_core.model.folding import FoldedBlock, fold
from retrieval_core.model.heads import new_head
from tests.unit.drawn_block import PLAIN, TINY, TOKENS, blocks, drawn_block, drawn_tokens


@given(block=blocks(hidden_act=st.sampled_from(["gelu", "gelu_new", "relu"])), tokens=TOKENS)
def test_a_folded_block_does_what_the_block_does(block, tokens):
    block.eval()
    folded = FoldedBlock(block)
    with torch.no_grad():
        expected = block(tokens)
        torch.testing.assert_close(folded.cls_after(tokens), expected[:, :1], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(folded(tokens.clone()), expected, rtol=1e-9, atol=1e-9)


def test_tokens_far_from_zero_lose_no_more_in_float32_than_in_the_block_itself():
    block = drawn_block(1).eval()
    tokens = 100 + drawn_tokens(0, 8, 5)
    with torch.no_grad():
        exact = block(tokens)
        block.float()
        plain = (block(tokens.float()) - exact).abs().max()
        folded = (FoldedBlock(block)(tokens.float()) - exact).abs().max()
    assert folded < 3 * plain


@pytest.mark.parametrize("family", ["dinov2", "dinov2_with_registers"])
@pytest.mark.parametrize("pooling", ["cls", "cls_mean", "cls_plus_mean"])
def test_a_folded_model_makes_the_same_embeddings(family, pooling):
    settings = backbone_settings(PLAIN | TINY | {"model_type": family})
    head = new_head(pooled_width(32, pooling), 8, 0)
    model = FabricEmbedder(random_backbone(settings, 0), head, pooling).eval()
    with torch.no_grad():
        for layer in model.dinov2.encoder.layer:
            for parameter in layer.parameters():
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    pixels = torch.randn(3, 3, 42, 42, generator=torch.Generator().manual_seed(0))
    before = pixels.clone()
    with torch.inference_mode():
        expected = model(pixels)
        fold(model)
        torch.testing.assert_close(model(pixels), expected, rtol=0, atol=1e-5)
        assert torch.equal(model(pixels), model(pixels))
    assert torch.equal(pixels, before)
    assert not any(parameter.requires_grad for layer in model.dinov2.encoder.layer for parameter in layer.parameters())


def test_the_weights_of_the_blocks_are_held_once():
    model = FabricEmbedder(random_backbone(backbone_settings(PLAIN), 0), None, "cls")

    def held():
        layers = model.dinov2.encoder.layer
        return sum(tensor.numel() for tensor in [*layers.parameters(), *layers.buffers()])

    before = held()
    fold(model)
    assert held() < 1.01 * before
