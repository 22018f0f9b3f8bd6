"""The sections of the configuration: every key with its type, default, sentence and range."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from retrieval_core.files.credentials import holds_credentials

Split = Literal["train", "validation", "test"]

_NUMBERS = (int, int | None, float, float | None)


class Section(BaseModel):
    """A part of the configuration: immutable, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        # `epochs: yes` would else be one epoch.
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in _NUMBERS:
            raise ValueError("must be a number, not true or false")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _no_secrets(cls, value: Any) -> Any:
        # Paths are written into logs, run.json and the pool.
        if isinstance(value, str) and holds_credentials(value):
            raise ValueError(
                "must not hold a password; take it out of the URL and give it to the store's own settings (for s3:// "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the machine's role)"
            )
        return value


class RunConfig(Section):
    """Where a run writes and what makes it repeatable."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Folder of the run in output_dir.")
    output_dir: str = Field("Output", min_length=1, description="Folder or URL under which every run writes.")
    seed: int = Field(0, ge=0, lt=2**32, description="Every random draw of a run follows from this number.")
    stuck_minutes: float = Field(
        10.0, ge=0, description="A stage in which nothing moves for so long says so, and where to look; 0 for never."
    )


class DataConfig(Section):
    """The catalogue and the queries."""

    root: str = Field("", description="Folder or URL of the data set; relative paths in its files start here.")
    format: Literal["published", "manifest", "folder"] = Field("published", description="How the data is described.")
    gallery_split: Split = Field("test", description="Published layout: the split searched and evaluated.")
    queries: str | None = Field(None, description="Manifest or folder format: query list, folder or manifest.")
    gallery: str | None = Field(None, description="Manifest or folder format: fabric folder or manifest.")
    train_queries: str | None = Field(None, description="Manifest format: training queries.")
    train_gallery: str | None = Field(None, description="Manifest format: training fabrics.")
    val_queries: str | None = Field(None, description="Manifest format: validation queries.")
    val_gallery: str | None = Field(None, description="Manifest format: validation fabrics.")


class ImagesConfig(Section):
    """How a file becomes pixels."""

    alpha: Literal["white", "published"] = Field("white", description="Transparency: on white, or dropped.")
    exif: Literal["apply", "ignore"] = Field("apply", description="Turn by the EXIF orientation, or leave as stored.")
    resize: Literal["antialias", "published"] = Field(
        "antialias", description="Bilinear with antialiasing, or without as the published code does."
    )
    jpeg: Literal["whole", "reduced"] = Field(
        "whole",
        description="Embedding: decode a JPEG at its size, or at 1/2 to 1/8 while twice the model's pixels remain.",
    )
    max_pixels: int = Field(200_000_000, ge=1, description="A larger image is rejected before it is decoded.")

    @model_validator(mode="after")
    def _with_a_filter(self) -> ImagesConfig:
        if self.jpeg == "reduced" and self.resize == "published":
            raise ValueError(
                "images.jpeg = reduced: images.resize = published picks single pixels of the whole size; "
                "set images.resize=antialias, or images.jpeg=whole"
            )
        return self


class ModelConfig(Section):
    """The network that makes embeddings."""

    weights: str = Field("Weight_Path/dinov2-pytorch-base-v1", description="A transformers directory of a DINOv2.")
    checkpoint: str | None = Field(None, description="A published .pth; `weights` then gives its configuration.")
    init: Literal["pretrained", "random"] = Field("pretrained", description="random: ignore weights, keep config.json.")
    image_size: int = Field(224, ge=14, le=2048, description="Side in pixels of the square the model sees.")
    embedding_dim: int = Field(256, ge=1, le=8192, description="Width of a new projection head's output.")
    pooling: Literal["cls", "cls_mean", "cls_plus_mean"] = Field(
        "cls", description="What the head sees: CLS token, it beside the mean of the patch tokens, or their sum."
    )
    head: Literal["published", "identity"] = Field(
        "identity", description="A new head: two random layers as published, or one that starts as the identity."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Arithmetic of the forward pass; auto is bfloat16 on GPUs that have it."
    )


def _as_range(value: Any) -> Any:
    return [value, value] if isinstance(value, int | float) and not isinstance(value, bool) else value


def _check_range(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1] <= 1:
        raise ValueError("must be a share above 0 and at most 1, or two of them in ascending order, e.g. [0.2, 0.5]")
    return value


Range = Annotated[tuple[float, float], BeforeValidator(_as_range), AfterValidator(_check_range)]
"""Lowest and highest share of a side; a single number means both."""


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
        description="After a lost node go on with the workers that are left, down to so many; null waits for all.",
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
    augmentation: Literal["none", "published", "query", "print"] = Field(
        "published",
        description="none; flip and weak jitter as published; the query turned a little and now and then on other "
        "ground; or all that printing and cutting do to a motif.",
    )
    crop_start: Range = Field(
        (1.0, 1.0), description="Side of a fabric crop at the first step, a share or a range to draw it from."
    )
    crop_end: Range = Field((1.0, 1.0), description="The same at the last step; 1 is the whole fabric.")
    fixed_views: int | None = Field(
        None,
        ge=1,
        description="Crop and augmentation of an image come from so many fixed views of it; null draws them afresh.",
    )
    cache_activations: bool = Field(
        False,
        description="Keep on local disk (TMPDIR) what the frozen blocks make of a view; needs views that come again.",
    )
    cache_max_gb: float = Field(
        50.0, gt=0, description="Size of that cache per worker (1 GB is 10^9 bytes); further views are not kept."
    )
    locate: bool = Field(
        False, description="Crops without motif_boxes.csv: look for the motifs in tiles first, with the start weights."
    )
    select: Literal["best", "last"] = Field("best", description="Model kept: best validation pool recall, or last.")
    loader_threads: int = Field(2, ge=1, le=64, description="Threads that decode training images, per worker.")

    @property
    def crops(self) -> bool:
        """Whether training sees parts of fabrics."""
        return min(*self.crop_start, *self.crop_end) < 1

    @model_validator(mode="after")
    def _at_most_all(self) -> TrainConfig:
        if self.min_workers is not None and self.num_workers is not None and self.min_workers > self.num_workers:
            raise ValueError(
                f"train.min_workers = {self.min_workers} is more than train.num_workers = {self.num_workers}; "
                "lower the one or raise the other"
            )
        return self

    @model_validator(mode="after")
    def _views_come_again(self) -> TrainConfig:
        if self.fixed_views is not None and self.crop_start != self.crop_end:
            raise ValueError("train.fixed_views: a fixed view has one size; set train.crop_end to train.crop_start")
        if self.cache_activations and self.trainable_blocks == "all":
            raise ValueError(
                "train.cache_activations: with train.trainable_blocks = 'all' nothing is frozen; train fewer blocks, "
                "or set train.cache_activations=false"
            )
        if self.cache_activations and self.fixed_views is None and (self.crops or self.augmentation != "none"):
            raise ValueError(
                "train.cache_activations: no view comes again while train.augmentation or train.crop_start are drawn "
                "afresh; set train.fixed_views (say 4), or train.augmentation=none and whole fabrics"
            )
        return self


class EmbedConfig(Section):
    """Embedding on Ray Data."""

    batch_size: int = Field(64, ge=1, description="Views per forward pass.")
    num_actors: int | None = Field(None, ge=1, description="Embedding actors; null is one per GPU, or else per CPU.")
    shard_size: int = Field(1024, ge=1, description="Views (embedding rows) per shard, the unit that is committed.")
    storage_dtype: Literal["float32", "float16"] = Field("float32", description="Type of the stored vectors.")
    regions: list[int] = Field([1], min_length=1, description="Grids of a fabric: 1 is the whole, 4 is 4 x 4 tiles.")
    region_overlap: float = Field(0.25, ge=0, lt=1, description="Overlap of neighbouring tiles, share of their side.")
    query_turns: list[Annotated[float, Field(ge=-180, le=180)]] = Field(
        [0.0], min_length=1, description="Degrees by which copies of a query are turned; their embeddings are averaged."
    )
    vectors: int | None = Field(
        None, ge=1, description="Vectors kept a fabric: its regions are clustered to so many; null keeps all."
    )

    @model_validator(mode="after")
    def _whole_first(self) -> EmbedConfig:
        if self.regions[0] != 1 or len(set(self.regions)) != len(self.regions) or min(self.regions) < 1:
            raise ValueError("regions must start with 1 (the whole fabric) and name each grid once, e.g. [1, 4]")
        views = sum(grid * grid for grid in self.regions)
        if self.vectors is not None and self.vectors > views:
            raise ValueError(f"embed.vectors = {self.vectors} is more than the {views} views that embed.regions gives")
        return self


class RetrieveConfig(Section):
    """Exact top-k by blocks."""

    top_k: int = Field(100, ge=1, description="Candidates per query; more than the gallery gives the whole gallery.")
    query_block: int = Field(4096, ge=1, description="Queries a task holds.")
    gallery_block: int = Field(262_144, ge=1, description="Gallery vectors a task holds: 268 MB of 256 dimensions.")


class EvaluateConfig(Section):
    """Metrics and baselines."""

    ks: list[int] = Field([10, 50, 100], min_length=1, description="Depths at which every metric is reported.")
    baselines: list[Literal["random", "histogram", "frozen"]] = Field(
        ["random", "histogram", "frozen"], description="Arms computed beside the run's own, on the same images."
    )
    bootstrap: int = Field(1000, ge=0, description="Resamples over motifs for the intervals; 0 for none.")
    trec: bool = Field(True, description="Also write run.trec and qrels.trec, which trec_eval, ranx and others read.")

    @model_validator(mode="after")
    def _positive(self) -> EvaluateConfig:
        if min(self.ks) < 1:
            raise ValueError("ks must be at least 1")
        return self


class ReportConfig(Section):
    """The page people look at."""

    queries: int = Field(
        200, ge=0, description="Queries shown with their first candidates, evenly spread over the list if it has more."
    )
    candidates: int = Field(12, ge=1, description="Candidates shown for each of them.")
    lost: int = Field(6, ge=0, description="Relevant fabrics outside the pool shown for each of them, nearest first.")
    thumbnail: int = Field(
        256, ge=16, le=1024, description="Longer side of a picture in pixels; smaller where max_megabytes asks for it."
    )
    max_megabytes: int = Field(
        30, ge=1, le=1000, description="The page is at most so large (1 MB is 1,000,000 bytes); it says what that cost."
    )


class ServeConfig(Section):
    """The search page and its API (`fabric-retrieval serve`)."""

    host: str = Field(
        "127.0.0.1", min_length=1, description="Address to listen on; with another than the default others can search."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    allowed_hosts: list[str] = Field(
        [],
        description="Further names by which browsers may reach the page, besides its address and this machine's.",
    )
    top: int = Field(60, ge=1, le=1000, description="Fabrics shown where a request does not say how many.")
    max_upload_mb: int = Field(20, ge=1, le=1024, description="A larger upload is refused (1 MB is 1,000,000 bytes).")
    threads: int = Field(2, ge=1, le=64, description="Searches at a time, and pictures made at a time.")
    waiting: int = Field(16, ge=0, description="Searches that may wait for a thread; one more is refused as busy.")
    timeout: float = Field(30.0, gt=0, le=600, description="Seconds until an upload or a search is given up.")
    thumbnail: int = Field(256, ge=16, le=1024, description="Longer side in pixels of the pictures in the ranking.")
    preview: int = Field(1280, ge=64, le=4096, description="Longer side in pixels of an enlarged fabric.")


class SimulateConfig(Section):
    """The simulated printed-fabric data set (`fabric-retrieval simulate` and `make demo`)."""

    output: str | None = Field(None, description="Folder to write; null means data.root.")
    train_motifs: int = Field(120, ge=1, description="Motifs in the training split.")
    val_motifs: int = Field(20, ge=1, description="Motifs in the validation split.")
    test_motifs: int = Field(40, ge=1, description="Motifs in the test split; splits share none.")
    train_fabrics: int = Field(600, ge=1, description="Fabrics in the training split.")
    val_fabrics: int = Field(100, ge=1, description="Fabrics in the validation split.")
    test_fabrics: int = Field(300, ge=1, description="Fabrics in the test split.")
    queries_per_motif: int = Field(2, ge=1, description="Query images of each motif.")
    fabric_size: int = Field(256, ge=32, le=4096, description="Side of a fabric image in pixels.")
    query_size: int = Field(128, ge=16, le=4096, description="Side of a query image in pixels.")
    photographed: float = Field(0.0, ge=0, le=1, description="Share of fabrics drawn as photographs of cloth.")


Role = Literal["gallery", "queries"]


ROLES: tuple[Role, Role] = ("gallery", "queries")
