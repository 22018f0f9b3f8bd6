"""Training steps against a plain torch loop of the same arithmetic, in one run on one machine, in turns.

    plain      a page of torch: one pass for all images of a step, frozen blocks without a graph
    short      the same with our network, whose last block makes only the token that is pooled
    published  the same with a pass each for queries, positives and negatives, as the published code does
    ours       `Trainer.step` on the same batches in memory
    storing    `Trainer.step` with `train.cache_activations` in the first epoch: every view is new
    cached     the same in later epochs, from `TrainingData.batches` on: every view is read from the cache

With L blocks of which 2 train, a plain step is counted as L + 4 passes through a block, a backward pass being two, a
cached one as 6. `train_cached_vs_plain` is the cached rate over (L + 4) / 6 times the plain one; it may pass 1, as our
last block costs next to nothing. `train_vs_short` compares the same arithmetic. Patch embedding, head and optimiser
are in the times, not in that count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from plain_training import PlainLoop, PublishedLoop, ShortLoop
from training_cases import BASE, CACHED, MINIATURE, Case, make_trainer, pictures, settings, shaped, tiny
from training_workers import images_per_second

from retrieval_core.training.activation_cache import ActivationCache, ViewKey
from retrieval_core.training.loader import Batch
from retrieval_core.training.loop import Trainer


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options, each with a default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="turns; medians are reported")
    parser.add_argument("--queries", type=int, default=6, help="queries a step of the small network, at 112 px")
    parser.add_argument("--base-queries", type=int, default=2, help="the same of DINOv2 base, at 224 px")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="processes of one thread, side by side")
    parser.add_argument("--quick", action="store_true", help="the logic in seconds, on a network of no use")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Take the turns.

    Returns:
        ``ratios``: flat, the median over the turns of ours / theirs, DINOv2 base without a suffix; ``raw``: images a
        second of each way and turn, and what the figures depend on.
    """
    cases = [
        Case("base", 224, options.base_queries, 1, partial(shaped, BASE)),
        Case("tiny", 112, options.queries, 5, partial(tiny, 112)),
    ]
    if options.quick:
        cases = [Case("base", 28, 2, 2, partial(shaped, MINIATURE))]
        options.workers = [1]
    ratios: dict[str, float] = {}
    raw: dict[str, Any] = {**machine(), "repeats": options.repeats}
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            found = raw[case.name] = compare(case, options.repeats, Path(folder))
        suffix = "" if case.name == "base" else f"_{case.name}"
        ratios |= {name + suffix: statistics.median(turns) for name, turns in found["ratios"].items()}
    raw["workers"] = scaling(cases[-1], options)
    return {"ratios": ratios, "raw": raw}


def compare(case: Case, repeats: int, folder: Path) -> dict[str, Any]:
    """Rates of all ways in every turn, on copies of one network."""
    split = pictures(case, folder)
    model = case.model()
    blocks = int(model.dinov2.config.num_hidden_layers)
    plain = PlainLoop(model.dinov2, model.projection_head, settings(case).train)
    short = ShortLoop(model.dinov2, model.projection_head, settings(case).train)
    published = PublishedLoop(model.dinov2, model.projection_head, settings(case).train)
    ours, storing, cached = (make_trainer(case, split, *more) for more in ((), (CACHED,), (CACHED,)))
    stream = ours.data.batches(0, 0)
    memory = [next(stream) for _ in range(case.steps)]
    stream.close()
    views = [torch.from_numpy(np.concatenate([part.views for part in batch.parts])) for batch in memory]
    agreement = [(float(ours.step(batch)), plain.step(part)) for batch, part in zip(memory, views, strict=True)]
    later = later_epochs(cached)
    ways: dict[str, Callable[[int], Any]] = {
        "plain": lambda step: plain.step(views[step]),
        "short": lambda step: short.step(views[step]),
        "ours": lambda step: ours.step(memory[step]),
        "cached": lambda step: cached.step(next(later)),
        "storing": lambda step: storing.step(first_epoch(storing, memory[step])),
        "published": lambda step: published.step(views[step]),
    }
    rates, cpu_rates = take_turns(ways, case.steps, repeats, images=3 * case.queries)
    later.close()
    ceiling = (blocks + 4) / 6
    against = versus_plain(rates)
    return {
        "images_px_queries": [3 * case.queries, case.size, case.queries],
        "losses_ours_plain": agreement,
        "images_per_second": {name: spread(turns) for name, turns in rates.items()},
        "turns": rates,
        "cached_ceiling": ceiling,
        "against_plain": {name: spread(turns) for name, turns in against.items()},
        "against_plain_by_cpu_time": {name: spread(turns) for name, turns in versus_plain(cpu_rates).items()},
        "ratios": {
            "train_vs_plain": against["ours"],
            "train_vs_short": [ours / short for ours, short in zip(against["ours"], against["short"], strict=True)],
            "train_cached_vs_plain": [ratio / ceiling for ratio in against["cached"]],
        },
    }


Rates = dict[str, list[float]]
"""Images a second of each way in every turn."""


def take_turns(ways: dict[str, Callable[[int], Any]], steps: int, repeats: int, images: int) -> tuple[Rates, Rates]:
    """Rates by the clock, and by this process's CPU time, which other processes disturb less; one turn warms up."""
    by_clock: Rates = {name: [] for name in ways}
    by_cpu: Rates = {name: [] for name in ways}
    for turn in range(repeats + 1):
        # Another one begins each time, so that none always follows the same neighbour.
        first = turn % len(ways)
        for name in [*ways][first:] + [*ways][:first]:
            began, cpu_began = time.perf_counter(), time.process_time()
            for step in range(steps):
                ways[name](step)
            seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
            if turn:
                by_clock[name].append(steps * images / seconds)
                by_cpu[name].append(steps * images / cpu_seconds)
    return by_clock, by_cpu


def versus_plain(rates: Rates) -> Rates:
    """The rates of each turn over the plain one of the same turn."""
    return {
        name: [rate / plain for rate, plain in zip(turns, rates["plain"], strict=True)] for name, turns in rates.items()
    }


def spread(turns: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(turns), "min": min(turns), "max": max(turns)}


def later_epochs(trainer: Trainer) -> Any:
    """Batches from where every view is in the cache."""
    everything = len(trainer.data.sampler.split.queries) + len(trainer.data.sampler.split.fabrics)
    stream = trainer.data.batches(0, 0)
    frozen = trainer.frozen
    assert frozen is not None
    for batch in stream:
        for part in batch.parts:
            frozen.tokens(part)
        if len(frozen.cache) == everything and all(part.cached.all() for part in batch.parts):
            return stream
    raise AssertionError("an endless stream ended")


def first_epoch(trainer: Trainer, batch: Batch) -> Batch:
    """A batch of which nothing is cached yet, and an empty cache to put it into."""
    frozen, data = trainer.frozen, trainer.data
    assert frozen is not None
    data.cache = frozen.cache = ActivationCache(frozen.cache.limit)
    places = iter(range(batch.images))
    parts = [part._replace(keys=tuple(ViewKey("query", next(places)) for _ in part.keys)) for part in batch.parts]
    return batch._replace(parts=tuple(parts))


def scaling(case: Case, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Images a second of all workers together, each with a thread and ``case.queries`` queries a step of its own."""
    rates: dict[int, list[float]] = {count: [] for count in options.workers}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(min(3, options.repeats)):
            for count, turns in rates.items():
                turns.append(images_per_second(case, count, folder))
    return {str(count): spread(turns) for count, turns in rates.items()}


def main() -> None:
    print(json.dumps(measure(parse()), indent=1))


if __name__ == "__main__":
    main()
