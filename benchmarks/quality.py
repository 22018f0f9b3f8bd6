"""Which recipe finds more of the fabrics that hold a motif never seen in training?

    1. Every trained arm fine-tunes the same weights with the same number of images through the encoder.
    2. The rates of `published_best` are chosen on the validation split; the test split is reported.
    3. Every arm embeds the same views once: the whole fabric and 6 x 6 tiles, and each query with and without rotated
       copies. Its indexes differ in what they keep of them, which separates the gain of training from that of indexing.
       No arm has windows (`model.pooling=patches`): their vectors are no choice among those of tiles.
    4. Rankings and figures are the product's own. Intervals: paired bootstrap over motifs, seeds averaged.

Trainings and embeddings are cached in benchmarks/results/quality/ by what they were made from, so a stopped run goes on
with the same command. Without --data a simulated catalogue is drawn there.

Shapes: Q queries, F fabrics, P relevant pairs of them, R views of a fabric, V vectors kept, D dimensions.
"""

from __future__ import annotations

import argparse
import time
import timeit
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from quality_data import Found, Index, Split, read_split
from quality_results import write_results

from retrieval_core.config.config import Config, load_config
from retrieval_core.data.datasets import Record, labelled_split
from retrieval_core.encoding.arms import histogram_arm
from retrieval_core.encoding.encoders import Encoder, ModelEncoder
from retrieval_core.encoding.region_pooling import mean_of_views, pool_regions
from retrieval_core.encoding.views import Views, views_of
from retrieval_core.files.fingerprint import fingerprint
from retrieval_core.images.rgb import read_image
from retrieval_core.model.devices import pick_device
from retrieval_core.model.weights import load_model, save_model, weights_fingerprint
from retrieval_core.ranking.topk import block_topk
from retrieval_core.simulation.dataset import simulate
from retrieval_core.training.loader import TrainingData
from retrieval_core.training.loop import Hooks, Trainer, Worker, fit

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = ROOT / "ray_jobs" / "configs" / "published.yaml"
OURS = ["model.pooling=cls_plus_mean", "train.batch_size=32", "train.trainable_blocks=6", "train.warmup_steps=20"]
OURS += ["train.learning_rate=2e-4", "train.head_learning_rate=2e-4", "train.augmentation=query"]
OURS += ["train.crop_start=[0.2, 0.5]", "train.crop_end=[0.2, 0.5]"]
"""The project's recipe for tiles: all blocks of the small network, on parts of the fabric of a tile's size."""
RATES = {"x1": 1, "x10": 10, "x100": 100}
"""Multiples of the published learning rates, 1e-6 and 1e-5."""
QUICK = ["train_motifs=24", "val_motifs=8", "test_motifs=10", "train_fabrics=60", "val_fabrics=20", "test_fabrics=30"]
"""Sizes of the simulated catalogue with --quick."""
INDEXES = (
    Index("whole", None, False),
    Index("pooled", 1, True),
    Index("pooled", 10, True),
    Index("pooled", 30, False),
    Index("pooled", 30, True),
)
TILES = ["embed.regions=[1, 6]", "embed.region_overlap=0.3", "embed.query_turns=[0, -18, 18]"]
EMBED = load_config(None, [*OURS, *TILES]).embed


# ---- the protocol


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    tracks = {"same": read_split(options.data, "test")}
    if options.varied:
        tracks["varied"] = read_split(options.varied, "test")
    choice, scores = choose_rates(options)
    found: dict[tuple[str, int, str], Found] = {}
    for seed in options.seeds:
        seedless = ("histogram", "frozen") if seed == options.seeds[0] else ()
        for arm in (*seedless, *dict.fromkeys(("published_x1", f"published_{choice}", "ours"))):
            for track, split in tracks.items():
                found[arm, seed, track] = rank_arm(options, arm, seed, track, split)
    write_results(options, tracks, found, {"choice": choice, "validation recall": scores})


def choose_rates(options: argparse.Namespace) -> tuple[str, dict[str, float]]:
    """The published recipe's best rates on the validation split, with the first seed and one vector a fabric."""
    split = read_split(options.data, "validation")
    depth = max(1, len(split.fabrics) // 8)  # as deep as a pool of 100 for 800 fabrics
    scores = {}
    for name in RATES:
        encoder, config, _ = encoder_of(options, f"published_{name}", options.seeds[0])
        whole = Views(options.size, (1,), 0.0)
        queries, fabrics = (embed(encoder, config, records, whole) for records in (split.queries, split.fabrics))
        scores[name] = split.recall(rank_pairs(queries[:, 0], fabrics, split), depth)
    print(f"published rates, validation recall@{depth}: {scores}", flush=True)
    return max(scores, key=lambda name: scores[name]), scores


def recipe(options: argparse.Namespace, arm: str, seed: int) -> Config:
    """The configuration of an arm, cut to the benchmark's number of images."""
    shared = [f"data.root={options.data}", f"model.weights={options.weights}", f"model.image_size={options.size}"]
    shared += [f"run.seed={seed}", "train.epochs=100000", "train.select=last"]
    file: Path | None = PUBLISHED
    images = 3  # triplets
    if arm in ("ours", "frozen"):
        file, images = None, 2
        shared += OURS
    elif arm.startswith("published"):
        rate = RATES[arm.removeprefix("published_")]
        shared += [f"train.learning_rate={1e-6 * rate}", f"train.head_learning_rate={1e-5 * rate}"]
    batch = load_config(file, shared).train.batch_size
    return load_config(file, [*shared, f"train.max_steps={max(1, options.images // (images * batch))}"])


def train(options: argparse.Namespace, arm: str, seed: int) -> Path:
    """Fine-tune an arm in this process, without Ray, checkpoints and validation."""
    config = recipe(options, arm, seed)
    what = [config.train.model_dump(), config.model.model_dump(), config.images.model_dump(), seed, options.data]
    folder = options.cache / f"{arm}-seed{seed}-{fingerprint([*what, weights_fingerprint(config.model)])[:12]}"
    if (folder / "config.json").exists():
        return folder
    model, device = load_model(config.model, seed, with_head=True), pick_device()
    data = TrainingData(config, labelled_split(config.data, "train"))
    trainer = Trainer(config, model, data, Worker(device=device, wrap=lambda module: module.to(device)))
    began = time.perf_counter()
    fit(trainer, Hooks(save=lambda *_: None, validate=lambda _: {"score": 0.0}, epoch_done=lambda *_: None))
    print(
        f"{arm}, seed {seed}: {data.schedule.total} steps in {time.perf_counter() - began:.0f} s, loss "
        f"{trainer.progress.history[1]['loss']:.3f} -> {trainer.progress.history[-1]['loss']:.3f}",
        flush=True,
    )
    save_model(model, str(folder))
    return folder


def encoder_of(options: argparse.Namespace, arm: str, seed: int) -> tuple[Encoder, Config, str]:
    """The encoder of an arm, its configuration, and a fingerprint of its weights."""
    config = recipe(options, arm, seed)
    if arm == "histogram":
        return histogram_arm(config).build(options.batch, seed), config, arm
    model = config.model
    if arm != "frozen":
        model = model.model_copy(update={"weights": str(train(options, arm, seed))})
    network = load_model(model, seed, with_head=False)
    weights = fingerprint([weights_fingerprint(model), model.pooling])
    return ModelEncoder(network, pick_device(), model.precision, options.batch), config, weights


def rank_arm(options: argparse.Namespace, arm: str, seed: int, track: str, split: Split) -> Found:
    """Embed a track with an arm, and rank it with every index."""
    encoder, config, weights = encoder_of(options, arm, seed)
    paths = [record.path for record in (*split.queries, *split.fabrics)]
    inputs = fingerprint([weights, EMBED.model_dump(), options.size, config.images.model_dump(), paths])
    file = options.cache / f"{arm}-seed{seed}-{track}-{inputs[:12]}.npz"
    if not file.exists():
        began = time.perf_counter()
        tiled = config.model_copy(update={"embed": EMBED})
        queries = embed(encoder, config, split.queries, views_of(tiled, config.model, "queries"))
        fabrics = embed(encoder, config, split.fabrics, views_of(tiled, config.model, "gallery"))
        np.savez(file.with_suffix(".partial.npz"), queries=queries, fabrics=fabrics)
        file.with_suffix(".partial.npz").rename(file)
        print(f"{arm}, seed {seed}, {track}: embedded in {time.perf_counter() - began:.0f} s", flush=True)
    with np.load(file) as stored:
        queries_QTD, fabrics_FRD = stored["queries"], stored["fabrics"]
    ranks = {}
    for index in INDEXES:
        queries_QD = mean_of_views(queries_QTD) if index.rotated else queries_QTD[:, 0]
        kept_FVD = fabrics_FRD[:, :1] if index.vectors is None else pool_regions(fabrics_FRD, index.vectors)[0]
        ranks[index] = rank_pairs(queries_QD, kept_FVD, split)
    return Found(ranks, queries_QTD.shape[2], seconds_per_view(encoder, options), file)


def embed(encoder: Encoder, config: Config, records: Sequence[Record], views: Views) -> np.ndarray:
    """(N, R, D) embeddings of all views. An unreadable image ends the benchmark."""
    parts = []
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(records), 16):
            images = pool.map(lambda record: read_image(record.location, config.images), records[start : start + 16])
            loaded = (views.cut(image, config.images).pixels for image in images)
            parts.append(encoder.encode(np.concatenate(list(loaded))))
    return np.concatenate(parts).reshape(len(records), views.per_image, -1)


def seconds_per_view(encoder: Encoder, options: argparse.Namespace) -> float:
    """Seconds that encoding a view takes in the fastest of a few full batches."""
    pixels = np.random.default_rng(0).integers(0, 256, (options.batch, options.size, options.size, 3), np.uint8)
    return min(timeit.repeat(lambda: encoder.encode(pixels), number=1, repeat=5)) / options.batch


def rank_pairs(queries_QD: np.ndarray, fabrics_FVD: np.ndarray, split: Split) -> np.ndarray:
    """(P,) rank of every relevant fabric in the whole gallery, by the product's exact ranking."""
    order = np.array(sorted(range(len(split.fabrics)), key=lambda row: split.fabrics[row].path.encode()))
    rows_QF = order[block_topk(queries_QD, fabrics_FVD[order], len(order)).rows]
    ranks_QF = np.empty_like(rows_QF)
    np.put_along_axis(ranks_QF, rows_QF, np.arange(1, len(order) + 1)[None, :], axis=1)
    return ranks_QF[split.pairs[:, 0], split.pairs[:, 1]]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="data set in the published layout (default: a simulated one is drawn)")
    parser.add_argument("--varied", help="other fabrics with the same test motifs, as a second track")
    parser.add_argument("--weights", default=str(ROOT / "Weight_Path" / "dinov2-motif-tiny"), help="the common start")
    parser.add_argument("--size", type=int, default=112, help="side of a view in pixels")
    parser.add_argument("--images", type=int, default=12_000, help="images through the encoder in each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch", type=int, default=64, help="views a forward pass")
    parser.add_argument("--bootstrap", type=int, default=2000, help="resamples of the motifs")
    parser.add_argument("--quick", action="store_true", help="one seed, few images, a small simulated catalogue")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benchmarks" / "results", help="where quality.json, .md and .svg go"
    )
    options = parser.parse_args(arguments)
    options.cache = options.results / "quality"
    options.cache.mkdir(parents=True, exist_ok=True)
    if options.quick:
        options.seeds, options.images, options.bootstrap = options.seeds[:1], min(options.images, 384), 200
    if options.data is None:
        options.data = str(options.cache / ("quick-data" if options.quick else "data"))
        sizes = [f"simulate.{size}" for size in QUICK] if options.quick else []
        simulate(load_config(None, sizes).simulate, 0, options.data)
    return options


if __name__ == "__main__":
    main()
