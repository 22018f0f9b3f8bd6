"""The queries of the report as JSON, from which the page's script draws a few at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import PurePosixPath
from typing import Any

from retrieval_core.report.data import Fabric, QueryCard
from retrieval_core.report.explain import explanation, median_precision
from retrieval_core.report.thumbnails import Entry


class CardSheet:
    """Queries with their pictures by number, so that a picture's place in the page may be decided later.

    Cards come in the order of the query list. If their texts exceed ``room`` characters, an evenly spread part is kept.
    ``median`` is the average precision in the middle of what is kept.
    """

    def __init__(self, cards: Sequence[QueryCard], room: int) -> None:
        self.cards = list(cards)
        self._numbers: dict[str, int] = {}
        self.median: float | None = None
        self.json = self._encoded()
        while self.cards and len(self.json) > room:
            fitting = len(self.cards) * room // len(self.json)
            self.cards = [cards[row] for row in spread(len(cards), min(fitting, len(self.cards) - 1))]
            self.json = self._encoded()

    def locations(self) -> list[str]:
        """Pictures, the most important first: the motifs, first candidates, second ones, ..., then lost fabrics."""
        motifs = [card.location for card in self.cards]
        by_rank = zip_longest(*(card.candidates for card in self.cards))
        lost = zip_longest(*(card.nearest_lost for card in self.cards))
        fabrics = [one.location for row in (*by_rank, *lost) for one in row if one is not None]
        return list(dict.fromkeys([*motifs, *fabrics]))

    def table(self, entries: Mapping[str, Entry]) -> str:
        """The entry of each picture, by its number."""
        return _compact([entries[location] for location in self._numbers])

    def _encoded(self) -> str:
        self._numbers = {}
        self.median = median_precision(self.cards)
        return _compact([self._card(card) for card in self.cards])

    def _card(self, card: QueryCard) -> dict[str, Any]:
        return {
            "title": ", ".join(card.categories) or PurePosixPath(card.query_path).name or card.query_path,
            "path": card.query_path,
            "categories": card.categories,
            "picture": self._number(card.location),
            "relevant": card.relevant,
            "metrics": [[name, None if value is None else round(value, 6)] for name, value in card.metrics.items()],
            "candidates": [self._fabric(candidate) for candidate in card.candidates],
            "hits": list(card.hit_ranks),
            "lost": card.lost,
            "nearest": [self._fabric(lost) for lost in card.nearest_lost],
            "why": explanation(card),
            "untypical": self._untypical(card),
        }

    def _untypical(self, card: QueryCard) -> float | None:
        """How far the average precision is from the median; None where there is none, or nothing to look at."""
        value = card.average_precision
        if value is None or self.median is None or not card.candidates:
            return None
        return round(abs(value - self.median), 6)

    def _fabric(self, one: Fabric) -> list[Any]:
        similarity = None if one.similarity is None else round(one.similarity, 6)
        return [one.rank, similarity, one.hit, one.image_path, self._number(one.location), one.box]

    def _number(self, location: str) -> int:
        return self._numbers.setdefault(location, len(self._numbers))


def spread(count: int, kept: int) -> list[int]:
    """``kept`` of ``count`` rows, evenly spread, the same ones every time."""
    if kept >= count:
        return list(range(count))
    if kept <= 1:
        return [0] * kept
    return [place * (count - 1) // (kept - 1) for place in range(kept)]


def script_safe(text: str) -> str:
    """JSON that a ``<script>`` element can hold: nothing in it ends the element or starts a comment."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _compact(value: Any) -> str:
    # ASCII: characters and bytes are the same number, and a name that is not valid UTF-8 is still JSON.
    return script_safe(json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")))
