"""What the quality benchmark works on: a split with its relevant pairs, the indexes, and what an arm found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from retrieval_core.config.config import load_config
from retrieval_core.data.datasets import Record, iter_gallery, iter_queries, labelled_split
from retrieval_core.data.motif_boxes import load_motif_boxes
from retrieval_core.evaluation.outcomes import QueryOutcome
from retrieval_core.store.embeddings import Box

SHIPPED = Path(__file__).resolve().parent.parent / "Weight_Path" / "dinov2-motif-small"
RECIPE = (
    "model.precision=bfloat16",
    "train.batch_size=32",
    "train.head_learning_rate=1e-4",
    "train.crop_start=0.5",
    "train.crop_end=0.5",
    "train.augmentation=reprint",
    "model.embedding_dim=384",
)
"""Training with windows on parts of fabrics, a quarter of which are printed and photographed again."""


class Split(NamedTuple):
    """Queries, fabrics, and the P pairs of them that share a motif."""

    queries: list[Record]
    fabrics: list[Record]
    pairs: np.ndarray
    """(P, 2) rows of query and fabric, ordered by query."""
    areas: np.ndarray
    """(P,) area of the median printed motif as a share of the fabric; NaN where it is not known."""

    def recall(self, ranks: np.ndarray, k: int, chosen: np.ndarray | None = None) -> float:
        """Mean recall@k over the queries with pairs, among the ``chosen`` pairs if given; NaN without a pair."""
        chosen = np.ones(len(ranks), bool) if chosen is None else chosen
        total = np.bincount(self.pairs[chosen, 0], minlength=len(self.queries))
        hits = np.bincount(self.pairs[chosen & (ranks <= k), 0], minlength=len(self.queries))
        return float(np.mean(hits[total > 0] / total[total > 0])) if total.any() else float("nan")

    def outcomes(self, ranks: np.ndarray, seed: int = 0) -> list[QueryOutcome]:
        """One outcome a labelled query; its name holds the seed, as outcomes of several seeds are averaged."""
        found = []
        for row, query in enumerate(self.queries):
            own = np.sort(ranks[self.pairs[:, 0] == row])
            if query.categories:
                found.append(QueryOutcome(f"{seed}/{query.path}", query.categories, len(own), own))
        return found


def read_split(root: str, name: str) -> Split:
    """The test or validation split of a data set in the published layout."""
    data = load_config(None, [f"data.root={root}"]).data
    if name == "test":
        queries, fabrics = list(iter_queries(data)), list(iter_gallery(data))
    else:
        queries, fabrics = labelled_split(data, "validation")
    boxes = load_motif_boxes(data)
    sizes = [motif_areas(fabric, boxes.get(fabric.path, [])) for fabric in fabrics]
    pairs, areas = [], []
    for row, query in enumerate(queries):
        for column, fabric in enumerate(fabrics):
            shared = set(query.categories) & set(fabric.categories)
            if shared:
                pairs.append((row, column))
                areas.append(max((sizes[column][name] for name in shared if name in sizes[column]), default=np.nan))
    return Split(queries, fabrics, np.array(pairs, dtype=np.int64).reshape(-1, 2), np.array(areas))


def motif_areas(fabric: Record, boxes: Sequence[tuple[str, Box]]) -> dict[str, float]:
    """Category -> area of its median box as a share of the image."""
    areas: dict[str, list[int]] = {}
    for category, (x0, y0, x1, y1) in boxes:
        areas.setdefault(category, []).append((x1 - x0) * (y1 - y0))
    if not areas:
        return {}
    with Image.open(fabric.location) as image:
        whole = image.width * image.height
    return {category: float(np.median(values)) / whole for category, values in areas.items()}


class Arm(NamedTuple):
    """A model, and how it is trained."""

    indexes: tuple[str, ...]
    keys: tuple[str, ...] = ()
    file: str | None = None
    """A configuration of ray_jobs/configs that the keys change."""
    trained: bool = False


class Index(NamedTuple):
    """What is kept of a fabric."""

    about: str
    keys: tuple[str, ...]


class Found(NamedTuple):
    """What an arm found on a track with an index."""

    ranks: np.ndarray
    """(P,) rank of every relevant fabric, from 1."""
    bytes: int
    """Of a fabric's float32 vectors."""
    flops: float
    """Floating point operations of the network for a fabric."""
    seconds: float
    """Seconds from a decoded fabric to its vectors, measured when it was embedded."""


INDEXES = {
    "whole": Index("the whole", ("embed.regions=[1]",)),
    "tiles": Index("10 of 37 tiles", ("embed.regions=[1,6]", "embed.region_overlap=0.3", "embed.vectors=10")),
    "windows": Index("10 of windows", ("embed.vectors=10",)),
    "windows_expanded": Index("10 of windows, queries expanded", ("embed.vectors=10", "retrieve.expand=5")),
    "windows_twice": Index("10 of windows, second look", ("embed.vectors=10", "retrieve.rescore=300")),
    "windows_both": Index(
        "10 of windows, expanded, second look", ("embed.vectors=10", "retrieve.rescore=300", "retrieve.expand=5")
    ),
    "windows_dense": Index(
        "10 of windows a patch apart, expanded, second look",
        ("embed.vectors=10", "retrieve.rescore=300", "retrieve.expand=5", "embed.window_stride=1"),
    ),
    "windows_30": Index("30 of windows", ("embed.vectors=30",)),
    "windows_504": Index("30 of windows, 504 px", ("embed.vectors=30", "embed.fabric_size=504")),
}
"""Vectors of a fabric. A tile is about a third of the fabric's side."""
WINDOWS = ("windows", "windows_expanded", "windows_twice", "windows_both", "windows_dense")
ARMS = {
    "histogram": Arm(("whole", "tiles"), ("model.pooling=cls_plus_mean",)),
    "frozen": Arm(("whole", "tiles"), ("model.pooling=cls_plus_mean",)),
    "published": Arm(("whole", "tiles"), file="published.yaml", trained=True),
    "windows_frozen": Arm((*WINDOWS, "windows_30")),
    "windows": Arm((*WINDOWS, "windows_30", "windows_504"), RECIPE, trained=True),
    "shipped": Arm((*WINDOWS, "windows_30", "windows_504"), (f"model.weights={SHIPPED}",)),
}


def of_arm(name: str) -> str:
    """The key in ARMS of a name like ``published_x10``."""
    return "published" if name.startswith("published") else name
