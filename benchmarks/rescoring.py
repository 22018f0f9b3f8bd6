"""The second look against the bare product of the same pairs.

    product   the products of the 8-bit windows and motifs of all pairs, as float32 matrices, from memory
    look      the task of the retrieval stage: windows read from a local disk, products, the best of them, scores,
              boxes, and the ranking written

Both run in this process with one thread, as a task does. Windows are random, their files in the system's cache.
Shapes: F fabrics, W windows of one, D dimensions, Q queries with X vectors, C candidates of one.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from machine import machine
from timing import in_turns, ratio, show

from ray_jobs.retrieval.blocks import GalleryBlock
from ray_jobs.retrieval.second_look import Look, _score_block, write_motifs
from retrieval_core.files import storage, tables
from retrieval_core.ranking.partials import PLACE
from retrieval_core.ranking.second_look import Parts
from retrieval_core.store.windows import Kept, windows_file, write_windows

SHARD, WINDOWS, PARTS = 448, 144, 3


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """``ratios``: seconds of the look / those of the product; ``raw``: seconds, pairs a second."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    windows_FWD = rng.integers(-127, 128, (options.fabrics, WINDOWS, options.dim), np.int8)
    motifs_QXD = rng.integers(-127, 128, (options.queries, PARTS, options.dim), np.int8)
    chosen_QC = np.array([rng.permutation(options.fabrics)[: options.candidates] for _ in range(options.queries)])
    with tempfile.TemporaryDirectory() as folder:
        block, look = written(Path(folder), windows_FWD, motifs_QXD, chosen_QC)

        def second_look() -> None:
            storage.remove(look.scores(block))
            _score_block(block, [look], 100, False)

        ways: dict[str, Callable[[], None]] = {
            "product": products(windows_FWD, motifs_QXD, chosen_QC),
            "look": second_look,
        }
        for way in ways.values():
            way()
        seconds = in_turns(ways, options.repeats)
    pairs = chosen_QC.size
    rates = {name: pairs / sorted(times)[len(times) // 2] for name, times in seconds.items()}
    sizes = {"fabrics": options.fabrics, "queries": options.queries, "pairs": pairs, "dim": options.dim}
    found = ratio(seconds["look"], seconds["product"])
    raw = {**machine(), **sizes, "pairs_per_second": rates, "rescore_vs_product": found}
    return {"ratios": {"rescore_vs_product": found["median"]}, "raw": raw}


def written(
    folder: Path, windows_FWD: np.ndarray, motifs_QXD: np.ndarray, chosen_QC: np.ndarray
) -> tuple[GalleryBlock, Look]:
    """The files that the task reads: windows of the shards, candidates in the order of the gallery, motifs."""
    side = np.arange(WINDOWS)
    boxes = np.stack([side % 12, side // 12, side % 12 + 1, side // 12 + 1], axis=1).astype(np.int32) * 28
    slices = []
    for number, start in enumerate(range(0, len(windows_FWD), SHARD)):
        shard, images = str(folder / "gallery" / f"{number:06d}.parquet"), windows_FWD[start : start + SHARD]
        names = [fabric_name(start + place) for place in range(len(images))]
        write_windows(windows_file(shard), names, [Kept(own, boxes) for own in images], images.shape[2])
        slices.append((shard, 0, len(images)))
    look = Look(*(str(folder / name) for name in ("candidates.parquet", "motifs.parquet", "scores")))
    table = pa.table(
        {
            "query": np.repeat(np.arange(len(chosen_QC), dtype=np.int32), chosen_QC.shape[1]),
            PLACE: chosen_QC.ravel(),
            "image_path": [fabric_name(row) for row in chosen_QC.ravel()],
        }
    )
    tables.write_table(look.candidates, table.sort_by(PLACE))
    write_motifs(look.motifs, Parts(np.arange(len(motifs_QXD), dtype=np.int32), motifs_QXD))
    return GalleryBlock(slices), look


def products(windows_FWD: np.ndarray, motifs_QXD: np.ndarray, chosen_QC: np.ndarray) -> Callable[[], None]:
    """The bare products: fabrics that as many queries chose are one batch, as in the product."""
    fabrics, queries = torch.from_numpy(windows_FWD), torch.from_numpy(motifs_QXD)
    pairs = sorted((fabric, query) for query, row in enumerate(chosen_QC.tolist()) for fabric in row)
    chosen = [(fabric, [q for _, q in own]) for fabric, own in itertools.groupby(pairs, key=lambda pair: pair[0])]
    chosen.sort(key=lambda entry: len(entry[1]))
    batches = []
    for _, group in itertools.groupby(chosen, key=lambda entry: len(entry[1])):
        batches += [
            (torch.tensor([fabric for fabric, _ in part]), torch.tensor([own for _, own in part]))
            for part in chunks(list(group), 32)
        ]

    @torch.inference_mode()
    def multiply() -> None:
        for rows_B, queries_BC in batches:
            windows_BWD = fabrics[rows_B].to(torch.float32)
            torch.bmm(queries[queries_BC].flatten(1, 2).to(torch.float32), windows_BWD.transpose(1, 2))

    return multiply


def chunks(values: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Consecutive parts of at most ``size``."""
    return [values[start : start + size] for start in range(0, len(values), size)]


def fabric_name(row: int) -> str:
    """As long as names are."""
    return f"catalogue/season-{row // 1000:04d}/fabric-{row:08d}.jpg"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options, each with a default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fabrics", type=int, default=4480)
    parser.add_argument("--queries", type=int, default=120)
    parser.add_argument("--candidates", type=int, default=300)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="the logic in seconds, on sizes of no use")
    options = parser.parse_args(arguments)
    if options.quick:
        options.fabrics, options.queries, options.candidates, options.dim, options.repeats = 60, 5, 20, 16, 1
    return options


if __name__ == "__main__":
    show(measure(parse()))
