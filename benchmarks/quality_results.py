"""Figures, tables and the plot of the quality benchmark."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from machine import machine
from quality_data import Found, Index, Split

from retrieval_core.encoding.region_pooling import mean_of_views
from retrieval_core.evaluation.depth import recall_by_depth
from retrieval_core.evaluation.metrics import arm_metrics, paired_difference
from retrieval_core.evaluation.outcomes import random_outcomes
from retrieval_core.ranking.topk import block_topk
from retrieval_core.report.chart import Chart, Line, recall_chart

KS = [10, 50, 100]
FIGURES = ("recall@10", "recall@50", "recall@100", "mAP@100")
BINS = {"small": (0.0, 0.02), "medium": (0.02, 0.05), "large": (0.05, 1.01)}
"""Area of the median printed motif as a share of the fabric."""
VIEWS = 37
"""Views of a fabric: the whole and 6 x 6 tiles."""
BIN_QUERIES = 30
"""Queries below which a bin's recall is left out as noise."""
ARMS = ("random", "histogram", "tiled_histogram", "frozen", "published", "published_best", "ours")
Runs = Mapping[tuple[str, int, str], Found]


def write_results(
    options: argparse.Namespace, tracks: Mapping[str, Split], found: Runs, chosen: Mapping[str, Any]
) -> None:
    """Write quality.json (rows), quality_about.json (what they mean), quality.md and quality.svg."""
    rows = [row for track, split in tracks.items() for row in track_rows(found, chosen["choice"], track, split)]
    about = {
        "machine": machine(),
        "options": {name: str(value) for name, value in sorted(vars(options).items())},
        "published rates": dict(chosen),
        "against the baseline": {
            track: comparisons(found, chosen["choice"], track, split, options) for track, split in tracks.items()
        },
        "storage": storage_overlap(found, options.seeds[0]),
    }
    (options.results / "quality.json").write_text(json.dumps(rows, indent=1) + "\n")
    (options.results / "quality_about.json").write_text(json.dumps(about, indent=1) + "\n")
    text = "\n".join([*tables(rows, tracks), *baseline_tables(about), *notes(about)]) + "\n"
    (options.results / "quality.md").write_text(text)
    curves = track_curves(found, chosen["choice"], tracks["same"], options.seeds)
    (options.results / "quality.svg").write_text(svg(recall_chart(curves)))
    print(text)


# ---- rows


def shown_as(arm: str, choice: str) -> list[str]:
    """Names of an arm in the tables; the published recipe is its own best where its rates are."""
    if arm == "published_x1":
        return ["published", "published_best"] if choice == "x1" else ["published"]
    return ["published_best"] if arm.startswith("published_") else [arm]


def runs_of(found: Runs, choice: str, track: str) -> Iterable[tuple[str, int, Index, Found]]:
    """(arm as shown, seed, index, result) of a track."""
    for (arm, seed, ranked), result in found.items():
        for name in shown_as(arm, choice) if ranked == track else ():
            for index in result.ranks:
                tiled = name == "histogram" and index.vectors is not None
                yield "tiled_histogram" if tiled else name, seed, index, result


def track_rows(found: Runs, choice: str, track: str, split: Split) -> list[dict[str, Any]]:
    """A row for each arm, index and seed of a track, and one for a random ranking."""
    template = split.outcomes(np.full(len(split.pairs), len(split.fabrics)))
    chance = arm_metrics(random_outcomes(template, len(split.fabrics), max(KS), 0), KS, {}, 0, 0)
    rows = [{"arm": "random", "index": "none", "vectors": 0, "track": track, "seed": 0} | pick(chance)]
    for arm, seed, index, result in runs_of(found, choice, track):
        ranks = result.ranks[index]
        vectors, views = index.vectors or 1, 1 if index.vectors is None else VIEWS
        row = {"arm": arm, "index": index.name, "vectors": vectors, "track": track, "seed": seed}
        row |= pick(arm_metrics(split.outcomes(ranks), KS, {}, 0, 0))
        row |= {"encodings": views, "query_turned": index.rotated, "bytes": 4 * result.dim * vectors}
        row |= {"encode_ms": round(1000 * result.seconds * views, 2)}
        for name, (low, high) in BINS.items():
            chosen = (split.areas >= low) & (split.areas < high)
            queries = len(np.unique(split.pairs[chosen, 0]))
            row[f"recall@100 {name}"] = split.recall(ranks, 100, chosen) if queries >= BIN_QUERIES else None
        rows.append(row)
    return sorted(rows, key=lambda row: (ARMS.index(row["arm"]), row["vectors"], row["seed"]))


def pick(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: metrics[name] for name in FIGURES}


# ---- comparisons


def comparisons(found: Runs, choice: str, track: str, split: Split, options: argparse.Namespace) -> dict[str, Any]:
    """Paired differences to the better of `frozen` and `published_best` with one vector, seeds averaged."""
    runs: dict[tuple[str, Any], dict[int, np.ndarray]] = {}
    for arm, seed, index, result in runs_of(found, choice, track):
        runs.setdefault((arm, index), {})[seed] = result.ranks[index]

    def outcomes(key: tuple[str, Any]) -> list[Any]:
        ranks = runs[key]  # an arm without a seed of its own counts for every seed
        return [o for seed in options.seeds for o in split.outcomes(ranks.get(seed, ranks[options.seeds[0]]), seed)]

    whole = next(index for _, index in runs if index.vectors is None)
    mean = {
        arm: arm_metrics(outcomes((arm, whole)), KS, {}, 0, 0)["recall@100"] for arm in ("frozen", "published_best")
    }
    baseline = max(mean, key=lambda arm: mean[arm])
    base = outcomes((baseline, whole))
    reached = arm_metrics(base, KS, {}, 0, 0)
    rows = []
    for arm, index in sorted(runs, key=lambda key: (ARMS.index(key[0]), key[1].vectors or 0, key[1].rotated)):
        own = outcomes((arm, index))
        difference = paired_difference(own, base, KS, options.bootstrap, 0)["recall@100"]
        metrics = arm_metrics(own, KS, {}, 0, 0)
        rows.append(
            {"arm": arm, "index": label(index), **pick(metrics)}
            | {"difference": difference["difference"], "interval": difference["interval"]}
            | {"missed": ratio(1 - metrics["recall@100"], 1 - reached["recall@100"])}
            | {"mAP times": ratio(metrics["mAP@100"], reached["mAP@100"])}
        )
    return {"baseline": baseline, **pick(reached), "rows": rows}


def ratio(value: float, base: float) -> float | None:
    """None where the base is zero: in a gallery of fewer than 100 fabrics none is missed."""
    return value / base if base > 0 else None


def label(index: Index) -> str:
    """An index in words."""
    if index.vectors is None:
        return "1 vector, whole fabric"
    kept = f"{index.vectors} vector{'s' * (index.vectors > 1)}"
    return f"{kept} of {VIEWS} views{', query turned' * index.rotated}"


def storage_overlap(found: Runs, seed: int) -> dict[str, float]:
    """Overlap@100 of cheaper stored vectors with float32, for `ours` and all views."""
    with np.load(found["ours", seed, "same"].stored) as stored:
        queries_QD, fabrics_FRD = mean_of_views(stored["queries"]), stored["fabrics"]
    exact = block_topk(queries_QD, fabrics_FRD, 100).rows
    scale = np.abs(fabrics_FRD).max(axis=2, keepdims=True) / 127
    int8_FRD = (np.rint(fabrics_FRD / scale) * scale).astype(np.float32)
    wide = block_topk(queries_QD, int8_FRD, 200).rows
    rescored = []
    for query_D, chosen in zip(queries_QD, np.sort(wide, axis=1), strict=True):
        rescored.append(chosen[block_topk(query_D[None], fabrics_FRD[chosen], 100).rows[0]])
    return {
        "float16": overlap(exact, block_topk(queries_QD, fabrics_FRD.astype(np.float16), 100).rows),
        "int8": overlap(exact, block_topk(queries_QD, int8_FRD, 100).rows),
        "int8, first 200 rescored": overlap(exact, np.stack(rescored)),
    }


def overlap(left_QK: np.ndarray, right_QK: np.ndarray) -> float:
    """Mean share of the first k that both name."""
    pairs = zip(left_QK.tolist(), right_QK.tolist(), strict=True)
    return float(np.mean([len(set(left) & set(right)) / len(left) for left, right in pairs]))


def track_curves(found: Runs, choice: str, split: Split, seeds: list[int]) -> dict[str, list[tuple[int, float]]]:
    """Recall at every depth to 100 of what the plot shows, seeds averaged."""
    shown: dict[str, list[Any]] = {}
    for arm, seed, index, result in runs_of(found, choice, "same"):
        if index.vectors is None or (index.vectors, index.rotated) == (30, True):
            name = f"{arm}, {index.vectors or 1}"
            shown.setdefault(name, []).extend(split.outcomes(result.ranks[index], seed))
    depth = min(100, len(split.fabrics))
    return {name: list(enumerate(recall_by_depth(found, depth).tolist(), start=1)) for name, found in shown.items()}


# ---- pages


def tables(rows: list[dict[str, Any]], tracks: Mapping[str, Split]) -> list[str]:
    """Recall against vectors, bytes and encoding time, a table a track; mean of the seeds (lowest to highest)."""
    lines = []
    for track, split in tracks.items():
        lines += [f"### Track `{track}`: {len(split.queries)} queries, {len(split.fabrics)} fabrics", ""]
        heads = ["arm", "vectors kept", "views encoded", "query", "bytes a fabric", "encoding ms a fabric", *FIGURES]
        heads += [f"recall@100 {name}" for name in BINS]
        lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in rows:
            if row["track"] == track:
                groups.setdefault((row["arm"], row["index"], row["vectors"], row.get("query_turned")), []).append(row)
        for (arm, index, vectors, turned), group in groups.items():
            cells = [arm, "" if index == "none" else f"{vectors}", str(group[0].get("encodings", ""))]
            cells += ["turned" if turned else "", str(group[0].get("bytes", ""))]
            times = [row["encode_ms"] for row in group if "encode_ms" in row]
            cells += [f"{np.median(times):.1f}" if times else ""]
            cells += [spread(group, name) for name in (*FIGURES, *(f"recall@100 {name}" for name in BINS))]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def spread(group: list[dict[str, Any]], name: str) -> str:
    """Mean of the seeds, with the lowest and the highest where there are several."""
    values = [row[name] for row in group if row.get(name) is not None]
    if not values:
        return ""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


def baseline_tables(about: Mapping[str, Any]) -> list[str]:
    """Each arm and index against the better baseline with one vector."""
    lines = []
    for track, answer in about["against the baseline"].items():
        lines += [
            f"### Track `{track}` against `{answer['baseline']}` with one vector "
            f"(recall@100 {answer['recall@100']:.3f}, mAP@100 {answer['mAP@100']:.3f})",
            "",
            "| arm | index | recall@100 | difference (95 % interval) | share missed, times | mAP@100, times |",
            "|---|---|---|---|---|---|",
        ]
        for row in answer["rows"]:
            low, high = row["interval"] or (0.0, 0.0)
            missed, times = (f"{row[name]:.2f}" if row[name] is not None else "" for name in ("missed", "mAP times"))
            lines.append(
                f"| {row['arm']} | {row['index']} | {row['recall@100']:.3f} | {row['difference']:+.3f} "
                f"({low:+.3f} to {high:+.3f}) | {missed} | {times} |"
            )
        lines.append("")
    return lines


def notes(about: Mapping[str, Any]) -> list[str]:
    facts, options = about["machine"], about["options"]
    overlaps = ", ".join(f"{name} {value:.2%}" for name, value in about["storage"].items())
    return [
        f"Overlap of the first 100 with float32 storage (`ours`, all views, track `same`): {overlaps}.",
        "",
        f"{options['images']} images through the encoder a training, {options['size']} px, seeds {options['seeds']}; "
        f"published rates chosen on validation: {about['published rates']['choice']}. {facts['processor']}, "
        f"{facts['threads']} threads, torch {facts['torch']}, Python {facts['python']}.",
    ]


def svg(
    chart: Chart | None,
    *,
    below: str = "k (recall at k; vectors)",
    legend: Callable[[Line], str] = lambda line: f"{line.arm}: {line.recall:.3f} at {line.depth}",
    dashed: Callable[[Line], bool] = lambda line: line.arm.endswith(", 1"),
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
