"""Figures, tables and the plot of the quality benchmark."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from quality_data import INDEXES, Found, Split

from retrieval_core.evaluation.depth import recall_by_depth
from retrieval_core.evaluation.metrics import arm_metrics, paired_difference
from retrieval_core.evaluation.outcomes import QueryOutcome, random_outcomes
from retrieval_core.report.chart import Chart, Line, recall_chart

KS = [10, 50, 100]
FIGURES = ("recall@10", "recall@50", "recall@100", "mAP@100")
BINS = {"small": (0.0, 0.02), "medium": (0.02, 0.05), "large": (0.05, 1.01)}
"""Area of the median printed motif as a share of the fabric."""
BIN_QUERIES = 30
"""Queries below which a bin's recall is left out as noise."""
Runs = Mapping[tuple[str, int, str, str], Found]
"""By arm, seed, track and index."""


def write_results(
    options: argparse.Namespace, tracks: Mapping[str, Split], found: Runs, chosen: Mapping[str, Any]
) -> None:
    """Write quality.json, quality.md and quality.svg."""
    about = {
        "trained on": Path(options.data).name,
        "start": Path(options.weights).name,
        "images": options.images,
        "seeds": options.seeds,
        "published rates": dict(chosen),
        "machine": machine(),
    }
    rows = [row for track, split in tracks.items() for row in track_rows(found, track, split, options)]
    (options.results / "quality.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    text = "\n".join([*tables(rows, tracks), notes(about)]) + "\n"
    (options.results / "quality.md").write_text(text)
    track, split = next(iter(tracks.items()))
    (options.results / "quality.svg").write_text(svg(recall_chart(track_curves(found, track, split))))
    print(text)


def track_rows(found: Runs, track: str, split: Split, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each arm and index of a track, the mean over its seeds, and one for a random ranking.

    ``difference`` is in recall@100 to the best arm and index without windows, on the same motifs.
    """
    runs: dict[tuple[str, str], dict[int, Found]] = {}
    for (arm, seed, ranked, index), result in found.items():
        if ranked == track:
            runs.setdefault((arm, index), {})[seed] = result

    def outcomes(key: tuple[str, str]) -> list[QueryOutcome]:
        """Of every seed; an arm that no seed changes counts for all of them."""
        ranks = {seed: runs[key].get(seed, runs[key][options.seeds[0]]).ranks for seed in options.seeds}
        return [outcome for seed in options.seeds for outcome in split.outcomes(ranks[seed], seed)]

    def figures(judged: list[QueryOutcome], resamples: int) -> dict[str, Any]:
        metrics = arm_metrics(judged, KS, {}, resamples, 0)
        intervals = {name: metrics["intervals"][name] for name in FIGURES if metrics["intervals"]}
        return {**{name: metrics[name] for name in FIGURES}, "intervals": intervals}

    template = split.outcomes(np.full(len(split.pairs), len(split.fabrics)))
    rows = [{"track": track, "arm": "random", **figures(random_outcomes(template, len(split.fabrics), max(KS), 0), 0)}]
    means = {key: figures(outcomes(key), 0)["recall@100"] for key in runs if not key[1].startswith("windows")}
    baseline = max(means, key=lambda key: means[key], default=None)
    for (arm, index), seeds in runs.items():
        judged, one = outcomes((arm, index)), next(iter(seeds.values()))
        row = {"track": track, "arm": arm, "index": index, "bytes": one.bytes, "gflop": one.flops / 1e9}
        row |= {"ms": 1000 * min(result.seconds for result in seeds.values()), **figures(judged, options.bootstrap)}
        row["seeds"] = {str(seed): figures(split.outcomes(result.ranks), 0) for seed, result in seeds.items()}
        for name, (low, high) in BINS.items():
            chosen = (split.areas >= low) & (split.areas < high)
            shares = [split.recall(result.ranks, 100, chosen) for result in seeds.values()]
            enough = len(np.unique(split.pairs[chosen, 0])) >= BIN_QUERIES
            row[f"recall@100 {name}"] = float(np.mean(shares)) if enough else None
        if baseline is not None:
            paired = paired_difference(judged, outcomes(baseline), KS, options.bootstrap, 0)["recall@100"]
            row["difference"] = {"to": " ".join(baseline), **paired}
        rows.append(row)
    return rows


def track_curves(found: Runs, track: str, split: Split) -> dict[str, list[tuple[int, float]]]:
    """Recall at every depth to 100 of each arm and index, seeds averaged."""
    shown: dict[str, list[QueryOutcome]] = {}
    for (arm, seed, ranked, index), result in found.items():
        if ranked == track:
            shown.setdefault(f"{arm}, {INDEXES[index].about}", []).extend(split.outcomes(result.ranks, seed))
    depth = min(100, len(split.fabrics))
    return {name: list(enumerate(recall_by_depth(found, depth).tolist(), start=1)) for name, found in shown.items()}


# ---- pages


def tables(rows: list[dict[str, Any]], tracks: Mapping[str, Split]) -> list[str]:
    """A table a track."""
    lines = []
    for track, split in tracks.items():
        lines += [f"### {track}: {len(split.queries)} queries, {len(split.fabrics)} fabrics", ""]
        heads = ["arm", "vectors", "bytes", "GFLOP", "ms", *FIGURES, *(f"recall@100 {name}" for name in BINS), "gain"]
        lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        for row in rows:
            if row["track"] == track:
                index = INDEXES[row["index"]].about if "index" in row else ""
                cost = [f"{row['bytes']:,}", f"{row['gflop']:.1f}", f"{row['ms']:.0f}"] if index else ["", "", ""]
                figures = [with_interval(row[name], row["intervals"].get(name)) for name in FIGURES]
                bins = [with_interval(row.get(f"recall@100 {name}"), None) for name in BINS]
                gain = row.get("difference", {"difference": None, "interval": None})
                cells = [row["arm"], index, *cost, *figures, *bins]
                cells.append(with_interval(gain["difference"], gain["interval"]))
                lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def with_interval(value: float | None, interval: list[float] | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def notes(about: Mapping[str, Any]) -> str:
    facts, rates = about["machine"], about["published rates"]["choice"]
    chosen = f" published rates chosen on validation: {rates};" if rates else ""
    return (
        f"Trained on {about['trained on']} from {about['start']}, {about['images']} images a training, seeds "
        f"{about['seeds']};{chosen} in brackets 95 % intervals over motifs. `bytes`, `GFLOP` and `ms` are a fabric's; "
        f"`gain` is in recall@100 over the best without windows. {facts['processor']}, {facts['threads']} threads, "
        f"torch {facts['torch']}, Python {facts['python']}."
    )


def svg(
    chart: Chart | None,
    *,
    below: str = "k (recall at k; vectors)",
    legend: Callable[[Line], str] = lambda line: f"{line.arm}: {line.recall:.3f} at {line.depth}",
    dashed: Callable[[Line], bool] = lambda line: "windows" not in line.arm,
) -> str:
    """An SVG file of a chart of the report's geometry: recall against k unless the texts say otherwise."""
    assert chart is not None
    colours = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7f7f7f", "#a6761d", "#332288")
    height = chart.height + 20 * len(chart.lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {chart.width:.0f} {height:.0f}" '
        'font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{chart.width:.0f}" height="{height:.0f}" fill="#fff"/>',
    ]
    for tick in chart.y_ticks:
        parts += [
            f'<path d="M{chart.left} {tick.at}H{chart.right}" stroke="#ddd"/>',
            f'<text x="{chart.left - 6}" y="{tick.at + 4}" text-anchor="end">{tick.label}</text>',
        ]
    parts += [
        f'<text x="{tick.at}" y="{chart.bottom + 18}" text-anchor="middle">{tick.label}</text>'
        for tick in chart.x_ticks
    ]
    middle = (chart.left + chart.right) / 2
    parts.append(f'<text x="{middle}" y="{chart.bottom + 38}" text-anchor="middle">{below}</text>')
    for number, line in enumerate(sorted(chart.lines, key=lambda line: -line.recall)):
        colour, dashes = colours[number % len(colours)], ' stroke-dasharray="6 4"' if dashed(line) else ""
        at = chart.height + 20 * number
        parts.append(f'<path d="{line.path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        parts.append(f'<path d="M{chart.left} {at}h30" stroke="{colour}" stroke-width="2"{dashes}/>')
        parts.append(f'<text x="{chart.left + 40}" y="{at + 4}">{legend(line)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
