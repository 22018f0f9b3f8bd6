"""Embedding on Ray Data: decode in CPU tasks, encode in actors, commit shard by shard.

    plan (tasks) -> shards to do -> decode (CPU tasks, uint8) -> encode + commit (actor pool) -> manifest

A shard passes as one row, so its batches never cross into another shard and one file commits it. What travels between
processes is uint8 pixels; vectors go from the actor to storage and nowhere else. All stores of a run pass through one
graph, one after the other, so its actors start once. The driver holds O(shards).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from ray_jobs.cluster import gauges
from ray_jobs.cluster.connect import nodes, run_tasks, watch
from ray_jobs.console.progress import Progress
from ray_jobs.embedding.actor_pool import pool_sizing
from ray_jobs.embedding.actor_time import ActorTime, Spent
from ray_jobs.embedding.finish_store import REJECTS, finish, stores_of, write_rejects
from ray_jobs.embedding.plan_store import Store, list_images, plan_store
from ray_jobs.embedding.shard_work import ShardEncoder, decode_shard
from ray_jobs.run import Run
from retrieval_core.config.sections import ROLES
from retrieval_core.files import storage
from retrieval_core.run.workspace import RunError
from retrieval_core.store.embeddings import MANIFEST

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
        return {**facts, **store.inputs, "counts": finish(store)}

    outputs = [storage.join(store.folder, MANIFEST)]
    record = run.workspace.stage(stage_name(run, store), store.inputs, outputs, action)
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
        self.time = ActorTime()
        shards = sum(len(store.todo) for store in stores)
        views = max((shard.images * store.views.per_image for store in stores for shard in store.todo), default=1)
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
        shared = [store._replace(shards=[], done=frozenset(), inputs={}) for store in stores]
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
            gauges.EMBEDDED.add(row["images"] - row["rejected"], self._tags(store))
            gauges.REJECTED.add(row["rejected"], self._tags(store))
            self.time.add(row["images"] - row["rejected"], Spent(*(row[name] for name in Spent._fields)))
            yield {**row, "folder": store.folder}

    def _tags(self, store: Store) -> gauges.Tags:
        return gauges.Tags(self.run.config.run.name, f"embed.{store.role}", store.arm.name)

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
                    gauges.IMAGES_PER_SECOND.set(progress.rate or 0.0, self._tags(store))
                    gauges.ACTORS_BUSY.set(self.time.busy(), self._tags(store))
        views = store.views
        facts: dict[str, Any] = {"actors": self.sizing.actors, "views": views.per_image, "side": views.image_size}
        facts["encoded"] = self.finished.total() - before
        # Shards of this store may have been embedded while the one before was waited for, so the rate is that of both.
        images, seconds = self.finished.total(), time.perf_counter() - self.began
        facts["images_per_second"] = round(images / seconds, 2)
        whole = "" if images == total else f", {images:,} with those of other stores,"
        log.info("%s: %s images%s in %.1f s, %.1f images/s", name, f"{total:,}", whole, seconds, images / seconds)
        return facts | self.time.facts(self.sizing.actors)

    def close(self) -> None:
        """Let the graph end; its actors go. Say what bound it."""
        for _ in self._rows:
            pass
        if self.finished:
            log.info("embed: %s", self.time.sentence(self.sizing.actors))
