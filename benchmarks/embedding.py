"""The embedding job, decoding and Ray included, against a bare forward pass of the same network.

    forward    the network as transformers runs it, on batches of pixels in memory; timed before and after ours, since
               the machine's speed varies
    own        the same as our encoder runs it: the last block computes only the token that is pooled, and on a CPU
               the weights are folded (`folding.py`)
    published  the published loop: open an image, preprocess it, one forward pass, the next image
    ours       the embedding stage on Ray Data: decode in tasks, encode in actors, commit shard by shard
    decode     decoding alone, one process per core

Rates of ours run from the commit at which every actor has committed a shard to the last commit. The time before is
start-up and is given in seconds: of the stage while Ray is up, and of the whole command from a cold start
(`first_image_s`). Some images are decoded while the actors load the model, which flatters the small network by about
6 %: a thousand of 4,096, where decoding is a quarter of the work. All ways use all threads and float32 only.

`embed_..._vs_own` shows what decoding, Ray and commits cost on top of the same arithmetic in memory;
`embed_..._vs_forward` compares the whole with plain transformers code. The cores that compute also decode, so no job
can be faster than 1 / (1 / own + 1 / decode): ``limit`` is that over forward. The faster the cores multiply, the lower
it is.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
import torch
import torch.nn.functional as F
from drawn import drawn_fabrics
from machine import machine
from PIL import Image
from timing import ratio, show
from training_cases import BASE, MINIATURE, shaped

from ray_jobs.embed import embed
from ray_jobs.run import Run
from retrieval_core.config.config import load_config
from retrieval_core.config.sections import ImagesConfig
from retrieval_core.encoding.views import Views
from retrieval_core.images.decoding import read_content
from retrieval_core.model.devices import pick_device
from retrieval_core.model.embedder import FabricEmbedder, normalise
from retrieval_core.model.folding import fold
from retrieval_core.model.weights import load_model, save_model

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "Weight_Path" / "dinov2-motif-tiny"
FIRST_IMAGE_LIMIT_S = 300

Network = Callable[[torch.Tensor], torch.Tensor]
"""(N, 3, S, S) normalised pixels to (N, D) embeddings."""


class Case(NamedTuple):
    """A network, and how many images of which size a turn gives it."""

    name: str
    weights: str
    size: int
    batch: int
    shard: int
    shards: int
    passes: int
    """Bare forward passes before ours, and as many after it."""
    one_by_one: int
    """Images of the published loop."""
    windows: bool = False
    """Fabrics of ``size`` in windows of patches, random weights: `windows.py`."""


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time all ways.

    Returns:
        ``ratios``: medians over the turns of ours / theirs in images per second; ``raw``: every rate, start-up times
        and what the figures depend on.
    """
    ratios: dict[str, float] = {}
    raw: dict[str, Any] = {**machine(), "repeats": options.repeats}
    with tempfile.TemporaryDirectory() as scratch, own_ray():
        for case in cases(options, Path(scratch)):
            pictures = draw(Path(scratch), case)
            rates = compare(case, pictures, Path(scratch), options.repeats)
            found = {other: ratio(rates["ours"], rates[other]) for other in ("forward", "own", "published")}
            ratios |= {f"embed_{case.name}_vs_{other}": value["median"] for other, value in found.items()}
            best = [1 / (1 / own + 1 / decode) for own, decode in zip(rates["own"], rates["decode"], strict=True)]
            found["limit"] = ratio(best, rates["forward"])
            ratios[f"embed_{case.name}_limit"] = found["limit"]["median"]
            raw[case.name] = {"images_per_second": rates, "ratios": found}
        if options.cold:
            raw["first_image_s"] = first_image_seconds(Path(scratch), case, pictures)
    return {"ratios": ratios, "raw": raw}


def cases(options: argparse.Namespace, scratch: Path) -> list[Case]:
    """DINOv2 base and the small network, both at 224 px; with --quick one of no use."""
    shape, name = (MINIATURE, "tiny") if options.quick else (BASE, "base")
    weights = scratch / "weights"
    save_model(shaped(shape), str(weights))
    if options.quick:
        return [Case(name, str(weights), 28, 4, 4, 4, 1, 4)]
    return [
        Case("base", str(weights), 224, 8, 8, options.base_shards, 3, 16),
        Case("tiny", str(TINY), 224, 16, 64, options.tiny_shards, 16, 64),
    ]


def draw(scratch: Path, case: Case) -> list[Path]:
    """Simulated fabrics of 600 px, as many as a turn of ours embeds; several files may link to one image."""
    drawn = drawn_fabrics(scratch / "drawn", 64, 600)
    folder = scratch / f"gallery-{case.name}"
    folder.mkdir()
    pictures = []
    for number in range(case.shard * case.shards):
        pictures.append(folder / f"{number:06d}.png")
        os.link(drawn[number % len(drawn)], pictures[-1])
    return pictures


def compare(case: Case, pictures: list[Path], scratch: Path, repeats: int) -> dict[str, list[float]]:
    """Images per second of all ways, and seconds of start-up, in every turn."""
    config = load_config(None, settings(case, scratch, "any"))
    model, ours_alone = (load_model(config.model, 0, with_head=False).to(pick_device()).eval() for _ in range(2))
    if pick_device().type == "cpu":
        fold(ours_alone)
    views = Views(case.size, (1,), 0.0)
    loaded = [views.of(path.read_bytes(), config.images).pixels for path in pictures[: case.batch]]
    pixels = normalise(torch.from_numpy(np.stack(loaded).reshape(-1, case.size, case.size, 3)).to(pick_device()))
    plain = as_written(model)
    with torch.inference_mode():  # also warms both up
        torch.testing.assert_close(ours_alone(pixels), plain(pixels), rtol=0, atol=1e-5)
    bare, own = (partial(forward, network, pixels, case.passes) for network in (plain, ours_alone))
    few = pictures[: case.one_by_one]
    names = ("ours", "forward", "own", "published", "decode", "ours_start_s")
    rates: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats):
        before = seconds(bare)
        rate, start = ours(case, scratch, f"{case.name}-{turn}")
        rates["ours"].append(rate)
        rates["ours_start_s"].append(start)
        rates["forward"].append(2 * case.passes * case.batch / (before + seconds(bare)))
        rates["own"].append(case.passes * case.batch / seconds(own))
        rates["published"].append(len(few) / seconds(partial(published, plain, few, case.size)))
        rates["decode"].append(decode([str(path) for path in pictures[:256]], config.images, case.size))
    return rates


def seconds(action: Callable[[], Any]) -> float:
    """Seconds that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def as_written(model: FabricEmbedder) -> Network:
    """The same network in plain transformers code: the whole DINOv2, its CLS token, the head."""
    backbone: Any = model.dinov2
    head = model.projection_head or torch.nn.Identity()

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        return F.normalize(head(backbone(pixel_values=pixels).last_hidden_state[:, 0]), dim=1)

    return embed


@torch.inference_mode()
def forward(network: Network, pixels: torch.Tensor, batches: int) -> None:
    """Bare forward passes of one batch; waits for the device."""
    for _ in range(batches):
        network(pixels)
    if pixels.is_cuda:
        torch.cuda.synchronize()


@torch.no_grad()
def published(network: Network, pictures: Sequence[Path], size: int) -> np.ndarray:
    """One image, one forward pass, the result to the host, the next image."""
    device, rows = pick_device(), []
    for path in pictures:
        picture = Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(picture))[None].to(device)
        rows.append(network(normalise(pixels)).cpu().numpy()[0])
    return np.stack(rows)


def decode(pictures: Sequence[str], images: ImagesConfig, size: int) -> float:
    """Images per second of decoding alone on all cores, by Ray tasks of one core each."""
    from ray_jobs.cluster.connect import run_tasks

    cores = os.cpu_count() or 1
    return sum(run_tasks(decoded, [(pictures, images, size)] * cores))


def decoded(pictures: Sequence[str], images: ImagesConfig, size: int) -> float:
    """Images per second of one process that is warmed up."""
    views = Views(size, (1,), 0.0)

    def decode_all(paths: Sequence[str]) -> None:
        for path in paths:
            views.of(read_content(path, images.max_pixels), images)

    decode_all(pictures[:16])
    return len(pictures) / seconds(lambda: decode_all(pictures))


def ours(case: Case, scratch: Path, name: str) -> tuple[float, float]:
    """Steady images per second of the embedding stage, and the seconds before its first commit."""
    run = Run(load_config(None, settings(case, scratch, name)))
    began = time.time()
    embed(run)
    record = run.workspace.record("embed.gallery")
    assert record is not None and record["counts"]["embedded"] == case.shard * case.shards, record
    times = commits(Path(run.store(run.main, "gallery")))
    actors = record["actors"]
    steady = (len(times) - actors) * case.shard / (times[-1] - times[actors - 1])
    return steady, times[0] - began


def settings(case: Case, scratch: Path, name: str) -> list[str]:
    """The job: a folder of images, one query, no labels."""
    if case.windows:
        pooling = [f"embed.fabric_size={case.size}", "model.pooling=patches", "model.init=random"]
    else:
        pooling = [f"model.image_size={case.size}", "model.pooling=cls"]
    return [
        *(f"run.output_dir={scratch / 'out'}", f"run.name={name}", "train.enabled=false", "data.format=folder"),
        *(f"data.root={scratch}", f"data.gallery=gallery-{case.name}", f"data.queries=gallery-{case.name}/000000.png"),
        *(f"model.weights={case.weights}", "model.precision=auto", *pooling),
        *(f"embed.batch_size={case.batch}", f"embed.shard_size={case.shard}"),
    ]


def commits(store: Path) -> list[float]:
    """When each shard appeared."""
    return sorted(file.stat().st_mtime for file in store.glob("*.parquet"))


def first_image_seconds(scratch: Path, case: Case, pictures: list[Path]) -> float:
    """From the command to the first committed shard, everything cold: interpreter, imports, Ray, listing, weights."""
    overrides = [word for setting in settings(case, scratch, "cold") for word in ("--set", setting)]
    store = scratch / "out" / "cold" / "embeddings" / "gallery"
    began = time.time()
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "ray_jobs", "embed", *overrides]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as job:
        if job.wait(FIRST_IMAGE_LIMIT_S):
            raise RuntimeError(f"{command[:4]} ended with {job.returncode}")
    return commits(store)[0] - began


@contextmanager
def own_ray() -> Iterator[None]:
    """Ray on this machine for all turns; one task has run, so that worker processes exist."""
    from ray_jobs.cluster.connect import connect, run_tasks

    connect()
    list(run_tasks(torch.cuda.is_available, [()]))
    try:
        yield
    finally:
        ray.shutdown()


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options, each with a default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="turns; medians are reported")
    parser.add_argument("--base-shards", type=int, default=16, help="shards of 8 pictures a turn of DINOv2 base")
    parser.add_argument("--tiny-shards", type=int, default=64, help="shards of 64 pictures a turn of the small network")
    parser.add_argument("--no-cold", dest="cold", action="store_false", help="leave out the cold start")
    parser.add_argument("--quick", action="store_true", help="the logic in seconds, on a network of no use")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was measured as JSON."""
    show(measure(parse(arguments)))


if __name__ == "__main__":
    main()
