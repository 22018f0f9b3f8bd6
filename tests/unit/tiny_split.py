"""A tiny labelled split on disk: motifs are colours, fabrics are grounds with patches of their motifs' colours."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from retrieval_core.config.config import load_config
from retrieval_core.data.datasets import Labelled, Record
from retrieval_core.model.embedder import FabricEmbedder
from retrieval_core.model.heads import new_head
from tests.unit.tiny_weights import transformers_model

WINDOWS = ["model.pooling=patches", "embed.fabric_size=56", "embed.vectors=3"]
"""Fabrics of 4 x 4 patches in training, seen in 2 x 2 windows of 2 x 2; queries of 2 x 2."""
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 220), "yellow": (230, 220, 40)}


def make_split(folder, queries=8, fabrics=8, seed=0):
    """Query i shows colour i; fabric i holds colour i and, every third one, the next one too."""
    rng = np.random.default_rng(seed)
    names = list(COLOURS)
    folder.mkdir(parents=True, exist_ok=True)
    listed = Labelled([], [])
    for number in range(queries):
        colour = names[number % len(names)]
        pixels = rng.integers(190, 256, (30, 30, 3), dtype=np.uint8)
        pixels[6:24, 6:24] = COLOURS[colour]
        listed.queries.append(save(folder / f"q{number}.png", pixels, colour))
    for number in range(fabrics):
        held = {names[number % len(names)]} | ({names[(number + 1) % len(names)]} if number % 3 == 0 else set())
        pixels = rng.integers(120, 180, (40, 32, 3), dtype=np.uint8)
        for place, colour in enumerate(sorted(held)):
            pixels[:, 16 * place : 16 * place + 14] = COLOURS[colour]
        listed.fabrics.append(save(folder / f"f{number}.png", pixels, *held))
    return listed


def save(file, pixels, *categories):
    Image.fromarray(pixels).save(file)
    return Record(f"img/{file.name}", str(file), tuple(sorted(categories)))


def make_config(*overrides):
    """A configuration for 28 px views and small batches, without windows; training views as they are."""
    base = ["model.image_size=28", "model.embedding_dim=8", "train.batch_size=4", "train.augmentation=none"]
    return load_config(None, [*base, "model.pooling=cls", "train.epochs=2", *overrides])


def make_model(seed=0, pooling="cls"):
    """A tiny embedder with weights large enough that every part of it moves the loss. The same for the same seed."""
    backbone = transformers_model()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in backbone.named_parameters():
            if name.endswith("weight") and parameter.ndim == 2:
                parameter.normal_(0, 0.15, generator=generator)
    return FabricEmbedder(backbone, new_head(32, 8, seed), pooling)
