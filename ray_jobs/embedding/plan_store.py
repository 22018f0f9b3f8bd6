"""What there is to embed: listings, shard plans, and the store of each arm and role. The driver holds O(shards)."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from ray_jobs.cluster.connect import run_tasks
from ray_jobs.console.progress import say
from ray_jobs.embedding.removals import removal_problem
from ray_jobs.embedding.tally import LeftOut
from ray_jobs.run import Run
from retrieval_core.config.sections import ROLES, DataConfig, Role
from retrieval_core.data.datasets import DataError, Record, iter_gallery, iter_queries
from retrieval_core.data.image_tree import PassedOver
from retrieval_core.data.listing import remove_other_listings, write_listing
from retrieval_core.data.plan_division import Division, commit_division, redivided
from retrieval_core.data.shard_plan import (
    BucketSummary,
    Shard,
    ShrunkenShard,
    bucket_shards,
    count_doubles,
    plan_bucket,
    plan_file,
    staged_plan,
    write_plan,
)
from retrieval_core.encoding.arms import Arm, encoder_fingerprint
from retrieval_core.encoding.views import PARTS, Views, views_of
from retrieval_core.files import storage, tables
from retrieval_core.files.fingerprint import fingerprint
from retrieval_core.run.workspace import RunError
from retrieval_core.store.embeddings import copy_images, shard_summary
from retrieval_core.store.windows import windows_file, windows_folder

SHARD_BYTES = 1024 * 224**2 * 3
"""Bytes of decoded pixels that a shard may have: what travels from a task to an actor at once."""


class Store(NamedTuple):
    """An embedding store of a run: the gallery or the queries of one arm."""

    arm: Arm
    role: Role
    folder: str
    plan: str  # folder of its shard plan
    views: Views
    keeps_windows: bool  # of each image, in a file beside its shard
    encoder: str  # fingerprint of model and preprocessing
    shards: list[Shard]
    done: frozenset[str]  # names of the shards that were committed before, with their windows
    inputs: dict[str, Any]  # fingerprints of what the store is computed from; its stage is redone when they change

    @property
    def todo(self) -> list[Shard]:
        """Shards that are not committed."""
        return [shard for shard in self.shards if shard.file_name not in self.done]


def list_images(run: Run) -> None:
    """List gallery and queries at the same time; all arms share the listings."""
    # In a folder of its own: of a run that was killed, or that lost its lease, there may be a part of another.
    name, before = f"listing-{secrets.token_hex(4)}", _buckets_before(run)
    calls = [(run.config.data, role, run.workspace.work("listing", role), name, before) for role in ROLES]
    for role, folder, buckets, passed_over in run_tasks(_list_task, calls):
        run.listed[role], run.left_out[role] = (folder, buckets), LeftOut(passed_over)


def _buckets_before(run: Run) -> int | None:
    """The most buckets of any arm's plan of the gallery, as all share the listing; None if there is no plan."""
    arms = storage.list_names(run.workspace.work("plan"))
    return max((run.division(arm, "gallery").buckets for arm in arms), default=0) or None


def plan_store(run: Run, arm: Arm, role: Role) -> Store:
    """Plan a store as last time but for images that came, changed or went; committed shards that still hold stay.

    A plan with other than the listing's buckets is divided anew first, with its vectors. Plans that lose images are
    staged until all buckets are known.

    Raises:
        RunError: if more of a stored gallery is gone than is believed; its plan, shards and vectors stay as they were.
    """
    config, folder = run.config, run.store(arm.name, role)
    listing, number_of_buckets = run.listed[role]
    staged = run.workspace.work("staged", arm.name, role)
    views = views_of(config, arm.model, role)
    encoder = encoder_fingerprint(arm, views, config)
    images_per_shard = max(1, min(config.embed.shard_size // views.per_image, SHARD_BYTES // views.pixel_bytes))
    plan_folder = _divide(run, arm, role, folder, images_per_shard, encoder)
    calls = (
        (
            *(listing, plan_folder, folder, staged, bucket, images_per_shard, encoder, role),
            *(run.only_rejected, run.overwrite),
        )
        for bucket in range(number_of_buckets)
    )
    by_bucket = dict(run_tasks(_plan_task, calls))
    buckets = [by_bucket[number] for number in range(number_of_buckets)]
    _commit_staged(run, role, buckets, (staged, plan_folder, folder, encoder))
    repeats, doubles = sum(bucket.repeats for bucket in buckets), count_doubles(buckets)
    run.left_out[role] = run.left_out[role]._replace(repeats=repeats, doubles=doubles)
    shards = [shard for bucket in buckets for shard in bucket.shards]
    inputs: dict[str, Any] = {
        "shards": fingerprint([shard.fingerprint for shard in shards]),
        "labels": fingerprint([bucket.labels for bucket in buckets]),
        "order": fingerprint([bucket.order for bucket in buckets]),
        "buckets": len(buckets),
    }
    done, keeps = frozenset(storage.list_names(folder)), config.keeps_windows and arm.model is not None
    if keeps:  # the stage is redone where they are missing, and only the shards that lack them
        done, inputs["windows"] = done & frozenset(storage.list_names(windows_folder(folder))), PARTS
    return Store(arm, role, folder, plan_folder, views, keeps, encoder, shards, done, inputs)


def _commit_staged(run: Run, role: Role, buckets: list[BucketSummary], places: tuple[str, str, str, str]) -> None:
    staged, plan_folder, folder, encoder = places
    stored = any(name.endswith(".parquet") for name in storage.list_names(folder))
    if role == "gallery" and stored and not run.accept_removals:
        removals = (bucket.removals for bucket in buckets)
        problem = removal_problem(run.config.data, removals, run.config.embed.max_removed)
        if problem:
            storage.remove(staged)
            raise RunError(problem)
    if run.overwrite:
        storage.remove(folder)
        storage.remove(windows_folder(folder))
        storage.remove(run.workspace.work("search"))  # a copy of what is computed anew
    waiting = [number for number, bucket in enumerate(buckets) if run.overwrite or bucket.removals.gone]
    for _ in run_tasks(_commit_task, ((staged, plan_folder, folder, number, encoder) for number in waiting)):
        pass
    storage.remove(staged)


def _list_task(
    data: DataConfig, role: Role, folder: str, name: str, before: int | None
) -> tuple[Role, str, int, Counter[str]]:
    passed_over: Counter[str] = Counter()

    def left_out(reason: PassedOver, name: str) -> None:
        passed_over[reason] += 1

    records: Iterator[Record] = iter_gallery(data, left_out) if role == "gallery" else iter_queries(data, left_out)
    listing, is_gallery = storage.join(folder, name), role == "gallery"
    images, buckets = write_listing(records, listing, before if is_gallery else 1, may_grow=is_gallery)
    remove_other_listings(folder, name)
    if not images:
        raise DataError(f"there are no {role}: data.root = {data.root!r}; see `fabric-retrieval check`")
    return role, listing, buckets, passed_over


def _divide(run: Run, arm: Arm, role: Role, store: str, images_per_shard: int, encoder: str) -> str:
    """Divide a plan into as many buckets as the listing, unless it is; returns the folder of its buckets."""
    last, buckets = run.division(arm.name, role), run.listed[role][1]
    division = last.into(buckets)
    if last.buckets not in (0, buckets):
        # Its record names the buckets, by which other stages read the plan.
        run.workspace.reopen(f"embed.{role}{run.suffix(arm.name)}")
        calls = ((last, division, bucket, images_per_shard, encoder, store) for bucket in range(buckets))
        for _ in run_tasks(_divide_task, calls):
            pass
    commit_division(division)
    return division.folder


def _divide_task(
    last: Division, division: Division, bucket: int, images_per_shard: int, encoder: str, store: str
) -> None:
    names = frozenset(storage.list_names(store))

    def is_committed(name: str) -> bool:
        return name in names and tables.is_whole_table(storage.join(store, name))

    table, regrouped = redivided(last, bucket, division.buckets, images_per_shard, encoder, is_committed)
    for shard in regrouped:
        if not is_committed(shard.file):  # else by a division that was interrupted
            copy_images(
                [(storage.join(store, name), paths) for name, paths in shard.sources], storage.join(store, shard.file)
            )
    write_plan(division.folder, bucket, table)


def _plan_task(
    listing: str,
    folder: str,
    store: str,
    staged: str,
    bucket: int,
    images_per_shard: int,
    encoder: str,
    role: Role,
    retry_rejected: bool,
    fresh: bool,
) -> tuple[int, BucketSummary]:
    plan = plan_bucket(
        listing,
        folder,
        bucket,
        images_per_shard=images_per_shard,
        encoder=encoder,
        keep_order=role == "queries",
        retry=_rejected_paths(store, bucket) if retry_rejected else set(),
        fresh=fresh,
    )
    if plan.summary.removals.gone or fresh:
        write_plan(staged, bucket, plan.table)
    else:
        _commit(plan.table, plan.summary.shards, plan.shrunken, folder, bucket, store)
    return bucket, plan.summary


def _commit_task(staged: str, folder: str, store: str, bucket: int, encoder: str) -> None:
    _commit(*staged_plan(staged, folder, bucket, encoder), folder, bucket, store)


def _commit(
    table: pa.Table, shards: list[Shard], shrunken: list[ShrunkenShard], folder: str, bucket: int, store: str
) -> None:
    """Make a plan the store's own, after writing the shards that lost images and removing torn ones."""
    for lesser in shrunken:
        old = storage.join(store, lesser.before.file_name)
        if tables.is_whole_table(old):
            copy_images([(old, lesser.kept)], storage.join(store, lesser.after.file_name))
    for shard in shards:
        shard_file = storage.join(store, shard.file_name)
        for file in (shard_file, windows_file(shard_file)):
            if storage.exists(file) and not tables.is_whole_table(file):
                say(f"{file}: cut short, as by a power cut; it is embedded again")
                storage.remove(file)
    # Last: a plan that names a shrunken shard must find it made.
    target = plan_file(folder, bucket)
    before = tables.read_table(target) if storage.exists(target) else None
    # The schema's own comparison with metadata would see Parquet's other name for the items of a list.
    if before is None or not before.equals(table) or before.schema.metadata != table.schema.metadata:
        write_plan(folder, bucket, table)


def _rejected_paths(store: str, bucket: int) -> set[str]:
    files = [storage.join(store, name) for name in bucket_shards(storage.list_names(store), bucket)]
    return {reject.path for file in files if tables.is_whole_table(file) for reject in shard_summary(file)[1]}
