"""A motif picked on a fabric against its cut-out: what the search page finds of the other fabrics that show it.

    cut-out   the motif's own queries
    box       the part of a fabric that motif_boxes.csv says is the motif, as if it were dragged
    click     one click in the middle of that box
    aside     one click up to a quarter of the box's sides away from it

Boxes are drawn among those that lie within their fabric and whose motif has a query. The fabric that is clicked counts
for none of the four. The run must have embedded its gallery; the options are those of its command:

    fabric-retrieval embed --config ray_jobs/configs/fabrics_dev.yaml --set train.enabled=false
    python benchmarks/picking.py --config ray_jobs/configs/fabrics_dev.yaml --set train.enabled=false
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ray_jobs.run import Run
from ray_jobs.search import open_run
from retrieval_core.config.config import Config, load_config
from retrieval_core.config.sections import ImagesConfig
from retrieval_core.data.datasets import iter_gallery, iter_queries
from retrieval_core.data.motif_boxes import load_motif_boxes
from retrieval_core.evaluation.bootstrap import motif_intervals
from retrieval_core.files import storage
from retrieval_core.images.decoding import read_content
from retrieval_core.images.rgb import Picture, decode_rgb
from retrieval_core.serving.search_index import Query, SearchIndex
from retrieval_core.store.embeddings import Box

WAYS = ("cut-out", "box", "click", "aside")
RESAMPLES = 1000


class Motif(NamedTuple):
    """A motif on a fabric."""

    category: str
    fabric: str
    box: Box
    aside: tuple[float, float]
    """Of the box's sides, from its middle."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    config = load_config(options.config, options.set)
    fabrics = {storage.absolute(record.location): set(record.categories) for record in iter_gallery(config.data)}
    queries = [(record.location, set(record.categories)) for record in iter_queries(config.data)]
    motifs = drawn(config, {name for _, names in queries for name in names}, options.motifs, options.seed)
    index = open_run(Run(config))
    recalls = np.array([recalls_of(index, motif, fabrics, queries, options.depth) for motif in motifs])
    bounds = motif_intervals(recalls, [(motif.category,) for motif in motifs], RESAMPLES, options.seed)
    whole = recalls[:, 0].mean()
    found = {}
    for row, way in enumerate(WAYS):
        mean = recalls[:, row].mean()
        low, high = bounds[row] if bounds else (float("nan"), float("nan"))
        found[way] = {"recall": float(mean), "of the cut-out": float(mean / whole), "interval": [low, high]}
        print(
            f"{way:8} recall@{options.depth} {mean:.3f} ({low:.3f} to {high:.3f}), {mean / whole:.3f} of the cut-out's"
        )
    if options.results:
        options.results.write_text(json.dumps({"motifs": len(motifs), "seed": options.seed, "found": found}, indent=1))
    return 0


def drawn(config: Config, wanted: set[str], count: int, seed: int) -> list[Motif]:
    """Motifs on fabrics of the gallery, drawn without replacement."""
    boxes, every = load_motif_boxes(config.data), list[tuple[str, str, Box]]()
    for record in iter_gallery(config.data):
        if printed := [(name, box) for name, box in boxes.get(record.path, []) if name in wanted]:
            width, height = picture_of(record.location, config.images).rgb.size
            every += [
                (name, record.location, box)
                for name, box in printed
                if min(box[:2]) >= 0 and box[2] <= width and box[3] <= height
            ]
    if not every:
        raise SystemExit(f"{config.data.root}: motif_boxes.csv has no box of a query's motif on its fabrics")
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(every), min(count, len(every)), replace=False)
    return [Motif(*every[row], tuple(rng.uniform(-0.25, 0.25, 2).tolist())) for row in chosen.tolist()]


def picture_of(location: str, keys: ImagesConfig) -> Picture:
    return decode_rgb(read_content(location, keys.max_pixels), keys)


def recalls_of(
    index: SearchIndex, motif: Motif, fabrics: dict[str, set[str]], queries: Sequence[tuple[str, set[str]]], depth: int
) -> list[float]:
    """Recall at the depth of each of ``WAYS``; that of the cut-out is a mean over its queries."""
    own = storage.absolute(motif.fabric)
    relevant = {path for path, names in fabrics.items() if motif.category in names and path != own}

    def recall(query: Query) -> float:
        hits = [path for hit in index.rank(query, depth + 1) if (path := storage.absolute(hit.path)) != own]
        return len(relevant & set(hits[:depth])) / min(depth, max(1, len(relevant)))

    return [
        float(np.mean([recall(query) for query in asked]))
        for asked in (cut_outs(index, motif, queries), *([query] for query in picked(index, motif)))
    ]


def cut_outs(index: SearchIndex, motif: Motif, queries: Sequence[tuple[str, set[str]]]) -> list[Query]:
    shown = [location for location, names in queries if motif.category in names]
    return [index.encode(picture_of(location, index.images)) for location in shown]


def picked(index: SearchIndex, motif: Motif) -> Iterator[Query]:
    """The box, a click in its middle, and one aside of it."""
    picture = picture_of(motif.fabric, index.images)
    yield index.encode_part(picture, motif.box)
    x0, y0, x1, y1 = motif.box
    for across, down in ((0.0, 0.0), motif.aside):
        at = int((x0 + x1) / 2 + across * (x1 - x0)), int((y0 + y1) / 2 + down * (y1 - y0))
        yield index.encode_part(picture, index.part_at(picture, at))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--motifs", type=int, default=100, help="drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--depth", type=int, default=100, help="of recall")
    parser.add_argument("--results", type=Path, help="a JSON file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
