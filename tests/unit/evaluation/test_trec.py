"""The TREC files: names survive, the order is the pool's, and other programs find our figures in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.evaluation.trec import escaped, strictly_descending
from retrieval_core.files import tables
from tests.trec_eval import NAMES, trec_eval
from tests.unit.trec_files import KS, write_trec_files

SIMILARITIES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40)


@given(st.text(max_size=30))
def test_a_name_is_one_word_and_comes_back(name: str) -> None:
    if any(0xD800 <= ord(character) <= 0xDFFF for character in name):
        return  # no path of a pool
    assert escaped(name).split() == ([escaped(name)] if name else [])
    assert unquote(escaped(name)) == name


def test_a_plain_name_stays_as_it_is() -> None:
    assert escaped("element img/3000,a flower 50%.png") == "element%20img/3000,a%20flower%2050%25.png"
    assert escaped("fabrics/été-1.png") == "fabrics/été-1.png"


@given(SIMILARITIES)
def test_scores_fall_and_only_ties_move(values: list[float]) -> None:
    given_K = np.sort(np.array(values, np.float32))[::-1].copy()
    found_K = strictly_descending(given_K)
    expected = [given_K[0]]
    for value in given_K[1:]:  # as one would do it by hand
        expected.append(min(value, np.nextafter(expected[-1], np.float32(-np.inf))))
    assert found_K.tolist() == [float(value) for value in expected]
    assert (found_K[1:] < found_K[:-1]).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trec")


@pytest.fixture(scope="module")
def ours(folder: Path) -> dict[str, Any]:
    return write_trec_files(folder, folder)


def test_the_run_is_the_pool(folder: Path, ours: dict[str, Any]) -> None:
    rows = [line.split() for line in (folder / "run.trec").read_text().splitlines()]
    table = tables.read_table(str(folder / "candidate_pool.parquet")).to_pylist()
    assert [(unquote(row[0]), unquote(row[2]), int(row[3])) for row in rows] == [
        (row["query_path"], row["image_path"], row["rank"]) for row in table
    ]
    assert {(row[1], row[5]) for row in rows} == {("Q0", "trial")}
    np.testing.assert_allclose([float(row[4]) for row in rows], [row["similarity"] for row in table], atol=3e-6)


def test_trec_eval_finds_our_figures(folder: Path, ours: dict[str, Any]) -> None:
    """Ties, names with spaces and a rejected query change nothing."""
    found = trec_eval(folder, KS)
    for metric, name in NAMES.items():
        for k in KS:
            assert found[f"{metric}_{k}"] == pytest.approx(ours[f"{name}@{k}"], abs=1e-6), (metric, k)


def test_only_relevant_fabrics_are_judged(folder: Path, ours: dict[str, Any]) -> None:
    rows = [line.split() for line in (folder / "qrels.trec").read_text().splitlines()]
    assert len({(row[0], row[2]) for row in rows}) == len(rows)
    assert {(row[1], row[3]) for row in rows} == {("0", "1")}
    assert len({row[0] for row in rows}) == ours["queries"] == 35
