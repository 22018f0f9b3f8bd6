"""The text files of a simulated data set, and the record that says what its folder holds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from retrieval_core.config.sections import Split
from retrieval_core.files import storage
from retrieval_core.simulation.plan import DatasetPlan, SplitPlan, fabric_path, queries, query_path

RECORD = "simulation.json"
STARTED = "simulation.started.json"
_DRAWING = 1  # raised when the same seed gives other pictures
_QUERY_LISTS: dict[Split, str] = {"train": "train_sub.txt", "validation": "val_sub.txt", "test": "test.txt"}
_SPLIT_FILES: dict[Split, str] = {
    "train": "Train_split.json",
    "validation": "Validation_split.json",
    "test": "Test_split.json",
}
_TABLES = ("Test_element.csv", "TestAll_index.csv", "motif_boxes.csv")


class BoxRow(NamedTuple):
    """A row of motif_boxes.csv: a printed motif in pixels, x1 and y1 beyond its last pixel."""

    image_path: str
    category: str
    x0: int
    y0: int
    x1: int
    y1: int


def holds(plan: DatasetPlan, folder: str) -> bool:
    """Whether a folder has the whole data set of a plan; writes nothing.

    False for a new or empty folder, and for one that an interrupted run with the same parameters has begun. O(items).

    Raises:
        ValueError: if it holds anything else, naming it and the remedy.
    """
    names = [name for name in storage.list_names(folder) if not (name.startswith(".") and name.endswith(".tmp"))]
    mark = next((name for name in (RECORD, STARTED) if name in names), None)
    if mark is None:
        if names:
            raise ValueError(
                f"{folder}: not empty and not a simulated data set (holds {', '.join(names[:3])}); "
                "name a new folder with simulate.output"
            )
        return False
    found = storage.read_json(storage.join(folder, mark))
    if found != _record(plan):
        raise ValueError(
            f"{folder}: holds a data set simulated with other parameters ({_difference(found, _record(plan))}); "
            f"name a new folder with simulate.output, or delete {folder} to have it drawn again"
        )
    return mark == RECORD and _is_complete(plan, folder)


def claim(plan: DatasetPlan, folder: str) -> None:
    """Leave word of what is being drawn here, so that an interrupted run can be gone on with."""
    if not any(storage.exists(storage.join(folder, mark)) for mark in (RECORD, STARTED)):
        storage.write_json(storage.join(folder, STARTED), _record(plan))


def write_lists(plan: DatasetPlan, folder: str, boxes: Iterable[BoxRow]) -> None:
    """Write query lists, split files, class tables and boxes, and the record ``simulation.json`` last.

    Args:
        plan: what was drawn.
        folder: root of the data set.
        boxes: what ``write_range`` returned for every item, ranges in any order. Memory O(boxes).
    """
    for split in plan.splits:
        lines = [f"{query_path(number, motif)} {motif.name}\n" for number, motif in queries(plan, split)]
        storage.write_bytes(storage.join(folder, _QUERY_LISTS[split.name]), "".join(lines).encode())
        items = json.dumps([_split_item(plan, split, i) for i in range(len(split.fabrics))])
        storage.write_bytes(storage.join(folder, _SPLIT_FILES[split.name]), items.encode())
    test = plan.splits[-1]
    _write_csv(folder, "Test_element.csv", [(f"{number}.png", motif.name) for number, motif in queries(plan, test)])
    members: list[list[int]] = [[] for _ in test.motifs]
    for i, shown in enumerate(test.fabrics):
        for motif in shown:
            members[motif].append(test.first_fabric + i)
    columns = [motif.name for motif in test.motifs]
    _write_csv(folder, "TestAll_index.csv", [columns, *zip_longest(*members, fillvalue="")])
    rows = sorted(boxes, key=lambda row: int(row.image_path.rsplit("/", 1)[1].removesuffix(".png")))
    _write_csv(folder, "motif_boxes.csv", [BoxRow._fields, *rows])
    storage.write_json(storage.join(folder, RECORD), _record(plan))
    storage.remove(storage.join(folder, STARTED))


def _split_item(plan: DatasetPlan, split: SplitPlan, place: int) -> list[Any]:
    """``[n, file name, ids, categories]``; a motif's id is the number of its first query."""
    shown = split.fabrics[place]
    ids = [split.first_query + motif * plan.config.queries_per_motif for motif in shown]
    return [place, str(split.first_fabric + place), *ids, *(split.motifs[motif].name for motif in shown)]


def _write_csv(folder: str, name: str, rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    storage.write_bytes(storage.join(folder, name), text.getvalue().encode())


def _record(plan: DatasetPlan) -> dict[str, Any]:
    config = plan.config.model_dump(mode="json", exclude={"output"})
    return {"drawing": _DRAWING, "seed": plan.seed, "simulate": config}


def _difference(found: Any, wanted: dict[str, Any]) -> str:
    if not isinstance(found, dict) or not isinstance(found.get("simulate"), dict):
        return "its record cannot be read"
    old, new = {**found, **found["simulate"]}, {**wanted, **wanted["simulate"]}
    changed = [key for key in new if key != "simulate" and old.get(key) != new[key]]
    return ", ".join(f"{key} {old.get(key)} instead of {new[key]}" for key in changed) or "an unknown key"


def _is_complete(plan: DatasetPlan, folder: str) -> bool:
    """Whether every file is there; O(items) names."""
    here = {*_QUERY_LISTS.values(), *_SPLIT_FILES.values(), *_TABLES}
    expected = {"": here, "element img": set[str]()}
    for split in plan.splits:
        names = {f"{split.first_fabric + i}.png" for i in range(len(split.fabrics))}
        expected[fabric_path(split.name, 0).rsplit("/", 1)[0]] = names
        expected["element img"] |= {query_path(*query).split("/", 1)[1] for query in queries(plan, split)}
    return all(
        names <= set(storage.list_names(storage.join(folder, sub) if sub else folder))
        for sub, names in expected.items()
    )
