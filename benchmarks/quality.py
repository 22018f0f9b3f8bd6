"""Which recipe finds more of the fabrics that hold a motif never seen in training?

    1. Every trained arm fine-tunes the same weights with the same number of images through the encoder. `shipped` is
       the model that comes with the project, as it is.
    2. The rates of `published` are chosen on the validation split; the test splits are reported.
    3. An arm is searched with each of its indexes: what is kept of a fabric, at what cost of encoding.
    4. Rankings and figures are the product's own. Intervals: bootstrap over motifs, seeds averaged.

Trainings and embeddings are cached in benchmarks/results/quality/ by what they were made from, so a stopped run goes on
with the same command. Without --data a simulated catalogue is drawn there.

Shapes: Q queries, F fabrics, P relevant pairs of them, V vectors kept, D dimensions.
"""

from __future__ import annotations

import argparse
import itertools
import time
import timeit
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from quality_data import ARMS, INDEXES, Found, Split, of_arm, read_split
from quality_results import write_results
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from retrieval_core.config.config import Config, load_config
from retrieval_core.config.sections import ModelConfig
from retrieval_core.data.datasets import Record, labelled_split
from retrieval_core.encoding.arms import encoder_fingerprint, histogram_arm, model_arm
from retrieval_core.encoding.encoders import Encoder, ModelEncoder
from retrieval_core.encoding.views import Views, views_of
from retrieval_core.files.fingerprint import fingerprint
from retrieval_core.model.devices import pick_device
from retrieval_core.model.weights import load_model, save_model, weights_fingerprint
from retrieval_core.ranking.expansion import expand_queries
from retrieval_core.ranking.partials import merge_partials
from retrieval_core.ranking.second_look import EXPANSIONS, Images, Parts, expanded_parts, rescored
from retrieval_core.ranking.topk import block_topk
from retrieval_core.simulation.dataset import simulate
from retrieval_core.training.loader import TrainingData
from retrieval_core.training.loop import Hooks, Trainer, Worker, fit

ROOT = Path(__file__).resolve().parent.parent
RATES = {"x1": 1, "x10": 10, "x100": 100}
"""Multiples of the published learning rates, 1e-6 and 1e-5."""
QUICK = ["train_motifs=24", "val_motifs=8", "test_motifs=10", "train_fabrics=60", "val_fabrics=20", "test_fabrics=30"]
"""Sizes of the simulated catalogue with --quick."""


# ---- the protocol


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    tracks = {Path(root).name: read_split(root, "test") for root in options.tests}
    choice, scores = choose_rates(options) if "published" in options.arms else (None, {})
    found: dict[tuple[str, int, str, str], Found] = {}
    for seed, arm in itertools.product(options.seeds, arms_of(options, choice)):
        if not ARMS[of_arm(arm)].trained and seed != options.seeds[0]:
            continue  # no draw of such an arm depends on the seed
        indexes = [index for index in ARMS[of_arm(arm)].indexes if index in options.indexes]
        for (track, split), index in itertools.product(tracks.items(), indexes):
            found[arm, seed, track, index] = rank_arm(options, arm, seed, track, split, index)
    write_results(options, tracks, found, {"choice": choice, "validation recall": scores})


def arms_of(options: argparse.Namespace, choice: str | None) -> Iterator[str]:
    """The arms asked for; the published recipe at its own rates and at the best ones."""
    for arm in options.arms:
        yield from dict.fromkeys(("published_x1", f"published_{choice}")) if arm == "published" else (arm,)


def choose_rates(options: argparse.Namespace) -> tuple[str, dict[str, float]]:
    """The published recipe's best rates on the validation split, with the first seed and one vector a fabric."""
    split = read_split(options.data, "validation")
    depth = max(1, len(split.fabrics) // 8)  # as deep as a pool of 100 for 800 fabrics
    scores = {}
    for name in RATES:
        found = rank_arm(options, f"published_{name}", options.seeds[0], "validation", split, "whole")
        scores[name] = split.recall(found.ranks, depth)
    print(f"published rates, validation recall@{depth}: {scores}", flush=True)
    return max(scores, key=lambda name: scores[name]), scores


def recipe(options: argparse.Namespace, arm: str, seed: int, index: str | None = None) -> Config:
    """The configuration of an arm, cut to the benchmark's number of images, with the keys of an index."""
    kind = ARMS[of_arm(arm)]
    keys = [f"data.root={options.data}", f"model.weights={options.weights}", f"embed.batch_size={options.batch}"]
    keys += [f"run.seed={seed}", "train.epochs=100000", "train.select=last", *kind.keys]
    if "whole" in kind.indexes:
        keys.append(f"model.image_size={options.size}")
    if arm.startswith("published"):
        rate = RATES[arm.removeprefix("published_")]
        keys += [f"train.learning_rate={1e-6 * rate}", f"train.head_learning_rate={1e-5 * rate}"]
    file = ROOT / "ray_jobs" / "configs" / kind.file if kind.file else None
    config = load_config(file, [*keys, *(INDEXES[index].keys if index else ())])
    images = config.train.batch_size * (3 if config.train.loss == "triplet" else 2)
    steps = {"max_steps": max(1, options.images // images)}
    return config.model_copy(update={"train": config.train.model_copy(update=steps)})


def train(options: argparse.Namespace, arm: str, seed: int) -> Path:
    """Fine-tune an arm in this process, without Ray, checkpoints and validation."""
    config = recipe(options, arm, seed)
    embed_keys = config.embed.model_dump(exclude={"keep_windows"})
    what = [config.train.model_dump(), config.model.model_dump(), config.images.model_dump(), embed_keys]
    what += [seed, options.data, weights_fingerprint(config.model)]
    folder = options.cache / f"{arm}-seed{seed}-{fingerprint(what)[:12]}"
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


def rank_arm(options: argparse.Namespace, arm: str, seed: int, track: str, split: Split, index: str) -> Found:
    """Embed a track with an arm and an index, and rank it."""
    config = recipe(options, arm, seed, index)
    if arm == "histogram":
        built, model = histogram_arm(config), None
    else:
        trained = {"weights": str(train(options, arm, seed))} if ARMS[of_arm(arm)].trained else {}
        model = config.model.model_copy(update=trained)
        built = model_arm(arm, model, seed)
    queries, fabrics = (views_of(config, model, role) for role in ("queries", "gallery"))
    paths = [record.location for record in (*split.queries, *split.fabrics)]
    keep = config.keeps_windows
    encoders = [encoder_fingerprint(built, views, config) for views in (queries, fabrics)]
    inputs = fingerprint([*encoders, paths, *(["windows"] if keep else [])])
    # Two indexes that are ranked differently share their vectors.
    file = options.cache / f"{arm}-seed{seed}-{track}-{inputs[:12]}.npz"
    if not file.exists():
        encoder, began = built.build(options.batch, seed), time.perf_counter()
        (query_vectors, motifs), (vectors, windows) = (
            embed(encoder, config, records, views, keep)
            for records, views in ((split.queries, queries), (split.fabrics, fabrics))
        )
        flops, seconds = cost(encoder, model, fabrics, options.batch)
        made = {"queries": query_vectors[:, 0], "fabrics": vectors, "flops": flops, "seconds": seconds}
        if keep:
            made |= {"motifs": np.stack(motifs), "windows": np.concatenate(windows), "counts": [*map(len, windows)]}
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, **made)
        partial.rename(file)
        print(f"{arm}, seed {seed}, {track}, {index}: embedded in {time.perf_counter() - began:.0f} s", flush=True)
    with np.load(file) as stored:
        queries_QD, fabrics_FVD = stored["queries"], stored["fabrics"]
        spent = float(stored["flops"]), float(stored["seconds"])
        second = None
        if keep:
            windows = np.split(stored["windows"], np.cumsum(stored["counts"])[:-1])
            second = SecondLook(stored["motifs"], windows, config.retrieve.rescore)
    ranks = rank_pairs(queries_QD, fabrics_FVD, split, config.retrieve.expand, second)
    stored_bytes = fabrics_FVD[0].nbytes + (second.windows[0].nbytes if second else 0)
    return Found(ranks, stored_bytes, *spent)


def embed(
    encoder: Encoder, config: Config, records: Sequence[Record], views: Views, keep: bool
) -> tuple[np.ndarray, list[np.ndarray]]:
    """(N, V, D) vectors of a role, and with ``keep`` each image's windows. An unreadable image ends the benchmark."""
    with ThreadPoolExecutor(2) as pool:
        parts, kept = [], list[np.ndarray]()
        for start in range(0, len(records), step := 4 * config.embed.batch_size):
            chunk = records[start : start + step]
            cuts = list(pool.map(lambda record: views.of(Path(record.location).read_bytes(), config.images), chunk))
            found = views.embed_all(encoder, cuts, keep=keep)
            parts.append(found.vectors)
            kept += [image.windows for image in found.kept or ()]
    return np.concatenate(parts), kept


def cost(encoder: Encoder, model: ModelConfig | None, views: Views, batch: int) -> tuple[float, float]:
    """Floating point operations of the network, and seconds of all that the product does, for a decoded fabric.

    Seconds are those of the fastest of a few batches. Operations are those of the weights as they are, before any of
    them are folded; an attention is counted as its two products.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (views.image_size, views.image_size, 3), np.uint8)
    cuts = [views.cut(pixels, load_config(None, []).images)] * batch
    seconds = min(timeit.repeat(lambda: views.embed(encoder, cuts), number=1, repeat=3)) / batch
    if model is None:
        return 0.0, seconds
    plain = ModelEncoder(load_model(model, 0, with_head=False), pick_device(), "float32", batch, compile=False)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        views.embed(plain, cuts)
    return counter.get_total_flops() / batch, seconds


def rank_pairs(
    queries_QD: np.ndarray, fabrics_FVD: np.ndarray, split: Split, expand: int, second: SecondLook | None
) -> np.ndarray:
    """(P,) rank of every relevant fabric in the whole gallery, by the product's exact ranking of expanded queries.

    Behind what a second look ranks come the other fabrics in the order of the first.
    """
    order = np.array(sorted(range(len(split.fabrics)), key=lambda row: split.fabrics[row].path.encode()))
    if expand:
        first = block_topk(queries_QD, fabrics_FVD[order], expand)
        queries_QD = expand_queries(queries_QD, fabrics_FVD[order[first.rows], first.regions], first.scores)
    found = block_topk(queries_QD, fabrics_FVD[order], len(order)).rows
    if second:
        found = second.ranked([second.windows[row] for row in order], queries_QD, found, expand)
    rows_QF = order[found]
    ranks_QF = np.empty_like(rows_QF)
    np.put_along_axis(ranks_QF, rows_QF, np.arange(1, len(order) + 1)[None, :], axis=1)
    return ranks_QF[split.pairs[:, 0], split.pairs[:, 1]]


class SecondLook(NamedTuple):
    """What a second look needs of queries and fabrics."""

    motifs: np.ndarray
    """(Q, X, D) int8: motifs and their parts."""
    windows: list[np.ndarray]
    """(W, D) int8 of each fabric."""
    depth: int

    def ranked(
        self, windows: list[np.ndarray], queries_QD: np.ndarray, first_QF: np.ndarray, expand: int
    ) -> np.ndarray:
        """The fabrics (Q, F) of a first look, the first ``depth`` of each query in the product's order of the second.

        ``windows`` are those of the fabrics in the order of their paths, ``queries_QD`` those that were ranked.
        """
        queries, (count, total) = np.arange(len(self.motifs), dtype=np.int32), first_QF.shape
        parts = Parts(queries, self.motifs)
        parts = parts.with_wholes(queries_QD) if expand else parts
        images = Images(np.arange(total), windows, [np.zeros((len(own), 4), np.int32) for own in windows])
        chosen, depth = first_QF[:, : self.depth], min(self.depth, total)
        table = pa.table(
            {
                "query": np.repeat(queries, depth),
                "place": chosen.ravel(),
                "image_path": [f"{row:08d}" for row in chosen.ravel()],
            }
        ).sort_by("place")
        expanded = parts
        for _ in range(EXPANSIONS if expand else 0):
            matched = merge_partials([rescored(table, images, expanded, with_matches=True)], expand)
            expanded = expanded_parts(parts, matched, expand)
        ranking = merge_partials([rescored(table, images, expanded)], depth)
        again = np.array([int(path) for path in ranking["image_path"].to_pylist()]).reshape(count, depth)
        return np.concatenate([again, first_QF[:, self.depth :]], axis=1)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="data set in the published layout to train on (default: a simulated one)")
    parser.add_argument("--tests", nargs="+", help="data sets whose test splits are searched (default: that of --data)")
    parser.add_argument("--arms", nargs="+", choices=[*ARMS], default=[*ARMS], help="arms to compare (default: all)")
    parser.add_argument(
        "--indexes", nargs="+", choices=[*INDEXES], default=[*INDEXES], help="indexes to search (default: all)"
    )
    parser.add_argument("--weights", default=str(ROOT / "Weight_Path" / "dinov2-motif-tiny"), help="the common start")
    parser.add_argument("--size", type=int, default=112, help="side of a view in pixels, without windows")
    parser.add_argument("--images", type=int, default=12_000, help="images through the encoder in each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch", type=int, default=8, help="views a forward pass")
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
    options.tests = options.tests or [options.data]
    return options


if __name__ == "__main__":
    main()
