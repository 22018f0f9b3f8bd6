"""Write manifests that name several data sets of the published layout at once, to train one model on all of them.

    .venv/bin/python tools/join_datasets.py OUT SET [SET ...]

OUT gets {train,val}_{queries,gallery}.csv and motif_boxes.csv, for data.format=manifest and data.root=OUT. A category
is prefixed by the number of its set, as equal names in two sets are two motifs. Nothing is copied.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from retrieval_core.config.config import load_config
from retrieval_core.data.datasets import LabelledSplit, labelled_split
from retrieval_core.data.manifests import FABRICS, QUERIES
from retrieval_core.data.motif_boxes import MOTIF_BOXES, load_motif_boxes


def main(out: Path, roots: list[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    splits: tuple[tuple[LabelledSplit, str], ...] = (("train", "train"), ("validation", "val"))
    for split, name in splits:
        sets = [labelled_split(load_config(None, [f"data.root={root}"]).data, split) for root in roots]
        for role, layout, records in (
            ("queries", QUERIES, [found.queries for found in sets]),
            ("gallery", FABRICS, [found.fabrics for found in sets]),
        ):
            with (out / f"{name}_{role}.csv").open("w", newline="") as file:
                table = csv.writer(file)
                table.writerow([layout.path, layout.categories])
                for number, part in enumerate(records):
                    for record in part:
                        categories = (f"{number}: {category}" for category in record.categories)
                        location = str(Path(record.location).absolute())
                        table.writerow([location, (layout.separator or "").join(categories)])
    with (out / MOTIF_BOXES).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image_path", "category", "x0", "y0", "x1", "y1"])
        for number, root in enumerate(roots):
            for path, found in load_motif_boxes(load_config(None, [f"data.root={root}"]).data).items():
                for category, box in found:
                    table.writerow([str((Path(root) / path).absolute()), f"{number}: {category}", *box])


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
