"""kill -9 of driver, workers and raylet during each stage; the same command again ends with the same bytes."""

from __future__ import annotations

import csv
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ray_jobs.__main__ import main
from ray_jobs.pipeline import run_stage
from ray_jobs.run import Run
from retrieval_core.files import storage
from tests.jobs.processes import Processes, identities, wait_until
from tests.jobs.small_data import as_options, config, settings, write_catalogue

FABRICS, QUERIES, TRAINING = 80, 3, 40
SHARD, EPOCHS, BATCH = 2, 2, 2
STEPS_PER_EPOCH = TRAINING // BATCH
MODEL = ("model/config.json", "model/model.safetensors")
POOL = ("first_retrieval_results.json", "candidate_pool.parquet")
KEYS: dict[str, Any] = {
    "train__enabled": True,
    "train__epochs": EPOCHS,
    "train__batch_size": BATCH,
    "train__checkpoint_every": 1,
    "train__loader_threads": 1,
    "embed__shard_size": SHARD,
}
MANY_BLOCKS = {"retrieve__gallery_block": 1}
"""Keys that leave time to kill the ranking; the undisturbed run has one block."""


class Runs(NamedTuple):
    """Two runs on the same data: an undisturbed one, and one that is killed in every stage."""

    root: Path
    weights: Path
    out: Path
    workers: int
    """Training workers of the killed run; 0 trains in the driver."""

    @property
    def undisturbed(self) -> Path:
        return self.out / "undisturbed"

    @property
    def killed(self) -> Path:
        return self.out / "killed"

    @property
    def command(self) -> list[str]:
        """The command that is killed and started again."""
        keys = {**KEYS, **MANY_BLOCKS, "run__name": "killed", "train__num_workers": self.workers}
        return ["run", *as_options(settings(*self[:3], **keys))]


@pytest.fixture(scope="module", params=[0, pytest.param(1, marks=pytest.mark.cluster)])
def runs(
    request: pytest.FixtureRequest, ray_cluster: None, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Runs:
    """The undisturbed run trains in this process, without Ray Train: a worker of its own must give the same bytes."""
    place = tmp_path_factory.mktemp("killed")
    root = write_catalogue(place / "data", fabrics=FABRICS, queries=QUERIES, training=TRAINING)
    found = Runs(root, weights, place / "out", request.param)
    run = Run(config(*found[:3], **KEYS, run__name="undisturbed", train__num_workers=0))
    for stage in ("train", "embed", "retrieve"):
        run_stage(run, stage)
    return found


@contextmanager
def started(runs: Runs, log: Path) -> Iterator[tuple[Callable[[Callable[[], bool]], None], Callable[..., None]]]:
    """Start the command in processes of its own; yields how to wait for it, and how to kill all of it."""
    # Without the logical GPUs of the undisturbed run: all arithmetic is on the CPU anyway.
    with Processes(log, RAY_OVERRIDE_RESOURCES='{"CPU": 2, "GPU": 0}') as processes:
        driver = processes.start_program(runs.command)

        def wait(condition: Callable[[], bool]) -> None:
            wait_until(condition, driver)

        def kill(*workers: str) -> None:
            # At once: while all processes are looked for, a driver that runs would hand out what is left of a stage.
            driver.send_signal(signal.SIGSTOP)
            lines = processes.kill()
            for name in ("-m ray_jobs run", "raylet", *workers):
                assert any(name in line for line in lines), lines

        yield wait, kill


def differing(runs: Runs, names: Iterable[str]) -> list[str]:
    return [name for name in names if (runs.killed / name).read_bytes() != (runs.undisturbed / name).read_bytes()]


def epochs(folder: Path) -> list[dict[str, str]]:
    with (folder / "train_log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def last_step(folder: Path) -> int:
    return max((int(path.name[5:13]) for path in (folder / "checkpoints").glob("step-*.pt")), default=0)


# Each test continues the run that the one before has left; alone, it first does what they would have done.


def test_killed_in_training(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with started(runs, tmp_path / "log") as (wait, kill):
        wait((runs.killed / "work" / "lease.json").exists)
        assert main(runs.command) == 1
        assert "is running in this folder" in capsys.readouterr().err.splitlines()[-1]
        wait(lambda: last_step(runs.killed) > STEPS_PER_EPOCH)
        kill(*["ray::RayTrainWorker"] * runs.workers)
    assert STEPS_PER_EPOCH < last_step(runs.killed) < STEPS_PER_EPOCH * EPOCHS
    assert not (runs.killed / "model" / "config.json").exists()


def test_killed_in_embedding(runs: Runs, tmp_path: Path) -> None:
    before = epochs(runs.killed) if last_step(runs.killed) else []
    store = runs.killed / "embeddings" / "gallery"
    with started(runs, tmp_path / "log") as (wait, kill):
        wait(lambda: len(identities(store)) >= 5)
        kill("ray::MapWorker")
    assert 5 <= len(identities(store)) < FABRICS // SHARD
    assert not (store / "manifest.json").exists()

    # Speeds differ from run to run, so equal rows were kept with the checkpoint, not trained again.
    assert epochs(runs.killed)[: len(before)] == before
    logs = [[{**row, "images_per_second": ""} for row in epochs(folder)] for folder in (runs.killed, runs.undisturbed)]
    assert logs[0] == logs[1]
    assert differing(runs, MODEL) == []


def test_killed_in_retrieval(runs: Runs, tmp_path: Path) -> None:
    store, work = runs.killed / "embeddings" / "gallery", runs.killed / "work" / "retrieval" / "fine_tuned"
    before = identities(store)
    with started(runs, tmp_path / "log") as (wait, kill):
        wait(lambda: len(identities(work)) >= 10)
        kill("ray::")
    assert 10 <= len(identities(work)) < FABRICS
    assert not any((runs.killed / name).exists() for name in POOL)
    after = identities(store)
    assert len(after) == FABRICS // SHARD
    assert before.items() <= after.items()
    assert after.keys() == identities(runs.undisturbed / "embeddings" / "gallery").keys()
    assert differing(runs, [f"embeddings/gallery/{name}" for name in after]) == []


def test_ends_with_the_bytes_of_the_undisturbed_run(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Partial rankings are removed at the end, so they are recorded just before."""
    work = runs.killed / "work" / "retrieval" / "fine_tuned"
    before, after = identities(work), {}
    remove = storage.remove

    def look_then_remove(path: str) -> None:
        if path == str(work):
            after.update(identities(work))
        remove(path)

    monkeypatch.setattr(storage, "remove", look_then_remove)
    assert main(runs.command) == 0
    assert before.items() <= after.items()
    assert len(after) > FABRICS
    assert differing(runs, [*MODEL, *POOL]) == []
    assert not list(runs.killed.rglob("*.tmp"))
