"""Training loops as one would write them without this project: the same arithmetic, a page of plain torch.

Shapes: B queries of a step, N = 3B images (queries, positives, negatives), S image side, D width of the embedding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from retrieval_core.config.train_section import TrainConfig
from retrieval_core.model.embedder import FabricEmbedder

MEAN = torch.tensor([123.675, 116.28, 103.53])
STD = torch.tensor([58.395, 57.12, 57.375])


class PlainLoop:
    """One pass through the encoder for all images of a step; triplet loss, AdamW in two groups."""

    def __init__(self, dinov2: nn.Module, head: nn.Sequential, train: TrainConfig) -> None:
        """Take copies of the start weights; all but the last ``train.trainable_blocks`` blocks are frozen."""
        self.dinov2, self.head, self.margin = copy.deepcopy(dinov2).train(), copy.deepcopy(head).train(), train.margin
        blocks = train.trainable_blocks
        assert blocks != "all"
        self.dinov2.requires_grad_(False)
        for part in (*self.dinov2.encoder.layer[-blocks:], self.dinov2.layernorm):
            part.requires_grad_(True)
        groups = [
            {"params": [p for p in self.dinov2.parameters() if p.requires_grad], "lr": train.learning_rate},
            {"params": list(self.head.parameters()), "lr": train.head_learning_rate},
        ]
        self.optimiser = torch.optim.AdamW(groups, weight_decay=train.weight_decay)

    def embed(self, views: Tensor) -> Tensor:
        """(N, S, S, 3) uint8 to (N, D), rows of norm 1."""
        pixels = ((views.float() - MEAN) / STD).permute(0, 3, 1, 2)
        return F.normalize(self.head(self.dinov2(pixel_values=pixels).last_hidden_state[:, 0]), dim=1)

    def step(self, views: Tensor) -> float:
        """One optimiser step; returns the loss."""
        anchors, positives, negatives = self.embed(views).chunk(3)
        losses = F.relu(self.margin - (anchors * positives).sum(dim=1) + (anchors * negatives).sum(dim=1))
        return self._update(losses.mean())

    def _update(self, loss: Tensor) -> float:
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()

    def trained(self) -> Iterator[Tensor]:
        """The trained parameters, backbone first."""
        return (p for group in self.optimiser.param_groups for p in group["params"])


class ShortLoop(PlainLoop):
    """With the network of this project, whose last block makes the pooled token alone."""

    def __init__(self, dinov2: nn.Module, head: nn.Sequential, train: TrainConfig) -> None:
        """As of the plain loop."""
        super().__init__(dinov2, head, train)
        self.network = FabricEmbedder(self.dinov2, self.head, "cls")

    def embed(self, views: Tensor) -> Tensor:
        """(N, S, S, 3) uint8 to (N, D), rows of norm 1."""
        embeddings: Tensor = self.network(((views.float() - MEAN) / STD).permute(0, 3, 1, 2))
        return embeddings


class PublishedLoop(PlainLoop):
    """As the published training does it: a pass each for queries, positives and negatives."""

    def step(self, views: Tensor) -> float:
        """One optimiser step; returns the loss."""
        anchors, positives, negatives = (self.embed(part) for part in views.chunk(3))
        distances = self.margin - F.cosine_similarity(anchors, positives) + F.cosine_similarity(anchors, negatives)
        return self._update(torch.clamp(distances, min=0).mean())
