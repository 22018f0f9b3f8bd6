"""The growth benchmark fits slopes through its measurements; the plain steps run here, those on Ray are made up."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import growth
import growth_cases
import growth_memory
import growth_plot
import pytest


def made_up(case, **options):
    """Costs of exactly known growth."""
    if case == "embed":
        shard, lead, trail = (options[name] for name in ("shard", "lead", "trail"))
        times = {
            size: [shard * 0.5 * number for number in range((lead + size + trail) // shard)]
            for size in options["sizes"]
        }
        return {str(size): growth_cases.window(times[size], shard, lead, size) for size in options["sizes"]}
    if case == "retrieve":
        size = options["size"]
        counted = size - options["lead"] * options["block"]
        return {
            "seconds": counted**1.5,
            "seconds_ranking_and_merging": size**0.5,
            "driver_peak_mb": 300.0,
            "worker_peak_mb": 300 * size**0.25,
        }
    if case == "store":
        return None
    folder = options.pop("folder")
    return growth_cases.plain(Path(folder), **options)


@pytest.fixture(scope="module")
def found():
    return growth.measure(growth.parse(["--quick"]), made_up)


def test_slopes_are_those_of_the_costs(found):
    ratios = found["ratios"]
    assert ratios["slope_embed"] == pytest.approx(1)
    assert ratios["slope_embed_to_end"] == pytest.approx(1)
    assert [row["seconds"] for row in found["raw"]["embed"]] == [4, 8, 16, 32]
    assert ratios["slope_retrieve"] == pytest.approx(1.5)
    assert ratios["slope_retrieve_whole"] == pytest.approx(0.5)
    assert ratios["slope_driver_memory"] == pytest.approx(0)
    assert ratios["slope_worker_memory"] == pytest.approx(0.25)
    assert {"slope_check", "slope_listing", "slope_shard_plan", "slope_evaluate", "slope_pool"} < ratios.keys()
    json.dumps(found, allow_nan=False)


def test_what_counts_lies_between_two_commits():
    times = [0.0, 1.0, 3.0, 7.0, 8.0, 8.5]  # of shards of 4
    found = growth_cases.window(times, 4, lead=8, size=8)
    assert found == {"images": 8, "seconds": 6.0, "images_to_end": 16, "seconds_to_end": 7.5}


def test_the_plain_steps_are_measured_at_every_size(found):
    for name, first in {"check": 100, "listing": 100, "shard_plan": 100, "evaluate": 100, "pool": 10}.items():
        rows = found["raw"][name]
        assert [row["size"] for row in rows] == [first * factor for factor in (1, 2, 4, 8)]
        assert all(row["seconds"] > 0 and row["peak_mb"] > 10 for row in rows)


def test_the_plot_draws_every_series_on_logarithmic_axes(found, tmp_path):
    growth.write(found, tmp_path)
    picture = (tmp_path / "growth.svg").read_text()
    assert all(f">{name}, slope" in picture for name in growth_plot.DRAWN)
    assert json.loads((tmp_path / "growth.json").read_text()) == found
    chart = growth_plot.growth_chart({"square": [(1, 1), (2, 4), (4, 16)], "half": [(1, 1), (4, 0.5)]})
    square = [tuple(map(float, point.split())) for point in chart.lines[0].path[1:].split("L")]
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(square)]
    assert steps[0] == pytest.approx(steps[1], abs=0.02)
    assert [tick.label for tick in chart.y_ticks] == ["0.5 x", "1 x", "2 x", "4 x", "8 x", "16 x"]


def test_a_peak_is_remembered_and_begins_anew():
    growth_memory.restart_peak()
    before = growth_memory.peak_rss()
    with mmap.mmap(-1, 64 << 20) as held:  # not by an allocator, which may have it to spare
        for _ in range(64):
            held.write(bytes(1 << 20))
    assert growth_memory.peak_rss() > before + 60
    growth_memory.restart_peak()
    assert growth_memory.peak_rss() < before + 30


def test_workers_are_found_by_name_below_this_process():
    before = set(growth_memory.workers(os.getpid()))  # of a Ray that other tests have started
    named = [sys.executable, "-c", "import time; time.sleep(60)"]
    worker = subprocess.Popen(["ray::IDLE", *named[1:]], executable=named[0])
    other = subprocess.Popen(named)
    try:
        assert set(growth_memory.workers(os.getpid())) - before == {worker.pid}
        assert list(growth_memory.workers(other.pid)) == []
    finally:
        worker.kill()
        other.kill()
        worker.wait()
        other.wait()
