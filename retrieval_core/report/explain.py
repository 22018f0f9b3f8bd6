"""Which query stands first in the report, and why a query missed what it missed, in words."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low

from retrieval_core.report.data import Missed, QueryCard


def median_precision(cards: Sequence[QueryCard]) -> float | None:
    """The median of the average precisions, the lower of two middle ones; None where no query has one."""
    known = [card.average_precision for card in cards]
    return median_low(found) if (found := [value for value in known if value is not None]) else None


def explanation(card: QueryCard) -> str:
    """Why relevant fabrics are not in the pool, in a sentence or two; empty where nothing is lost or known."""
    if card.missed is None:
        return ""
    return " ".join(filter(None, [_nearest(card, card.missed), _mistaken(card.missed)]))


def _nearest(card: QueryCard, missed: Missed) -> str:
    if not card.nearest_lost:
        return ""
    rank = card.nearest_lost[0].rank
    if rank is None:  # rejected ones are the last
        return f"The {'picture' if card.lost == 1 else 'pictures'} of what it missed could not be read."
    look = " in the first look" if missed.first_look else ""
    size = "" if missed.share is None else f"; one print of the motif covers {_percent(missed.share)} of it"
    return f"The nearest missed fabric has rank {rank:,}{look}{size}."


def _mistaken(missed: Missed) -> str:
    if not missed.wrong:
        return "Every candidate is right: more fabrics hold the motif than the pool has room for."
    if not missed.mistaken:
        return ""
    if missed.wrong == 1:
        return f"Mistaken for a fabric of {', '.join(name for name, _ in missed.mistaken)}."
    (name, count), *others = missed.mistaken
    first = f"{name} ({count:,} of {missed.wrong:,} wrong candidates)"
    return f"Mistaken for {', '.join([first, *(f'{name} ({count:,})' for name, count in others)])}."


def _percent(share: float) -> str:
    percent = 100 * share
    if percent < 0.05:
        return "under 0.1 %"
    return f"{percent:.1f} %" if percent < 9.95 else f"{percent:.0f} %"
