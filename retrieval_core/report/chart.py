"""Geometry of the charts; the template draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

WIDTH, HEIGHT = 640.0, 360.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 24.0, 14.0, 58.0
POINTS = 200  # a line: one every three units, finer than the eye sees

Points = Sequence[tuple[float, float]]


class Tick(NamedTuple):
    """A labelled position on an axis, in the chart's units."""

    at: float
    label: str


class Line(NamedTuple):
    """One arm's curve: SVG path data, its last point in the chart's units, its values there, and points to mark."""

    arm: str
    path: str
    end_x: float
    end_y: float
    depth: float
    recall: float
    dots: Points = ()


class Chart(NamedTuple):
    """Lines over two linear axes from 0, in units of the ``WIDTH`` x ``HEIGHT`` view box."""

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
    """Lay out recall against k, one line per arm, in the order given; None when there is nothing to draw.

    ``curves`` are arm -> points (k, recall), k ascending from 1, recall in [0, 1]. Of a longer curve ``POINTS`` points
    are drawn, evenly spread, with the first and the last.
    """
    drawn = {arm: _thinned(points) for arm, points in curves.items() if points}
    if not drawn:
        return None
    deepest = max(points[-1][0] for points in drawn.values())
    return _chart(drawn, deepest, _ticks(deepest, max(1.0, _nice_step(deepest / 5)), ",.0f"))


def precision_recall_chart(
    recalls: Mapping[str, Sequence[tuple[int, float]]], precisions: Mapping[str, Sequence[tuple[int, float]]]
) -> Chart | None:
    """Lay out mean precision against mean recall, a point a depth; None when there is nothing to draw.

    ``recalls`` and ``precisions`` are arm -> points (k, value) at the same k; an arm in only one of them is not drawn.
    """
    drawn = {}
    for arm, points in recalls.items():
        pairs = [(recall, share) for (_, recall), (_, share) in zip(points, precisions.get(arm, ()), strict=False)]
        if pairs:
            drawn[arm] = _thinned(pairs)
    if not drawn:
        return None
    furthest = max(0.01, *(points[-1][0] for points in drawn.values()))
    return _chart(drawn, furthest, _ticks(furthest, _nice_step(furthest / 5)))


def size_chart(sizes: Mapping[str, Sequence[Mapping[str, Any]]], key: str) -> Chart | None:
    """Lay out one figure by the size of the motif, with a dot for each class; None when there is nothing to draw.

    ``sizes`` are arm -> entries of ``motif_size.recall_by_size``, the same classes for every arm. ``key`` names the
    figure, such as ``recall@100``.
    """
    drawn = {
        arm: [(place + 0.5, entry[key]) for place, entry in enumerate(entries)]
        for arm, entries in sizes.items()
        if entries
    }
    if not drawn:
        return None
    classes = next(entries for entries in sizes.values() if entries)
    ticks = [(place + 0.5, size_label(entry)) for place, entry in enumerate(classes)]
    return _chart(drawn, len(classes), ticks, dots=True)


def size_label(entry: Mapping[str, Any]) -> str:
    """A class of motif sizes in words, as shares of the fabric's area: ``2 to 5 %``."""
    low, high = (None if edge is None else f"{100 * edge:g}" for edge in (entry["from"], entry["to"]))
    if high is None:
        return f"over {low} %"
    return f"under {high} %" if low == "0" else f"{low} to {high} %"


def _chart(
    drawn: Mapping[str, Points], x_top: float, x_ticks: Sequence[tuple[float, str]], *, dots: bool = False
) -> Chart:
    highest = max(value for points in drawn.values() for _, value in points)
    y_step = max(0.01, _nice_step(highest / 5))
    y_top = min(1.0, math.ceil(max(highest, y_step) / y_step - 1e-9) * y_step)

    def x(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * value / x_top, 2)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / y_top, 2)

    lines = []
    for arm, points in drawn.items():
        placed = [(x(at), y(value)) for at, value in points]
        path = "M" + "L".join(f"{at} {height}" for at, height in placed)
        lines.append(Line(arm, path, *placed[-1], *points[-1], placed if dots else ()))
    return Chart(
        [Tick(x(at), label) for at, label in x_ticks],
        [Tick(y(at), label) for at, label in _ticks(y_top, y_step)],
        lines,
    )


def _ticks(top: float, step: float, form: str = "") -> list[tuple[float, str]]:
    """Multiples of the step from 0 to ``top``, labelled with one decimal or two unless ``form`` says otherwise."""
    form = form or (".2f" if step < 0.1 else ".1f")
    return [(place * step, f"{place * step:{form}}") for place in range(math.floor(top / step + 1e-9) + 1)]


def _thinned(points: Points) -> Points:
    if len(points) <= POINTS:
        return points
    return [points[round(i * (len(points) - 1) / (POINTS - 1))] for i in range(POINTS)]


def _nice_step(rough: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least ``rough``; 0 for 0."""
    if rough <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= rough * (1 - 1e-9))
