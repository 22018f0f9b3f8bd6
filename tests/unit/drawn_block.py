"""Transformer blocks of which every parameter matters, and tokens for them."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from retrieval_core.model.backbone import ARCHITECTURES, backbone_settings, random_backbone

TINY = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 14, "image_size": 28}
PLAIN = {"model_type": "dinov2", **TINY}


def drawn_block(seed, **settings):
    """The last block of a backbone of width 32, in float64, everything in it drawn anew."""
    block = random_backbone(backbone_settings(PLAIN | settings), 0).encoder.layer[-1].double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return block


def drawn_tokens(seed, images, count):
    """(images, count, 32) float64."""
    return torch.randn(images, count, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


SEEDS = st.integers(0, 2**31)
TOKENS = st.builds(drawn_tokens, SEEDS, st.integers(1, 4), st.integers(1, 9))


def blocks(**choices):
    """Strategy: blocks of either family with any kind of MLP, with biases and without, and further choices."""
    return st.builds(
        drawn_block,
        SEEDS,
        model_type=st.sampled_from(ARCHITECTURES),
        use_swiglu_ffn=st.booleans(),
        qkv_bias=st.booleans(),
        num_attention_heads=st.sampled_from([1, 2, 4]),
        **choices,
    )
