"""One case of `make bench-faults` from its plan to its row of the results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import faults, faults_plan


@pytest.mark.cluster  # a calm run of all stages, and two commands
def test_an_actor_that_is_killed_costs_a_shard_at_most(tmp_path: Path) -> None:
    number = list(faults_plan.kinds_of_case()).index(("embed", "actor"))
    assert faults.main(["--only", str(number), "--results", str(tmp_path), "--minutes", "5"]) == 0
    found = json.loads((tmp_path / "faults.json").read_text())
    assert [found[key] for key in ("injected", "identical", "rows_lost", "rows_doubled")] == [1, 1, 0, 0]
    assert found["max_redone"] <= 1
    (case,) = found["cases"]
    assert (case["first_exit"], case["second_exit"]) == (0, 0)
    assert "ShardEncoder" in case["how"]
