"""Completing a store: check that no image was lost, write the manifest, list the rejects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from ray_jobs.cluster.connect import run_tasks
from ray_jobs.embedding.plan_store import Store
from ray_jobs.embedding.tally import NAMES_SHOWN, Rejected
from retrieval_core.files import storage
from retrieval_core.run.workspace import RunError
from retrieval_core.store.embeddings import Reject, read_manifest, shard_summary, write_manifest
from retrieval_core.store.windows import windows_file, windows_summary

FOOTERS_PER_TASK = 64
REJECTS_PER_WRITE = 10_000
REJECTS = "rejects.parquet"
REJECTS_SCHEMA = pa.schema([(name, pa.string()) for name in ("path", "role", "stage", "reason", "detail")])


def _count_rows(store: str, names: list[str], windows: bool) -> dict[str, tuple[int, int, int]]:
    """Rows, rejects and images with windows of each shard."""
    found = {}
    for name in names:
        file = storage.join(store, name)
        rows, rejects = shard_summary(file)
        found[name] = rows, len(rejects), windows_summary(windows_file(file)) if windows else 0
    return found


def finish(store: Store) -> dict[str, int]:
    """Write the manifest, remove stale shards, count images by what became of them. RunError if one was lost."""
    names = [shard.file_name for shard in store.shards]
    parts = (names[start : start + FOOTERS_PER_TASK] for start in range(0, len(names), FOOTERS_PER_TASK))
    found: dict[str, tuple[int, int, int]] = {}
    for counts_of in run_tasks(_count_rows, ((store.folder, part, store.keeps_windows) for part in parts)):
        found |= counts_of
    entries, counts = [], {"inputs": 0, "embedded": 0, "rejected": 0, "reused": 0}
    for shard in store.shards:
        rows, rejected, windows = found[shard.file_name]
        embedded, file = shard.images - rejected, storage.join(store.folder, shard.file_name)
        if rows != embedded * store.views.rows:
            raise RunError(f"{file}: {rows} rows for {shard.images} images; delete it")
        if store.keeps_windows and windows != embedded:
            raise RunError(f"{windows_file(file)}: windows of {windows} images, not of {embedded}; delete it")
        entries.append({"file": shard.file_name, "images": shard.images, "rows": rows, "rejected": rejected})
        counts["inputs"] += shard.images
        counts["embedded"] += embedded
        counts["rejected"] += rejected
        counts["reused"] += shard.images if shard.file_name in store.done else 0
    arm = store.arm
    facts = {
        "arm": arm.name,
        "image_size": store.views.image_size,
        "views": store.views.per_image,
        "regions": store.views.rows,
        "weights": arm.weights,
        "encoder": store.encoder,
    }
    write_manifest(store.folder, store.inputs["shards"], entries, facts)
    return counts


def rejects_of(store: str) -> Iterator[Reject]:
    """All rejects of a finished store, shard by shard."""
    for entry in read_manifest(store)["shards"]:
        if entry["rejected"]:
            yield from shard_summary(storage.join(store, entry["file"]))[1]


def write_rejects(path: str, train: list[list[str]], stores: dict[str, str]) -> dict[str, Rejected]:
    """Write rejects.parquet, streamed, from (path, reason, detail) of training images and role -> finished store.

    Returns the counts of each store by its role. Memory O(rejects of training + reasons).
    """
    found: dict[str, Rejected] = {}
    with storage.atomic_write(path) as file, pq.ParquetWriter(file, REJECTS_SCHEMA) as writer:

        def write(role: str, stage: str, rows: Iterable[Sequence[str]]) -> None:
            values = [{"path": r[0], "role": role, "stage": stage, "reason": r[1], "detail": r[2]} for r in rows]
            writer.write_table(pa.Table.from_pylist(values, schema=REJECTS_SCHEMA))

        write("train", "train", train)
        for role, store in stores.items():
            reasons: Counter[str] = Counter()
            first: list[str] = []
            rejects = rejects_of(store)
            while rows := list(islice(rejects, REJECTS_PER_WRITE)):
                write("gallery" if role == "gallery" else "query", "embed", rows)
                reasons.update(row.reason for row in rows)
                first += [row.path for row in rows[: NAMES_SHOWN - len(first)]]
            found[role] = Rejected(dict(reasons), first)
    return found
