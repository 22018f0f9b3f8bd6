"""The training loop, the same under Ray Train and in a plain process.

Shapes: B = queries of the global batch, N categories of a query at most, M of a fabric at most.
Dropout's random state, the only global one, is seeded for every step, so a resumed run goes on as if never stopped.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retrieval_core.config.config import Config
from retrieval_core.config.sections import PATCH
from retrieval_core.config.train_section import TrainConfig
from retrieval_core.images.patches import Grid, Windows, grid_of_view, window_boxes, window_weights, windows_of
from retrieval_core.model.clusters import cluster
from retrieval_core.model.devices import resolve_precision
from retrieval_core.model.embedder import FabricEmbedder, normalise, set_trainable
from retrieval_core.training.activation_cache import ActivationCache, FrozenBlocks, Part
from retrieval_core.training.loader import Batch, Schedule, TrainingData
from retrieval_core.training.losses import gather_rows, info_nce, similarities, triplet_loss
from retrieval_core.training.sampling import shares


@dataclass(frozen=True)
class Worker:
    """This process among the training workers."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    """Puts the model on the device and, with several workers, into DistributedDataParallel."""


@dataclass
class TrainingProgress:
    """The part of a checkpoint that is no tensor."""

    step: int = 0  # optimiser steps done
    history: list[dict[str, float]] = field(default_factory=list)  # rows of train_log.csv, one an epoch
    best: float = -1.0  # validation score so far
    loss_sum: float = 0.0  # over the steps of the epoch under way
    loss_count: int = 0


def learning_rate_at(train: TrainConfig, schedule: Schedule, step: int, base: float) -> float:
    """Learning rate of a step (from 0) for a group whose configured rate is ``base``.

    ``published_cosine`` is constant in an epoch e (from 0): ``min + (base - min) (1 + cos(pi e / T)) / 2``, the closed
    form of torch's CosineAnnealingLR; past T it rises again, as published. ``warmup_cosine`` changes with every step
    and reaches the minimum at the last one (arXiv:1608.03983, eq. 5, without restarts).
    """
    low = min(train.min_learning_rate, base)
    if train.schedule == "published_cosine":
        epoch = step // schedule.per_epoch
        return low + (base - low) * (1 + math.cos(math.pi * epoch / train.cosine_epochs)) / 2
    warmup = min(train.warmup_steps, schedule.total // 2)
    if step < warmup:
        return base * (step + 1) / warmup
    share = (step - warmup) / max(1, schedule.total - 1 - warmup)
    return low + (base - low) * (1 + math.cos(math.pi * share)) / 2


class Trainer:
    """Model, optimiser and the state that a checkpoint carries."""

    def __init__(self, config: Config, model: FabricEmbedder, data: TrainingData, worker: Worker) -> None:
        self.config, self.data, self.worker, self.model = config, data, worker, model
        set_trainable(model, config.train.trainable_blocks)
        model.train()
        self.network = worker.wrap(model)
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        head = [p for name, p in self.trained.items() if name.startswith("projection_head.")]
        backbone = [p for name, p in self.trained.items() if not name.startswith("projection_head.")]
        self.bases = [config.train.learning_rate, config.train.head_learning_rate]
        self.optimiser = torch.optim.AdamW(
            [{"params": backbone, "lr": self.bases[0]}, {"params": head, "lr": self.bases[1]}],
            weight_decay=config.train.weight_decay,
            fused=True,  # a pass over the parameters instead of ten: a sixth of the time, on CPUs too
        )
        self.progress = TrainingProgress()
        self._unread: deque[tuple[int, Tensor]] = deque()
        self._windows = windows_of(config.embed) if config.model.pooling == "patches" else None
        self._in_bfloat16 = resolve_precision(config.model.precision, worker.device) == torch.bfloat16
        self.frozen = self._frozen_blocks()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.worker.device.type, torch.bfloat16, enabled=self._in_bfloat16)

    def _frozen_blocks(self) -> FrozenBlocks | None:
        """What passes images through the frozen blocks ahead of a step; None where the step itself does."""
        config, train, device = self.config, self.config.train, self.worker.device
        keep = train.cache_activations
        if keep is None:
            keep = device.type == "cpu" and config.views_come_again
        if train.trainable_blocks == "all" or not (keep or config.cuts_tokens):
            return None
        free = shutil.disk_usage(tempfile.gettempdir()).free
        self.data.cache = ActivationCache(min(int(train.cache_max_gb * 1e9), free // 2) if keep else 0)
        blocks = int(self.model.dinov2.config.num_hidden_layers) - train.trainable_blocks
        return FrozenBlocks(self.model, blocks, self.data.cache, device, self._autocast)

    def step(self, batch: Batch) -> Tensor:
        """Do one optimiser step and return the loss of the global batch, a scalar on the device.

        FloatingPointError if the loss is no number. Reading it waits for the device, so on CUDA it is looked at, and
        the error raised, one step later.
        """
        config, worker = self.config, self.worker
        for group, base in zip(self.optimiser.param_groups, self.bases, strict=True):
            group["lr"] = learning_rate_at(config.train, self.data.schedule, batch.step, base)
        seeds = np.random.SeedSequence((config.run.seed, batch.step, worker.rank))
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))
        loss = self._loss(self._embed(batch), batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if config.train.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.trained.values(), config.train.clip_norm)
        self.optimiser.step()
        self.progress.step = batch.step + 1
        self._unread.append((batch.step, loss.detach()))
        self.read_losses(but=1 if worker.device.type == "cuda" else 0)
        return loss.detach()

    def read_losses(self, but: int = 0) -> None:
        """Add the losses of the steps done, but for the last ``but``, to the epoch's sum."""
        while len(self._unread) > but:
            step, loss = self._unread.popleft()
            value = float(loss)
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"training: the loss is {value} at step {step}; lower train.learning_rate or set train.clip_norm"
                )
            self.progress.loss_sum += value
            self.progress.loss_count += 1

    def _embed(self, batch: Batch) -> list[Tensor]:
        """Embeddings of each part: (b, D) of queries, then (b, V, D) of fabrics, V = 1 or all windows."""
        if self._windows is None:
            inputs = torch.cat([self._inputs(part) for part in batch.parts])
            queries_bD, *fabrics = torch.split(self._forward(inputs), len(batch.queries))
            return [queries_bD, *(part[:, None] for part in fabrics)]
        parts = []
        for part in batch.parts:
            inputs = self._inputs(part)
            if part.shares is None:
                weights = self._window_weights(part, inputs, self._windows)
            else:
                weights = self._to_device(part.shares)[:, None]
            parts.append(self._forward(inputs, weights))
        return [parts[0][:, 0], *parts[1:]]

    def _window_weights(self, part: Part, inputs: Tensor, windows: Windows) -> Tensor:
        """(W, P) for fabrics, as normalised images or as tokens."""
        if inputs.dim() == 4:
            grid = grid_of_view(*inputs.shape[2:])
        else:
            side = self.config.embed.fabric_size // PATCH if part.cuts is None else math.isqrt(part.cuts.shape[1])
            grid = Grid(side, side)
        return torch.from_numpy(window_weights(grid, windows)).to(inputs.device, non_blocking=True)

    def _inputs(self, part: Part) -> Tensor:
        if self.frozen is None:
            return normalise(self._to_device(part.views))
        return self._to_device(self.frozen.tokens(part))

    def _forward(self, inputs: Tensor, weights: Tensor | None = None) -> Tensor:
        with self._autocast():
            embeddings: Tensor = self.network(inputs, weights, None if self.frozen is None else self.frozen.blocks)
        return embeddings.float()

    def _to_device(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.worker.device.type == "cuda":
            return tensor.pin_memory().to(self.worker.device, non_blocking=True)
        return tensor

    def _loss(self, parts: Sequence[Tensor], batch: Batch) -> Tensor:
        sizes, rank, train = self.data.schedule.sizes(batch.step), self.worker.rank, self.config.train
        queries_BD, *fabrics = (gather_rows(part, sizes, rank) for part in parts)
        if train.loss == "triplet":
            positive_B, negative_B = ((part @ queries_BD[:, :, None]).amax(dim=(1, 2)) for part in fabrics)
            return triplet_loss(positive_B, negative_B, train.margin)
        shown = self.data.sampler.shown_QN[batch.queries]
        own = self._to_device(np.concatenate([shown, batch.held], axis=1))
        widths = [shown.shape[1], batch.held.shape[1]]
        shown_BN, held_BM = torch.split(gather_rows(own, sizes, rank), widths, dim=1)
        if self._windows is not None:
            # By all windows and by the few vectors that are stored: either alone finds less.
            fabrics.append(gather_rows(cluster(parts[1], self._stored_vectors(parts[1].shape[1]))[0], sizes, rank))
        holds_BB = shares(shown_BN, held_BM)
        losses = [info_nce(similarities(queries_BD, part), holds_BB, train.temperature) for part in fabrics]
        return torch.stack(losses).mean()

    def _stored_vectors(self, windows: int) -> int:
        """V of a fabric; of a part of it, which has fewer windows, by their side."""
        assert self._windows is not None
        side = self.config.embed.fabric_size
        share = math.sqrt(windows / len(window_boxes(grid_of_view(side, side), self._windows)))
        return max(1, min(windows, round(share * self._windows.vectors)))

    def state(self) -> dict[str, Any]:
        """Everything needed to go on: tensors and plain values only, so that it loads without unpickling code."""
        self.read_losses()
        return {
            "model": {name: parameter.detach().cpu().clone() for name, parameter in self.trained.items()},
            "optimiser": self.optimiser.state_dict(),
            "progress": vars(self.progress).copy(),
            # Loader threads add to it meanwhile: copying it is one step, going through it is not.
            "rejects": {key: list(value) for key, value in self.data.rejects.copy().items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a checkpoint of the same configuration."""
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(state["model"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = TrainingProgress(**state["progress"])
        self.data.rejects.update({key: (v[0], v[1], v[2]) for key, v in state["rejects"].items()})


@dataclass(frozen=True)
class Hooks:
    """What the surroundings do for the loop; every worker calls each equally often."""

    save: Callable[[Trainer], None]  # a checkpoint is due
    validate: Callable[[Trainer], dict[str, float]]  # metrics of the model; the key ``score`` selects the best
    epoch_done: Callable[[Trainer, dict[str, float], bool], None]
    """A row of the log is complete; the flag says that the model is the best so far."""
    step_done: Callable[[Trainer], None] = lambda trainer: None


def fit(trainer: Trainer, hooks: Hooks) -> None:
    """Train from the trainer's step to the last one.

    Validation follows every epoch and the last step; a checkpoint follows every validation and every
    ``train.checkpoint_every`` steps. Epoch 0 of the log is the model before training.
    """
    if trainer.progress.step == 0 and not trainer.progress.history:
        _close_epoch(trainer, hooks, 0, 0.0)
    schedule, progress = trainer.data.schedule, trainer.progress
    began, images = time.perf_counter(), 0
    for batch in trainer.data.batches(progress.step, trainer.worker.rank):
        trainer.step(batch)
        images += batch.images * trainer.worker.count
        hooks.step_done(trainer)
        if progress.step % schedule.per_epoch == 0 or progress.step == schedule.total:
            _close_epoch(trainer, hooks, batch.epoch + 1, images / (time.perf_counter() - began))
            began, images = time.perf_counter(), 0
        elif progress.step % trainer.config.train.checkpoint_every == 0:
            hooks.save(trainer)


def _close_epoch(trainer: Trainer, hooks: Hooks, epoch: int, rate: float) -> None:
    trainer.read_losses()
    progress = trainer.progress
    trainer.model.eval()
    metrics = hooks.validate(trainer)
    trainer.model.train()
    backbone, head = trainer.optimiser.param_groups
    row = {
        "epoch": float(epoch),
        "step": float(progress.step),
        "loss": progress.loss_sum / progress.loss_count if progress.loss_count else math.nan,
        "learning_rate": backbone["lr"],
        "head_learning_rate": head["lr"],
        "images_per_second": rate,
        **metrics,
    }
    best = metrics["score"] > progress.best
    progress.best = max(progress.best, metrics["score"])
    progress.loss_sum, progress.loss_count = 0.0, 0
    progress.history.append(row)
    hooks.epoch_done(trainer, row, best)
    hooks.save(trainer)
