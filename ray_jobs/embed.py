"""Embedding on Ray Data: decode in CPU tasks, encode in actors, commit shard by shard.

    plan (tasks) -> shards to do -> decode (CPU tasks, uint8) -> encode + commit (actor pool) -> manifest

A shard passes as one row, so its batches never cross into another shard and one file commits it. What travels between
processes is uint8 pixels; vectors go from the actor to storage and nowhere else. The driver holds O(shards).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from ray_jobs.cluster import Resources, run_tasks
from ray_jobs.run import Run
from retrieval_core import storage
from retrieval_core.arms import Arm
from retrieval_core.catalogue import BucketPlan, Shard, plan_bucket, plan_file, read_shard_plan, write_listing
from retrieval_core.config import Config, DataConfig
from retrieval_core.datasets import DataError, Record, iter_gallery, iter_queries, name_problem
from retrieval_core.embeddings import (
    MANIFEST,
    Reject,
    read_manifest,
    shard_summary,
    shrink_shard,
    write_manifest,
    write_shard,
)
from retrieval_core.images import ImageRejected, load_views
from retrieval_core.workspace import Role, RunError, fingerprint

log = logging.getLogger("fabric_retrieval")
PROGRESS_SECONDS = 10.0
FOOTERS_PER_TASK = 64
ROLES: tuple[Role, Role] = ("gallery", "queries")
REJECTS = "rejects.parquet"
REJECTS_SCHEMA = pa.schema([(name, pa.string()) for name in ("path", "role", "stage", "reason", "detail")])


class Views(NamedTuple):
    """How an image becomes views: the same for every image of a store."""

    size: int
    grids: tuple[int, ...]
    overlap: float

    @property
    def each(self) -> int:
        """Views an image."""
        return sum(grid * grid for grid in self.grids)


def views_of(config: Config, arm: Arm, role: Role) -> Views:
    """Queries are one view; fabrics are as many as ``embed.regions`` says."""
    grids = tuple(config.embed.regions) if role == "gallery" else (1,)
    return Views(arm.image_size, grids, config.embed.region_overlap)


def embed(run: Run) -> None:
    """Embed gallery and queries for every arm, then list what was rejected."""
    for arm in run.arms():
        for role in ROLES:
            embed_store(run, arm, role)
    next(run_tasks(_write_rejects, [(run.workspace.path(REJECTS), run.train_rejects(), stores_of(run))]))


def embed_store(run: Run, arm: Arm, role: Role) -> dict[str, Any]:
    """Embed the gallery or the queries of an arm; what is committed is not computed again.

    Returns:
        The stage's record: fingerprint, seconds, counts (inputs, embedded, rejected, reused) and rate.
    """
    config, store = run.config, run.store(arm.name, role)
    views = views_of(config, arm, role)
    encoder = arm.encoder_fingerprint(config.images, list(views.grids), views.overlap, config.embed.storage_dtype)
    if run.overwrite:
        storage.remove(run.plan(arm.name, role))
        storage.remove(store)
    plans = plan(run, arm, role, encoder, views)
    shards = [shard for bucket in plans for shard in bucket.shards]
    marks: dict[str, Any] = {
        "shards": fingerprint([shard.fingerprint for shard in shards]),
        "labels": fingerprint([bucket.labels for bucket in plans]),
        "order": fingerprint([bucket.order for bucket in plans]),
        "buckets": len(plans),
    }

    def action() -> dict[str, Any]:
        done = set(storage.list_names(store))
        facts = _embed_shards(run, arm, role, views, [s for s in shards if s.file_name not in done])
        return {**facts, **marks, "counts": _finish(arm, store, views, shards, done, marks["shards"])}

    name = f"embed.{role}{run.suffix(arm.name)}"
    record = run.workspace.stage(name, marks, [storage.join(store, MANIFEST)], action)
    if record["skipped"]:
        record["counts"]["reused"] = record["counts"]["inputs"]
    run.counts[name] = record["counts"]
    return record


# ---- plan


def plan(run: Run, arm: Arm, role: Role, encoder: str, views: Views) -> list[BucketPlan]:
    """Write the shard plan, the same one as last time but for images that came, changed or went."""
    listing = run.workspace.work("listing", role)
    if role not in run.listed:
        run.listed[role] = next(run_tasks(_list_task, [(run.config.data, role, listing)]))
    images_per_shard = max(1, run.config.embed.shard_size // views.each)
    folders = listing, run.plan(arm.name, role), run.store(arm.name, role)
    calls = (
        (*folders, bucket, images_per_shard, encoder, role, run.only_rejected) for bucket in range(run.listed[role])
    )
    found = dict(run_tasks(_plan_task, calls))
    return [found[bucket] for bucket in range(run.listed[role])]


def _list_task(data: DataConfig, role: Role, folder: str) -> int:
    records: Iterator[Record] = iter_gallery(data) if role == "gallery" else iter_queries(data)
    # As many buckets as before, so that an image meets its own past.
    before = sum(name.startswith("listing-") for name in storage.list_names(folder)) or None
    images, buckets = write_listing(records, folder, 1 if role == "queries" else before)
    if not images:
        raise DataError(f"there are no {role}: data.root = {data.root!r}; see `fabric-retrieval check`")
    return buckets


def _plan_task(
    listing: str,
    folder: str,
    store: str,
    bucket: int,
    images_per_shard: int,
    encoder: str,
    role: Role,
    retry_rejected: bool,
) -> tuple[int, BucketPlan]:
    retry: set[str] = set()
    if retry_rejected:
        names = [name for name in storage.list_names(store) if name.startswith(f"{bucket:05d}-")]
        retry = {reject.path for name in names for reject in shard_summary(storage.join(store, name))[1]}
    table, summary, shrunken = plan_bucket(
        listing,
        folder,
        bucket,
        images_per_shard=images_per_shard,
        encoder=encoder,
        keep_order=role == "queries",
        retry=retry,
    )
    for old_name, (shard, paths) in shrunken.items():
        old = storage.join(store, old_name)
        if storage.exists(old):
            shrink_shard(old, storage.join(store, shard.file_name), paths)
    # Last: a plan that names a shrunken shard must find it made.
    target = plan_file(folder, bucket)
    before = storage.read_table(target) if storage.exists(target) else None
    # The schema's own comparison with metadata would see Parquet's other name for the items of a list.
    if before is None or not before.equals(table) or before.schema.metadata != table.schema.metadata:
        storage.write_table(target, table)
    return bucket, summary


# ---- decode and encode


def _embed_shards(run: Run, arm: Arm, role: Role, views: Views, shards: Sequence[Shard]) -> dict[str, Any]:
    """Run the Ray Data graph over the shards that are not committed."""
    if not shards:
        return {}
    config, total = run.config, sum(shard.images for shard in shards)
    sizing = pool_sizing(run.resources, config.embed.num_actors, len(shards))
    began, images = time.perf_counter(), 0
    rows = [{**shard._asdict(), "file": shard.file_name} for shard in shards]
    graph = (
        ray.data.from_items(rows, override_num_blocks=len(rows))
        .map_batches(
            decode_shard,
            batch_size=1,
            batch_format="pyarrow",
            fn_kwargs={"plan": run.plan(arm.name, role), "views": views, "config": config},
            num_cpus=sizing.decode_cpus,
        )
        .map_batches(
            ShardEncoder,
            batch_size=1,
            batch_format="pyarrow",
            fn_constructor_kwargs={
                "arm": arm,
                "config": config,
                "store": run.store(arm.name, role),
                "threads": sizing.threads,
            },
            compute=ray.data.ActorPoolStrategy(size=sizing.actors),
            num_cpus=sizing.actor_cpus,
            num_gpus=sizing.actor_gpus,
        )
    )
    last = began
    for row in graph.iter_rows():
        images += row["images"]
        if time.perf_counter() - last > PROGRESS_SECONDS:
            last = time.perf_counter()
            rate = images / (last - began)
            log.info("embed %s (%s): %d of %d images, %.1f images/s", role, arm.name, images, total, rate)
    seconds = time.perf_counter() - began
    log.info("embed %s (%s): %d images in %.1f s, %.1f images/s", role, arm.name, images, seconds, images / seconds)
    return {"images_per_second": round(images / seconds, 2), "actors": sizing.actors}


class Sizing(NamedTuple):
    """Shape of the actor pool in Ray's logical resources."""

    actors: int
    actor_cpus: float
    actor_gpus: int
    decode_cpus: float
    threads: int
    """Torch threads of an actor."""


def pool_sizing(resources: Resources, num_actors: int | None, shards: int) -> Sizing:
    """One actor a GPU, or one per two CPUs where there are none; never more than there are shards.

    Actors take at most half of the CPUs, so that decoding always has some; the two take different shares, or Ray Data
    would fuse them into one process.
    """
    gpus = resources.gpus
    wanted = num_actors or (gpus or max(1, int(resources.cpus) // 2))
    actors = max(1, min(wanted, shards))
    if gpus:
        actors = min(actors, gpus)
    share = resources.cpus / 2 / actors
    actor_cpus = min(1.0, share)
    decode_cpus = min(1.0, resources.cpus - actors * actor_cpus)
    if not gpus:
        decode_cpus = min(decode_cpus, actor_cpus * 0.5)
    threads = max(1, int(resources.cpus / (num_actors or wanted)))
    return Sizing(actors, actor_cpus, 1 if gpus else 0, decode_cpus, threads)


def decode_shard(batch: pa.Table, plan: str, views: Views, config: Config) -> pa.Table:
    """Decode the images of one shard into views.

    An image that cannot be used keeps its slot in the plan and gets a row in the rejects; it has no pixels here.

    Returns:
        The shard's row with ``pixels``: (N * R, S, S, 3) uint8 as one binary value, ``boxes``, the images in it and
        the rejects. Memory O(shard).
    """
    shard = {name: batch.column(name)[0].as_py() for name in batch.column_names}
    rows = read_shard_plan(plan, shard["bucket"], shard["number"]).select(["path", "id", "location"]).to_pylist()
    pixels = np.empty((len(rows) * views.each, views.size, views.size, 3), np.uint8)
    boxes: list[np.ndarray] = []
    images: list[list[str]] = []
    rejects: list[list[str]] = []
    for row in rows:
        problem = name_problem(Record(row["path"], row["location"]))
        if problem is not None:
            rejects.append([row["path"], "unnameable", problem])
            continue
        try:
            found, where = load_views(row["location"], config.images, views.size, views.grids, views.overlap)
        except ImageRejected as rejected:
            rejects.append([row["path"], rejected.reason, rejected.detail])
            continue
        start = len(images) * views.each
        pixels[start : start + views.each] = found
        boxes.append(where)
        images.append([row["path"], row["id"]])
    pixels = pixels[: len(images) * views.each]
    return pa.table(
        {
            "file": [shard["file"]],
            "images": pa.array([len(rows)], pa.int64()),
            "side": pa.array([views.size], pa.int32()),
            "regions": pa.array([views.each], pa.int32()),
            "pixels": _one_binary(pixels),
            "boxes": _one_binary(np.array(boxes, np.int32)),
            "embedded": pa.array([images], pa.list_(pa.list_(pa.string()))),
            "rejected": pa.array([rejects], pa.list_(pa.list_(pa.string()))),
        }
    )


def _one_binary(array: np.ndarray) -> pa.Array:
    """An array as a single binary value without a copy."""
    offsets = np.array([0, array.nbytes], np.int64)
    return pa.Array.from_buffers(
        pa.large_binary(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(array))]
    )


class ShardEncoder:
    """The embedding actor: one model, shard after shard, each committed by this actor."""

    def __init__(self, arm: Arm, config: Config, store: str, threads: int) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        torch.set_num_threads(threads)
        self.encoder = arm.build(config.embed.batch_size, config.run.seed)
        self.config, self.store = config, store

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Encode and commit one shard; returns its name and number of images."""
        row = batch.slice(0, 1)
        side, regions = row.column("side")[0].as_py(), row.column("regions")[0].as_py()
        pixels = _array(row.column("pixels"), np.uint8).reshape(-1, side, side, 3)
        boxes = _array(row.column("boxes"), np.int32).reshape(-1, regions, 4)
        images = [(path, name) for path, name in row.column("embedded")[0].as_py()]
        rejects = [Reject(*reject) for reject in row.column("rejected")[0].as_py()]
        embeddings = self.encoder.encode(pixels) if len(pixels) else np.zeros((0, self.encoder.dim), np.float32)
        file = row.column("file")[0].as_py()
        write_shard(storage.join(self.store, file), images, boxes, embeddings, rejects, self.config.embed.storage_dtype)
        return pa.table({"file": [file], "images": pa.array([len(images) + len(rejects)], pa.int64())})


def _array(column: pa.ChunkedArray, dtype: type) -> np.ndarray:
    buffer = column.chunk(0)[0].as_buffer()
    return np.frombuffer(buffer, dtype=dtype)


# ---- finish


def _summary_task(store: str, names: list[str]) -> dict[str, tuple[int, int]]:
    summaries = {name: shard_summary(storage.join(store, name)) for name in names}
    return {name: (rows, len(rejects)) for name, (rows, rejects) in summaries.items()}


def _finish(arm: Arm, store: str, views: Views, shards: Sequence[Shard], done: set[str], mark: str) -> dict[str, int]:
    """Check that no image was lost, write the manifest, clear what is stale, and count."""
    names = [shard.file_name for shard in shards]
    calls = ((store, names[start : start + FOOTERS_PER_TASK]) for start in range(0, len(names), FOOTERS_PER_TASK))
    found = {name: summary for part in run_tasks(_summary_task, calls) for name, summary in part.items()}
    entries, counts = [], {"inputs": 0, "embedded": 0, "rejected": 0, "reused": 0}
    for shard in shards:
        rows, rejected = found[shard.file_name]
        if rows != (shard.images - rejected) * views.each:
            raise RunError(f"{storage.join(store, shard.file_name)}: {rows} rows for {shard.images} images; delete it")
        entries.append({"file": shard.file_name, "images": shard.images, "rows": rows, "rejected": rejected})
        counts["inputs"] += shard.images
        counts["embedded"] += shard.images - rejected
        counts["rejected"] += rejected
        counts["reused"] += shard.images if shard.file_name in done else 0
    facts = {"arm": arm.name, "image_size": arm.image_size, "regions": views.each, "weights": arm.weights}
    write_manifest(store, mark, entries, facts)
    return counts


def rejects_of(store: str) -> Iterator[Reject]:
    """All rejects of a finished store, shard by shard."""
    for entry in read_manifest(store)["shards"]:
        if entry["rejected"]:
            yield from shard_summary(storage.join(store, entry["file"]))[1]


def stores_of(run: Run) -> dict[str, str]:
    """Role -> store of the run's own arm."""
    return {role: run.store(run.main, role) for role in ROLES}


def _write_rejects(path: str, train: list[list[str]], stores: dict[str, str]) -> None:
    """Write rejects.parquet, streamed: path, role, stage, reason, detail."""
    with storage.atomic_write(path) as file, pq.ParquetWriter(file, REJECTS_SCHEMA) as writer:

        def write(role: str, stage: str, rows: Iterable[Sequence[str]]) -> None:
            values = [{"path": r[0], "role": role, "stage": stage, "reason": r[1], "detail": r[2]} for r in rows]
            writer.write_table(pa.Table.from_pylist(values, schema=REJECTS_SCHEMA))

        write("train", "train", train)
        for role, store in stores.items():
            rejects = rejects_of(store)
            while rows := list(islice(rejects, 10_000)):
                write("gallery" if role == "gallery" else "query", "embed", rows)
