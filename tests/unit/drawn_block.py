"""Transformer blocks of which every parameter matters."""

from __future__ import annotations

import torch

from retrieval_core.backbone import backbone_settings, random_backbone

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
