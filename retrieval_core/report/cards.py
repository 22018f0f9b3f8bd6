"""The queries of the report as JSON, from which the page's script draws a page of them at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import PurePosixPath
from typing import Any

from retrieval_core.report.data import Candidate, LostFabric, QueryCard
from retrieval_core.report.thumbnails import Entry


class CardSheet:
    """Queries with their pictures by number, so that a picture's place in the page may be decided later.

    Args:
        cards: in the order of the query list.
        room: characters that their texts may take; of more queries an evenly spread part is kept.
    """

    def __init__(self, cards: Sequence[QueryCard], room: int) -> None:
        self._numbers: dict[str, int] = {}
        texts = [_compact(self._card(card)) for card in cards]
        total = sum(len(text) + 1 for text in texts)
        kept = len(cards) if total <= room else len(cards) * max(room, 0) // total
        while kept and sum(len(texts[row]) + 1 for row in spread(len(cards), kept)) > room:
            kept -= 1
        rows = spread(len(cards), kept)
        self.cards = [cards[row] for row in rows]
        if kept < len(cards):  # number the pictures of those that are left
            self._numbers = {}
            texts = [_compact(self._card(card)) for card in self.cards]
        self.json = "[" + ",".join(texts) + "]"

    def locations(self) -> list[str]:
        """Pictures in the order of importance: the motifs, first candidates, second ones, ..., then what was lost."""
        motifs = [card.location for card in self.cards]
        ranks = zip_longest(*([one.location for one in card.candidates] for card in self.cards))
        lost = zip_longest(*([one.location for one in card.nearest_lost] for card in self.cards))
        rest = [location for row in (*ranks, *lost) for location in row if location is not None]
        return list(dict.fromkeys([*motifs, *rest]))

    def table(self, entries: dict[str, Entry]) -> str:
        """What the page knows of each picture: ``[slot, width, height]``, or why there is none."""
        return _compact([_entry(entries[location]) for location in self._numbers])

    def _card(self, card: QueryCard) -> dict[str, Any]:
        return {
            "title": ", ".join(card.categories) or PurePosixPath(card.query_path).name or card.query_path,
            "path": card.query_path,
            "categories": card.categories,
            "picture": self._number(card.location),
            "relevant": card.relevant,
            "metrics": [[name, None if value is None else round(value, 6)] for name, value in card.metrics.items()],
            "candidates": [self._candidate(candidate) for candidate in card.candidates],
            "hits": list(card.hit_ranks),
            "lost": card.lost,
            "nearest": [self._candidate(lost) for lost in card.nearest_lost],
        }

    def _candidate(self, one: Candidate | LostFabric) -> list[Any]:
        hit = one.hit if isinstance(one, Candidate) else None
        similarity = None if one.similarity is None else round(one.similarity, 6)
        return [one.rank, similarity, hit, one.image_path, self._number(one.location), one.box]

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


def _entry(entry: Entry) -> list[int] | str:
    return entry.problem if entry.slot is None else [entry.slot, entry.width, entry.height]


def _compact(value: Any) -> str:
    # ASCII, so that characters and bytes are the same number, and a name that is no text is still JSON.
    return script_safe(json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")))
