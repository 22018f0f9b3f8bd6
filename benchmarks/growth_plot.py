"""The growth plot: seconds and peak memory as multiples of those at 1 x, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quality_results import svg

from retrieval_core.report.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Line, Tick

DRAWN = {
    "embed": ("embed", "seconds", "slope_embed"),
    "retrieve": ("retrieve", "seconds", "slope_retrieve"),
    "check": ("check", "seconds", "slope_check"),
    "listing": ("listing", "seconds", "slope_listing"),
    "evaluate": ("evaluate", "seconds", "slope_evaluate"),
    "pool": ("pool", "seconds", "slope_pool"),
    "driver's memory": ("retrieve", "driver_peak_mb", "slope_driver_memory"),
    "largest worker's memory": ("retrieve", "worker_peak_mb", "slope_worker_memory"),
}
"""Name of a curve -> its series in ``raw``, column, and slope in ``ratios``."""
LINEAR = "linear growth"


def write_plot(found: Mapping[str, Any], target: Path) -> None:
    """Draw the results of `growth.measure`."""
    curves = {LINEAR: [(1.0, 1.0), (8.0, 8.0)]}
    for name, (series, column, key) in DRAWN.items():
        rows = found["raw"][series]
        curves[f"{name}, slope {found['ratios'][key]:.2f}"] = [
            (row["size"] / rows[0]["size"], row[column] / rows[0][column]) for row in rows
        ]
    target.write_text(
        svg(
            growth_chart(curves),
            below="times the data (left: times the seconds or the peak memory; both logarithmic)",
            legend=lambda line: line.arm if line.arm == LINEAR else f"{line.arm}: x {line.recall:.2f}",
            dashed=lambda line: line.arm == LINEAR or "memory" in line.arm,
        )
    )


def growth_chart(curves: Mapping[str, Sequence[tuple[float, float]]]) -> Chart:
    """Lay out curves on log-log axes with powers of two as ticks.

    Args:
        curves: name -> points (times the data, times the value), both above 0, the first at (1, 1).
    """
    points = [point for curve in curves.values() for point in curve]
    across = max(1, math.ceil(math.log2(max(x for x, _ in points)) - 1e-9))
    low = min(0, math.floor(math.log2(min(y for _, y in points))))
    high = max(1, math.ceil(math.log2(max(y for _, y in points)) - 1e-9))

    def x_at(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * math.log2(value) / across, 2)

    def y_at(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (math.log2(value) - low) / (high - low), 2)

    return Chart(
        [Tick(x_at(2.0**power), f"{2**power} x") for power in range(across + 1)],
        [Tick(y_at(2.0**power), f"{2.0**power:g} x") for power in range(low, high + 1)],
        [
            Line(
                name,
                "M" + "L".join(f"{x_at(x)} {y_at(y)}" for x, y in curve),
                x_at(curve[-1][0]),
                y_at(curve[-1][1]),
                round(curve[-1][0]),
                curve[-1][1],
            )
            for name, curve in curves.items()
        ],
    )
