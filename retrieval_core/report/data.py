"""What the report shows, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from retrieval_core.store.embeddings import Box


class Fabric(NamedTuple):
    """A fabric shown for a query: a candidate, or a relevant fabric that is not in the pool."""

    image_path: str
    location: str  # absolute path or URL to open
    similarity: float | None  # cosine; like the rank, None when the image was rejected
    rank: int | None  # from 1
    hit: bool | None = None  # whether a candidate contains the motif; None when unlabelled
    box: Box | None = None  # region that matched; None for the whole image


class StageTime(NamedTuple):
    """How long a stage took."""

    stage: str
    seconds: float
    detail: str = ""  # such as "412 images/s"


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


class Missed(NamedTuple):
    """What is known of why a query's relevant fabrics are not in the pool."""

    wrong: int  # candidates in the pool that are not relevant
    mistaken: Sequence[tuple[str, int]] = ()  # categories that most of these hold, and how many hold each
    share: float | None = None  # of the nearest lost fabric that one print of the motif covers
    first_look: bool = False  # whether the ranks of lost fabrics are those of the first of two looks


@dataclass(frozen=True)
class QueryCard:
    """A query and the fabrics shown for it."""

    query_path: str  # as the query list spells it
    location: str
    categories: tuple[str, ...] = ()  # empty when unlabelled
    relevant: int | None = None  # relevant fabrics in the gallery; None when unlabelled
    metrics: Mapping[str, float | None] = field(default_factory=dict)  # such as recall@100; the page sorts by the first
    candidates: Sequence[Fabric] = ()  # best first; empty when the query image was rejected
    hit_ranks: Sequence[int] = ()  # of all hits in the pool, shown or not
    lost: int = 0  # number of relevant fabrics that are not in the pool
    nearest_lost: Sequence[Fabric] = ()  # the first of these
    missed: Missed | None = None  # None when nothing is lost

    @property
    def average_precision(self) -> float | None:
        """The figure of ``metrics`` that says how near to the top the hits are."""
        return next((value for name, value in self.metrics.items() if name.startswith("AP@")), None)


@dataclass(frozen=True)
class ReportData:
    """All that the page shows. Sections without content are left out.

    An arm's figures are those of ``metrics.arm_metrics``. It may also hold ``versus`` (other arm ->
    ``metrics.paired_difference``), ``depth`` (``depth.depth_figures``, pools equally deep) and ``motif_sizes``
    (``motif_size.recall_by_size``).
    """

    name: str
    facts: Sequence[tuple[str, str]] = ()  # label and value, for the head of the page
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ks: Sequence[int] = ()  # depths to tabulate, in this order; the headline shows the largest
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)  # arm -> (k, recall), k ascending
    precisions: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)  # arm -> (k, precision)
    stages: Sequence[StageTime] = ()  # in the order they ran
    reject_counts: Sequence[RejectCount] = ()
    reject_rows: Sequence[Reject] = ()  # the first ones
    cards: Sequence[QueryCard] = ()  # in the order of the query list
    queries: int | None = None  # length of the query list; None for the number of cards
    pool_depth: int = 0  # candidates a query in the pool; 0 when unknown
    own_arm: str | None = None  # whose candidates are shown; None for fine_tuned, or the last arm without it
