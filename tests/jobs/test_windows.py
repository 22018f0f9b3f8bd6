"""A run with windows: what it stores of fabrics of any proportions, that its pool is right, and that it goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ray_jobs.__main__ import main
from ray_jobs.lost import lost_fabrics
from ray_jobs.pipeline import run_stage, run_workflow
from ray_jobs.run import Run
from retrieval_core.config.config import Config
from retrieval_core.config.sections import ImagesConfig
from retrieval_core.encoding.arms import model_arm
from retrieval_core.files import storage
from retrieval_core.images.rgb import decode_rgb
from retrieval_core.model.weights import load_model
from retrieval_core.run.workspace import RunError
from retrieval_core.serving.search_index import open_index
from retrieval_core.training.loader import Batch
from retrieval_core.training.loop import Trainer
from tests.jobs.small_data import as_options, config, fabric_path, query_paths, settings, write_catalogue
from tests.jobs.test_torn_files import tear
from tests.unit import plain_windows

FABRICS, QUERIES, VECTORS, SIZE = 7, 4, 3, 84
BASELINES = ["random", "histogram", "frozen"]
TORN, HOLED = 5, 1
SIDES = {1: (96, 32), 2: (32, 96), 3: (44, 33)}
"""Width and height of fabrics that are no squares."""
KEYS: dict[str, Any] = {
    "model__pooling": "patches",
    "embed__fabric_size": SIZE,
    "embed__vectors": VECTORS,
    "train__enabled": True,
    "train__num_workers": 0,
    "train__trainable_blocks": 1,
    "train__batch_size": 2,
    "train__max_steps": 2,
    "train__checkpoint_every": 1,
    "train__select": "last",
}


def rows_of(store: Path) -> list[dict[str, Any]]:
    """All rows of a store, as any reader that globs sees them."""
    found: list[dict[str, Any]] = ds.dataset(sorted(map(str, store.glob("*.parquet")))).to_table().to_pylist()
    return found


class Finished(NamedTuple):
    """A run that ended, and what it was given."""

    root: Path
    weights: Path
    out: Path

    @property
    def folder(self) -> Path:
        return self.out / "trial"

    def config(self, **keys: Any) -> Config:
        return config(*self, **{**KEYS, **keys})

    def rows(self, role: str) -> list[dict[str, Any]]:
        return rows_of(self.store(role))

    def store(self, role: str) -> Path:
        return self.folder / "embeddings" / role

    def pool(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = pq.read_table(self.folder / "candidate_pool.parquet").to_pylist()
        return rows


def spoil(root: Path) -> None:
    """Some fabrics are no squares, one is torn, and the lower right of a query is transparent."""
    for number, sides in SIDES.items():
        with Image.open(fabric_path(root, number)) as image:
            image.resize(sides, Image.Resampling.NEAREST).save(fabric_path(root, number))
    fabric_path(root, TORN).write_bytes(b"torn")
    file = root / query_paths(root)[HOLED]
    with Image.open(file) as image:
        pixels = np.array(image.convert("RGBA"))
    pixels[16:, 16:, 3] = 0
    Image.fromarray(pixels).save(file)


@pytest.fixture(scope="module")
def finished(ray_cluster: None, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Two steps of training, then all stages with all baselines."""
    place = tmp_path_factory.mktemp("windows")
    root = write_catalogue(place / "data", fabrics=FABRICS, queries=QUERIES, training=4)
    spoil(root)
    found = Finished(root, weights, place / "out")
    run_workflow(Run(found.config(evaluate__baselines=BASELINES)))
    return found


def expected(
    run: Finished, weights: Path
) -> tuple[dict[str, np.ndarray], dict[str, tuple[np.ndarray, list[list[int]]]]]:
    """Path -> vector of each query, and vectors and boxes of each fabric, image by image."""
    model = load_model(run.config().model.model_copy(update={"weights": str(weights)}), 0, with_head=False)
    queries, fabrics = {}, {}
    for name in query_paths(run.root):
        picture = decode_rgb((run.root / name).read_bytes(), ImagesConfig())
        assert (picture.alpha is not None) == (name == query_paths(run.root)[HOLED])
        queries[name] = plain_windows.motif(model, picture.rgb, 28, picture.alpha).numpy()
    for number in set(range(FABRICS)) - {TORN}:
        with Image.open(fabric_path(run.root, number)) as image:
            fabrics[str(fabric_path(run.root, number))] = plain_windows.fabric(model, image, SIZE, VECTORS)
    return queries, fabrics


def test_the_store_holds_the_whole_and_clusters_of_windows(finished: Finished) -> None:
    queries, fabrics = expected(finished, finished.folder / "model")
    rows = finished.rows("gallery")
    assert len(rows) == (FABRICS - 1) * VECTORS
    assert [row["region"] for row in rows] == list(range(VECTORS)) * (FABRICS - 1)
    for row in rows:
        vectors, boxes = fabrics[row["path"]]
        np.testing.assert_allclose(row["embedding"], vectors[row["region"]], atol=1e-5)
        assert row["box"] == boxes[row["region"]]
    wholes = {tuple(row["box"]) for row in rows if row["region"] == 0}
    assert wholes == {(0, 0, *sides) for sides in (*SIDES.values(), (32, 32))}
    rows = finished.rows("queries")
    assert [row["region"] for row in rows] == [0] * QUERIES
    for row in rows:
        np.testing.assert_allclose(row["embedding"], queries[row["path"]], atol=1e-5)
        assert row["box"] == [0, 0, 32, 32]
    manifest = json.loads((finished.store("gallery") / "manifest.json").read_text())
    assert (manifest["regions"], manifest["views"], manifest["image_size"]) == (VECTORS, 1, SIZE)


def test_weights_without_a_head_have_windows_and_colours_have_none(finished: Finished) -> None:
    _, fabrics = expected(finished, finished.weights)
    rows = rows_of(finished.folder / "work" / "arms" / "frozen" / "embeddings" / "gallery")
    assert len(rows) == (FABRICS - 1) * VECTORS
    for row in rows:
        np.testing.assert_allclose(row["embedding"], fabrics[row["path"]][0][row["region"]], atol=1e-5)
    rows = rows_of(finished.folder / "work" / "arms" / "histogram" / "embeddings" / "gallery")
    assert [row["region"] for row in rows] == [0] * (FABRICS - 1)


def test_the_hole_of_a_query_counts(finished: Finished) -> None:
    """The comparison above could fail: without its transparency the query has another vector."""
    name = query_paths(finished.root)[HOLED]
    (row,) = [row for row in finished.rows("queries") if row["path"] == name]
    keys = finished.config().model.model_copy(update={"weights": str(finished.folder / "model")})
    picture = decode_rgb((finished.root / name).read_bytes(), ImagesConfig())
    other = plain_windows.motif(load_model(keys, 0, with_head=False), picture.rgb, 28).numpy()
    assert np.abs(np.array(row["embedding"]) - other).max() > 1e-4


def test_the_pool_has_the_best_vector_of_each_fabric_and_its_box(finished: Finished) -> None:
    queries, fabrics = expected(finished, finished.folder / "model")
    rows = finished.pool()
    assert len(rows) == QUERIES * (FABRICS - 1)
    for row in rows:
        vectors, boxes = fabrics[row["image_path"]]
        scores = vectors @ queries[row["query_path"]]
        assert row["similarity"] == pytest.approx(scores.max(), abs=1e-5)
        assert scores[boxes.index(row["box"])] == pytest.approx(scores.max(), abs=1e-5)


def test_all_stages_ended(finished: Finished) -> None:
    run = json.loads((finished.folder / "run.json").read_text())
    assert {"train", "embed.gallery", "embed.queries", "retrieve", "evaluate", "report"} <= set(run["stages"])
    assert run["counts"]["gallery"] == {"inputs": FABRICS, "embedded": FABRICS - 1, "rejected": 1, "reused": 0}
    metrics = json.loads((finished.folder / "metrics.json").read_text())
    assert set(metrics) == {"fine_tuned", *BASELINES}
    assert {values["queries"] for values in metrics.values()} == {QUERIES}
    assert "<html" in (finished.folder / "report.html").read_text()
    head = json.loads((finished.folder / "model" / "config.json").read_text())
    assert (head["projection_head"]["pooling"], head["num_hidden_layers"]) == ("patches", 1)


def test_search_finds_what_the_pool_holds(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    names = query_paths(finished.root)
    options = as_options(settings(*finished, **KEYS))
    assert main(["search", *(str(finished.root / name) for name in names), "--top", "3", *options]) == 0
    shown = capsys.readouterr().out.splitlines()
    for number, name in enumerate(names):
        first = [row for row in finished.pool() if row["query_path"] == name][:3]
        lines = shown[4 * number : 4 * number + 4]
        assert lines[0] == str(finished.root / name)
        for row, line in zip(first, lines[1:], strict=True):
            rank, similarity, path = line.split()
            assert (int(rank), path) == (row["rank"], row["image_path"])
            assert float(similarity) == pytest.approx(row["similarity"], abs=1e-4)
    twice = [str(finished.root / names[0])] * 2
    assert main(["search", *twice, "--top", "3", *options]) == 0
    assert capsys.readouterr().out.splitlines() == 2 * shown[:4]


def test_expanded_queries_rank_the_pool_the_search_and_what_was_lost(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"retrieve__expand": 2, "retrieve__top_k": 3, "run__name": "expanded"}
    folder = finished.out / "expanded"
    shutil.copytree(finished.folder, folder)
    run = Run(finished.config(**keys))
    run_stage(run, "retrieve")
    expanded, plain = (
        {row["path"]: row["embedding"] for row in rows_of(folder / "embeddings" / role)}
        for role in ("expanded", "queries")
    )
    assert expanded.keys() == plain.keys() and all(expanded[name] != plain[name] for name in plain)
    pool = pq.read_table(folder / "candidate_pool.parquet").to_pylist()
    order = {name: naive_order(vector, finished.rows("gallery")) for name, vector in expanded.items()}
    assert [(row["image_path"], row["similarity"]) for row in pool] == [
        (path, pytest.approx(score, abs=1e-6)) for name in query_paths(finished.root) for score, path in order[name][:3]
    ]
    name = query_paths(finished.root)[0]
    found = {name: frozenset(row["image_path"] for row in pool[:3])}
    lost = lost_fabrics(run, {name: frozenset(f"test motif {number}" for number in range(3))}, found, 9)[name]
    assert [(fabric.path, fabric.rank) for fabric in lost if fabric.rank] == [
        (path, rank) for rank, (_, path) in enumerate(order[name], 1) if rank > 3
    ]
    options = as_options(settings(*finished, **{**KEYS, **keys}))
    capsys.readouterr()
    assert main(["search", str(finished.root / name), "--top", "3", *options]) == 0
    shown = [line.split()[2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert shown == [path for _, path in order[name][:3]]
    run_stage(Run(finished.config(**{**keys, "retrieve__expand": 0})), "retrieve")
    assert not (folder / "embeddings" / "expanded").exists()
    assert pq.read_table(folder / "candidate_pool.parquet").to_pylist() == [
        row for row in finished.pool() if row["rank"] <= 3
    ]


def naive_order(query: list[float], rows: list[dict[str, Any]]) -> list[tuple[float, str]]:
    """(similarity, path) of every fabric, best first."""
    best: dict[str, float] = {}
    for row in rows:
        score = float(np.dot(np.array(query, np.float64), np.array(row["embedding"], np.float64)))
        best[row["path"]] = max(score, best.get(row["path"], -1.0))
    return sorted(((score, path) for path, score in best.items()), key=lambda pair: (-pair[0], pair[1].encode()))


def test_a_run_that_was_stopped_ends_with_the_same_bytes(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after the first of two steps; then a shard and what came after it are lost."""
    steps, step = [], Trainer.step

    def one_step(trainer: Trainer, batch: Batch) -> torch.Tensor:
        if steps:
            raise ValueError("stopped")
        steps.append(batch.step)
        return step(trainer, batch)

    keys = {"run__name": "stopped", "run__output_dir": finished.out / "other"}
    folder = finished.out / "other" / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", one_step)
        with pytest.raises(RunError, match="stopped"):
            run_stage(Run(finished.config(**keys)), "train")
    assert not (folder / "model").exists()
    for stage in ("train", "embed"):
        run_stage(Run(finished.config(**keys)), stage)
    store = folder / "embeddings" / "gallery"
    shards = sorted(store.glob("*.parquet"))
    shards[1].unlink()
    (store / "manifest.json").unlink()
    kept = {path: path.stat().st_mtime_ns for path in store.glob("*.parquet")}
    for stage in ("embed", "retrieve"):
        run_stage(Run(finished.config(**keys)), stage)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    names = ["model/config.json", "model/model.safetensors", "first_retrieval_results.json", "candidate_pool.parquet"]
    names += [f"embeddings/gallery/{path.name}" for path in shards]
    assert [name for name in names if (folder / name).read_bytes() != (finished.folder / name).read_bytes()] == []


def naive_second_look(folder: Path, depth: int) -> dict[str, list[tuple[float, str, list[int]]]]:
    """(similarity, path, box) of the first fabrics of each query by all stored windows, best first."""
    windows, motifs = (read_kept(folder / "embeddings" / "windows" / role) for role in ("gallery", "queries"))
    vectors = {row["path"]: row["embedding"] for row in rows_of(folder / "embeddings" / "queries")}
    gallery, found = rows_of(folder / "embeddings" / "gallery"), {}
    for query, motif in motifs.items():
        scored = []
        for _, path in naive_order(vectors[query], gallery)[:depth]:
            cosines = motif[0] @ windows[path][0].T
            score = float(cosines.max(axis=1).mean())
            scored.append((score, path, windows[path][1][int(cosines[0].argmax())]))
        found[query] = sorted(scored, key=lambda entry: (-entry[0], entry[1].encode()))
    return found


def read_kept(folder: Path) -> dict[str, tuple[np.ndarray, list[list[int]]]]:
    """Path -> normalised windows and boxes, as any reader sees them."""
    found: dict[str, tuple[list[np.ndarray], list[list[int]]]] = {}
    for row in rows_of(folder):
        windows, boxes = found.setdefault(row["path"], ([], []))
        window = np.frombuffer(row["window"], np.int8).astype(float)
        windows.append(window / np.linalg.norm(window))
        boxes.append(row["box"])
    return {path: (np.array(windows), boxes) for path, (windows, boxes) in found.items()}


def test_a_second_look_ranks_the_pool_the_search_and_the_page(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"retrieve__rescore": 5, "retrieve__top_k": 3, "run__name": "twice"}
    folder = finished.out / "twice"
    shutil.copytree(finished.folder, folder)
    with pytest.raises(RunError, match="embedded without windows"):
        run_stage(Run(finished.config(**keys)), "retrieve")
    for stage in ("embed", "retrieve"):
        run_stage(Run(finished.config(**keys)), stage)
    shards = sorted((folder / "embeddings" / "gallery").glob("*.parquet"))
    assert [path.read_bytes() for path in shards] == [
        (finished.store("gallery") / path.name).read_bytes() for path in shards
    ]
    for name, (windows, boxes) in read_kept(folder / "embeddings" / "windows" / "gallery").items():
        with Image.open(name) as image:
            model = load_model(Run(finished.config(**keys)).model, 0, with_head=False)
            expected_windows, expected_boxes = plain_windows.windows(model, image, SIZE)
        np.testing.assert_allclose((windows * expected_windows).sum(axis=1), 1, atol=2e-3)
        assert boxes == expected_boxes
    looked = naive_second_look(folder, 5)
    pool = pq.read_table(folder / "candidate_pool.parquet").to_pylist()
    assert [(row["image_path"], row["similarity"], row["box"]) for row in pool] == [
        (path, pytest.approx(score, abs=1e-6), box)
        for name in query_paths(finished.root)
        for score, path, box in looked[name][:3]
    ]
    options = as_options(settings(*finished, **{**KEYS, **keys}))
    name = query_paths(finished.root)[0]
    capsys.readouterr()
    assert main(["search", str(finished.root / name), "--top", "3", *options]) == 0
    shown = [line.split()[2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert shown == [path for _, path, _ in looked[name][:3]]
    run = Run(finished.config(**keys))
    index = open_index(run.store(run.main, "gallery"), model_arm(run.main, run.model, 0), run.config)
    picture = decode_rgb((finished.root / name).read_bytes(), ImagesConfig())
    hits = index.rank(index.encode(picture), 3)
    assert [(hit.path, list(hit.box or ())) for hit in hits] == [(path, box) for _, path, box in looked[name][:3]]
    assert all(around(hit.occurrences[0], hit.box or ()) for hit in hits)


def around(outer: tuple[int, ...], inner: tuple[int, ...]) -> bool:
    return all(outer[axis] <= inner[axis] and outer[axis + 2] >= inner[axis + 2] for axis in (0, 1))


def test_a_shard_without_its_windows_is_embedded_again(finished: Finished) -> None:
    keys = {"embed__keep_windows": True, "run__name": "kept"}
    folder = finished.out / "kept"
    shutil.copytree(finished.folder, folder)
    run_stage(Run(finished.config(**keys)), "embed")
    windows = sorted((folder / "embeddings" / "windows" / "gallery").glob("*.parquet"))
    kept = {path: path.read_bytes() for path in windows}
    tear(windows[0])
    windows[1].unlink()
    untouched = {path: path.stat().st_mtime_ns for path in windows[2:]}
    storage.remove(str(folder / "work" / "stages" / "embed.gallery.json"))
    run_stage(Run(finished.config(**keys)), "embed")
    assert {path: path.read_bytes() for path in windows} == kept
    assert {path: path.stat().st_mtime_ns for path in windows[2:]} == untouched
