"""Geometry of the recall chart; the template draws it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 640.0, 360.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 24.0, 14.0, 58.0
POINTS = 200  # of a line: about one every three units, finer than the eye sees


class Tick(NamedTuple):
    """A labelled position on an axis, in the chart's units."""

    at: float
    label: str


class Line(NamedTuple):
    """One arm's curve: SVG path data, its last point, and the recall there."""

    arm: str
    path: str
    end_x: float
    end_y: float
    depth: int
    recall: float


class Chart(NamedTuple):
    """Recall against k: both axes linear and from 0, units of the ``WIDTH`` x ``HEIGHT`` view box."""

    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line]
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


def recall_chart(curves: Mapping[str, Sequence[tuple[int, float]]]) -> Chart | None:
    """Lay out one line per arm, in the order given; None when there is nothing to draw.

    Of a curve with more than ``POINTS`` points that many are drawn, evenly spread, with the first and the last.

    Args:
        curves: arm -> points (k, recall), k ascending from 1, recall in [0, 1].
    """
    drawn = {arm: _thinned(points) for arm, points in curves.items() if points}
    if not drawn:
        return None
    deepest = max(points[-1][0] for points in drawn.values())
    highest = max(recall for points in drawn.values() for _, recall in points)
    x_step = max(1.0, _nice_step(deepest / 5))
    y_step = max(0.01, _nice_step(highest / 5))
    y_top = min(1.0, math.ceil(max(highest, y_step) / y_step - 1e-9) * y_step)

    def x(k: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * k / deepest, 2)

    def y(recall: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * recall / y_top, 2)

    decimals = 2 if y_step < 0.1 else 1
    return Chart(
        [Tick(x(i * x_step), f"{i * x_step:,.0f}") for i in range(math.floor(deepest / x_step + 1e-9) + 1)],
        [Tick(y(i * y_step), f"{i * y_step:.{decimals}f}") for i in range(math.floor(y_top / y_step + 1e-9) + 1)],
        [
            Line(
                arm,
                "M" + "L".join(f"{x(k)} {y(recall)}" for k, recall in points),
                x(points[-1][0]),
                y(points[-1][1]),
                *points[-1],
            )
            for arm, points in drawn.items()
        ],
    )


def _thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    if len(points) <= POINTS:
        return points
    return [points[round(i * (len(points) - 1) / (POINTS - 1))] for i in range(POINTS)]


def _nice_step(rough: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least ``rough``; 0 for 0."""
    if rough <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= rough * (1 - 1e-9))
