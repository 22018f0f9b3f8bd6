"""Where motifs are printed on fabrics: ``motif_boxes.csv`` in ``data.root``."""

from __future__ import annotations

from collections.abc import Container

from retrieval_core.config.sections import DataConfig
from retrieval_core.data.manifests import csv_records
from retrieval_core.data.records import DataError, Report, fabric_path, fail, from_root, is_there
from retrieval_core.store.embeddings import Box

MOTIF_BOXES = "motif_boxes.csv"
_COLUMNS = ("image_path", "category", "x0", "y0", "x1", "y1")


def load_motif_boxes(
    data: DataConfig, report: Report = fail, only: Container[str] | None = None
) -> dict[str, list[tuple[str, Box]]]:
    """Read the boxes of motifs: (category, box) by the ``path`` of the fabric's record; empty without the file.

    Given ``only``, boxes of other fabrics are left out. A box may extend beyond its image. Raises DataError if a column
    is missing; ``report`` is told of rows without four whole numbers with x0 < x1 and y0 < y1. Memory O(rows kept).
    """
    path = from_root(data.root, MOTIF_BOXES)
    boxes: dict[str, list[tuple[str, Box]]] = {}
    if not is_there(path):
        return boxes
    for line, cells in csv_records(path, _COLUMNS, report=report):
        image, category, *corners = map(str, cells)
        box = _box(corners)
        if not image or not category or box is None:
            problem = f"line {line}: {','.join(map(str, cells))!r}"
            report(DataError(f"{path}: {problem}; write {','.join(_COLUMNS)} with x0 < x1, y0 < y1"))
            continue
        fabric = fabric_path(data.root, image)
        if only is None or fabric in only:
            boxes.setdefault(fabric, []).append((category, box))
    return boxes


def _box(corners: list[str]) -> Box | None:
    try:
        x0, y0, x1, y1 = map(int, corners)
    except ValueError:
        return None
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None
