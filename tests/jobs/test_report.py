"""The report of a run whose pool is short: what it lost stands there with the rank that a whole ranking gives it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ray_jobs.pipeline import run_workflow
from ray_jobs.run import Run
from tests.jobs.small_data import CATEGORIES, SIDE, config, fabric_path, query_paths, write_catalogue

FABRICS, QUERIES, DEPTH, LOST = 14, 4, 3, 4


def cards_of(report: Path) -> list[dict[str, Any]]:
    (text,) = re.findall(r'<script type="application/json" id="cards-data">(.*?)</script>', report.read_text())
    cards: list[dict[str, Any]] = json.loads(text)
    return cards


@pytest.fixture(scope="module")
def runs(ray_cluster: None, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two runs on the same data, ``whole`` and ``short``; fabric 6 cannot be read."""
    place = tmp_path_factory.mktemp("reports")
    root = write_catalogue(place / "data", fabrics=FABRICS, queries=QUERIES)
    fabric_path(root, 6).write_bytes(b"torn")
    # Fabric i holds category i % 3 in a box that covers 1/64 of it when i is even, a quarter when it is odd.
    rows = [
        f"{fabric_path(root, i).relative_to(root)},test motif {i % CATEGORIES},0,0,{side},{side}"
        for i in range(FABRICS)
        if (side := SIDE // (8, 2)[i % 2])
    ]
    (root / "motif_boxes.csv").write_text("image_path,category,x0,y0,x1,y1\n" + "\n".join(rows) + "\n")
    for name, depth in (("whole", 100), ("short", DEPTH)):
        keys: dict[str, Any] = {"run__name": name, "retrieve__top_k": depth, "evaluate__ks": [1, 3]}
        keys |= {"embed__regions": [1, 2], "embed__shard_size": 20}  # four fabrics a shard
        keys |= {"report__queries": 10, "report__candidates": 2, "report__lost": LOST}
        run_workflow(Run(config(root, weights, place / "out", **keys)))
    return place


def test_lost_fabrics_have_the_rank_that_the_whole_pool_gives_them(runs: Path) -> None:
    whole = pq.read_table(runs / "out" / "whole" / "candidate_pool.parquet").to_pylist()
    place = {(row["query_path"], row["image_path"]): row for row in whole}
    cards = cards_of(runs / "out" / "short" / "report.html")
    assert [card["path"] for card in cards] == query_paths(runs / "data")
    torn = str(fabric_path(runs / "data", 6))
    for card in cards:
        held = [i for i in range(FABRICS) if {i % 3, (i + 1) % 3 if i % 3 == 0 else i % 3} & {int(card["title"][-1])}]
        assert card["relevant"] == len(held) == len(card["hits"]) + card["lost"]
        paths = [str(fabric_path(runs / "data", i)) for i in held]
        below = [place[card["path"], path] for path in paths if path != torn]
        expected = sorted((row for row in below if row["rank"] > DEPTH), key=lambda row: row["rank"])
        wanted = [[row["rank"], row["image_path"], row["box"]] for row in expected]
        wanted += [[None, torn, None]] * (torn in paths)
        assert [[rank, path, box] for rank, _, _, path, _, box in card["nearest"]] == wanted[:LOST]
        assert [rank for rank, *_ in card["candidates"]] == [1, 2]
    assert any(card["nearest"] for card in cards)


def test_what_was_missed_is_explained_by_the_pool_the_labels_and_the_boxes(runs: Path) -> None:
    """Fabric i holds category i % 3, in a box, and every third the next one as well, without a box."""
    pool = pq.read_table(runs / "out" / "short" / "candidate_pool.parquet").to_pylist()
    number = {str(fabric_path(runs / "data", i)): i for i in range(FABRICS)}
    explained = [card for card in cards_of(runs / "out" / "short" / "report.html") if card["nearest"]]
    assert explained
    for card in explained:
        wanted = int(card["title"][-1])
        rank, _, _, path, *_ = card["nearest"][0]
        boxed = number[path] % 3 == wanted
        size = f"; one print of the motif covers {(1.6, 25)[number[path] % 2]} % of it" if boxed else ""
        found = [number[row["image_path"]] for row in pool if row["query_path"] == card["path"]]
        held = [{i % 3, (i + 1) % 3} if i % 3 == 0 else {i % 3} for i in found]
        wrong = [names for names in held if wanted not in names]
        counts = sorted((-sum(other in names for names in wrong), other) for other in range(3) if other != wanted)
        names = [(f"test motif {other}", -count) for count, other in counts if count]
        if not wrong:
            mistaken = "Every candidate is right: more fabrics hold the motif than the pool has room for."
        elif len(wrong) == 1:
            mistaken = f"Mistaken for a fabric of {', '.join(name for name, _ in names)}."
        else:
            (first, most), *others = names
            more = "".join(f", {name} ({count})" for name, count in others)
            mistaken = f"Mistaken for {first} ({most} of {len(wrong)} wrong candidates){more}."
        assert card["why"] == f"The nearest missed fabric has rank {rank}{size}. {mistaken}"


def test_a_whole_pool_loses_only_what_was_rejected(runs: Path) -> None:
    cards = cards_of(runs / "out" / "whole" / "report.html")
    assert {card["lost"] for card in cards} <= {0, 1}
    assert {one[3] for card in cards for one in card["nearest"]} == {str(fabric_path(runs / "data", 6))}


def test_recall_by_motif_size_is_in_the_figures_and_on_the_page(runs: Path) -> None:
    folder = runs / "out" / "whole"
    (small, large) = json.loads((folder / "metrics.json").read_text())["frozen"]["motif_sizes"]
    assert (small["from"], small["to"], large["from"], large["to"]) == (0.01, 0.02, 0.1, None)
    # Only the first category of a fabric has a box, and fabric 6 has no size, as it was not read.
    asked = [i % CATEGORIES for i in range(QUERIES)]
    sizes = [(i % CATEGORIES, i % 2) for i in range(FABRICS) if i != 6]
    assert small["fabrics"] == sum(sizes.count((category, 0)) for category in asked)
    assert large["fabrics"] == sum(sizes.count((category, 1)) for category in asked)
    text = (folder / "report.html").read_text()
    assert "Recall by the size of the motif" in text
    assert "Mean precision against mean recall" in text
    header, *rows = (folder / "precision_by_depth.csv").read_text().splitlines()
    assert header == "depth,frozen"
    assert len(rows) == FABRICS - 1
