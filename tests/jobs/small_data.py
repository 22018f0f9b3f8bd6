"""A printed-fabric data set of a few dozen 32 px images in the published layout, and configurations for it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retrieval_core.config.config import Config, load_config

SIDE = 32
CATEGORIES = 3
SPLITS = {
    "train": ("train_sub.txt", "Train_split.json"),
    "validation": ("val_sub.txt", "Validation_split.json"),
    "test": ("test.txt", "Test_split.json"),
}


def write_png(path: Path, *seed: int) -> None:
    """Write a coarse pattern that depends on the seed; its tiles differ as much as two pictures do."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.NEAREST).save(path)


def write_catalogue(root: Path, *, fabrics: int = 12, queries: int = 5, training: int = 0) -> Path:
    """Write a data set in the published layout.

    Fabric i of a split holds category ``i % 3`` and, every third, the next one as well; query i looks for ``i % 3``.
    Fabrics are named ``f0000.png``, test queries ``3000,motif.png``; no split shares a category.

    Args:
        root: made if absent.
        fabrics: of the test split.
        queries: of the test split.
        training: fabrics, and as many queries, of the training and of the validation split; 0 leaves both out.
    """
    _write_split(root, "test", 2, fabrics, queries)
    for number, split in enumerate(["train", "validation"] if training else []):
        _write_split(root, split, number, training, training)
    return root


def _write_split(root: Path, split: str, number: int, fabrics: int, queries: int) -> None:
    names = [f"{split} motif {index}" for index in range(CATEGORIES)]
    listing, classes = io.StringIO(), io.StringIO()
    for index in range(queries):
        path = f"element img/{1000 * (number + 1) + index},motif.png"
        write_png(root / path, number, 1, index)
        listing.write(f"{path} {names[index % CATEGORIES]}\n")
        classes.write(f"{1000 * (number + 1) + index}.png,{names[index % CATEGORIES]}\n")
    items = []
    for index in range(fabrics):
        write_png(fabric_path(root, index, split), number, 2, index)
        held = [index % CATEGORIES, *([(index + 1) % CATEGORIES] if index % 3 == 0 else [])]
        items.append([index, f"f{index:04d}", *(f"e{motif}" for motif in held), *(names[motif] for motif in held)])
    query_list, split_file = SPLITS[split]
    (root / query_list).write_text(listing.getvalue())
    (root / split_file).write_text(json.dumps(items))
    if split == "test":
        (root / "Test_element.csv").write_text(classes.getvalue())
        write_index(root, {item[1]: item[2 + (len(item) - 2) // 2 :] for item in items})


def write_index(root: Path, held: Mapping[str, Sequence[str]]) -> None:
    """``TestAll_index.csv``: a column a category, with the ids of the fabrics that hold it."""
    names = sorted({name for categories in held.values() for name in categories})
    columns = [[fabric for fabric, categories in held.items() if name in categories] for name in names]
    with (root / "TestAll_index.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for row in range(max(map(len, columns))):
            writer.writerow([column[row] if row < len(column) else "" for column in columns])


def fabric_path(root: Path, index: int, split: str = "test") -> Path:
    """File of fabric ``index``."""
    return root / "fabrics" / split / "img" / "images" / f"f{index:04d}.png"


def query_paths(root: Path) -> list[str]:
    """The lines of test.txt without their category."""
    return [line.partition(".png ")[0] + ".png" for line in (root / "test.txt").read_text().splitlines()]


def settings(root: Path, weights: Path, out: Path, **keys: Any) -> list[str]:
    """``--set`` values of a small run, without windows, training and baselines; ``embed__shard_size=4`` sets a key."""
    values = {
        "run__name": "trial",
        "run__output_dir": out,
        "data__root": root,
        "model__weights": weights,
        "model__image_size": 28,
        "model__embedding_dim": 16,
        "model__pooling": "cls",
        "train__enabled": False,
        "embed__batch_size": 8,
        "embed__num_actors": 1,
        "embed__shard_size": 4,
        "evaluate__ks": [1, 5],
        "evaluate__baselines": [],
        "evaluate__bootstrap": 10,
        "report__queries": 2,
        "report__candidates": 3,
        "report__thumbnail": 16,
        **keys,
    }
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
    return [f"{key.replace('__', '.')}={_as_text(value)}" for key, value in plain.items()]


def as_options(values: Sequence[str]) -> list[str]:
    """``settings`` as the command line takes them."""
    return [word for value in values for word in ("--set", value)]


def config(root: Path, weights: Path, out: Path, **keys: Any) -> Config:
    """The configuration that ``settings`` describes."""
    return load_config(None, settings(root, weights, out, **keys))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
