"""The configurations that come with the project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from retrieval_core.config.config import load_config

FOLDER = Path(__file__).parents[2] / "ray_jobs" / "configs"
PUBLISHED: dict[str, dict[str, Any]] = {
    "images": {"alpha": "published", "exif": "ignore", "profile": "ignore", "resize": "published"},
    "model": {"image_size": 224, "pooling": "cls", "head": "published", "embedding_dim": 256, "precision": "float32"},
    "train": {
        "loss": "triplet",
        "margin": 0.2,
        "batch_size": 6,
        "epochs": 100,
        "trainable_blocks": 2,
        "learning_rate": 1e-6,
        "head_learning_rate": 1e-5,
        "weight_decay": 1e-4,
        "schedule": "published_cosine",
        "cosine_epochs": 80,
        "min_learning_rate": 1e-7,
        "clip_norm": None,
        "augmentation": "published",
        "crop_start": 1.0,
        "crop_end": 1.0,
        "select": "last",
    },
}


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_configuration_is_valid_and_named_like_its_file(file: Path) -> None:
    assert load_config(file).run.name == file.stem


def test_there_is_one_for_each_data_set() -> None:
    names = {file.stem for file in FOLDER.glob("*.yaml")}
    assert names >= {"demo", "published", "fabrics17k", "fabrics13k", "fabrics_dev"}


def test_published_recipe_is_written_out_in_full() -> None:
    # In the file itself: a changed default must not change what other recipes are compared with.
    written = yaml.safe_load((FOLDER / "published.yaml").read_text())
    assert {section: written[section] for section in PUBLISHED} == PUBLISHED
