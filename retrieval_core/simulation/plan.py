"""What a simulated data set will hold: which motifs each split has, and which of them each fabric shows.

A motif belongs to one split. Fabrics and queries are numbered through all splits, training first; what a fabric shows
follows from the seed, its split and its place in the split, not from how many there are (while there are enough
fabrics to show every motif). Every fourth fabric is the design before it in other colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from itertools import islice
from typing import NamedTuple

import numpy as np

from retrieval_core.config.sections import SimulateConfig, Split
from retrieval_core.simulation.motifs import Motif, catalogue

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_MOST_MOTIFS = 5
_MOTIF_SHARES = (0.2, 0.22, 0.22, 0.2, 0.16)  # of fabrics with 1 to 5 motifs
_RECOLOURED = 4  # every fourth fabric


class Stream(IntEnum):
    """Independent random draws: a generator is seeded with (seed, stream, what it is for)."""

    DEAL = 2
    DESIGN = 3
    COLOURS = 4
    GROUND = 5
    CAMERA = 6
    QUERY = 7


class SplitPlan(NamedTuple):
    """One split: its motifs, the motifs of each of its fabrics, and its first numbers."""

    name: Split
    motifs: tuple[Motif, ...]
    fabrics: tuple[tuple[int, ...], ...]
    first_fabric: int
    first_query: int


class DatasetPlan(NamedTuple):
    """What is to be drawn; O(fabrics) small tuples, cheap to send to a worker."""

    config: SimulateConfig
    seed: int
    splits: tuple[SplitPlan, ...]

    @property
    def fabrics(self) -> int:
        """Fabrics over all splits; items 0 to ``fabrics - 1``."""
        return sum(len(split.fabrics) for split in self.splits)

    @property
    def queries(self) -> int:
        """Query images over all splits; items from ``fabrics`` on."""
        return sum(len(split.motifs) for split in self.splits) * self.config.queries_per_motif

    @property
    def items(self) -> int:
        """Images to write."""
        return self.fabrics + self.queries


def plan_dataset(config: SimulateConfig, seed: int) -> DatasetPlan:
    """Decide which motifs each split has and which of them each fabric shows; draws nothing.

    The test split takes its motifs first: a larger training split leaves it as it is.

    Raises:
        ValueError: if more motifs are asked for than there are, or more than the fabrics of a split can show.
    """
    wanted = {"test": config.test_motifs, "validation": config.val_motifs, "train": config.train_motifs}
    counts = {"test": config.test_fabrics, "validation": config.val_fabrics, "train": config.train_fabrics}
    order = tuple(catalogue(seed))
    if sum(wanted.values()) > len(order):
        raise ValueError(
            f"simulate.train_motifs + val_motifs + test_motifs = {sum(wanted.values())}: "
            f"there are {len(order)} different motifs; ask for fewer"
        )
    rest = iter(order)
    motifs = {name: tuple(islice(rest, count)) for name, count in wanted.items()}
    splits, fabric, query = [], 0, 0
    for code, name in enumerate(SPLITS):
        shown = _deal(np.random.default_rng([seed, Stream.DEAL, code]), name, len(motifs[name]), counts[name])
        splits.append(SplitPlan(name, motifs[name], shown, fabric, query))
        fabric += counts[name]
        query += len(motifs[name]) * config.queries_per_motif
    return DatasetPlan(config, seed, tuple(splits))


def _deal(rng: np.random.Generator, split: Split, motifs: int, fabrics: int) -> tuple[tuple[int, ...], ...]:
    """Deal motifs to fabrics from a deck that is shuffled anew when it is used up: all are shown, equally often."""
    key = {"validation": "val"}.get(split, split)
    designs = sum(1 for i in range(fabrics) if not is_recoloured(i))
    least = -(-motifs // designs)
    if least > _MOST_MOTIFS:
        raise ValueError(
            f"simulate.{key}_fabrics = {fabrics} cannot show simulate.{key}_motifs = {motifs}: "
            f"a fabric has at most {_MOST_MOTIFS} motifs; ask for at least {motifs} fabrics"
        )
    deck: list[int] = []
    dealt: list[tuple[int, ...]] = []
    for i in range(fabrics):
        if is_recoloured(i):
            dealt.append(dealt[-1])
            continue
        many = min(motifs, max(least, 1 + int(rng.choice(_MOST_MOTIFS, p=_MOTIF_SHARES))))
        hand: list[int] = []
        while len(hand) < many:
            fresh = next((card for card in deck if card not in hand), None)
            if fresh is None:
                deck += [int(card) for card in rng.permutation(motifs)]
                continue
            deck.remove(fresh)
            hand.append(fresh)
        dealt.append(tuple(hand))
    return tuple(dealt)


def is_recoloured(place: int) -> bool:
    """Whether the fabric at this place of a split is the design before it in other colours."""
    return place % _RECOLOURED == _RECOLOURED - 1


def fabric_path(split: Split, number: int) -> str:
    """Where a fabric image lies in the data set."""
    return f"SimulatedPrintedFabrics/{split}/img/images/{number}.png"


def query_path(number: int, motif: Motif) -> str:
    """Where a query image lies in the data set."""
    return f"element img/{number},{motif.name}.png"


def queries(plan: DatasetPlan, split: SplitPlan) -> Iterator[tuple[int, Motif]]:
    """Number and motif of each query of a split."""
    for i in range(len(split.motifs) * plan.config.queries_per_motif):
        yield split.first_query + i, split.motifs[i // plan.config.queries_per_motif]
