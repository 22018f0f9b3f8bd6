"""The whole workflow on a small catalogue: what it leaves, what it skips, and what a change costs."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ray_jobs.__main__ import main
from ray_jobs.pipeline import run_workflow
from ray_jobs.run import Run
from retrieval_core.config.sections import ImagesConfig
from retrieval_core.encoding.arms import model_arm
from retrieval_core.images.regions import cut_views
from retrieval_core.images.rgb import ImageRejected, read_image
from tests.jobs.small_data import as_options, config, fabric_path, query_paths, settings, write_catalogue, write_png
from tests.trec_eval import NAMES, trec_eval

BASELINES = ["random", "histogram", "frozen"]
FABRICS, QUERIES = 12, 5
BOXES = [[0, 0, 32, 32], *([x, y, x + 18, y + 18] for y in (0, 14) for x in (0, 14))]
KEYS: dict[str, Any] = {"embed__regions": [1, 2], "embed__shard_size": 4 * len(BOXES)}
"""Each fabric as a whole and as 2 x 2 tiles that overlap by a quarter."""


def stored(folder: Path) -> pa.Table:
    """All rows of a store, as any reader that globs sees them."""
    return ds.dataset(sorted(map(str, folder.glob("*.parquet")))).to_table()


class Finished(NamedTuple):
    """A run that ended, and what it was given."""

    root: Path
    weights: Path
    out: Path

    @property
    def folder(self) -> Path:
        return self.out / "trial"

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())

    def again(self, *, only_rejected: bool = False, **keys: Any) -> None:
        """Run the workflow, as the first time unless ``keys`` say otherwise."""
        run_workflow(Run(config(*self, **{**KEYS, **keys}), only_rejected=only_rejected))


def spoil(root: Path) -> None:
    """Fabric 7 is damaged inside, fabric 11 is a copy of fabric 3, query 2 is not there and query 0 is listed twice."""
    damaged = fabric_path(root, 7)
    content = damaged.read_bytes()
    damaged.write_bytes(content[:50] + bytes(20) + content[70:])
    shutil.copy(fabric_path(root, 3), fabric_path(root, 11))
    lines = (root / "test.txt").read_text().splitlines()
    (root / query_paths(root)[2]).unlink()
    (root / "test.txt").write_text("\n".join([*lines, lines[0]]) + "\n")


@pytest.fixture(scope="module")
def finished(ray_cluster: None, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """A run over a slightly damaged catalogue, with all baselines. Tests leave it as it is, but for the last ones."""
    place = tmp_path_factory.mktemp("workflow")
    root = write_catalogue(place / "data", fabrics=FABRICS, queries=QUERIES)
    spoil(root)
    run = Finished(root, weights, place / "out")
    run.again(evaluate__baselines=BASELINES)
    return run


def test_json_pool_has_a_list_for_every_line_of_the_query_list(finished: Finished) -> None:
    pool = finished.json("first_retrieval_results.json")
    assert list(pool) == query_paths(finished.root)[:QUERIES]
    lost = query_paths(finished.root)[2]
    assert pool[lost] == []
    for query, candidates in pool.items():
        if query == lost:
            continue
        assert len(candidates) == FABRICS - 1
        scores = [candidate["similarity"] for candidate in candidates]
        assert scores == sorted(scores, reverse=True)
        for candidate in candidates:
            assert set(candidate) == {"image_path", "similarity"}
            with Image.open(candidate["image_path"]) as image:
                image.load()


def test_parquet_pool_equals_the_json(finished: Finished) -> None:
    table = pq.read_table(finished.folder / "candidate_pool.parquet")
    assert table.column_names == ["query_path", "image_path", "similarity", "rank", "box"]
    rows = table.to_pylist()
    found = {
        query: [{"image_path": row["image_path"], "similarity": row["similarity"]} for row in group]
        for query, group in groupby(rows, key=lambda row: row["query_path"])
    }
    pool = finished.json("first_retrieval_results.json")
    assert found == {query: candidates for query, candidates in pool.items() if candidates}
    for _, group in groupby(rows, key=lambda row: row["query_path"]):
        assert [row["rank"] for row in group] == list(range(1, FABRICS))


def test_equal_images_are_ordered_by_path(finished: Finished) -> None:
    for candidates in finished.json("first_retrieval_results.json").values():
        names = [Path(candidate["image_path"]).stem for candidate in candidates]
        if names:
            assert names.index("f0011") == names.index("f0003") + 1


def test_latest_pool_lies_in_the_output_folder(finished: Finished) -> None:
    latest = finished.out / "first_retrieval_results.json"
    assert latest.read_bytes() == (finished.folder / "first_retrieval_results.json").read_bytes()


def test_inputs_are_embedded_or_rejected_with_a_reason(finished: Finished) -> None:
    counts = finished.json("run.json")["counts"]
    assert counts == {
        "gallery": {"inputs": FABRICS, "embedded": FABRICS - 1, "rejected": 1, "reused": 0},
        "queries": {"inputs": QUERIES, "embedded": QUERIES - 1, "rejected": 1, "reused": 0},
    }
    rejects = pq.read_table(finished.folder / "rejects.parquet").to_pylist()
    assert {(Path(row["path"]).name, row["role"], row["stage"], row["reason"]) for row in rejects} == {
        ("f0007.png", "gallery", "embed", "corrupt"),
        ("3002,motif.png", "query", "embed", "missing"),
    }
    assert all(row["detail"] for row in rejects)


def test_metrics_of_all_arms(finished: Finished) -> None:
    metrics = finished.json("metrics.json")
    assert set(metrics) == set(BASELINES)
    for values in metrics.values():
        assert values["queries"] == QUERIES
        names = {f"{name}@{k}" for name in ("recall", "mAP", "mAP_trec", "precision", "f1") for k in (1, 5)}
        assert names <= set(values)
        assert all(0 <= values[name] <= 1 for name in names)
        assert "left_out" in values
    with (finished.folder / "per_query.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == [arm for arm in BASELINES for _ in range(QUERIES)]
    with (finished.folder / "recall_by_depth.csv").open(newline="") as file:
        depths = list(csv.DictReader(file))
    # The pool holds the whole gallery, but for the fabric that could not be read.
    assert [row["depth"] for row in depths] == [str(k) for k in range(1, FABRICS)]
    for arm, values in metrics.items():
        assert float(depths[4][arm]) == pytest.approx(values["recall@5"])
        assert float(depths[-1][arm]) == values["depth"]["pool_recall"]
        assert values["depth"]["whole_gallery"]


def test_recall_in_the_metrics_follows_from_the_pool(finished: Finished) -> None:
    held: dict[str, set[str]] = {}
    with (finished.root / "TestAll_index.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for category, fabric in row.items():
                held.setdefault(category, set()).update({fabric} - {""})
    lines = (finished.root / "test.txt").read_text().splitlines()[:QUERIES]
    wanted = {line.partition(".png ")[0] + ".png": line.partition(".png ")[2] for line in lines}
    recalls = []
    for query, candidates in finished.json("first_retrieval_results.json").items():
        # The rejected fabric is relevant too: it is lost, and the figure says so.
        relevant = held[wanted[query]]
        first = {Path(candidate["image_path"]).stem for candidate in candidates[:5]}
        recalls.append(len(first & relevant) / len(relevant))
    assert finished.json("metrics.json")["frozen"]["recall@5"] == pytest.approx(np.mean(recalls), abs=1e-12)


def test_trec_eval_finds_the_figures_of_the_metrics(finished: Finished) -> None:
    """The rejected query counts as 0, the rejected fabric as lost, and equal images keep the pool's order."""
    found, own = trec_eval(finished.folder, [1, 5]), finished.json("metrics.json")["frozen"]
    for metric, name in NAMES.items():
        for k in (1, 5):
            assert found[f"{metric}_{k}"] == pytest.approx(own[f"{name}@{k}"], abs=1e-6), (metric, k)
    assert not (finished.folder / "work" / "qrels").exists()


def test_run_json_says_what_was_run(finished: Finished) -> None:
    run = finished.json("run.json")
    assert {"config", "versions", "seeds", "git_commit", "stages", "counts", "head"} <= set(run)
    assert run["head"] == "none"
    assert run["seeds"] == {"run": 0}
    assert {"python", "torch", "ray", "transformers"} <= set(run["versions"])
    assert run["config"]["embed"]["regions"] == [1, 2]
    assert {"embed.gallery", "embed.queries", "retrieve", "evaluate", "report"} <= set(run["stages"])
    assert all(stage["seconds"] >= 0 for stage in run["stages"].values())
    assert "<html" in (finished.folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("role", "images", "boxes"), [("gallery", FABRICS - 1, BOXES), ("queries", QUERIES - 1, BOXES[:1])]
)
def test_embeddings_are_read_without_our_code(
    finished: Finished, role: str, images: int, boxes: list[list[int]]
) -> None:
    folder = finished.folder / "embeddings" / role
    table = stored(folder)
    assert table.column_names == ["path", "id", "region", "box", "embedding"]
    frame = pd.concat([pd.read_parquet(file) for file in sorted(folder.glob("*.parquet"))])
    assert len(frame) == len(table) == images * len(boxes)
    assert not frame.duplicated(["path", "region"]).any()
    assert frame["region"].tolist() == list(range(len(boxes))) * images
    assert [list(box) for box in frame["box"]] == boxes * images
    vectors = np.stack(frame["embedding"].to_list())
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    manifest = finished.json(f"embeddings/{role}/manifest.json")
    assert sorted(entry["file"] for entry in manifest["shards"]) == sorted(file.name for file in folder.glob("*.parq*"))


def test_pool_is_that_of_each_image_encoded_alone(finished: Finished) -> None:
    """The similarity is the largest over the regions, and the box says where that is."""
    expected = ranked_by_hand(finished)
    rows = pq.read_table(finished.folder / "candidate_pool.parquet").to_pylist()
    assert len(rows) == sum(map(len, expected.values()))
    for row in rows:
        scores = expected[row["query_path"]][row["image_path"]]
        assert row["similarity"] == pytest.approx(max(scores), abs=1e-6)
        assert scores[BOXES.index(row["box"])] == pytest.approx(max(scores), abs=1e-6)
    assert len({tuple(row["box"]) for row in rows}) > 1


def test_search_ranks_the_store_for_a_new_image(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(fabric_path(finished.root, 4))
    assert main(["search", image, "--top", "3", *as_options(settings(*finished, **KEYS))]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == image
    assert shown[1].split() == ["1", "1.0000", image]
    assert len(shown) == 4


def test_second_run_skips_every_stage(finished: Finished) -> None:
    def times() -> dict[str, int]:
        made = (path for path in finished.folder.rglob("*") if path.is_file() and path.suffix in {".parquet", ".html"})
        kept = {str(path): path.stat().st_mtime_ns for path in made if "listing" not in str(path)}
        kept.pop(str(finished.folder / "rejects.parquet"))  # small, and listed again by every run
        return kept

    before, records = times(), finished.json("run.json")["stages"]
    finished.again(evaluate__baselines=BASELINES)
    assert times() == before
    after = finished.json("run.json")
    assert after["stages"] == records
    assert all(counts["reused"] == counts["inputs"] for counts in after["counts"].values())


def ranked_by_hand(run: Finished) -> dict[str, dict[str, list[float]]]:
    """Query -> fabric -> cosine of each region: every view in a batch of its own, none of the jobs involved."""
    arm = model_arm("frozen", config(*run).model, 0)
    encoder = arm.build(1, 0)

    def encode(path: Path, grids: tuple[int, ...]) -> np.ndarray | None:
        try:
            views, _ = cut_views(read_image(str(path), ImagesConfig()), ImagesConfig(), arm.image_size, grids)
        except ImageRejected:
            return None
        return encoder.encode(views)

    fabrics = {str(path): encode(path, (1, 2)) for path in sorted(fabric_path(run.root, 0).parent.iterdir())}
    expected: dict[str, dict[str, list[float]]] = {}
    for name in query_paths(run.root):
        query = encode(run.root / name, (1,))
        searched = {} if query is None else {path: views for path, views in fabrics.items() if views is not None}
        expected[name] = {path: (views @ query[0]).tolist() for path, views in searched.items()}
    return expected


def test_changes_of_the_catalogue_cost_only_themselves(finished: Finished) -> None:
    """Changes the catalogue of the module, and so comes last of those that read it."""
    root = finished.root
    fabric_path(root, 0).unlink()
    fabric_path(root, 5).unlink()
    write_png(fabric_path(root, 2), 77, 2)
    write_png(fabric_path(root, 12), 77, 12)
    before = {path.name: path.read_bytes() for path in (finished.folder / "embeddings" / "queries").glob("*.parquet")}
    finished.again()
    counts = finished.json("run.json")["counts"]
    inputs = FABRICS - 2 + 1
    assert counts["gallery"] == {"inputs": inputs, "embedded": inputs - 1, "rejected": 1, "reused": inputs - 2}
    assert counts["queries"]["reused"] == QUERIES
    after = {path.name: path.read_bytes() for path in (finished.folder / "embeddings" / "queries").glob("*.parquet")}
    assert after == before

    pool, expected = finished.json("first_retrieval_results.json"), ranked_by_hand(finished)
    assert list(pool) == list(expected)
    for query, candidates in pool.items():
        found = {candidate["image_path"]: candidate["similarity"] for candidate in candidates}
        assert found == pytest.approx({path: max(scores) for path, scores in expected[query].items()}, abs=1e-6)


def test_rejected_images_are_tried_again_when_asked(finished: Finished) -> None:
    """A repair that keeps size and time goes unnoticed, as would a failure of the storage that has passed."""
    damaged = fabric_path(finished.root, 7)
    before = damaged.stat()
    write_png(damaged, 2, 2, 7)
    os.utime(damaged, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert damaged.stat().st_size == before.st_size
    finished.again()
    assert finished.json("run.json")["counts"]["gallery"]["rejected"] == 1
    finished.again(only_rejected=True)
    counts = finished.json("run.json")["counts"]["gallery"]
    assert (counts["rejected"], counts["inputs"] - counts["reused"]) == (0, 1)


def test_regions_are_pooled_to_fewer_vectors(finished: Finished) -> None:
    """Another way to embed: all shards are redone, and each fabric has so many rows and a box of one of its regions."""
    finished.again(embed__vectors=3, evaluate__trec=False)
    assert [path.name for path in finished.folder.glob("*.trec")] == []
    table = stored(finished.folder / "embeddings" / "gallery")
    counts = finished.json("run.json")["counts"]["gallery"]
    assert counts["reused"] == 0
    assert table["region"].to_pylist() == [0, 1, 2] * counts["embedded"]
    assert table["box"].to_pylist()[::3] == [BOXES[0]] * counts["embedded"]
    assert all(box in BOXES for box in table["box"].to_pylist())
    vectors = np.stack(table["embedding"].to_numpy()).reshape(counts["embedded"], 3, -1)
    rows = dict(zip(table["path"].to_pylist()[::3], vectors, strict=True))
    queries = stored(finished.folder / "embeddings" / "queries")
    query_rows = dict(zip(queries["path"].to_pylist(), np.stack(queries["embedding"].to_numpy()), strict=True))
    for row in pq.read_table(finished.folder / "candidate_pool.parquet").to_pylist():
        scores = rows[row["image_path"]] @ query_rows[row["query_path"]]
        assert row["similarity"] == pytest.approx(scores.max(), abs=1e-6)
