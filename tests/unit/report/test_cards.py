"""Queries as data: which are kept where room is short, whose pictures come first, and that a name ends no script."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.report.cards import CardSheet, script_safe, spread
from retrieval_core.report.data import Fabric, Missed, QueryCard


def card(name: str, *fabrics: str, lost: tuple[str, ...] = ()) -> QueryCard:
    candidates = [Fabric(fabric, f"/{fabric}", 0.5, rank) for rank, fabric in enumerate(fabrics, 1)]
    nearest = [Fabric(fabric, f"/{fabric}", 0.1, 99) for fabric in lost]
    return QueryCard(name, f"/{name}", candidates=candidates, lost=len(lost), nearest_lost=nearest)


def test_motifs_come_first_then_rank_by_rank_then_the_lost() -> None:
    sheet = CardSheet([card("p", "a", "b", lost=("z",)), card("q", "c"), card("r", "b", "d")], 10_000)
    assert sheet.locations() == ["/p", "/q", "/r", "/a", "/c", "/b", "/d", "/z"]


def test_pictures_are_known_by_number() -> None:
    sheet = CardSheet([card("p", "a"), card("q", "p")], 10_000)
    entries = {"/p": (0, 30, 20), "/a": "missing", "/q": (0, 30, 20)}
    table = json.loads(sheet.table(entries))
    shown = json.loads(sheet.json)
    assert [table[one["picture"]] for one in shown] == [[0, 30, 20], [0, 30, 20]]
    assert table[shown[0]["candidates"][0][4]] == "missing"
    assert table[shown[1]["candidates"][0][4]] == [0, 30, 20]


def test_a_rejected_fabric_has_neither_rank_nor_score() -> None:
    lost = QueryCard("q", "/q", lost=1, nearest_lost=[Fabric("torn", "/torn", None, None)])
    assert json.loads(CardSheet([lost], 10_000).json)[0]["nearest"] == [[None, None, None, "torn", 1, None]]


def test_a_card_says_how_far_from_typical_it_is_and_why_it_lost_what_it_lost() -> None:
    precisions = [0.9, 0.25, 0.5, 0.0]
    cards = [
        QueryCard(f"q{number}", "/q", metrics={"recall@9": 1.0, "AP@9": value}, candidates=[Fabric("f", "/f", 0.5, 1)])
        for number, value in enumerate(precisions)
    ]
    rejected = QueryCard("torn", "/torn", metrics={"recall@9": 0.0, "AP@9": 0.0})
    unlabelled = QueryCard("plain", "/plain", lost=1, missed=Missed(2, [("rose", 2)]))
    sheet = CardSheet([*cards, rejected, unlabelled], 10_000)
    shown = json.loads(sheet.json)
    assert sheet.median == 0.25  # of 0, 0, 0.25, 0.5 and 0.9: a rejected query counts, but is not a sight to begin with
    assert [one["untypical"] for one in shown] == [0.65, 0.0, 0.25, 0.25, None, None]
    assert [one["why"] for one in shown] == [""] * 5 + ["Mistaken for rose (2 of 2 wrong candidates)."]


@given(st.integers(1, 60), st.integers(0, 6_000))
def test_what_is_kept_fits_and_is_spread_evenly(count: int, room: int) -> None:
    cards = [card(f"q{number}", *(f"f{place}" for place in range(number % 5))) for number in range(count)]
    sheet = CardSheet(cards, room)
    assert len(sheet.json) <= room + 2
    assert len(json.loads(sheet.json)) == len(sheet.cards)
    used = {one["picture"] for one in json.loads(sheet.json)}
    assert max(used, default=-1) < len(sheet.locations())
    if len(sheet.cards) > 1:
        assert sheet.cards[0] is cards[0]
        assert sheet.cards[-1] is cards[-1]


@given(st.integers(0, 200), st.integers(0, 200))
def test_spread_is_even(count: int, kept: int) -> None:
    rows = spread(count, kept)
    assert len(rows) == len(set(rows)) == min(count, kept)
    assert rows == sorted(rows)
    steps = [after - before for before, after in pairwise(rows)]
    assert max(steps, default=0) - min(steps, default=0) <= 1


@given(st.text())
def test_text_in_a_script_is_text(text: str) -> None:
    written = script_safe(json.dumps([text], ensure_ascii=False))
    assert "<" not in written
    assert json.loads(written) == [text]
