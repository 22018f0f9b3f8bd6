"""The Ray Data graph: decode in CPU tasks, encode and commit in an actor pool.

A shard passes as one row, so one file commits it. Its uint8 pixels travel; vectors go from the actor to storage only.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from ray_jobs.cluster import gauges
from ray_jobs.cluster.connect import DEATHS, WORKER_DEATHS, deadly_task, nodes, watch
from ray_jobs.console.progress import Progress
from ray_jobs.embedding.actor_pool import pool_sizing
from ray_jobs.embedding.actor_time import ActorTime, Spent
from ray_jobs.embedding.plan_store import Store
from ray_jobs.embedding.shard_work import ShardEncoder, decode_shard
from ray_jobs.run import Run
from retrieval_core.data.shard_plan import read_shard_plan
from retrieval_core.files import fence, storage
from retrieval_core.run.workspace import RunError

log = logging.getLogger("fabric_retrieval")
SUSPECTS = 3  # shards that are named
RESTARTS = 100  # of an actor: many for nodes that are lost in days, few enough for one that dies while it starts
LEAST_ROOM_BYTES = 64 << 20  # of the object store for decoded pixels; with few of them, what surrounds them counts, too


class EmbeddingGraph:
    """Computes the uncommitted shards of all stores in one Ray Data graph, so that its actors start only once.

    Call ``complete`` for each store in turn, then ``run_to_end``. The graph starts with the first result that is asked
    for. While one store is waited for, shards of the next ones may be committed as well.
    """

    def __init__(self, run: Run, stores: Sequence[Store]) -> None:
        self.run, self.stores = run, stores
        self.todo = {store.folder: sum(shard.images for shard in store.todo) for store in stores}
        self.finished: Counter[str] = Counter()  # images that are committed, by folder of the store
        self.time = ActorTime()
        shards = sum(len(store.todo) for store in stores)
        views = max((shard.images * store.views.per_image for store in stores for shard in store.todo), default=1)
        self.sizing = pool_sizing(run.resources, run.config.embed.num_actors, shards, views, nodes())
        self.began = time.perf_counter()
        self._committed = self._run_graph() if shards else iter(())

    def complete(self, store: Store) -> dict[str, Any]:
        """Take results until the store's shards are committed; returns facts for the record of its stage."""
        total = self.todo[store.folder]
        if not total:
            return {}
        name = f"embed {store.role} ({store.arm.name})"
        before = self.finished.total()
        watched = watch(self.run.config, store.folder)
        with Progress(name, total, "images", self.finished[store.folder], watch=watched) as progress:
            while self.finished[store.folder] < total:
                owner, images = next(self._committed)
                self.finished[owner.folder] += images
                if owner.folder == store.folder:
                    progress.advance(images)
                    gauges.IMAGES_PER_SECOND.set(progress.rate or 0.0, self._tags(store))
                    gauges.ACTORS_BUSY.set(self.time.busy(), self._tags(store))
        # Shards of this store may have been embedded while the one before was waited for, so the rate is that of both.
        images, seconds = self.finished.total(), time.perf_counter() - self.began
        others = "" if images == total else f", {images:,} with those of other stores,"
        log.info("%s: %s images%s in %.1f s, %.1f images/s", name, f"{total:,}", others, seconds, images / seconds)
        return {
            "actors": self.sizing.actors,
            "views": store.views.per_image,
            "side": store.views.image_size,
            "encoded": images - before,
            "images_per_second": round(images / seconds, 2),
            **self.time.facts(self.sizing.actors),
        }

    def run_to_end(self) -> None:
        """Take what no store waited for, until the graph ends and its actors go; log what the bottleneck was."""
        for _ in self._committed:
            pass
        if self.finished:
            log.info("embed: %s", self.time.sentence(self.sizing.actors))

    def _run_graph(self) -> Iterator[tuple[Store, int]]:
        """Start the graph; yields (store, images) of each committed shard. Raises RunError if one is not writable."""
        for row in self._rows():
            if row["problem"]:
                fence.before_writing()  # if the folder is another run's by now, that is the problem
                raise RunError(f"{row['problem']}; see to that, and the same command goes on")
            store, embedded = self.stores[row["store"]], row["images"] - row["rejected"]
            gauges.EMBEDDED.add(embedded, self._tags(store))
            gauges.REJECTED.add(row["rejected"], self._tags(store))
            self.time.add(embedded, Spent(*(row[name] for name in Spent._fields)))
            yield store, row["images"]

    def _rows(self) -> Iterator[dict[str, Any]]:
        try:
            yield from self._dataset().iter_rows()
        except WORKER_DEATHS as error:
            raise deadly_task(self._suspects(), error) from None

    def _suspects(self) -> str:
        """The first shards that are not committed, each with its first image: those in work are among them."""
        left = []
        for store in self.stores:
            done = set(storage.list_names(store.folder))
            left += [(store, shard) for shard in store.todo if shard.file_name not in done]
        named = [
            f"{shard.file_name} (from {read_shard_plan(store.plan, shard.bucket, shard.number).column('path')[0]} on)"
            for store, shard in left[:SUSPECTS]
        ]
        more = " or one after it" if len(left) > SUSPECTS else ""
        return f"embedding shard {' or '.join(named)}{more}"

    def _dataset(self) -> ray.data.Dataset:
        rows = [
            {**shard._asdict(), "file": shard.file_name, "store": number}
            for number, store in enumerate(self.stores)
            for shard in store.todo
        ]
        # What travels to every task: without the lists of shards.
        shared = [store._replace(shards=[], done=frozenset(), inputs={}) for store in self.stores]
        config, sizing = self.run.config, self.sizing
        graph = (
            ray.data.from_items(rows, override_num_blocks=len(rows))
            .map_batches(
                decode_shard,
                batch_size=1,
                batch_format="pyarrow",
                fn_kwargs={"stores": shared, "config": config},
                compute=ray.data.TaskPoolStrategy(size=sizing.decoders),
                num_cpus=sizing.decode_cpus,
                max_retries=DEATHS - 1,
            )
            .map_batches(
                ShardEncoder,
                batch_size=1,
                batch_format="pyarrow",
                fn_constructor_kwargs={
                    "stores": shared,
                    "config": config,
                    "threads": sizing.threads,
                    "may_write": fence.question(),
                },
                compute=ray.data.ActorPoolStrategy(size=sizing.actors),
                num_cpus=sizing.actor_cpus,
                num_gpus=sizing.actor_gpus,
                max_restarts=RESTARTS,
                max_task_retries=DEATHS - 1,
            )
        )
        largest = max(shard.images * store.views.pixel_bytes for store in self.stores for shard in store.todo)
        graph.context.execution_options.resource_limits = ray.data.ExecutionResources.for_limits(
            object_store_memory=max(sizing.room * largest, LEAST_ROOM_BYTES)
        )
        return graph

    def _tags(self, store: Store) -> gauges.Tags:
        return gauges.Tags(self.run.config.run.name, f"embed.{store.role}", store.arm.name)
