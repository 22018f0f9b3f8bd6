"""Embedding on Ray Data: decode in CPU tasks, encode in actors, commit shard by shard.

    plan (tasks) -> shards to do -> decode (CPU tasks, uint8) -> encode + commit (actor pool) -> manifest

A shard passes as one row, so its batches never cross into another shard and one file commits it. What travels between
processes is uint8 pixels; vectors go from the actor to storage and nowhere else. All stores of a run pass through one
graph, one after the other, so its actors start once. The driver holds O(shards).
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray

from ray_jobs import metrics
from ray_jobs.actor_pool import pool_sizing
from ray_jobs.cluster import nodes, run_tasks, watch
from ray_jobs.finish_store import REJECTS, finish, stores_of, write_rejects
from ray_jobs.run import Run
from ray_jobs.shard_plan import Store, list_images, plan_store
from retrieval_core import storage
from retrieval_core.arms import Arm
from retrieval_core.catalogue import read_shard_plan
from retrieval_core.config import Config
from retrieval_core.datasets import Record, name_problem
from retrieval_core.embeddings import MANIFEST, Reject, write_shard
from retrieval_core.images import ImageRejected
from retrieval_core.progress import Progress
from retrieval_core.reading import read_ahead
from retrieval_core.workspace import ROLES, RunError

if TYPE_CHECKING:
    from retrieval_core.encoders import Encoder

log = logging.getLogger("fabric_retrieval")
LEAST_ROOM_BYTES = 64 << 20
"""Of the object store, for decoded pixels: what surrounds them counts, too, where they are few."""


def embed(run: Run) -> None:
    """Embed gallery and queries for every arm, then list what was rejected."""
    list_images(run)
    stores = [plan_store(run, arm, role) for arm in run.arms() for role in ROLES]
    graph = Graph(run, stores)
    for store in stores:
        run.counts[stage_name(run, store)] = _embed_store(run, graph, store)["counts"]
    graph.close()
    next(run_tasks(write_rejects, [(run.workspace.path(REJECTS), run.train_rejects(), stores_of(run))]))


def stage_name(run: Run, store: Store) -> str:
    """What the stage that makes a store is called."""
    return f"embed.{store.role}{run.suffix(store.arm.name)}"


def _embed_store(run: Run, graph: Graph, store: Store) -> dict[str, Any]:
    """See that a store is whole; its record holds fingerprint, seconds, rate and counts (inputs, embedded, ...)."""

    def action() -> dict[str, Any]:
        facts = graph.complete(store)
        return {**facts, **store.marks, "counts": finish(store)}

    outputs = [storage.join(store.folder, MANIFEST)]
    record = run.workspace.stage(stage_name(run, store), store.marks, outputs, action)
    if record["skipped"]:
        record["counts"]["reused"] = record["counts"]["inputs"]
    return record


# ---- decode and encode


class Graph:
    """The Ray Data graph over the uncommitted shards of all stores; it runs as far as it is asked to."""

    def __init__(self, run: Run, stores: Sequence[Store]) -> None:
        self.run = run
        self.todo = {store.folder: sum(shard.images for shard in store.todo) for store in stores}
        self.finished: Counter[str] = Counter()
        """Images that are committed, by store."""
        shards = sum(len(store.todo) for store in stores)
        views = max((shard.images * store.views.each for store in stores for shard in store.todo), default=1)
        self.sizing = pool_sizing(run.resources, run.config.embed.num_actors, shards, views, nodes())
        self.began = time.perf_counter()
        self._rows = self._start(stores)

    def _start(self, stores: Sequence[Store]) -> Iterator[dict[str, Any]]:
        rows = [
            {**shard._asdict(), "file": shard.file_name, "store": number}
            for number, store in enumerate(stores)
            for shard in store.todo
        ]
        if not rows:
            return
        shared = [store._replace(shards=[], done=frozenset(), marks={}) for store in stores]
        graph = (
            ray.data.from_items(rows, override_num_blocks=len(rows))
            .map_batches(
                decode_shard,
                batch_size=1,
                batch_format="pyarrow",
                fn_kwargs={"stores": shared, "config": self.run.config},
                compute=ray.data.TaskPoolStrategy(size=self.sizing.decoders),
                num_cpus=self.sizing.decode_cpus,
            )
            .map_batches(
                ShardEncoder,
                batch_size=1,
                batch_format="pyarrow",
                fn_constructor_kwargs={
                    "stores": shared,
                    "config": self.run.config,
                    "threads": self.sizing.threads,
                },
                compute=ray.data.ActorPoolStrategy(size=self.sizing.actors),
                num_cpus=self.sizing.actor_cpus,
                num_gpus=self.sizing.actor_gpus,
            )
        )
        largest = max(shard.images * store.views.pixel_bytes for store in stores for shard in store.todo)
        room = ray.data.ExecutionResources.for_limits(
            object_store_memory=max(self.sizing.room * largest, LEAST_ROOM_BYTES)
        )
        graph.context.execution_options.resource_limits = room
        for row in graph.iter_rows():
            if row["problem"]:
                raise RunError(f"{row['problem']}; see to that, and the same command goes on")
            store = stores[row["store"]]
            metrics.EMBEDDED.add(row["images"] - row["rejected"], self._tags(store))
            metrics.REJECTED.add(row["rejected"], self._tags(store))
            yield {**row, "folder": store.folder}

    def _tags(self, store: Store) -> metrics.Tags:
        return metrics.Tags(self.run.config.run.name, f"embed.{store.role}", store.arm.name)

    def complete(self, store: Store) -> dict[str, Any]:
        """Let the graph run until the store's shards are committed; shards of the next ones may be by then, too."""
        total = self.todo[store.folder]
        if not total:
            return {}
        name = f"embed {store.role} ({store.arm.name})"
        before = self.finished.total()
        watched = watch(self.run.config, store.folder)
        with Progress(name, total, "images", self.finished[store.folder], watch=watched) as progress:
            while self.finished[store.folder] < total:
                row = next(self._rows)
                self.finished[row["folder"]] += row["images"]
                if row["folder"] == store.folder:
                    progress.advance(row["images"])
                    metrics.IMAGES_PER_SECOND.set(progress.rate or 0.0, self._tags(store))
        facts: dict[str, Any] = {"actors": self.sizing.actors, "views": store.views.each, "side": store.views.size}
        facts["encoded"] = self.finished.total() - before
        # Shards of this store may have been embedded while the one before was waited for, so the rate is that of both.
        images, seconds = self.finished.total(), time.perf_counter() - self.began
        facts["images_per_second"] = round(images / seconds, 2)
        whole = "" if images == total else f", {images:,} with those of other stores,"
        log.info("%s: %s images%s in %.1f s, %.1f images/s", name, f"{total:,}", whole, seconds, images / seconds)
        return facts

    def close(self) -> None:
        """Let the graph end; its actors go."""
        for _ in self._rows:
            pass


def decode_shard(batch: pa.Table, stores: Sequence[Store], config: Config) -> pa.Table:
    """Decode the images of one shard into views.

    An image that cannot be used keeps its slot in the plan and gets a row in the rejects; it has no pixels here.

    Returns:
        The shard's row with ``pixels``: (N * R, S, S, 3) uint8 as one binary value, ``boxes``, the images in it and
        the rejects. Memory O(shard).
    """
    shard = {name: batch.column(name)[0].as_py() for name in batch.column_names}
    plan, views = stores[shard["store"]].plan, stores[shard["store"]].views
    rows = read_shard_plan(plan, shard["bucket"], shard["number"]).select(["path", "id", "location"]).to_pylist()
    pixels = np.empty((len(rows) * views.each, views.size, views.size, 3), np.uint8)
    boxes: list[np.ndarray] = []
    images: list[list[str]] = []
    rejects: list[list[str]] = []
    problems = [name_problem(Record(row["path"], row["location"])) for row in rows]
    readable = [row["location"] for row, problem in zip(rows, problems, strict=True) if problem is None]
    readings = read_ahead(readable, config.images.max_pixels)
    for row, problem in zip(rows, problems, strict=True):
        if problem is not None:
            rejects.append([row["path"], "unnameable", problem])
            continue
        try:
            found, where = views.of(next(readings).result(), config.images)
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
            "store": pa.array([shard["store"]], pa.int64()),
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
    """The embedding actor: one model at a time, shard after shard, each committed by this actor."""

    def __init__(self, stores: Sequence[Store], config: Config, threads: int) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        torch.set_num_threads(threads)
        self.stores, self.config = stores, config
        self._arm: Arm | None = None
        self._encoder: Encoder | None = None
        self._unwritable = ""
        """Why a shard could not be written. The next ones wait already; encoding them would be for nothing, too."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Encode and commit one shard; returns store, name, numbers of images and rejects, and why it is not there."""
        row = batch.slice(0, 1)
        images, rejected = (0, 0) if self._unwritable else self._commit(row)
        return pa.table(
            {
                "file": row.column("file"),
                "store": row.column("store"),
                "images": pa.array([images], pa.int64()),
                "rejected": pa.array([rejected], pa.int64()),
                # Not raised: Ray Data would say that a function failed, and nothing about the disk.
                "problem": [self._unwritable],
            }
        )

    def _commit(self, row: pa.Table) -> tuple[int, int]:
        """Encode and commit a shard; returns its numbers of images and rejects."""
        store = self.stores[row.column("store")[0].as_py()]
        side, regions = row.column("side")[0].as_py(), row.column("regions")[0].as_py()
        pixels = _array(row.column("pixels"), np.uint8).reshape(-1, side, side, 3)
        boxes = _array(row.column("boxes"), np.int32).reshape(-1, regions, 4)
        images = [(path, name) for path, name in row.column("embedded")[0].as_py()]
        rejects = [Reject(*reject) for reject in row.column("rejected")[0].as_py()]
        encoder = self._encoder_of(store.arm)
        embeddings = encoder.encode(pixels) if len(pixels) else np.zeros((0, encoder.dim), np.float32)
        embeddings, boxes = store.views.pool(embeddings, boxes)
        file, dtype = row.column("file")[0].as_py(), self.config.embed.storage_dtype
        path = storage.join(store.folder, file)
        try:
            write_shard(path, images, boxes, embeddings, rejects, dtype)
        except OSError as error:
            self._unwritable = f"{path}: {error.strerror or error}"
        return len(images) + len(rejects), len(rejects)

    def _encoder_of(self, arm: Arm) -> Encoder:
        """Stores come arm by arm, so an actor changes its model a few times at most, and holds one."""
        if self._encoder is None or self._arm != arm:
            self._encoder = None  # before the next one takes its memory
            self._arm, self._encoder = arm, arm.build(self.config.embed.batch_size, self.config.run.seed)
        return self._encoder


def _array(column: pa.ChunkedArray, dtype: type) -> np.ndarray:
    buffer = column.chunk(0)[0].as_buffer()
    return np.frombuffer(buffer, dtype=dtype)
