"""tools/join_datasets.py: one training set from several, in which equal names stay different motifs."""

from __future__ import annotations

import runpy
from pathlib import Path

from retrieval_core.config.config import load_config
from retrieval_core.data.datasets import labelled_split
from retrieval_core.data.motif_boxes import load_motif_boxes
from retrieval_core.simulation.dataset import simulate

TOOL = Path(__file__).parents[2] / "tools" / "join_datasets.py"
SIZES = ["train_motifs=4", "val_motifs=3", "test_motifs=3", "train_fabrics=6", "val_fabrics=4", "test_fabrics=4"]


def test_two_sets_become_one(tmp_path: Path) -> None:
    roots = [str(tmp_path / name) for name in ("first", "second")]
    keys = load_config(None, [f"simulate.{size}" for size in (*SIZES, "fabric_size=48", "query_size=32")]).simulate
    for root in roots:
        simulate(keys, 0, root)  # the same seed: every name is in both
    joined = tmp_path / "joined"
    runpy.run_path(str(TOOL))["main"](joined, roots)
    files = {f"data.{name}={name}.csv" for name in ("train_queries", "train_gallery", "val_queries", "val_gallery")}
    data = load_config(None, ["data.format=manifest", f"data.root={joined}", *files]).data
    for split in ("train", "validation"):
        alone = labelled_split(load_config(None, [f"data.root={roots[0]}"]).data, split)
        both = labelled_split(data, split)
        assert (len(both.queries), len(both.fabrics)) == (2 * len(alone.queries), 2 * len(alone.fabrics))
        assert all(Path(record.location).exists() for record in (*both.queries, *both.fabrics))
        names = {name for record in alone.queries for name in record.categories}
        assert {name for record in both.queries for name in record.categories} == {
            f"{number}: {name}" for number in range(2) for name in names
        }
    boxes = load_motif_boxes(data)
    for fabric in labelled_split(data, "train").fabrics:
        assert {category for category, _ in boxes[fabric.path]} == set(fabric.categories)
