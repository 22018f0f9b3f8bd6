"""Ways of doing the same thing, timed alternately so that a busy machine slows all of them alike."""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

Seconds = dict[str, list[float]]


def in_turns(ways: Mapping[str, Callable[[], Any]], repeats: int, *, warm: bool = True) -> Seconds:
    """Seconds of every way in every turn; with ``warm`` each first runs once untimed."""
    if warm:
        for way in ways.values():
            way()
    seconds: Seconds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Median of ours / theirs turn by turn, and the lowest and highest of them."""
    quotients = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return {"median": statistics.median(quotients), "low": min(quotients), "high": max(quotients)}


def slope(sizes: list[float], values: list[float]) -> float:
    """Slope of a line through log(values) against log(sizes), by least squares: 1 is linear growth, 0 is none."""
    return statistics.linear_regression(list(map(math.log, sizes)), list(map(math.log, values))).slope


def show(found: Mapping[str, Any]) -> None:
    """Print the ratios for people, and everything as JSON for the suite."""
    for name, value in found["ratios"].items():
        print(f"{name}: {value:.3f}", file=sys.stderr)
    print(json.dumps(found, indent=1))
