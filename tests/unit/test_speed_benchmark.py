"""The speed suite's own logic, on sizes that say nothing about speed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import decoding
import embedding
import reading
import retrieval
import speed
import timing
import windows

from ray_jobs.retrieval.blocks import gallery_blocks
from retrieval_core.store.embeddings import read_vectors


def test_a_ratio_is_taken_turn_by_turn() -> None:
    found = timing.ratio([1.0, 4.0, 9.0], [1.0, 2.0, 3.0])
    assert found == {"median": 2.0, "low": 1.0, "high": 3.0}


def test_a_slope_is_the_power_of_the_growth() -> None:
    sizes = [1.0, 2.0, 4.0, 8.0]
    assert timing.slope(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert timing.slope(sizes, [7.0] * 4) == pytest.approx(0.0)


def test_ways_alternate() -> None:
    calls: list[str] = []
    seconds = timing.in_turns({name: lambda name=name: calls.append(name) for name in "ab"}, 2)
    assert calls == ["a", "b", "a", "b", "a", "b"]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_the_published_loop_costs_every_pair() -> None:
    vectors = np.eye(4, dtype=np.float32)
    assert retrieval.published_seconds(vectors, np.repeat(vectors, 500, 0)) > retrieval.published_seconds(
        vectors, vectors
    )


def test_retrieval_agrees_with_faiss_on_what_it_times() -> None:
    options = retrieval.parse(["--quick"])
    options.gallery, options.queries = 3000, 20
    found = retrieval.measure(options)
    assert found["raw"]["in_common_with_faiss"] > 0.99
    ratios = {"retrieve_vs_matmul", "retrieve_vs_faiss", "retrieve_own_vs_faiss", "published_vs_retrieve"}
    assert set(found["ratios"]) == ratios
    json.dumps(found)


def test_a_made_store_is_read_as_the_stage_reads_it(tmp_path: Path) -> None:
    from stores import SHARD, run_of

    run = run_of(tmp_path, SHARD + 5, 3, 8)
    blocks = list(gallery_blocks(run.store(run.main, "gallery"), 700))
    vectors = [read_vectors(block.slices, 1) for block in blocks]
    assert sum(len(part.paths) for part in vectors) == SHARD + 5
    assert np.allclose(np.linalg.norm(np.concatenate([part.embeddings_FRD for part in vectors]), axis=2), 1, atol=1e-6)
    assert run.done("embed.queries")["order"] == "3"


def test_a_missed_target_is_named_and_a_failed_part_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {
        "retrieval": {"ratios": {"retrieve_vs_matmul": 1.3, "published_vs_retrieve": 900.0}, "raw": {}},
        "embedding": {"error": "embedding.py ended with 1"},
        "training": {"ratios": {"train_vs_plain": 0.97}, "raw": {}},
    }
    monkeypatch.setattr(speed, "run_part", lambda part, _: parts[part])
    with pytest.raises(SystemExit, match="failed: embedding"):
        speed.main(["--only", *parts, "--results", str(tmp_path)])
    text = (tmp_path / "speed.md").read_text()
    assert "| `retrieve_vs_matmul` | 1.3 | <= 1.25 | missed |" in text
    assert "| `train_vs_plain` | 0.97 | >= 0.95 | met |" in text
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["ratios"]["published_vs_retrieve"] == 900
    assert "error" in summary["parts"]["embedding"]
    assert text.strip() in capsys.readouterr().out


def test_reduced_jpegs_are_compared_with_whole_ones() -> None:
    found = decoding.measure(decoding.parse(["--quick"]))
    assert set(found["ratios"]) == {"jpeg_reduced_vs_whole_128", "jpeg_reduced_vs_whole_256"}
    small, large = found["raw"]["rows"]
    assert small["grey_levels"] == 0, "128 pixels are too few to be reduced to twice 56"
    assert 0 < large["grey_levels"] < 3 and 0.9 < large["lowest_cosine"] < 1


def test_reading_ahead_is_compared_with_one_after_another() -> None:
    found = reading.measure(reading.parse(["--quick"]))
    ways = ("asked", "memory", "opened")
    assert set(found["ratios"]) == {f"read_ahead_vs_{way}_{delay}ms" for way in ways for delay in (0, 5)}
    distant = found["raw"]["rows"][1]["images_per_second"]
    assert distant["opened"] < 100, "two requests of 5 ms each"
    assert distant["asked"] < 200


def test_an_actors_work_with_windows_is_compared_with_the_bare_pass(tmp_path: Path) -> None:
    (case,) = windows.cases(windows.parse(["--quick"]), tmp_path)
    ways = windows.ways_of(case, embedding.draw(tmp_path, case), tmp_path)
    vectors, boxes = ways["actor"]()
    assert vectors.shape == (case.batch, 10, 32) and boxes.shape == (case.batch, 10, 4)
    rates = windows.rates_alone(ways, case, 2)
    assert set(rates) == {"forward", "actor", "own"}
    assert all(len(turns) == 2 and min(turns) > 0 for turns in rates.values())
