"""kill -9 of a node during each stage, nodes that come and go: the run ends with the bytes of an undisturbed one."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from retrieval_core.files import storage
from tests.cluster.nodes import Cluster
from tests.jobs.processes import identities, wait_until
from tests.jobs.small_data import as_options, settings, write_catalogue

pytestmark = pytest.mark.cluster
FABRICS, QUERIES, TRAINING = 96, 3, 40
MODEL = ("model/config.json", "model/model.safetensors")
POOL = ("first_retrieval_results.json", "candidate_pool.parquet")
KEYS: dict[str, Any] = {
    "train__enabled": True,
    "train__epochs": 2,
    "train__batch_size": 2,
    "train__num_workers": 2,
    "train__checkpoint_every": 1,
    "train__loader_threads": 1,
    "embed__shard_size": 2,
    "embed__num_actors": 2,
    "retrieve__gallery_block": 1,
}
TRAINER, ENCODER = "ray::RayTrainWorker", "ray::MapWorker"


class Runs(NamedTuple):
    """What all runs here are given."""

    root: Path
    weights: Path
    out: Path

    def command(self, stage: str, name: str, **keys: Any) -> list[str]:
        return [stage, *as_options(settings(*self, **{**KEYS, "run__name": name, **keys}))]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lost")


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[Cluster]:
    with Cluster(place / "log", nodes=2, cpus=1) as found:
        yield found


@pytest.fixture(scope="module")
def runs(cluster: Cluster, weights: Path, place: Path) -> Runs:
    """Data, and the calm run on the same cluster."""
    root = write_catalogue(place / "data", fabrics=FABRICS, queries=QUERIES, training=TRAINING)
    found = Runs(root, weights, place / "out")
    assert cluster.driver(found.command("run", "calm")).wait(timeout=300) == 0
    return found


@pytest.fixture(scope="module")
def disturbed(cluster: Cluster, runs: Runs) -> subprocess.Popen[bytes]:
    """One run, which loses a node in each stage."""
    return cluster.driver(runs.command("run", "disturbed"))


def lose(cluster: Cluster, worker: str, unfinished: Callable[[], bool]) -> None:
    """Kill a node that runs such a worker, before the stage is done, and start another in its place."""
    lines = cluster.kill(cluster.working(worker)[0])
    for name in ("raylet", worker):
        assert any(name in line for line in lines), lines
    assert unfinished()
    cluster.add()


def differing(runs: Runs, name: str, files: list[str]) -> list[str]:
    calm = runs.out / "calm"
    return [file for file in files if (runs.out / name / file).read_bytes() != (calm / file).read_bytes()]


def shards(runs: Runs, name: str) -> list[str]:
    """The shards of a gallery, whose names must be those of the calm run."""
    folders = [runs.out / run / "embeddings" / "gallery" for run in (name, "calm")]
    found = [sorted(identities(folder)) for folder in folders]
    assert found[0] == found[1]
    return [f"embeddings/gallery/{file}" for file in found[0]]


def last_step(folder: Path) -> int:
    return max((int(path.name[5:13]) for path in (folder / "checkpoints").glob("step-*.pt")), default=0)


# The first three follow one run; alone, each waits until the run gets to its stage.


def test_a_node_is_lost_in_training(cluster: Cluster, runs: Runs, disturbed: subprocess.Popen[bytes]) -> None:
    folder = runs.out / "disturbed"
    wait_until(lambda: last_step(folder) > TRAINING // 2, disturbed)
    assert len(cluster.working(TRAINER)) == 2
    lose(cluster, TRAINER, lambda: last_step(folder) < TRAINING)
    wait_until((folder / "work" / "stages" / "train.json").exists, disturbed)
    assert differing(runs, "disturbed", list(MODEL)) == []
    assert storage.read_json(str(folder / "work" / "stages" / "train.json"))["workers_at_end"] == 2


def test_a_node_is_lost_in_embedding(cluster: Cluster, runs: Runs, disturbed: subprocess.Popen[bytes]) -> None:
    store = runs.out / "disturbed" / "embeddings" / "gallery"
    wait_until(lambda: len(identities(store)) >= 8, disturbed)
    lose(cluster, ENCODER, lambda: len(identities(store)) < FABRICS // 2)
    wait_until((store / "manifest.json").exists, disturbed)
    assert differing(runs, "disturbed", shards(runs, "disturbed")) == []


def test_a_node_is_lost_in_retrieval(cluster: Cluster, runs: Runs, disturbed: subprocess.Popen[bytes]) -> None:
    work = runs.out / "disturbed" / "work" / "retrieval" / "fine_tuned"
    wait_until(lambda: len(identities(work)) >= 5, disturbed)
    pool = runs.out / "disturbed" / POOL[0]
    lose(cluster, "ray::", lambda: not pool.exists())  # between its tasks a worker is called idle
    assert disturbed.wait(timeout=300) == 0
    assert differing(runs, "disturbed", list(POOL)) == []


def test_nodes_come_and_go_in_embedding(cluster: Cluster, runs: Runs) -> None:
    folder = runs.out / "changing"
    store = folder / "embeddings" / "gallery"
    shutil.copytree(runs.out / "calm" / "model", folder / "model")
    driver = cluster.driver(runs.command("embed", "changing"))
    wait_until(lambda: len(identities(store)) >= 4, driver)
    first, second = cluster.nodes
    for node in (first, second):  # so that images are left when the others have come
        node.halt(ENCODER)
    cluster.add(2)
    cluster.kill(first)
    wait_until(lambda: len(identities(store)) >= 12, driver)
    cluster.kill(second)
    assert len(identities(store)) < FABRICS // 2
    assert driver.wait(timeout=300) == 0
    counts = storage.read_json(str(folder / "work" / "stages" / "embed.gallery.json"))["counts"]
    assert counts == {"inputs": FABRICS, "embedded": FABRICS, "rejected": 0, "reused": 0}
    assert differing(runs, "changing", [*shards(runs, "changing"), "embeddings/gallery/manifest.json"]) == []


def test_training_goes_on_with_the_workers_that_are_left(cluster: Cluster, runs: Runs) -> None:
    folder = runs.out / "fewer"
    keys = {"train__min_workers": 1, "train__epochs": 3}
    driver = cluster.driver(runs.command("train", "fewer", **keys))
    wait_until(lambda: last_step(folder) > TRAINING // 2, driver)
    node = cluster.working(TRAINER)[0]
    cluster.kill(node)
    assert driver.wait(timeout=300) == 0
    cluster.add()
    record = storage.read_json(str(folder / "work" / "stages" / "train.json"))
    assert (record["workers"], record["workers_at_end"]) == (2, 1)
    assert record["steps"] == 3 * TRAINING // 2
    assert "with 1 of 2 workers" in cluster.log.read_text(errors="replace")
    with (folder / "train_log.csv").open(newline="") as file:
        assert [int(float(row["epoch"])) for row in csv.DictReader(file)] == [0, 1, 2, 3]
