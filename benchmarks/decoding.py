"""JPEGs decoded whole against reduced (`images.jpeg`) on one core, and how far the results differ.

For every side of a fabric in pixels: images per second from the cached file to the model's pixels; the mean difference
of those pixels in grey levels; and the cosine of the two embeddings by `dinov2-motif-tiny`. Fabrics are simulated and
saved at quality 90.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from PIL import Image
from stores import WEIGHTS
from timing import in_turns, ratio, show

from retrieval_core.config.sections import ImagesConfig, ModelConfig, SimulateConfig
from retrieval_core.encoding.arms import model_arm
from retrieval_core.encoding.views import Views
from retrieval_core.images.decoding import read_content
from retrieval_core.simulation.dataset import draw_fabric
from retrieval_core.simulation.plan import plan_dataset

WAYS = {jpeg: ImagesConfig(jpeg=jpeg) for jpeg in ("whole", "reduced")}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """``ratios``: reduced / whole in images per second, a key for each side; ``raw``: rates and differences."""
    torch.set_num_threads(1)
    ratios, rows = {}, []
    for side in options.sides:
        with tempfile.TemporaryDirectory() as folder:
            row = of_side(write(Path(folder), side, options.count), options)
        ratios[f"jpeg_reduced_vs_whole_{side}"] = row["speed"]["median"]
        rows.append({"side": side, **row})
    return {"ratios": ratios, "raw": {**machine(), "view": options.view, "count": options.count, "rows": rows}}


def of_side(files: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Rates and differences on some files."""
    views = Views(options.view, (1,), 0.25)
    load = {
        name: partial(lambda keys: [views.of(read_content(file, keys.max_pixels), keys).pixels for file in files], keys)
        for name, keys in WAYS.items()
    }
    seconds = in_turns(load, options.repeats)
    whole, reduced = (np.concatenate(load[name]()) for name in WAYS)
    model = ModelConfig(weights=str(WEIGHTS), image_size=options.view, pooling="cls_plus_mean")
    encoder = model_arm("tiny", model, 0).build(len(files), 0)
    cosine = (encoder.encode(whole) * encoder.encode(reduced)).sum(1)
    return {
        "speed": ratio(seconds["whole"], seconds["reduced"]),
        **{f"{name}_images_per_second": len(files) / sorted(times)[len(times) // 2] for name, times in seconds.items()},
        "grey_levels": float(np.abs(whole.astype(int) - reduced).mean()),
        "lowest_cosine": float(cosine.min()),
        "bytes": sum(Path(file).stat().st_size for file in files) / len(files),
    }


def write(folder: Path, side: int, count: int) -> list[str]:
    """Write JPEGs of fabrics of one side; returns their paths."""
    plan = plan_dataset(SimulateConfig(fabric_size=side, test_motifs=count, test_fabrics=count), 0)
    files = []
    for index in range(plan.fabrics - count, plan.fabrics):
        files.append(str(folder / f"{index}.jpg"))
        Image.fromarray(draw_fabric(plan, index).pixels).save(files[-1], quality=90)
    return files


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options, each with a default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[600, 1200, 2000, 4000], help="pixels of a fabric")
    parser.add_argument("--view", type=int, default=224, help="pixels that the model sees")
    parser.add_argument("--count", type=int, default=6, help="fabrics of a side")
    parser.add_argument("--repeats", type=int, default=5, help="turns; medians are reported")
    parser.add_argument("--quick", action="store_true", help="the logic in seconds, on sizes of no use")
    options = parser.parse_args(arguments)
    if options.quick:
        vars(options).update(sides=[128, 256], view=56, count=2, repeats=1)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was measured as JSON."""
    show(measure(parse(arguments)))


if __name__ == "__main__":
    main()
