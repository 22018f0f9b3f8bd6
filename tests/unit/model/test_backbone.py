"""Backbones: their settings, how they are drawn, which images they take, and the last block for the CLS token alone."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.config.config import ConfigError
from retrieval_core.config.sections import ModelConfig
from retrieval_core.model.backbone import (
    IMAGE_SIZES,
    backbone_settings,
    check_image_size,
    cls_after,
    empty_backbone,
    random_backbone,
)
from tests.unit.drawn_block import PLAIN, TINY, TOKENS, blocks, drawn_block

REGISTERS = {"model_type": "dinov2_with_registers", "num_register_tokens": 3, **TINY}


@given(block=blocks(), tokens=TOKENS)
def test_the_cls_token_alone_is_the_one_that_the_whole_block_makes(block, tokens):
    whole, alone = (tokens.clone().requires_grad_() for _ in range(2))
    outputs, gradients = [], []
    for given_tokens, cls in ((whole, block(whole)[:, :1]), (alone, cls_after(block, alone))):
        block.zero_grad()
        cls.pow(2).sum().backward()
        outputs.append(cls.detach())
        gradients.append([given_tokens.grad, *(parameter.grad for parameter in block.parameters())])
    torch.testing.assert_close(outputs[1], outputs[0])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_stochastic_depth_and_dropout_of_a_block_hold_for_its_cls_token():
    certain = drawn_block(0, drop_path_rate=1 - 1e-9).train()
    tokens = torch.randn(2, 5, 32, dtype=torch.float64)
    torch.testing.assert_close(cls_after(certain, tokens), tokens[:, :1])  # every branch is dropped
    assert not torch.allclose(cls_after(certain.eval(), tokens), tokens[:, :1])
    noisy = drawn_block(0, attention_probs_dropout_prob=0.5).train()
    assert not torch.equal(cls_after(noisy, tokens), cls_after(noisy, tokens))
    assert torch.equal(cls_after(noisy.eval(), tokens), cls_after(noisy, tokens))


@given(size=st.integers(14, 2048), patch=st.integers(1, 64))
def test_image_size_names_the_two_nearest_valid_values(size, patch):
    valid = [side for side in range(14, 2049) if side % patch == 0]
    if size in valid:
        check_image_size(size, patch)
        return
    with pytest.raises(ConfigError) as error:
        check_image_size(size, patch)
    named = [int(text) for text in re.findall(r"values are (\d+) and (\d+)", str(error.value))[0]]
    others = [abs(side - size) for side in valid if side not in named]
    assert set(named) <= set(valid)
    assert len(set(named)) == 2
    assert max(abs(side - size) for side in named) <= min(others)


def test_the_range_of_image_sizes_is_that_of_the_configuration():
    ModelConfig(image_size=IMAGE_SIZES[0])
    ModelConfig(image_size=IMAGE_SIZES[-1])
    for outside in (IMAGE_SIZES[0] - 1, IMAGE_SIZES[-1] + 1):
        with pytest.raises(ValueError, match="image_size"):
            ModelConfig(image_size=outside)


def test_random_backbone_follows_from_its_seed_and_touches_no_global_state():
    settings = backbone_settings(PLAIN)
    before = torch.get_rng_state()
    first = random_backbone(settings, 5).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    again, other = random_backbone(settings, 5).state_dict(), random_backbone(settings, 6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "encoder.layer.0.mlp.fc1.weight"
    assert not torch.equal(first[name], other[name])


def test_an_empty_backbone_draws_nothing_and_holds_nothing():
    before = torch.get_rng_state()
    backbone = empty_backbone(backbone_settings(PLAIN))
    assert torch.equal(before, torch.get_rng_state())
    assert all(parameter.is_meta for parameter in backbone.parameters())


def test_attention_is_sdpa():
    for values in (PLAIN, REGISTERS):
        assert backbone_settings(values)._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"patch_size": [14, 16]}, "patch_size"),
        ({"out_features": ["stage12"]}, "out_features"),
    ],
)
def test_impossible_settings_are_named(change, reason):
    with pytest.raises(ValueError, match=reason):
        backbone_settings(PLAIN | change)


@pytest.mark.parametrize("change", [{"hidden_act": "nope"}, {"hidden_size": -3}, {"num_attention_heads": 0}])
def test_settings_of_no_network_are_refused(change):
    with pytest.raises(ValueError, match="no network"):
        empty_backbone(backbone_settings(PLAIN | change))
