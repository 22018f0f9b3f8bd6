"""`--dry-run`: what would be done, with counts, disk, and times as measured in the last run in the same folder.

The lists are read, no image is opened and Ray is not started. Memory O(split).
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ray_jobs.console.progress import duration, size
from ray_jobs.run import Run
from retrieval_core.config.sections import ROLES, Role
from retrieval_core.data.datasets import iter_gallery, iter_queries, labelled_split
from retrieval_core.data.shard_plan import plan_file
from retrieval_core.encoding.arms import HISTOGRAM
from retrieval_core.encoding.encoders import HistogramEncoder
from retrieval_core.encoding.views import PARTS, Views, views_of
from retrieval_core.files import storage, tables
from retrieval_core.images.patches import grid_of, window_boxes
from retrieval_core.model.weights import embedding_width, weights_bytes
from retrieval_core.ranking.second_look import EXPANSIONS

LEAST_MEASURED_IMAGES = 200  # the rate of fewer is mostly the start of processes
PAIRS_A_SECOND = 40_000  # scored by a second look on one core of 2025: benchmarks/rescoring.py
CANDIDATE_BYTES = 110  # in both pool files together, without its path in the JSON file


class Step(NamedTuple):
    """What a stage would do."""

    what: str
    seconds: float | None = 0.0  # None where nothing was measured yet
    until: str = ""  # when an unknown time will be known
    by: str = ""  # what the time follows from
    disk: float = 0.0  # bytes that it would write
    todo: bool = True


class Lists(NamedTuple):
    """Numbers of images, and the mean length of a gallery path."""

    gallery: int  # images
    queries: int
    path_bytes: float  # mean length of a gallery path


def print_plan(run: Run, command: str) -> int:
    """Print what a command would do, stage by stage; returns the exit code."""
    lists = _read_lists(run)
    makers: dict[str, Callable[[Run, Lists], Step]] = {
        "train": _train,
        "embed": _embed,
        "retrieve": _retrieve,
        "evaluate": lambda run, _: Step(
            f"figures at {run.config.evaluate.ks}, arms {', '.join(run.arm_names())}"
            if run.labelled
            else "no labels, nothing to judge"
        ),
        "report": lambda run, _: Step(storage.join(run.workspace.folder, "report.html")),
    }
    steps = {name: makers[name](run, lists) for name in (makers if command == "run" else [command])}
    print(f"{command} in {run.workspace.folder}: {lists.gallery:,} fabrics, {lists.queries:,} queries")
    for name, step in steps.items():
        done = _recorded(run, name) and not run.overwrite
        print(f"  {name:9} {'done before, skipped if nothing changed: ' if done else ''}{step.what}")
        if step.todo and not done and name in {"train", "embed"}:
            time = f"about {duration(step.seconds)} ({step.by})" if step.seconds else f"unknown until {step.until}"
            print(f"            time: {time}; disk: {size(step.disk)}")
        elif step.disk and not done:
            print(f"            disk: {size(step.disk)}")
    todo = [step for name, step in steps.items() if run.overwrite or not _recorded(run, name)]
    needed = sum(step.disk for step in todo)
    print(f"disk in all: about {size(needed)}{_free(run, needed)}")
    return 0


def _read_lists(run: Run) -> Lists:
    gallery = letters = queries = 0
    for record in iter_gallery(run.config.data):
        gallery, letters = gallery + 1, letters + len(record.path)
    for _ in iter_queries(run.config.data):
        queries += 1
    return Lists(gallery, queries, letters / max(1, gallery))


def _train(run: Run, _: Lists) -> Step:
    keys = run.config.train
    if not run.trains:
        return Step("not asked for; the weights are used as they are", todo=False)
    split = labelled_split(run.config.data, "train")
    steps = math.ceil(len(split.queries) / keys.batch_size) * keys.epochs
    steps = min(steps, keys.max_steps or steps)
    model = weights_bytes(run.config.model) or 0
    # Three numbers per parameter in a checkpoint (AdamW has two), and two models: the best and the final one.
    disk = model * (2 + 3 * keys.keep_checkpoints)
    kept = keys.cache_activations is not False and run.config.views_come_again
    cache = f"; activation cache: up to {size(keys.cache_max_gb * 1e9)} a worker in TMPDIR" * kept
    what = (
        f"at most {steps:,} steps of {keys.batch_size} queries, {keys.epochs} epochs; {len(split.queries):,} queries, "
        f"{len(split.fabrics):,} fabrics{cache}"
    )
    record = run.workspace.record("train")
    if record is None or not record.get("steps"):
        return Step(what, None, "the first step", disk=disk)
    return Step(what, steps * record["seconds"] / record["steps"], by="as the last one here", disk=disk)


def _embed(run: Run, lists: Lists) -> Step:
    config = run.config
    bytes_each = 4 if config.embed.storage_dtype == "float32" else 2
    images, disk, parts = 0, 0.0, []
    for arm in run.arm_names():
        for role, count in zip(ROLES, (lists.gallery, lists.queries), strict=True):
            views = _views(run, role)
            todo = max(0, count - _committed(run, arm, role))
            images += todo
            disk += todo * views.rows * (_width(run, arm) * bytes_each + 16)
            if config.keeps_windows and arm != HISTOGRAM:
                disk += todo * _windows(run, role) * _width(run, arm)
        parts.append(f"{arm} ({_width(run, arm)} numbers)")
    gallery = _views(run, "gallery")
    what = (
        f"{lists.gallery:,} fabrics x {gallery.per_image} views and {lists.queries:,} queries, "
        f"{gallery.image_size} px, {gallery.rows} vectors a fabric; arms {', '.join(parts)}; {images:,} images to do"
    )
    rate = _embedding_rate(run)
    if rate is None:
        return Step(what, None, "the first shard", disk=disk)
    return Step(what, images / rate, by=f"{rate:,.1f} images/s as in the last run here", disk=disk)


def _windows(run: Run, role: Role) -> int:
    """Windows that are kept of a square fabric, or vectors of a query's motif."""
    views = _views(run, role)
    if views.windows is None:
        return 1 + PARTS
    return len(window_boxes(grid_of(1, 1, views.image_size), views.windows))


def _views(run: Run, role: Role) -> Views:
    return views_of(run.config, run.config.model, role)


def _width(run: Run, arm: str) -> int:
    if arm == HISTOGRAM:
        return HistogramEncoder.dim
    return embedding_width(run.config.model, with_head=arm == run.main and run.trains)


def _committed(run: Run, arm: str, role: Role) -> int:
    """Images in committed shards of the last plan; only the run finds out which of them have changed since."""
    if run.overwrite:
        return 0
    shards = {tuple(map(int, name.split("-")[:2])) for name in storage.list_names(run.store(arm, role)) if "-" in name}
    folder, count = run.plan(arm, role), 0
    for bucket in {bucket for bucket, _ in shards}:
        if storage.exists(plan_file(folder, bucket)):
            numbers = tables.read_table(plan_file(folder, bucket), columns=["shard"]).column("shard").to_pylist()
            count += sum((bucket, number) in shards for number in numbers)
    return count


def _embedding_rate(run: Run) -> float | None:
    """Images a second over all stores of the last run: they share one Ray Data graph, so only the sum is meaningful."""
    images, seconds = 0, 0.0
    for arm in run.arm_names():
        for role in ROLES:
            record = run.workspace.record(f"embed.{role}{run.suffix(arm)}") or {}
            views = _views(run, role)
            if record.get("encoded") and (record["views"], record["side"]) == (views.per_image, views.image_size):
                images, seconds = images + record["encoded"], seconds + record["seconds"]
    return images / seconds if images >= LEAST_MEASURED_IMAGES and seconds else None


def _retrieve(run: Run, lists: Lists) -> Step:
    keys, vectors = run.config.retrieve, lists.gallery * _views(run, "gallery").rows
    blocks = math.ceil(lists.queries / keys.query_block) * math.ceil(vectors / keys.gallery_block)
    rows = lists.queries * min(keys.top_k, lists.gallery) * len(run.arm_names())
    what = f"top {keys.top_k} of {vectors:,} vectors for {lists.queries:,} queries in {blocks:,} blocks, for each arm"
    if run.looks_twice(run.main):
        what += f"; {_second_look(run, lists)}"
    return Step(what, disk=rows * (lists.path_bytes + CANDIDATE_BYTES))


def _second_look(run: Run, lists: Lists) -> str:
    """What a second look reads and computes, if what each query finds first is spread evenly over the gallery."""
    depth, looks = min(run.config.retrieve.depth, lists.gallery), 1 + (EXPANSIONS if run.config.retrieve.expand else 0)
    pairs, arms = lists.queries * depth, [arm for arm in run.arm_names() if run.looks_twice(arm)]
    seen = -lists.gallery * math.expm1(-pairs / max(1, lists.gallery))
    read = seen * _windows(run, "gallery") * sum(_width(run, arm) for arm in arms)
    return (
        f"{looks} x at all windows of the first {depth} ({pairs:,} pairs, {looks} x {size(read)} in at most "
        f"{math.ceil(seen):,} ranges, {duration(looks * len(arms) * pairs / PAIRS_A_SECOND)} of one core)"
    )


def _recorded(run: Run, stage: str) -> bool:
    names = [f"embed.{role}" for role in ROLES] if stage == "embed" else [stage]
    return all(run.workspace.record(name) is not None for name in names)


def _free(run: Run, needed: float) -> str:
    local = storage.local_path(run.workspace.folder)
    if local is None:  # an object store
        return ""
    there = next(folder for folder in Path(local).parents if folder.exists())
    free = shutil.disk_usage(there).free
    return f"; {size(free)} are free" + ("; THIS IS TOO LITTLE" if needed > free else "")
