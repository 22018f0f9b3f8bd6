"""Time and peak memory at 1, 2, 4 and 8 times the data: slopes on log-log axes, 1 is linear growth, 0 is none.

    slope_embed           seconds between two commits, after --lead images and before --trail, against the images
    slope_embed_to_end    seconds from the first of these commits to the very last, against the images
    slope_retrieve        seconds of ranking the vectors after the first --gallery-lead, against their number
    slope_retrieve_whole  seconds of ranking and merging all vectors, against their number: below 1, as the score
                          threshold rises from block to block
    slope_driver_memory   peak resident memory of the driver in that retrieval, against the gallery
    slope_worker_memory   the same of the largest worker
    slope_check           `check_data` of a manifest whose images exist, against its fabrics
    slope_listing         listing and planning, with which every run starts, against the fabrics
    slope_shard_plan      reading the plan of one shard, as each task does, against the fabrics
    slope_evaluate        judging a pool of 1,000 queries and averaging, against the fabrics
    slope_pool            writing the pool's two files, against the queries

Nothing is subtracted from a peak: it includes libraries, and pages of Ray's object store that the process has touched.
So a slope of memory tells how a process grows, not how its data does; ``raw`` has the megabytes that were added.
Start-up (imports, Ray, worker processes, an actor's model) is in no slope, but in ``raw``. Each figure is the minimum
over a few repeats, since other load on the machine only adds to it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from growth_plot import write_plot
from machine import machine
from timing import slope

FACTORS = (1, 2, 4, 8)
HERE = Path(__file__).resolve().parent
Case = Callable[..., Any]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options, each with a default; sizes are those of 1 x."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512, help="embedded by the small model at 112 px")
    parser.add_argument("--lead", type=int, default=2048, help="images before those, as the actors load their model")
    parser.add_argument("--trail", type=int, default=1024, help="images after those, some decoded with them")
    parser.add_argument("--side", type=int, default=300, help="pixels of an image's side on disk")
    parser.add_argument("--shard", type=int, default=32, help="images of a shard")
    parser.add_argument("--gallery", type=int, default=131_072, help="vectors of 256 dimensions that are ranked")
    parser.add_argument(
        "--gallery-lead",
        type=int,
        default=262_144,
        help="vectors before those: their blocks cost more, as little is known yet of what is too low",
    )
    parser.add_argument(
        "--gallery-block",
        type=int,
        default=8_192,
        help="vectors of a block: a sixteenth fills a merge at 1x",
    )
    parser.add_argument("--queries", type=int, default=1_000, help="that the gallery is ranked for")
    parser.add_argument("--fabrics", type=int, default=20_000, help="that are listed, checked and judged")
    parser.add_argument("--pool-queries", type=int, default=500, help="of the pool that is written")
    parser.add_argument("--repeats", type=int, default=2, help="the fewest seconds count")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--quick", action="store_true", help="the logic in seconds, at sizes that say nothing")
    options = parser.parse_args(arguments)
    if options.quick:
        vars(options).update(
            images=8, lead=4, trail=4, side=64, shard=4, gallery=2048, gallery_lead=1024, gallery_block=1024, queries=20
        )
        vars(options).update(fabrics=100, pool_queries=10, repeats=1)
    return options


def in_process(case: str, **options: Any) -> Any:
    """Results of a case that runs in its own process, where it may start its own Ray."""
    command = [sys.executable, str(HERE / "growth_cases.py"), json.dumps({"case": case, **options})]
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    # A Ray on this machine alone, whatever cluster the caller is connected to.
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    done = subprocess.run(command, check=False, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"{case} {options}: exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(options: argparse.Namespace, run: Case = in_process) -> dict[str, Any]:
    """Measure every case at every size.

    Args:
        options: of `parse`.
        run: runs a case by name; tests hand in another.

    Returns:
        ``ratios``: the slopes; ``raw``: seconds and megabytes at each size, and what the figures depend on.
    """
    sizes = {key: value for key, value in vars(options).items() if key not in ("results", "quick")}
    raw: dict[str, Any] = {**machine(), "sizes_of_1x": sizes}
    with tempfile.TemporaryDirectory() as folder:
        raw["embed"] = _embed(options, Path(folder), run)
        raw["retrieve"] = _retrieve(options, Path(folder), run)
        raw |= _plain(options, Path(folder), run)
    raw["load_average_after"] = os.getloadavg()[0]
    series = {name: raw[name] for name in ("embed", "retrieve", "check", "listing", "shard_plan", "evaluate", "pool")}
    ratios = {f"slope_{name}": _slope(rows, "seconds") for name, rows in series.items()}
    to_end = [{**row, "size": row["images_to_end"]} for row in raw["embed"]]
    ratios["slope_embed_to_end"] = _slope(to_end, "seconds_to_end")
    whole = [{**row, "size": row["all"]} for row in raw["retrieve"]]
    ratios["slope_retrieve_whole"] = _slope(whole, "seconds_ranking_and_merging")
    for who in ("driver", "worker"):
        ratios[f"slope_{who}_memory"] = _slope(whole, f"{who}_peak_mb")
        peaks = [row[f"{who}_peak_mb"] for row in raw["retrieve"]]
        raw[f"{who}_added_mb"] = peaks[-1] - peaks[0]
    return {"ratios": ratios, "raw": raw}


Rows = list[dict[str, float]]
"""One row for each size, ascending, with the key ``size``."""


def _embed(options: argparse.Namespace, folder: Path, run: Case) -> Rows:
    sizes = [options.images * factor for factor in FACTORS]
    keys = ("side", "shard", "lead", "trail", "repeats")
    found = run("embed", sizes=sizes, folder=str(folder / "embed"), **{key: vars(options)[key] for key in keys})
    rows: Rows = []
    for size in sizes:
        row = found[str(size)]
        rows.append({"size": row["images"], **row, "images_per_second": row["images"] / row["seconds"]})
    return rows


def _retrieve(options: argparse.Namespace, folder: Path, run: Case) -> Rows:
    rows: Rows = []
    for factor in FACTORS:
        size = options.gallery * factor
        with tempfile.TemporaryDirectory(dir=folder) as stores:
            case = {"folder": stores, "size": size + options.gallery_lead, "queries": options.queries}
            case["block"] = options.gallery_block
            run("store", **case)
            lead = options.gallery_lead // options.gallery_block
            rows.append(
                {"size": size, "all": case["size"], **run("retrieve", **case, lead=lead, repeats=options.repeats)}
            )
    return rows


def _plain(options: argparse.Namespace, folder: Path, run: Case) -> dict[str, Rows]:
    found: dict[str, Rows] = {}
    for factor in FACTORS:
        size, queries = options.fabrics * factor, options.pool_queries * factor
        with tempfile.TemporaryDirectory(dir=folder) as place:
            steps = run("plain", folder=place, size=size, queries=queries, repeats=options.repeats)
        for name, row in steps.items():
            found.setdefault(name, []).append({"size": queries if name == "pool" else size, **row})
    return found


def _slope(rows: Rows, key: str) -> float:
    return slope([row["size"] for row in rows], [row[key] for row in rows])


def write(found: dict[str, Any], results: Path) -> None:
    """Write growth.json and growth.svg."""
    results.mkdir(parents=True, exist_ok=True)
    (results / "growth.json").write_text(json.dumps(found, indent=1) + "\n")
    write_plot(found, results / "growth.svg")


def main() -> None:
    options = parse()
    found = measure(options)
    write(found, options.results)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
