"""The cases of `growth.py` at one size, each in its own process, so that a peak of memory belongs to that size.

python benchmarks/growth_cases.py '{"case": "retrieve", ...}'     one line of JSON on the standard output
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from growth_memory import Peaks, peak_rss, restart_peak
from PIL import Image
from stores import WEIGHTS, run_of

from ray_jobs.run import Run
from retrieval_core.config.config import Config, load_config
from retrieval_core.data.check import check_data
from retrieval_core.data.datasets import iter_gallery
from retrieval_core.data.listing import write_listing
from retrieval_core.data.shard_plan import plan_bucket, plan_file, read_shard_plan, write_plan
from retrieval_core.evaluation.metrics import arm_metrics
from retrieval_core.evaluation.relevance import Queries, judge_bucket, outcomes_of, unite
from retrieval_core.files import storage, tables
from retrieval_core.ranking.candidate_pool import write_pool

Found = dict[str, float]
DISTINCT = 64
"""Images that are drawn; the others are hard links to them, of which a file system allows each about 65,000."""
CATEGORIES = 50
READINGS = 20  # of a shard's plan, which takes a few milliseconds
K = 100
BLOCK = 512


def pictures(folder: Path, count: int, side: int) -> list[str]:
    """Names of ``count`` JPEGs of coarse noise in ``folder``, which cost as much to decode as a print."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{row:08d}.jpg" for row in range(count)]
    rng = np.random.default_rng(0)
    for row, name in enumerate(names):
        if (folder / name).exists():
            continue
        if row < DISTINCT:
            coarse = rng.integers(0, 256, (side // 8 + 1, side // 8 + 1, 3), np.uint8)
            Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(folder / name, quality=90)
        else:
            os.link(folder / names[row % DISTINCT], folder / name)
    return names


# ---- plain functions, without Ray


def plain(folder: Path, size: int, queries: int, repeats: int) -> dict[str, Found]:
    """Fewest seconds of the repeats and peak megabytes of the steps that run in one process.

    ``check``, ``listing`` and ``evaluate`` of ``size`` fabrics, the latter with 1,000 queries; ``shard_plan`` reads one
    shard's rows in a plan of them; ``pool`` is of ``queries`` queries with 100 candidates each.
    """
    config = _manifest(folder, size)
    names = [f"q{row:06d}.jpg" for row in range(1000)]
    rng = np.random.default_rng(1)
    fabrics = np.array([f"fabrics/{row:08d}.jpg" for row in range(size)])
    few = Queries(names, [(f"c{row % CATEGORIES:02d}",) for row in range(len(names))])
    pool = str(folder / "candidates.parquet")
    write_pool(
        _parts(folder / "parts", len(names), fabrics, rng), names, pool, str(folder / "few.json"), with_boxes=False
    )
    parts = _parts(folder / "more", queries, fabrics, rng)
    many = [f"q{row:08d}.jpg" for row in range(queries)]
    files = str(folder / "pool.parquet"), str(folder / "pool.json")

    def listing() -> int:
        plan = folder / f"plan-{time.perf_counter_ns()}"  # a plan that exists would be compared with
        _, buckets = write_listing(iter_gallery(config.data), str(plan), None)
        for bucket in range(buckets):
            table, *_ = plan_bucket(str(plan), str(plan), bucket, images_per_shard=1024, encoder="", keep_order=False)
            write_plan(str(folder), bucket, table)
        storage.remove(str(plan))
        return buckets

    buckets = listing()

    def evaluate() -> Any:
        judged = unite(judge_bucket(plan_file(str(folder), bucket), few, {"own": pool}) for bucket in range(buckets))
        return arm_metrics(outcomes_of(few, judged, "own", set()), [10, 50, 100], {}, 1000, 0)

    return {
        "check": timed(lambda: check_data(config.data, training=False), repeats),
        "listing": timed(listing, repeats),
        "shard_plan": timed(lambda: [read_shard_plan(str(folder), 0, 0) for _ in range(READINGS)], repeats),
        "evaluate": timed(evaluate, repeats),
        "pool": timed(lambda: write_pool(parts, many, *files, with_boxes=False), repeats),
    }


def timed(step: Callable[[], Any], repeats: int) -> Found:
    """The fewest seconds, and this process's peak resident memory over all repeats."""
    restart_peak()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return {"seconds": min(seconds), "peak_mb": peak_rss()}


def _manifest(folder: Path, size: int) -> Config:
    """A catalogue whose manifest names ``size`` images that exist, and a query."""
    names = pictures(folder / "fabrics", size, 32)
    rows = [f"fabrics/{name},c{row % CATEGORIES:02d};c{row * 7 % CATEGORIES:02d}" for row, name in enumerate(names)]
    (folder / "gallery.csv").write_text("\n".join(["image_path,categories", *rows]) + "\n")
    (folder / "queries.csv").write_text(f"query_path,category\nfabrics/{names[0]},c00\n")
    keys = {"root": folder, "format": "manifest", "gallery": folder / "gallery.csv", "queries": folder / "queries.csv"}
    return load_config(None, [f"data.{key}={value}" for key, value in keys.items()])


def _parts(folder: Path, queries: int, fabrics: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Parts of a pool with random candidates, as merging writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for start in range(0, queries, BLOCK):
        count, depth = min(BLOCK, queries - start), min(K, len(fabrics))
        first = rng.integers(0, len(fabrics), count)
        chosen = (first[:, None] + np.arange(depth) * (len(fabrics) // depth)) % len(fabrics)
        table = {
            "query": pa.array(np.repeat(np.arange(start, start + count, dtype=np.int32), depth)),
            "similarity": np.sort(rng.random((count, depth), np.float32), axis=1)[:, ::-1].ravel(),
            "image_path": pa.array(fabrics[chosen.ravel()], pa.large_string()),
        }
        files.append(str(folder / f"{start:08d}.parquet"))
        tables.write_table(files[-1], pa.table(table))
    return files


# ---- on a local Ray


def embed(
    folder: Path, sizes: list[int], side: int, shard: int, lead: int, trail: int, repeats: int
) -> dict[str, Found]:
    """Fewest seconds of the repeats of `ray_jobs.embed.embed` at each size, all in one Ray session.

    ``lead`` images precede those that count and ``trail`` images follow, in whole shards. On two cores the first
    thousand pass more slowly, while the actors load their models one after the other, and the last thousand faster, as
    nothing is left to decode. So `window` counts neither the start of Ray, nor planning, nor the loading of models.
    """
    from ray_jobs import embed as job

    found: dict[str, Found] = {}
    # The first run starts the workers and warms the file system's cache.
    for turn, size in enumerate([shard, *sizes * repeats]):
        root = folder / f"n{size}"
        pictures(root / "fabrics", lead + size + trail, side)
        pictures(root / "queries", 1, side)
        settings = {
            "run.output_dir": folder / "out",
            "run.name": f"n{size}-{turn}",
            "data.root": root,
            "data.format": "folder",
            "data.gallery": "fabrics",
            "data.queries": "queries",
            "model.weights": WEIGHTS,
            "model.image_size": 112,
            "model.pooling": "cls",
            "embed.shard_size": shard,
            "embed.batch_size": min(64, shard),  # a batch is padded, so a larger one would idle
            "train.enabled": "false",
        }
        run = Run(load_config(None, [f"{key}={value}" for key, value in settings.items()]))
        began = time.perf_counter()
        job.embed(run)
        whole = time.perf_counter() - began
        times = sorted(path.stat().st_mtime for path in Path(run.store(run.main, "gallery")).glob("*.parquet"))
        counted = {**window(times, shard, lead, size), "seconds_with_start": whole}
        best = found.get(str(size))
        if turn and (best is None or counted["seconds"] < best["seconds"]):
            found[str(size)] = counted
    return found


def window(times: list[float], shard: int, lead: int, size: int) -> Found:
    """Seconds from the commit of the lead's last shard to that of the last shard that counts, and to the last commit.

    Args:
        times: of the commits, ascending.
        shard: images of a commit.
        lead: images before those that count.
        size: images that count.
    """
    begin, end = lead // shard - 1, (lead + size) // shard - 1
    return {
        "images": size,
        "seconds": times[end] - times[begin],
        "images_to_end": (len(times) - 1 - begin) * shard,
        "seconds_to_end": times[-1] - times[begin],
    }


def store(folder: Path, size: int, queries: int, block: int) -> list[Run]:
    """Runs with ``size`` and with two blocks of random vectors, ready to retrieve; stores that exist are kept."""
    sizes = size, block * 2
    return [run_of(folder, count, queries, 256, f"retrieve.gallery_block={block}") for count in sizes]


def write_store(folder: Path, size: int, queries: int, block: int) -> None:
    """Write the stores before the process of `retrieve` starts, so that its memory is that of retrieval alone."""
    store(folder, size, queries, block)


def retrieve(folder: Path, size: int, queries: int, block: int, lead: int, repeats: int) -> Found:
    """Fewest seconds of the repeats by step, and peak memory, of `ray_jobs.retrieve.retrieve_arm` at one size.

    ``seconds`` run from the ``lead``-th ranked block to the last. A small retrieval first starts the workers, so that
    start-up is not in the seconds; the peaks are over everything.
    """
    from ray_jobs import retrieve as job
    from ray_jobs.retrieval import blocks

    run, small = store(folder, size, queries, block)
    began = time.perf_counter()
    small.resources  # noqa: B018 - connects
    connected = time.perf_counter() - began
    job.retrieve_arm(small, small.main)
    clock = _StepClock(job.run_tasks)
    job.run_tasks = blocks.run_tasks = clock  # type: ignore[assignment]
    restart_peak()
    run.overwrite = True
    steps: dict[str, list[float]] = defaultdict(list)
    with Peaks() as peaks:
        for _ in range(repeats):
            clock.seconds.clear()
            clock.ends.clear()
            began = time.perf_counter()
            job.retrieve_arm(run, run.main)
            steps["whole"].append(time.perf_counter() - began)
            for name, seconds in clock.seconds.items():
                steps[name].append(seconds)
            ranked = clock.ends["_rank_block"]
            steps["after_lead"].append(ranked[-1] - ranked[lead - 1])
    return {
        **{f"seconds_{name.strip('_')}": min(seconds) for name, seconds in steps.items()},
        "seconds": min(steps["after_lead"]),
        # Without the pool, which grows with the queries and is a case of its own.
        "seconds_ranking_and_merging": min(np.subtract(steps["whole"], steps["_write_task"]).tolist()),
        "connect_seconds": connected,
        **peaks.megabytes(),
    }


class _StepClock:
    """`run_tasks` that adds up the seconds of each function, and records when each of its results came."""

    def __init__(self, run_tasks: Callable[..., Iterator[Any]]) -> None:
        self.run_tasks = run_tasks
        self.seconds: dict[str, float] = defaultdict(float)
        self.ends: dict[str, list[float]] = defaultdict(list)

    def __call__(self, function: Callable[..., Any], calls: Iterable[Any], **options: Any) -> Iterator[Any]:
        began = time.perf_counter()
        results = []
        for result in self.run_tasks(function, calls, **options):
            results.append(result)
            self.ends[function.__name__].append(time.perf_counter())
        self.seconds[function.__name__] += time.perf_counter() - began
        return iter(results)


CASES = {"plain": plain, "embed": embed, "store": write_store, "retrieve": retrieve}


def main() -> None:
    options = json.loads(sys.argv[1])
    logging.disable(logging.WARNING)
    print(json.dumps(CASES[options.pop("case")](Path(options.pop("folder")), **options)))


if __name__ == "__main__":
    main()
