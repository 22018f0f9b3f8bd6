"""The outputs of a run against those of the calm run: bytes, rows lost and doubled, work redone."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from benchmarks.faults_plan import CHECKPOINT_EVERY
from retrieval_core.config.sections import ROLES

EVALUATION = (
    "metrics.json",
    "per_query.csv",
    "recall_by_depth.csv",
    "precision_by_depth.csv",
    "run.trec",
    "qrels.trec",
)
FILES: dict[str, tuple[str, ...]] = {
    "train": ("model/config.json", "model/model.safetensors"),
    "embed": ("embeddings/gallery/*", "embeddings/queries/*", "embeddings/windows/*/*", "rejects.parquet"),
    "retrieve": ("first_retrieval_results.json", "candidate_pool.parquet", "embeddings/expanded/*"),
    "evaluate": EVALUATION,
    "report": ("report.html",),
}
"""Patterns of the files whose bytes are compared; of a store every file, as a reader sees it."""
Rows = Mapping[Hashable, list[Any]]
"""Contents of the rows by their key; a key with two contents is doubled."""


class Compared(NamedTuple):
    """Differences from the calm run."""

    differing: list[str]
    lost: int
    doubled: int


def compare(stage: str, reference: Path, found: Path) -> Compared:
    """Compare what a stage left, file by file and row by row."""
    expected, there = contents(stage, reference), contents(stage, found)
    differing = sorted(name for name in expected.keys() | there.keys() if expected.get(name) != there.get(name))
    wanted, got = rows_of(stage, reference), rows_of(stage, found)
    differing += [f"row {key}" for key in wanted if key in got and got[key] != wanted[key]]
    return Compared(differing, *lost_and_doubled(wanted, got))


def compare_changed(calm: Path, calm_after: Path, found: Path, victim: str) -> Compared:
    """Compare a store in which one picture changed: its row with a calm run over changed pictures, all others with
    the calm run. Files cannot be compared: the names of shards depend on the time of the change."""
    wanted = dict(rows_of("embed", calm))
    wanted |= {key: rows for key, rows in rows_of("embed", calm_after).items() if key[1] == victim}  # type: ignore[index]
    got = rows_of("embed", found)
    return Compared([f"row {key}" for key in wanted if got.get(key) != wanted[key]], *lost_and_doubled(wanted, got))


def lost_and_doubled(wanted: Rows, got: Rows) -> tuple[int, int]:
    """Numbers of rows that are missing, and of rows that occur too often or do not belong there."""
    lost = sum(max(0, len(rows) - len(got.get(key, []))) for key, rows in wanted.items())
    doubled = sum(max(0, len(rows) - len(wanted.get(key, []))) for key, rows in got.items())
    return lost, doubled


def contents(stage: str, folder: Path) -> dict[str, bytes]:
    """Bytes of the files of a stage, by their place in the folder."""
    files = [path for pattern in FILES[stage] for path in folder.glob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def rows_of(stage: str, folder: Path) -> Rows:
    """Rows of a stage's table by key: (role, path, region) of vectors, (query, fabric) of candidates, and so on."""
    rows: dict[Hashable, list[Any]] = defaultdict(list)
    for key, row in _rows(stage, folder):
        rows[key].append(row)
    return rows


def _rows(stage: str, folder: Path) -> Iterable[tuple[Hashable, Any]]:
    if stage == "train" and (folder / "train_log.csv").exists():
        for row in csv.DictReader(io.StringIO((folder / "train_log.csv").read_text())):
            row.pop("images_per_second")  # how quick it was is no result
            yield row["epoch"], row
    if stage == "embed":
        stores = [file for role in ROLES for file in folder.glob(f"embeddings/{role}/*.parquet")]
        for file in stores:
            for row in pq.ParquetFile(file).read().to_pylist():
                yield (file.parent.name, row["path"], row["region"]), row
    if stage == "retrieve" and (folder / "candidate_pool.parquet").exists():
        for row in pq.ParquetFile(folder / "candidate_pool.parquet").read().to_pylist():
            yield (row["query_path"], row["image_path"]), row
    if stage == "evaluate" and (folder / "per_query.csv").exists():
        for row in csv.DictReader(io.StringIO((folder / "per_query.csv").read_text())):
            yield (row["arm"], row["query_path"]), row


def max_redone(stage: str, events: list[dict[str, Any]], excused: Iterable[str] = ()) -> int:
    """The most work of one process that was begun again, in shards, blocks or checkpoint intervals.

    Args:
        stage: that was attacked.
        events: of the attacked command and of the next one, in order.
        excused: work that the fault itself destroyed after it was committed.
    """
    begun: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in events:
        if event["kind"] not in {"commit", "decode"} and event["unit"] not in set(excused):
            begun[event["kind"], event["unit"]].append(event["pid"])
    again = Counter(pid for pids in begun.values() for pid in pids[:-1])
    most = max(again.values(), default=0)
    return math.ceil(most / CHECKPOINT_EVERY) if stage == "train" else most
