"""How the embedding actors spent their time, and so what the stage's bottleneck was."""

from __future__ import annotations

from typing import Any, NamedTuple

SATURATED_SHARE = 0.9  # of their time that actors work if the bottleneck is theirs; below, they wait for decoding


class Spent(NamedTuple):
    """Seconds of one shard."""

    decoding: float  # in its task: reading and decoding
    waiting: float  # its actor idle between the previous shard and this one
    encoding: float  # its actor in the network; longer on CPUs that decoding uses, too
    writing: float  # its actor until the shard was committed


class ActorTime:
    """Sums over shards. O(1)."""

    def __init__(self) -> None:
        self.images = 0
        self.spent = Spent(0, 0, 0, 0)

    def add(self, images: int, spent: Spent) -> None:
        """Count a shard of which so many images were embedded."""
        self.images += images
        self.spent = Spent(*(total + more for total, more in zip(self.spent, spent, strict=True)))

    @property
    def worked(self) -> float:
        """Seconds of all actors together."""
        return self.spent.encoding + self.spent.writing

    def busy(self) -> float:
        """Share of the actors' time in which they worked, since the first shard of each; 0 before any."""
        return self.worked / (self.worked + self.spent.waiting) if self.worked else 0.0

    def limit(self, actors: int) -> float:
        """Images a second of so many actors if they never waited; 0 before any."""
        return self.images * actors / self.worked if self.worked else 0.0

    def bottleneck(self) -> str:
        """What would have to be faster: ``encoding``, ``writing`` or ``decoding``."""
        if self.busy() < SATURATED_SHARE:
            return "decoding"
        return "encoding" if self.spent.encoding >= self.spent.writing else "writing"

    def facts(self, actors: int) -> dict[str, Any]:
        """For the record of a stage."""
        if not self.worked:
            return {}
        decoded = self.images / self.spent.decoding if self.spent.decoding else None
        return {
            "actors_busy": round(self.busy(), 3),
            "actors_images_per_second": round(self.limit(actors), 2),
            "decoded_per_second_and_task": None if decoded is None else round(decoded, 2),
            "bottleneck": self.bottleneck(),
        }

    def sentence(self, actors: int) -> str:
        """The same for a person."""
        if not self.worked:
            return "nothing was encoded"
        remedy = {
            "encoding": "the network is the bottleneck",
            "writing": "writing is the bottleneck: larger shards (embed.shard_size), or a quicker disk",
            "decoding": "reading and decoding is the bottleneck: more CPUs, smaller files, images.jpeg=reduced",
        }[self.bottleneck()]
        rate = f"{self.limit(actors):,.1f} images/s if they never waited"
        return f"actors worked {self.busy():.0%} of the time, {rate}; {remedy}"
