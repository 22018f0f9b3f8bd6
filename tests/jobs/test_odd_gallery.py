"""A folder of every odd image file, embedded by two actors with a published checkpoint.

Nothing is lost, nothing is made up, and the vectors are those of the published network.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch

from ray_jobs.__main__ import main
from retrieval_core.config.sections import ImagesConfig
from retrieval_core.images.regions import cut_views
from retrieval_core.images.rgb import read_image
from retrieval_core.model.embedder import normalise
from tests.jobs.logical_gpus import watch_gpus
from tests.jobs.small_data import as_options, settings
from tests.odd_images import OddImage, write_odd_images
from tests.unit.tiny_weights import PublishedExtractor, save_published, transformers_model

UNLISTED = {"fifo.png", "folder.png", "absent.png", "linked.png"}
"""A pipe, a folder and a file that is not there: a walk over the folder finds no image file under these names."""


class OddRun(NamedTuple):
    """A finished run over the odd images."""

    gallery: Path
    entries: list[OddImage]
    network: PublishedExtractor
    folder: Path
    gpus: list[float]
    """Logical GPUs in use in the course of the run."""


@pytest.fixture(scope="module")
def odd(ray_cluster: None, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> OddRun:
    """``run`` with a published .pth as the model: the weights folder only gives its configuration."""
    place = tmp_path_factory.mktemp("odd")
    gallery = place / "gallery"
    gallery.mkdir()
    entries = write_odd_images(gallery)
    (place / "queries.txt").write_text(f"{gallery}/rgb.png\n{gallery}/cut.png\n{gallery}/grey.jpg\n")
    network = PublishedExtractor(transformers_model()).eval()
    save_published(place / "dinov2_finetuning2_epoch_100.pth", network)
    keys = {
        "data__format": "folder",
        "data__gallery": gallery,
        "data__queries": place / "queries.txt",
        "model__checkpoint": place / "dinov2_finetuning2_epoch_100.pth",
        "embed__shard_size": 32,
        "embed__num_actors": None,
    }
    with watch_gpus() as gpus:
        assert main(["run", *as_options(settings(place, weights, place / "out", **keys))]) == 0
    return OddRun(gallery, entries, network, place / "out" / "trial", gpus)


def test_every_file_is_embedded_or_rejected_with_its_reason(odd: OddRun) -> None:
    table = ds.dataset(sorted(map(str, (odd.folder / "embeddings" / "gallery").glob("*.parquet")))).to_table()
    embedded = [Path(path).relative_to(odd.gallery).as_posix() for path in table.column("path").to_pylist()]
    rows = [row for row in pq.read_table(odd.folder / "rejects.parquet").to_pylist() if row["role"] == "gallery"]
    rejected = {Path(row["path"]).relative_to(odd.gallery).as_posix(): row["reason"] for row in rows}
    listed = [entry for entry in odd.entries if entry.name not in UNLISTED]
    assert len(listed) > 70
    assert sorted(embedded) == sorted(entry.name for entry in listed if entry.expected == "embedded")
    assert rejected == {entry.name: entry.expected for entry in listed if entry.expected != "embedded"}
    assert len(rows) == len(rejected)


def test_counts_add_up(odd: OddRun) -> None:
    run = json.loads((odd.folder / "run.json").read_text())
    listed = [entry for entry in odd.entries if entry.name not in UNLISTED]
    good = sum(entry.expected == "embedded" for entry in listed)
    assert run["counts"] == {
        "gallery": {"inputs": len(listed), "embedded": good, "rejected": len(listed) - good, "reused": 0},
        "queries": {"inputs": 3, "embedded": 2, "rejected": 1, "reused": 0},
    }


def test_the_run_ends_with_what_became_of_the_images(odd: OddRun) -> None:
    counts = json.loads((odd.folder / "run.json").read_text())["counts"]["gallery"]
    (log,) = (odd.folder / "work" / "logs").glob("*-run-*.txt")
    gallery, queries, rejects = (line.partition("fabric_retrieval: ")[2] for line in log.read_text().splitlines()[-3:])
    told = f"gallery: {counts['inputs']} images, {counts['embedded']} embedded, {counts['rejected']} rejected ("
    assert gallery.startswith(told)
    assert queries == f"queries: 3 images, 2 embedded, 1 rejected (1 truncated): {odd.gallery}/cut.png"
    assert rejects == f"{odd.folder / 'rejects.parquet'} lists what was rejected, and why"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the logical GPUs must not be real")
def test_each_actor_had_a_gpu(odd: OddRun) -> None:
    record = json.loads((odd.folder / "run.json").read_text())["stages"]["embed.gallery"]
    assert (record["actors"], max(odd.gpus)) == (2, 2.0)


def test_pool_names_every_embedded_image_once(odd: OddRun) -> None:
    pool = json.loads((odd.folder / "first_retrieval_results.json").read_text())
    listed = [entry for entry in odd.entries if entry.name not in UNLISTED]
    good = sorted(str(odd.gallery / entry.name) for entry in listed if entry.expected == "embedded")
    answers = [[row["image_path"] for row in rows] for rows in pool.values()]
    assert [len(paths) for paths in answers] == [len(good), 0, len(good)]
    assert sorted(answers[0]) == sorted(answers[2]) == good


@torch.inference_mode()
def test_embeddings_are_those_of_the_published_network(odd: OddRun) -> None:
    run = json.loads((odd.folder / "run.json").read_text())
    assert (run["arm"], run["head"]) == ("fine_tuned", "stored")
    rows = (
        ds.dataset(sorted(map(str, (odd.folder / "embeddings" / "gallery").glob("*.parquet")))).to_table().to_pylist()
    )
    views = [cut_views(read_image(row["path"], ImagesConfig()), ImagesConfig(), 28)[0][0] for row in rows]
    expected = odd.network(normalise(torch.from_numpy(np.stack(views)))).numpy()
    np.testing.assert_allclose(np.stack([row["embedding"] for row in rows]), expected, atol=1e-4)
