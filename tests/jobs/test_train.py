"""The training stage: trainings begun by earlier versions are taken up, and the log says what was measured."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ray_jobs import train_worker
from ray_jobs.train import _inputs
from ray_jobs.train_worker import _epoch_line
from retrieval_core.config.config import load_config
from retrieval_core.files.fingerprint import fingerprint
from retrieval_core.training.checkpoints import CheckpointError

OLD = ["model.pooling=cls", "model.image_size=224", "train.augmentation=published", "images.profile=ignore"]
"""Defaults from before there were windows, and before profiles were read."""


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (OLD, "7fb16a87f64dc16ba9beeb1d21219eaa40e1a0c0689ed028c7bc1896d0cc8938"),
        (
            [*OLD, "train.loss=triplet", "train.crop_start=[0.2, 0.5]", "train.batch_size=32", "run.seed=7"],
            "73b666aa589b469f55175b06a689b20426c2a30b0a52b55821d6f6c5ceaf8c5b",
        ),
    ],
)
def test_a_training_keeps_its_fingerprint_from_version_to_version(keys: list[str], expected: str) -> None:
    """Computed by the version that had train.fixed_views; checkpoints and stage records carry it."""
    assert fingerprint(_inputs(load_config(None, keys), "weights", "data")) == expected


def test_how_a_training_is_computed_does_not_change_it() -> None:
    keys = ["train.num_workers=2", "train.loader_threads=7", "train.checkpoint_every=1", "train.cache_max_gb=1"]
    plain, other = (_inputs(load_config(None, options), "weights", "data") for options in ([], keys))
    assert other == plain
    for key in ("train.epochs=11", "images.profile=ignore"):
        assert _inputs(load_config(None, [key]), "weights", "data") != plain


@pytest.mark.parametrize(
    "key",
    [
        "embed.fabric_size=392",
        "embed.windows=[2, 4]",
        "embed.window_stride=1",
        "embed.vectors=5",
        "model.layer=3",
        "images.query_mask=none",
    ],
)
def test_what_only_windows_use_changes_only_a_training_with_windows(key: str) -> None:
    tiles = [*OLD, "embed.regions=[1, 6]"]
    for base, same in ((["model.pooling=patches"], False), (tiles, True)):
        one, other = (_inputs(load_config(None, [*base, *more]), "weights", "data") for more in ([], [key]))
        assert (fingerprint(one) == fingerprint(other)) == same


ROW = {"epoch": 2.0, "step": 6.0, "loss": 0.25, "images_per_second": 31.04, "k": 3.0, "pool_recall": 0.5, "mAP": 0.125}


def test_an_epoch_has_a_line() -> None:
    expected = "epoch 2: loss 0.2500, validation pool recall@3 0.5000, mAP 0.1250, 31.0 images/s"
    assert _epoch_line(ROW) == expected


def test_before_the_first_step_there_is_no_loss_and_no_rate() -> None:
    row = ROW | {"epoch": 0.0, "step": 0.0, "loss": math.nan, "images_per_second": 0.0}
    assert _epoch_line(row) == "before the first step: validation pool recall@3 0.5000, mAP 0.1250"


def test_a_checkpoint_that_cannot_be_read_ends_every_worker_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcome says it, and not a file: the store that does not let read may not let write."""

    def fit(*_: object) -> None:
        raise CheckpointError("step-4 cannot be read")

    monkeypatch.setattr(train_worker, "_fit", fit)
    keys = load_config(None, [f"run.output_dir={tmp_path}"]).model_dump()
    assert train_worker.train_worker({"config": keys, "attempt": "1"}) == {"error": "step-4 cannot be read"}
    assert not list(tmp_path.rglob("*.json"))
