"""What Ray's dashboard and Prometheus show of a run: how much is done, and how fast.

Ray puts ``ray_`` before the names. Every figure has the tags ``run``, ``stage`` and ``arm``. The driver counts as
results come back, so a task that Ray ran twice counts once; only the rate of training comes from its first worker.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from ray.util import metrics


class Tags(NamedTuple):
    """Tells series of one name apart."""

    run: str
    stage: str
    arm: str


class Total:
    """A number that only grows."""

    def __init__(self, name: str, about: str) -> None:
        self.name, self.about = name, about

    @cached_property
    def _counter(self) -> metrics.Counter:
        # Made at the first use, in the process that counts: nothing happens at import.
        return metrics.Counter(self.name, self.about, Tags._fields)

    def add(self, count: int, tags: Tags) -> None:
        """So many more. Nothing is none, and makes no series."""
        if count:
            self._counter.inc(count, tags._asdict())


class Level:
    """A number that goes up and down."""

    def __init__(self, name: str, about: str) -> None:
        self.name, self.about = name, about

    @cached_property
    def _gauge(self) -> metrics.Gauge:
        return metrics.Gauge(self.name, self.about, Tags._fields)

    def set(self, value: float, tags: Tags) -> None:
        """The value from now on."""
        self._gauge.set(value, tags._asdict())


EMBEDDED = Total("fabric_retrieval_images_embedded_total", "Images whose embeddings are committed.")
REJECTED = Total("fabric_retrieval_images_rejected_total", "Images that could not be used.")
RANKED = Total("fabric_retrieval_blocks_ranked_total", "Pairs of a query block and a gallery block that are ranked.")
IMAGES_PER_SECOND = Level("fabric_retrieval_images_per_second", "Images embedded a second, since the first shard.")
ACTORS_BUSY = Level(
    "fabric_retrieval_actors_busy_ratio", "Share of their time that embedding actors worked, not waiting for pixels."
)
TRAIN_RATE = Level("fabric_retrieval_train_images_per_second", "Images a second that training saw in its last epoch.")
