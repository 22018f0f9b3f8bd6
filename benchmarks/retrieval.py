"""Exact top-k (`block_topk`) against the matrix product it cannot do without, in one run on one machine.

Three ways to rank the same unit vectors, taken in turns so that a busy machine slows all of them alike:

    matmul         torch's float32 product of queries and gallery alone: the arithmetic's own limit, no ranking
    matmul + topk  the same and torch.topk over the whole score matrix: what one writes without the library
    block_topk     ours: exact scores, ties by path, memory bounded whatever the gallery

Q queries, F fabrics, D dimensions. The vectors are random directions, so there are few near-ties at the k-th place;
catalogues with many copies of one design make `block_topk` rescore more.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import machine

from retrieval_core.similarity import block_topk

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    options = parse()
    queries_QD, gallery_FD = (
        unit_vectors(options.queries, options.dim, 1),
        unit_vectors(options.gallery, options.dim, 2),
    )
    gallery_FRD = gallery_FD[:, None]
    ways: dict[str, Callable[[], Any]] = {
        "matmul": lambda: queries_QD @ gallery_FD.T,
        "matmul + topk": lambda: (queries_QD @ gallery_FD.T).topk(options.k),
        "block_topk": lambda: block_topk(queries_QD, gallery_FRD, options.k),
    }
    agreement = share_in_common(block_topk(queries_QD, gallery_FRD, options.k).rows, ways["matmul + topk"]().indices)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    write({**vars(options), **machine(), "in_common_with_float32": agreement, "seconds": seconds})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--gallery", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7, help="turns; medians are reported")
    return parser.parse_args()


def unit_vectors(count: int, dim: int, seed: int) -> torch.Tensor:
    """(count, dim) float32, directions uniform on the sphere."""
    vectors = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=1)


def share_in_common(ours_QK: Any, others_QK: torch.Tensor) -> float:
    """Mean share of the first k that both name: float32 rounding may exchange near-ties at the k-th place."""
    pairs = zip(ours_QK.tolist(), others_QK.tolist(), strict=True)
    return statistics.mean(len(set(ours) & set(others)) / len(ours) for ours, others in pairs)


def write(result: dict[str, Any]) -> None:
    """Write results/retrieve.json and .md, and print the latter."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "retrieve.json").write_text(json.dumps(result, indent=1) + "\n")
    base = statistics.median(result["seconds"]["matmul"])
    lines = [
        f"{result['queries']:,} queries x {result['gallery']:,} vectors of {result['dim']} dimensions, "
        f"k = {result['k']}, {result['threads']} threads, median of {result['repeats']} (fastest - slowest):",
        "",
        "| way | seconds | against matmul |",
        "|---|---|---|",
    ]
    for name, times in result["seconds"].items():
        middle = statistics.median(times)
        lines.append(f"| {name} | {middle:.3f} ({min(times):.3f} - {max(times):.3f}) | {middle / base:.2f} |")
    lines += [
        "",
        f"Candidates in common with the float32 ranking: {result['in_common_with_float32']:.4%}. Load average before: "
        f"{result['load_average_before']:.1f}. {result['processor']}, torch {result['torch']}.",
    ]
    text = "\n".join(lines) + "\n"
    (RESULTS / "retrieve.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
