"""Why a query missed what it missed, in words: only what is known, and the median against a count by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.report.data import Fabric, Missed, QueryCard
from retrieval_core.report.explain import explanation, median_precision


def card(missed: Missed | None, rank: int | None = None, lost: int = 2, known: bool = True) -> QueryCard:
    nearest = [Fabric("f", "/f", None if rank is None else 0.5, rank)] if known else []
    return QueryCard("q", "/q", lost=lost, nearest_lost=nearest, missed=missed)


MISTAKEN = [("rabbit", 1200), ("rose", 3), ("moon", 2)]


def test_all_that_is_known_is_said() -> None:
    assert explanation(card(Missed(1500, MISTAKEN, 0.0083, first_look=True), 2345)) == (
        "The nearest missed fabric has rank 2,345 in the first look; one print of the motif covers 0.8 % of it. "
        "Mistaken for rabbit (1,200 of 1,500 wrong candidates), rose (3), moon (2)."
    )


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert explanation(card(None, 7)) == ""
    assert explanation(card(Missed(4), known=False)) == ""
    assert explanation(card(Missed(4), 7)) == "The nearest missed fabric has rank 7."
    mistaken = Missed(4, [("rose", 4)])
    assert explanation(card(mistaken, known=False)) == "Mistaken for rose (4 of 4 wrong candidates)."


def test_rejected_fabrics_full_pools_and_single_mistakes_have_words_of_their_own() -> None:
    assert explanation(card(Missed(4), lost=1)) == "The picture of what it missed could not be read."
    assert explanation(card(Missed(4))) == "The pictures of what it missed could not be read."
    assert explanation(card(Missed(1, [("rose", 1), ("moon", 1)]), 7)).endswith("Mistaken for a fabric of rose, moon.")
    assert explanation(card(Missed(0), 7)).endswith(
        "Every candidate is right: more fabrics hold the motif than the pool has room for."
    )


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "under 0.1 %"),
        (0.0004, "under 0.1 %"),
        (0.0006, "0.1 %"),
        (0.099, "9.9 %"),
        (0.0996, "10 %"),
        (1.2, "120 %"),
    ],
)
def test_shares_of_a_fabric(share: float, text: str) -> None:
    assert f"covers {text} of it" in explanation(card(Missed(1, (), share), 7))


@given(st.lists(st.none() | st.floats(0, 1), max_size=9))
def test_the_median_has_as_many_below_as_above(values: list[float | None]) -> None:
    cards = [
        QueryCard(str(n), "", metrics={} if v is None else {"recall@9": 1.0, "AP@9": v}) for n, v in enumerate(values)
    ]
    median, known = median_precision(cards), [value for value in values if value is not None]
    assert (median is None) == (not known)
    if median is not None:
        assert median in known
        assert sum(value < median for value in known) <= (len(known) - 1) // 2
        assert sum(value > median for value in known) <= len(known) // 2
