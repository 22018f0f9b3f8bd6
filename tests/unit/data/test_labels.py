"""Categories that may not meet are told with what to write; those that are only different are left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.data.labels import advice, looks_like_a_list, looks_like_nothing, names_in, odd_labels, resembling

NAMES = st.sampled_from(["rose", "Rose", "bear", "polar bear", "1", "01", "1.0", "rose,bear", "rose;bear", "['rose']"])


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        ("rose", "Rose"),
        ("rose", " rose"),
        ("wild rose", "wild_rose"),
        ("wild rose", "Wild-Rose"),
        ("wild rose", "wild  rose"),
        ("caf\u00e9", "cafe\u0301"),
        ("rose", "'rose'"),
        ("rose", "['rose']"),
        ("1", "1.0"),
        ("1.0", "1"),
        ("1", "01"),
        ("007", "7"),
        ("1", "1,0"),
        ("1", "1."),
        ("1.5", "1,50"),
        ("-1", "-01"),
        ("+2", "2"),
        ("0", "00.0"),
        ("7" * 5000, "7" * 5000 + ".0"),
        ("rose", "ro\u200bse"),
        ("wild rose", "wild\u00a0rose "),
        ("rose", "\uff52ose"),
    ],
)
def test_one_category_in_two_forms(asked: str, held: str) -> None:
    assert resembling([asked], [held]) == {asked: held}
    assert advice({asked: held}, []) == [f"queries say {asked!r}, fabrics {held!r}: write them alike"]


@pytest.mark.parametrize(
    "held",
    [
        *(
            "rose,bear",
            "rose, bear",
            "rose|bear",
            "rose/bear",
            "rose\tbear",
            "bear + rose",
            "rose & bear",
            "rose\\bear",
        ),
        *(
            "rose\nbear",
            "Rose|Bear",
            "['rose', 'bear']",
            '["rose","bear"]',
            "('rose', 'bear')",
            "{rose,bear}",
            "rose bear",
        ),
    ],
)
def test_several_categories_in_one(held: str) -> None:
    assert resembling(["rose", "bear", "tree"], [held]) == {"bear": held, "rose": held}
    several = f"{held!r} of the fabrics looks like several, one of them 'rose': write ; between them"
    assert advice({"rose": held}, []) == [several]
    assert advice({"rose": held}, ["rose"]) == [several]  # some fabrics are found, these are not


@pytest.mark.parametrize("asked", ["rose;bear", "rose, bear", "rose|bear"])
def test_a_query_of_several_categories(asked: str) -> None:
    assert resembling([asked], ["rose"]) == {asked: "rose"}
    assert advice({asked: "rose"}, []) == [
        f"{asked!r} of the queries looks like several, one of them 'rose': a query has one category"
    ]
    assert advice({asked: "rose"}, [asked]) == []


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        ("rose", "bear"),
        ("rose", "roses"),
        ("bear", "polar bear"),
        ("rose", "rosemary, sage"),
        ("1", "10"),
        ("1.5", "1"),
        ("1", "1.05"),
        ("motif 1", "motif 2"),
        ("-1", "1"),
    ],
)
def test_what_is_only_different(asked: str, held: str) -> None:
    assert resembling([asked], [held]) == {}


@given(st.lists(NAMES, unique=True), st.lists(NAMES, unique=True), st.integers(1, 3))
def test_buckets_together_tell_what_the_whole_tells(asked: list[str], held: list[str], buckets: int) -> None:
    found: dict[str, str] = {}
    for bucket in range(buckets):
        for name, other in resembling(asked, held[bucket::buckets]).items():
            found[name] = min(other, found.get(name, other))
    assert found == resembling(asked, held)


@pytest.mark.parametrize(
    ("category", "nothing", "is_list", "names"),
    [
        ("nan", True, False, ["nan"]),
        ("NaN", True, False, ["NaN"]),
        ("None", True, False, ["None"]),
        ("NULL", True, False, ["NULL"]),
        ("N/A", True, False, ["N", "A"]),
        ("<NA>", True, False, ["<NA>"]),
        ("-", True, False, ["-"]),
        ("[]", True, True, []),
        ("()", True, True, []),
        ("['rose']", False, True, ["rose"]),
        ('["rose", "bear"]', False, True, ["rose", "bear"]),
        ("[rose]", False, True, ["rose"]),
        ("('rose',)", False, True, ["rose"]),
        ("(1, 2)", False, True, ["1", "2"]),
        ("{rose,bear}", False, True, ["rose", "bear"]),
        ("{'rose': 1}", False, True, ["rose': 1"]),
        ("array(['rose'], dtype=object)", False, True, ["array(['rose", "dtype=object"]),
        ("rose", False, False, ["rose"]),
        ("rose (red)", False, False, ["rose (red"]),
        ("(rose)", False, False, ["rose"]),
        ("[new] rose", False, False, ["new] rose"]),
        ("nanna", False, False, ["nanna"]),
        ("", False, False, []),
    ],
)
def test_nothing_and_lists(category: str, nothing: bool, is_list: bool, names: list[str]) -> None:
    assert (looks_like_nothing(category), looks_like_a_list(category)) == (nothing, is_list)
    assert names_in(category) == names


def test_odd_labels_of_a_data_set() -> None:
    asked, held = {"rose", "nan", "Bear"}, {"rose", "['rose']", "bear", "tree"}
    assert list(odd_labels(asked, held)) == [
        ("category-like-list", "\"['rose']\""),
        ("category-like-nothing", "'nan'"),
        ("category-spelling", "queries say 'Bear', fabrics 'bear': write them alike"),
        ("category-spelling", "queries say 'rose', fabrics \"['rose']\": write them alike"),
    ]
    assert list(odd_labels({"rose", "tree"}, {"rose", "bear"})) == []
