"""Training as published: twenty steps against plain torch, and the learning rates of both schedules."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from retrieval_core.training.loader import Schedule, TrainingData
from retrieval_core.training.loop import Trainer, Worker, learning_rate_at
from tests.unit.tiny_split import make_config, make_model, make_split

PUBLISHED = [
    "train.loss=triplet",
    "train.schedule=published_cosine",
    "train.augmentation=none",
    "train.cache_activations=false",
    "train.clip_norm=null",
    "train.margin=0.2",
    "train.learning_rate=1e-6",
    "train.head_learning_rate=1e-5",
    "train.weight_decay=1e-4",
    "train.min_learning_rate=1e-7",
    "train.cosine_epochs=80",
    "train.batch_size=2",
]


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return make_split(tmp_path_factory.mktemp("img"), queries=10, fabrics=12)


def make_trainer(split, *overrides):
    config = make_config("train.trainable_blocks=1", *overrides)
    return Trainer(config, make_model(), TrainingData(config, split), Worker())


class PublishedLoop:
    """The published training in plain torch, sharing nothing with ours but the starting weights."""

    def __init__(self, model, blocks, rate, head_rate, decay, low, period, margin):
        self.backbone, self.head = copy.deepcopy(model.dinov2), copy.deepcopy(model.projection_head)
        self.margin = margin
        last = len(self.backbone.encoder.layer) - blocks
        trained = ["layernorm.", *(f"encoder.layer.{n}." for n in range(last, last + blocks))]
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad = any(name.startswith(prefix) for prefix in trained)
        groups = [
            {"params": [p for p in self.backbone.parameters() if p.requires_grad], "lr": rate},
            {"params": list(self.head.parameters()), "lr": head_rate},
        ]
        self.optimiser = torch.optim.AdamW(groups, weight_decay=decay)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, T_max=period, eta_min=low)

    def embed(self, views):
        mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
        pixels = torch.from_numpy(((views - mean) / std).transpose(0, 3, 1, 2).astype(np.float32))
        return F.normalize(self.head(self.backbone(pixel_values=pixels).last_hidden_state[:, 0]), dim=1)

    def step(self, views):
        anchor, positive, negative = map(self.embed, views)
        distances = self.margin - F.cosine_similarity(anchor, positive) + F.cosine_similarity(anchor, negative)
        loss = torch.clamp(distances, min=0).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()

    def weights(self):
        parts = (("dinov2.", self.backbone), ("projection_head.", self.head))
        return {prefix + name: tensor for prefix, part in parts for name, tensor in part.state_dict().items()}


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize(
    ("rate", "head_rate", "decay", "period"),
    # At four times the second pair's rates the rounding of two equal programs grows to 1e-4 within twenty steps.
    [(1e-6, 1e-5, 1e-4, 80), (5e-4, 2e-3, 0.3, 3)],
    ids=["published", "rates at which an error shows"],
)
def test_twenty_steps_of_the_published_recipe_are_those_of_a_plain_loop(split, rate, head_rate, decay, period, blocks):
    rates = [f"train.learning_rate={rate}", f"train.head_learning_rate={head_rate}", f"train.weight_decay={decay}"]
    more = [f"train.cosine_epochs={period}", f"train.trainable_blocks={blocks}", "train.epochs=4"]
    trainer = make_trainer(split, *PUBLISHED, *rates, *more)
    start = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    plain = PublishedLoop(make_model(), blocks, rate, head_rate, decay, 1e-7, period, 0.2)
    losses, expected = [], []
    for batch in trainer.data.batches(0, 0):
        if batch.step and batch.step % 5 == 0:
            plain.scheduler.step()
        losses.append(float(trainer.step(batch)))
        expected.append(plain.step([part.views for part in batch.parts]))
        for group, other in zip(trainer.optimiser.param_groups, plain.optimiser.param_groups, strict=True):
            assert group["lr"] == pytest.approx(other["lr"], rel=1e-9)
    assert len(losses) == 20
    assert max(losses) > 0.01
    assert losses == pytest.approx(expected, abs=1e-4)
    found, wanted = trainer.model.state_dict(), plain.weights()
    assert found.keys() == wanted.keys()
    moved = 0.0
    for name, tensor in found.items():
        if name.endswith("k_proj.bias"):
            continue  # adds the same to all scores of a query: its gradient is rounding noise, which Adam scales up
        torch.testing.assert_close(tensor, wanted[name], rtol=0, atol=1e-4, msg=name)
        # In units of what training changed: at the published rates an error would hide below 1e-4.
        change = (wanted[name] - start[name]).norm()
        moved += float(change)
        assert float((tensor - wanted[name]).norm()) <= 0.02 * float(change) + 1e-6, name
    assert moved > 20 * rate


def rates(*overrides, samples=10, steps=None):
    config = make_config("train.batch_size=2", *overrides)
    plan = Schedule(samples, config, 1)
    bases = config.train.learning_rate, config.train.head_learning_rate
    return [
        tuple(learning_rate_at(config.train, plan, step, base) for base in bases)
        for step in range(plan.total if steps is None else steps)
    ]


@pytest.mark.parametrize("low", [1e-7, 3e-6])
def test_the_published_schedule_is_torchs_beyond_its_period_too(low):
    keys = ["train.learning_rate=1e-6", "train.head_learning_rate=1e-5", f"train.min_learning_rate={low}"]
    found = rates("train.schedule=published_cosine", "train.cosine_epochs=80", "train.epochs=200", *keys)
    assert len(found) == 1000
    for column, base in enumerate((1e-6, 1e-5)):
        optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
        # A rate is never raised by the minimum, which torch would do where the base is below it.
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=80, eta_min=min(low, base))
        for epoch in range(200):
            expected = optimiser.param_groups[0]["lr"]
            assert [row[column] for row in found[5 * epoch : 5 * epoch + 5]] == pytest.approx([expected] * 5, rel=1e-6)
            optimiser.step()
            scheduler.step()
    head = [row[1] for row in found[::5]]
    assert head[80] == pytest.approx(low)
    assert head[80] < head[99] < head[159]
    assert head[160] == pytest.approx(1e-5)


def test_warmup_rises_in_equal_steps_and_falls_to_the_minimum():
    keys = ["train.learning_rate=1e-3", "train.head_learning_rate=1e-2", "train.min_learning_rate=1e-5"]
    found = rates("train.schedule=warmup_cosine", "train.warmup_steps=10", "train.epochs=12", *keys)
    body = [row[0] for row in found]
    assert len(body) == 60
    assert body[:10] == pytest.approx([1e-4 * (step + 1) for step in range(10)])
    assert body[10] == pytest.approx(1e-3)
    assert body[59] == pytest.approx(1e-5)
    middle = 1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * 20 / 49)) / 2
    assert body[30] == pytest.approx(middle)
    assert body[10:] == sorted(body[10:], reverse=True)
    assert [row[1] for row in found[:11]] == pytest.approx([10 * row[0] for row in found[:11]])


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_training_shorter_than_its_warmup_has_rates(steps):
    found = rates("train.warmup_steps=50", f"train.max_steps={steps}")
    assert len(found) == steps
    assert all(0 < rate <= 1e-2 for row in found for rate in row)
