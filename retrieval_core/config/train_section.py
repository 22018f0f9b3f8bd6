"""The section ``train`` of the configuration: how the network is fine-tuned."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from retrieval_core.config.sections import Section


def _as_range(value: Any) -> Any:
    return [value, value] if isinstance(value, int | float) and not isinstance(value, bool) else value


def _check_range(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1] <= 1:
        raise ValueError("must be a share above 0 and at most 1, or two of them in ascending order, e.g. [0.2, 0.5]")
    return value


Range = Annotated[tuple[float, float], BeforeValidator(_as_range), AfterValidator(_check_range)]
"""Lowest and highest share of a side; one number stands for both."""

EXECUTION_KEYS = {  # how to compute, not what: changing these does not start a new training
    "num_workers",
    "min_workers",
    "loader_threads",
    "keep_checkpoints",
    "checkpoint_every",
    "max_failures",
    "enabled",
    "cache_activations",
    "cache_max_gb",
}


class TrainConfig(Section):
    """Fine-tuning on Ray Train."""

    enabled: bool | None = Field(
        None, description="Fine-tune before embedding; null does if the data set has labelled training data."
    )
    epochs: int = Field(10, ge=1, description="Passes over the training queries.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many optimiser steps.")
    batch_size: int = Field(64, ge=1, description="Queries per optimiser step, over all workers.")
    num_workers: int | None = Field(
        None,
        ge=0,
        description="Training workers; 0 trains in this process; null: one per GPU, else 1 on a cluster, 0 alone.",
    )
    min_workers: int | None = Field(
        None,
        ge=1,
        description="After a lost node, go on with the workers left, at least this many; null waits for all.",
    )
    checkpoint_every: int = Field(100, ge=1, description="Optimiser steps between checkpoints (and after each epoch).")
    keep_checkpoints: int = Field(2, ge=1, description="Training checkpoints kept, newest first; the best model too.")
    max_failures: int = Field(3, ge=-1, description="Restarts after a lost worker; -1 is without limit.")
    loss: Literal["info_nce", "triplet"] = Field("info_nce", description="Symmetric InfoNCE, or published triplets.")
    labels: Literal["category", "element"] = Field(
        "category", description="Positives share the query's category, or list the query's own element id."
    )
    temperature: float = Field(0.07, gt=0, description="InfoNCE: cosines are divided by this.")
    margin: float = Field(0.2, ge=0, description="Triplets: margin between positive and negative cosine.")
    trainable_blocks: Annotated[int, Field(ge=0)] | Literal["all"] = Field(
        2, description="Last transformer blocks that are trained; all trains the embeddings of patches, too."
    )
    learning_rate: float = Field(1e-4, gt=0, description="Of the backbone's trained blocks.")
    head_learning_rate: float = Field(2e-4, gt=0, description="Of the projection head.")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW's decoupled weight decay.")
    schedule: Literal["warmup_cosine", "published_cosine"] = Field(
        "warmup_cosine", description="Per step: warm-up, then cosine to min; or the published one, per epoch."
    )
    warmup_steps: int = Field(50, ge=0, description="warmup_cosine: steps of linear warm-up.")
    cosine_epochs: int = Field(80, ge=1, description="published_cosine: T_max in epochs; beyond it the rate rises.")
    min_learning_rate: float = Field(1e-7, ge=0, description="Both schedules: the lowest rate of either group.")
    clip_norm: float | None = Field(1.0, gt=0, description="Gradients are clipped to this norm; null for never.")
    augmentation: Literal["none", "published", "reprint"] = Field(
        "none",
        description="none; published: flip and weak jitter; reprint: a quarter of the fabrics turned, mirrored, dyed "
        "and photographed, each always in the same way.",
    )
    crop_start: Range = Field(
        (1.0, 1.0),
        description="Side of a fabric crop at the first step, a share or a range to draw it from.",
    )
    crop_end: Range = Field((1.0, 1.0), description="The same at the last step; 1 is the whole fabric.")
    cache_activations: bool | None = Field(
        None,
        description="Keep the frozen blocks' output on local disk (TMPDIR), at most half of what is free; null does on "
        "CPUs where views come again: not augmented as published, and either on whole fabrics or with patches.",
    )
    cache_max_gb: float = Field(
        50.0, gt=0, description="Size of that cache per worker (1 GB is 10^9 bytes); further views are not kept."
    )
    select: Literal["best", "last"] = Field("best", description="Model kept: best validation pool recall, or last.")
    loader_threads: int = Field(2, ge=1, le=64, description="Threads that decode training images, per worker.")

    @property
    def crops(self) -> bool:
        """Whether training sees parts of fabrics."""
        return min(*self.crop_start, *self.crop_end) < 1

    @model_validator(mode="after")
    def _min_workers_within_num_workers(self) -> TrainConfig:
        if self.min_workers is not None and self.num_workers is not None and self.min_workers > self.num_workers:
            raise ValueError(
                f"train.min_workers = {self.min_workers} is more than train.num_workers = {self.num_workers}; "
                "lower the one or raise the other"
            )
        return self

    @model_validator(mode="after")
    def _views_come_again(self) -> TrainConfig:
        if self.cache_activations and self.trainable_blocks == "all":
            raise ValueError(
                "train.cache_activations: with train.trainable_blocks = 'all' nothing is frozen; train fewer blocks, "
                "or set train.cache_activations=false"
            )
        if self.cache_activations and self.augmentation == "published":
            raise ValueError(
                "train.cache_activations: no view comes again with train.augmentation = published, which is drawn "
                "afresh; set train.augmentation=reprint or none, or set train.cache_activations=false"
            )
        return self
