"""Exact top-k against the matrix product it needs, all ways in alternation on one machine.

    matmul      the float32 product of queries and gallery, 4 GB of scores at a time, by torch or numpy: the faster of
                the two in each turn
    faiss       FAISS's exact index (IndexFlatIP), with as many threads
    published   the published loop: for each query a Python loop over the gallery; extrapolated from a sample
    kernel      ours: `block_topk` on the same arrays; it selects in the way that a trial found quickest
    own         the same without FAISS, which is one of those ways
    stage       the whole stage: embedding store, Ray tasks, partial rankings, merge, both pool files

The vectors are random directions, so there are few near-ties at the k-th place; in catalogues with many copies of one
design the kernel rescores more. The stage runs on a store of the same size while Ray is up; `cold_s` is its first run,
which still starts processes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from growth_memory import Peaks
from machine import machine
from stores import run_of, unit_vectors
from timing import Seconds, in_turns, ratio, show

from retrieval_core.ranking import selection
from retrieval_core.ranking.topk import block_topk

SAMPLE = 20_000  # fabrics that the published loop is timed on
SCORES = 10**9  # scores that a matrix product writes at a time: 1,000 queries x 1 million


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time all ways.

    Returns:
        ``ratios``: medians over the turns of ours / theirs in seconds, and how many times as long the published loop
        takes; ``raw``: every time, how far our ranking and FAISS's agree, and what the figures depend on.
    """
    queries_QD = unit_vectors(options.queries, options.dim, 1)
    gallery_FD = unit_vectors(options.gallery, options.dim, 2)
    seconds, agreement = kernels(queries_QD, gallery_FD, options)
    published = published_seconds(queries_QD, gallery_FD[:SAMPLE]) * options.queries * options.gallery / SAMPLE
    del gallery_FD
    found = {
        "retrieve_vs_matmul": ratio(seconds["kernel"], best(seconds, "torch", "numpy")),
        "retrieve_vs_faiss": ratio(seconds["kernel"], seconds["faiss"]),
        "retrieve_own_vs_faiss": ratio(seconds["own"], seconds["faiss"]),
    }
    stage = {"stage": [], "cold_s": None} if options.no_stage else stage_seconds(options)
    if stage["stage"]:
        found["retrieve_stage_vs_kernel"] = ratio(stage["stage"], seconds["kernel"][: len(stage["stage"])])
    ratios = {name: value["median"] for name, value in found.items()}
    ratios["published_vs_retrieve"] = published / sorted(seconds["kernel"])[len(seconds["kernel"]) // 2]
    shape = {"queries": options.queries, "gallery": options.gallery, "dim": options.dim, "k": options.k}
    trial = selection._trial(options.dim, torch.get_num_threads())
    raw = {
        **machine(),
        **shape,
        "trial": trial,
        "seconds": seconds,
        "published_s_extrapolated": published,
        **stage,
        "ratios": found,
    }
    return {"ratios": ratios, "raw": {**raw, "in_common_with_faiss": agreement}}


def kernels(queries: np.ndarray, gallery: np.ndarray, options: argparse.Namespace) -> tuple[Seconds, float]:
    """Seconds of the ways in memory, and the share of candidates that our ranking and FAISS's have in common."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(options.dim)
    index.add(gallery)
    gallery_FRD, torch_FD = gallery[:, None], torch.from_numpy(gallery)
    step = max(SCORES // len(gallery), 1)
    parts = [queries[start : start + step] for start in range(0, len(queries), step)]
    ways: dict[str, Callable[[], Any]] = {
        "torch": lambda: [len(torch.from_numpy(part) @ torch_FD.T) for part in parts],
        "numpy": lambda: [len(part @ gallery.T) for part in parts],
        "faiss": lambda: index.search(queries, options.k)[1],
        "kernel": lambda: block_topk(queries, gallery_FRD, options.k).rows,
        "own": lambda: without_faiss(lambda: block_topk(queries, gallery_FRD, options.k).rows),
    }
    pairs = zip(ways["kernel"]().tolist(), ways["faiss"]().tolist(), strict=True)
    common = np.mean([len(set(mine) & set(others)) / options.k for mine, others in pairs])
    return in_turns(ways, options.repeats, warm=False), float(common)


def without_faiss(way: Callable[[], Any]) -> Any:
    """As where FAISS is not installed and there are several threads, which leaves torch's product."""
    with patch.object(selection, "_quickest", lambda *_: "torch"):
        return way()


def best(seconds: Seconds, *names: str) -> list[float]:
    """The fastest of some ways in each turn."""
    return [min(times) for times in zip(*(seconds[name] for name in names), strict=True)]


def published_seconds(queries: np.ndarray, gallery: np.ndarray, sample: int = 2) -> float:
    """Seconds per query of the published loop over this gallery: a cosine per pair in Python, then a sort."""
    began = time.perf_counter()
    for query in queries[:sample]:
        scores = {}
        for number, fabric in enumerate(gallery):
            scores[number] = float(np.dot(query, fabric) / (np.linalg.norm(query) * np.linalg.norm(fabric)))
        sorted(scores.items(), key=lambda pair: pair[1], reverse=True)[:100]
    return (time.perf_counter() - began) / sample


def stage_seconds(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the whole stage in every turn and of the first one, and peak megabytes of the processes."""
    import ray

    from ray_jobs.cluster.connect import connect
    from ray_jobs.retrieve import retrieve_arm

    with tempfile.TemporaryDirectory() as folder:
        run = run_of(Path(folder), options.gallery, options.queries, options.dim, f"retrieve.top_k={options.k}")
        run.overwrite = True
        connect()
        try:
            with Peaks() as peaks:
                seconds = [retrieve_arm(run, run.main)["seconds"] for _ in range(options.repeats + 1)]
        finally:
            ray.shutdown()
    return {"stage": seconds[1:], "cold_s": seconds[0], **peaks.megabytes()}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options, each with a default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5, help="turns; medians are reported")
    parser.add_argument("--no-stage", action="store_true", help="the kernel only, without Ray")
    parser.add_argument("--quick", action="store_true", help="the logic in seconds, on few vectors and without Ray")
    options = parser.parse_args(arguments)
    if options.quick:
        options.gallery, options.queries, options.repeats, options.no_stage = 20_000, 50, 2, True
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was measured as JSON."""
    show(measure(parse(arguments)))


if __name__ == "__main__":
    main()
