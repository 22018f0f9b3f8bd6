"""What the report shows, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from retrieval_core.store.embeddings import Box


class Candidate(NamedTuple):
    """One retrieved fabric.

    Attributes:
        image_path: as in the pool.
        location: absolute path or URL to open.
        similarity: cosine.
        rank: from 1.
        hit: whether it contains the motif; None when nobody knows.
        box: region that matched; None for the whole image.
    """

    image_path: str
    location: str
    similarity: float
    rank: int
    hit: bool | None = None
    box: Box | None = None


class LostFabric(NamedTuple):
    """A relevant fabric that is not in the pool; similarity and rank are None when its image was rejected."""

    image_path: str
    location: str
    similarity: float | None
    rank: int | None
    box: Box | None = None


class StageTime(NamedTuple):
    """How long a stage took; ``detail`` is free text such as ``412 images/s``."""

    stage: str
    seconds: float
    detail: str = ""


class RejectCount(NamedTuple):
    """How many images of a role were rejected for one reason."""

    role: str
    reason: str
    images: int


class Reject(NamedTuple):
    """One rejected image, as in ``rejects.parquet``."""

    path: str
    role: str
    stage: str
    reason: str
    detail: str


@dataclass(frozen=True)
class QueryCard:
    """A query and the candidates shown for it.

    Attributes:
        query_path: as the query list spells it.
        location: absolute path or URL to open.
        categories: () when unlabelled.
        relevant: relevant fabrics in the gallery; None when unlabelled.
        metrics: figures by their names, such as ``{"recall@100": 0.5}``; queries are sorted by them, the first one
            first.
        candidates: best first; empty when the query image was rejected.
        hit_ranks: ranks of all hits in the pool, shown or not.
        lost: relevant fabrics that are not in the pool.
        nearest_lost: the first of them.
    """

    query_path: str
    location: str
    categories: tuple[str, ...] = ()
    relevant: int | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    candidates: Sequence[Candidate] = ()
    hit_ranks: Sequence[int] = ()
    lost: int = 0
    nearest_lost: Sequence[LostFabric] = ()


@dataclass(frozen=True)
class ReportData:
    """All that the page shows. Sections without content are left out.

    Attributes:
        name: of the run.
        facts: (label, value) pairs for the head of the page.
        arms: arm -> figures as ``metrics.arm_metrics`` gives them; an arm may also hold ``versus``:
            other arm -> ``metrics.paired_difference``, ``depth``: ``depth.depth_figures``, of pools equally deep, and
            ``motif_sizes``: ``motif_size.recall_by_size``.
        ks: depths to tabulate, in this order; the largest one makes the headline.
        curves: arm -> (k, recall) points, k ascending.
        precisions: arm -> (k, precision) points at the same k.
        stages: in the order they ran.
        reject_counts: all rejected images, counted.
        reject_rows: the first of them.
        cards: queries to show, in the order of the query list.
        queries: in the query list; the number of cards if None.
        pool_depth: candidates a query in the pool; 0 when unknown.
        own_arm: the arm that made the candidates shown; by default ``fine_tuned``, else the last one.
    """

    name: str
    facts: Sequence[tuple[str, str]] = ()
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ks: Sequence[int] = ()
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    precisions: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    stages: Sequence[StageTime] = ()
    reject_counts: Sequence[RejectCount] = ()
    reject_rows: Sequence[Reject] = ()
    cards: Sequence[QueryCard] = ()
    queries: int | None = None
    pool_depth: int = 0
    own_arm: str | None = None
