"""Figures of a run for Ray's dashboard and Prometheus; Ray puts ``ray_`` before their names.

The driver counts what comes back, so a task that ran twice counts once. Only training's rate is its first worker's.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

from ray.util import metrics


class Tags(NamedTuple):
    """Labels that tell series of one name apart."""

    run: str
    stage: str
    arm: str


class _Figure:
    kind: type[metrics.Metric]

    def __init__(self, name: str, about: str) -> None:
        self.name, self.about = name, about

    @cached_property
    def _metric(self) -> Any:  # at its first use, so that nothing happens at import
        return self.kind(self.name, self.about, Tags._fields)


class Total(_Figure):
    """A number that only grows."""

    kind = metrics.Counter

    def add(self, count: int, tags: Tags) -> None:
        """Add to the total; adding 0 makes no series."""
        if count:
            self._metric.inc(count, tags._asdict())


class Level(_Figure):
    """A number that goes up and down."""

    kind = metrics.Gauge

    def set(self, value: float, tags: Tags) -> None:
        """Set the current value."""
        self._metric.set(value, tags._asdict())


EMBEDDED = Total("fabric_retrieval_images_embedded_total", "Images whose embeddings are committed.")
REJECTED = Total("fabric_retrieval_images_rejected_total", "Images that could not be used.")
RANKED = Total("fabric_retrieval_blocks_ranked_total", "Pairs of a query block and a gallery block that are ranked.")
IMAGES_PER_SECOND = Level("fabric_retrieval_images_per_second", "Images embedded a second, since the first shard.")
ACTORS_BUSY = Level(
    "fabric_retrieval_actors_busy_ratio", "Share of their time that embedding actors worked, not waiting for pixels."
)
TRAIN_RATE = Level("fabric_retrieval_train_images_per_second", "Images a second that training saw in its last epoch.")
