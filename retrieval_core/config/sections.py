"""The sections of the configuration but ``train``: every key with its type, default, sentence and range."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from retrieval_core.files import hub
from retrieval_core.files.credentials import holds_credentials

Split = Literal["train", "validation", "test"]
Role = Literal["gallery", "queries"]
ROLES: tuple[Role, Role] = ("gallery", "queries")

PATCH = 14
"""Side of a patch in pixels, of every DINOv2."""
NAS_FOLDERS = [
    *("@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", "~snapshot", "lost+found", "__MACOSX"),
    *("$RECYCLE.BIN", "RECYCLER", "System Volume Information", "found.[0-9][0-9][0-9]"),
    *("Network Trash Folder", "Temporary Items"),
]
"""Thumbnails, deleted files and snapshots that storage boxes and systems keep among the pictures."""
_HOME = re.compile(r"~(/|$)")
_NUMBERS = (int, int | None, float, float | None)


class Section(BaseModel):
    """A part of the configuration: immutable, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        # `epochs: yes` would otherwise be one epoch.
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in _NUMBERS:
            raise ValueError("must be a number, not true or false")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _home(cls, value: Any) -> Any:
        # The shell leaves `~` alone after `=`, and every text that starts with it is a path.
        return str(Path(value).expanduser()) if isinstance(value, str) and _HOME.match(value) else value

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
        10.0, ge=0, description="Minutes without progress until a stage says so, and where to look; 0 for never."
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
    list_like: Literal["error", "keep"] = Field(
        "error", description="Manifest format: a category written as a list, ['rose']: an error, or a name like others."
    )
    exclude: list[str] = Field(
        NAS_FOLDERS,
        description="Names of folders and files (with a slash: paths from the folder) that no listing of a folder "
        "enters or takes, whatever their case; * and ? stand for others. A list of yours replaces this one.",
    )


class ImagesConfig(Section):
    """How a file becomes pixels."""

    alpha: Literal["white", "published"] = Field("white", description="Transparency: on white, or dropped.")
    exif: Literal["apply", "ignore"] = Field("apply", description="Rotate by the EXIF orientation, or leave as stored.")
    profile: Literal["convert", "ignore"] = Field(
        "convert", description="Colours: brought to sRGB by the ICC profile in the file, or left as stored."
    )
    resize: Literal["antialias", "published"] = Field(
        "antialias", description="Bilinear with antialiasing, or without as the published code does."
    )
    jpeg: Literal["whole", "reduced"] = Field(
        "whole",
        description="Embedding: decode a JPEG at its size, or at 1/2 to 1/8 while twice the model's pixels remain.",
    )
    query_mask: Literal["auto", "alpha", "none"] = Field(
        "auto",
        description="Which patches of a query are the motif: by transparency, else what differs from the ground around "
        "it; by transparency only; or all.",
    )
    max_pixels: int = Field(200_000_000, ge=1, description="A larger image is rejected before it is decoded.")

    @model_validator(mode="after")
    def _reduced_jpegs_are_filtered(self) -> ImagesConfig:
        if self.jpeg == "reduced" and self.resize == "published":
            raise ValueError(
                "images.jpeg = reduced: images.resize = published picks single pixels of the whole size; "
                "set images.resize=antialias, or images.jpeg=whole"
            )
        return self


class ModelConfig(Section):
    """The network that makes embeddings."""

    weights: Annotated[str, AfterValidator(hub.checked)] = Field(
        "Weight_Path/dinov2-pytorch-base-v1",
        description="A transformers directory of a DINOv2: folder, URL, or hf://owner/name[@revision] on the Hub.",
    )
    checkpoint: str | None = Field(
        None,
        description="A .pth of the published code, DINOv2's or another training; `weights` gives its configuration.",
    )
    init: Literal["pretrained", "random"] = Field("pretrained", description="random: ignore weights, keep config.json.")
    image_size: int = Field(
        98,
        ge=14,
        le=2048,
        description="Side in pixels of a square: the query, and without windows the fabric.",
    )
    embedding_dim: int = Field(256, ge=1, le=8192, description="Width of a new projection head's output.")
    pooling: Literal["patches", "cls", "cls_mean", "cls_plus_mean"] = Field(
        "patches",
        description="What the head sees: means of a few patches (the windows of a fabric, a query's motif), CLS token, "
        "CLS token beside the mean patch token, or their sum.",
    )
    layer: int | None = Field(
        None, ge=1, description="patches: blocks that are used of weights without a head; null is 7 of 12."
    )
    head: Literal["published", "identity"] = Field(
        "identity", description="A new head: two random layers as published, or one that starts as the identity."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Arithmetic of the forward pass; auto is bfloat16 on GPUs that have it."
    )


class EmbedConfig(Section):
    """Embedding on Ray Data."""

    batch_size: int = Field(64, ge=1, description="Views per forward pass.")
    num_actors: int | None = Field(None, ge=1, description="Embedding actors; null is one per GPU, or else per CPU.")
    shard_size: int = Field(
        1024,
        ge=1,
        description="Views per shard, what is committed at once; fewer of large ones.",
    )
    max_removed: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of the embedded gallery that may be gone at once; more needs --accept-removals.",
    )
    storage_dtype: Literal["float32", "float16"] = Field("float32", description="Type of the stored vectors.")
    fabric_size: int = Field(
        336,
        ge=56,
        le=2044,
        multiple_of=14,
        description="patches: a fabric has as many pixels as a square of this side, in its own proportions.",
    )
    windows: list[Annotated[int, Field(ge=1, le=32)]] = Field(
        [2], min_length=1, description="patches: sides of a fabric's windows, in patches of 14 pixels."
    )
    window_stride: int = Field(2, ge=1, le=32, description="patches: distance of neighbouring windows, in patches.")
    keep_windows: bool | None = Field(
        None,
        description="patches: keep all windows of a fabric for a second look, in 8 bits (55 KB at 336 px and 384 "
        "numbers); null does if retrieve.rescore asks for one.",
    )
    regions: list[int] = Field([1], min_length=1, description="Not patches: grids; 1 is the whole, 4 is 4 x 4 tiles.")
    region_overlap: float = Field(0.25, ge=0, lt=1, description="Not patches: overlap of tiles, share of their side.")
    vectors: int | None = Field(
        None,
        ge=1,
        description="Vectors kept per fabric: its windows or regions are clustered to so many; null is 10 of windows, "
        "all of regions.",
    )

    @model_validator(mode="after")
    def _regions_start_with_the_whole(self) -> EmbedConfig:
        if self.regions[0] != 1 or len(set(self.regions)) != len(self.regions) or min(self.regions) < 1:
            raise ValueError("regions must start with 1 (the whole fabric) and name each grid once, e.g. [1, 4]")
        return self


class RetrieveConfig(Section):
    """Exact top-k by blocks."""

    top_k: int = Field(100, ge=1, description="Candidates per query; more than the gallery gives the whole gallery.")
    expand: int = Field(0, ge=0, description="Fabrics found first that expand a query before it ranks; 5 finds more.")
    rescore: int = Field(
        0,
        ge=0,
        description="patches: fabrics found first that a second look at all of their windows ranks anew, at least "
        "top_k; 300 finds more.",
    )
    query_block: int = Field(4096, ge=1, description="Queries a task holds.")
    gallery_block: int = Field(262_144, ge=1, description="Gallery vectors a task holds: 268 MB of 256 dimensions.")

    @property
    def depth(self) -> int:
        """Fabrics that the first look finds: those of the pool, or more that the second look ranks anew."""
        return max(self.top_k, self.rescore)


class EvaluateConfig(Section):
    """Metrics and baselines."""

    ks: list[int] = Field([10, 50, 100], min_length=1, description="Depths at which every metric is reported.")
    baselines: list[Literal["random", "histogram", "frozen"]] = Field(
        ["random", "histogram", "frozen"], description="Arms computed beside the run's own, on the same images."
    )
    bootstrap: int = Field(1000, ge=0, description="Resamples over motifs for the intervals; 0 for none.")
    trec: bool = Field(True, description="Also write run.trec and qrels.trec, which trec_eval, ranx and others read.")

    @model_validator(mode="after")
    def _depths_are_positive(self) -> EvaluateConfig:
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
        30, ge=1, le=1000, description="Largest size of the page (1 MB is 1,000,000 bytes); it says what that cost."
    )


class ServeConfig(Section):
    """The search page and its API (`fabric-retrieval serve`)."""

    host: str = Field(
        "127.0.0.1", min_length=1, description="Address to listen on; any but the default lets others search."
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
