"""A query of `search` and `serve` at the size of a large catalogue, on random vectors.

    first     the first look at all vectors, in 8 bits, with exact scores of those that may be among the first
    expanded  the same, twice, as with retrieve.expand
    twice     the same, and the second look at the windows of the first 300 fabrics
    faiss     FAISS, one look at as many bytes (IndexScalarQuantizer, 8 bits, inner product), with --faiss

All run in this process with all cores, on files that are in the system's cache where they fit. The windows of all
shards are one file under many names. Encoding the picture is not in it.
Shapes: F fabrics, R vectors of one, D dimensions, W windows of one.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from machine import machine
from timing import in_turns, ratio, show

from retrieval_core.config.config import load_config
from retrieval_core.ranking.second_look import Parts
from retrieval_core.serving.catalogue import Catalogue, write_catalogue
from retrieval_core.serving.search_index import Query, SearchIndex
from retrieval_core.store.embeddings import Vectors
from retrieval_core.store.windows import Kept, windows_file, write_windows

SHARD, SIDE, PARTS = 448, 23, 3
_BLOCK = 8192


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """``ratios``: seconds of the first look / those of FAISS; ``raw``: seconds of a query."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder, shape, began = Path(name), (options.fabrics, options.vectors, options.dim), time.perf_counter()
        write_catalogue(folder, shape, drawn(shape))
        made, began = time.perf_counter() - began, time.perf_counter()
        catalogue = Catalogue(folder)
        opened, shards = time.perf_counter() - began, windows_of_shards(folder, options)
        rng, query = np.random.default_rng(1), drawn_queries(options)
        motif = rng.integers(-127, 128, (1, PARTS, options.dim), np.int8)
        parts = Parts(np.zeros(1, np.int32), motif)

        def search(parts: Parts | None = None, **keys: int) -> Callable[[], Any]:
            asked = [f"retrieve.{key}={value}" for key, value in keys.items()]
            config = load_config(None, ["embed.window_stride=1", *asked])
            index = SearchIndex(catalogue, Width(options.dim), config, 98, "", shards)
            return lambda: index.rank(Query(next(query), parts), 100)

        ways = {
            "first": search(),
            "expanded": search(expand=5),
            "twice": search(parts, rescore=300),
            "both": search(parts, expand=5, rescore=300),
        }
        if options.faiss:
            ways["faiss"] = by_faiss(catalogue, query)
        seconds = in_turns(ways, options.repeats)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    raw = {
        **machine(),
        **{key: getattr(options, key) for key in ("fabrics", "vectors", "dim")},
        "seconds": medians,
        "slowest_seconds": {name: max(times) for name, times in seconds.items()},
        "seconds_to_make_ready": made,
        "seconds_to_open": opened,
        "most_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }
    ratios = {}
    if options.faiss:
        raw["search_vs_faiss"] = ratio(seconds["first"], seconds["faiss"])
        ratios["search_vs_faiss"] = raw["search_vs_faiss"]["median"]
    return {"ratios": ratios, "raw": raw}


class Width:
    """An encoder of which only the width is asked."""

    def __init__(self, dim: int) -> None:
        self.dim = dim


def drawn(shape: tuple[int, int, int]) -> Iterator[Vectors]:
    """Random vectors of L2 norm 1, with paths as long as paths are, in another order than theirs."""
    fabrics, regions, dim = shape
    rng = np.random.default_rng(0)
    for start in range(0, fabrics, _BLOCK):
        rows = range(start, min(start + _BLOCK, fabrics))
        vectors = rng.standard_normal((len(rows), regions, dim), np.float32)
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        paths = pa.array([f"catalogue/season-{row % 997:03}/fabric-{row:08}.jpg" for row in rows])
        boxes = np.full((len(rows), regions, 4), (0, 0, 336, 336), np.int32)
        yield Vectors(paths, vectors, boxes, np.arange(len(rows)))


def drawn_queries(options: argparse.Namespace) -> Iterator[np.ndarray]:
    """As like some fabric as a motif is."""
    rng = np.random.default_rng(2)
    while True:
        vector = rng.standard_normal(options.dim).astype(np.float32)
        yield vector / np.linalg.norm(vector)


def windows_of_shards(folder: Path, options: argparse.Namespace) -> list[tuple[str, int, int]]:
    """Shards with windows: a file under many names, as a file each would be 135 GB at a million fabrics."""
    rng, windows = np.random.default_rng(3), np.arange(SIDE * SIDE)
    row, column = np.divmod(windows, SIDE)
    boxes = np.stack([column, row, column + 2, row + 2], axis=1).astype(np.int32) * 14
    kept = [Kept(rng.integers(-127, 128, (len(windows), options.dim), np.int8), boxes) for _ in range(SHARD)]
    first = Path(windows_file(str(folder / "gallery" / "00000.parquet")))
    write_windows(str(first), [f"fabric-{row:08}" for row in range(SHARD)], kept, options.dim)
    shards = []
    for start in range(0, options.fabrics, SHARD):
        shard = str(folder / "gallery" / f"{start // SHARD:05}.parquet")
        if start:
            Path(windows_file(shard)).hardlink_to(first)
        shards.append((shard, 0, min(SHARD, options.fabrics - start)))
    return shards


def by_faiss(catalogue: Catalogue, query: Iterator[np.ndarray]) -> Callable[[], Any]:
    """FAISS over the same vectors, 8 bits a number."""
    import faiss

    dim = catalogue.vectors_FRD.shape[2]
    vectors = catalogue.vectors_FRD.reshape(-1, dim)
    index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    index.train(np.array(vectors[:_BLOCK]))
    for start in range(0, len(vectors), _BLOCK):
        index.add(np.array(vectors[start : start + _BLOCK]))
    return lambda: index.search(next(query)[None], 100)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options, each with a default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fabrics", type=int, default=1_000_000)
    parser.add_argument("--vectors", type=int, default=10)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--folder", help="where the files are written, 1.3 kB a vector (default: the temporary folder)")
    parser.add_argument("--faiss", action="store_true", help="compare with FAISS (the extra faiss)")
    parser.add_argument("--quick", action="store_true", help="the logic in seconds, on sizes of no use")
    options = parser.parse_args(arguments)
    if options.quick:
        options.fabrics, options.vectors, options.dim, options.repeats = 2000, 3, 16, 1
    return options


if __name__ == "__main__":
    show(measure(parse()))
