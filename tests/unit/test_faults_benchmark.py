"""The fault campaign's own logic: the plan follows from the seed, and a loss, a double or a changed byte is counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import faults, faults_compare, faults_plan
from retrieval_core.store.embeddings import Reject, write_shard

HOOKS = Path(__file__).parents[2] / "benchmarks" / "fault_hooks"


def write_store(folder: Path, names: str, value: float = 1.0) -> None:
    """A gallery with a shard of two images for each pair of letters."""
    for first in range(0, len(names), 2):
        pair = names[first : first + 2]
        images = [(f"{name}.png", name) for name in pair]
        boxes, vectors = np.zeros((len(pair), 1, 4), np.int32), np.full((len(pair), 3), value, np.float32)
        file = folder / "embeddings" / "gallery" / f"00000-{first:06d}-{pair}.parquet"
        write_shard(str(file), images, boxes, vectors, [Reject("x.png", "empty", "")])


def begun(*pairs: tuple[str, int], kind: str = "encode") -> list[dict[str, object]]:
    return [{"kind": kind, "unit": unit, "pid": pid} for unit, pid in pairs]


class TestPlan:
    def test_at_least_sixty_cases_over_all_stages_and_faults(self) -> None:
        kinds = list(faults_plan.kinds_of_case())
        assert len(kinds) >= 60
        assert {stage for stage, _ in kinds} == set(faults_plan.STAGES)
        assert {fault for _, fault in kinds} == set(faults_plan.FAULTS)
        # One of each comes first, so that a campaign that was cut short has seen every fault.
        distinct = len(set(kinds))
        assert len(set(kinds[:distinct])) == distinct

    def test_moments_follow_from_the_seed(self) -> None:
        numbers = range(len(list(faults_plan.kinds_of_case())))
        first = [faults_plan.make_case(number, 0) for number in numbers]
        assert first == [faults_plan.make_case(number, 0) for number in numbers]
        other = [faults_plan.make_case(number, 1) for number in numbers]
        assert sum((a.at, a.delay) != (b.at, b.delay) for a, b in zip(first, other, strict=True)) > 50

    def test_another_attempt_strikes_earlier(self) -> None:
        def latest(attempt: int) -> int:
            return max(faults_plan.make_case(10, seed, attempt).at for seed in range(50))

        assert latest(2) < latest(1) < latest(0) <= faults_plan.SHARDS


class TestComparison:
    @pytest.fixture
    def calm(self, tmp_path: Path) -> Path:
        write_store(tmp_path / "calm", "abcd")
        return tmp_path / "calm"

    def test_the_same_rows_are_the_same(self, calm: Path, tmp_path: Path) -> None:
        write_store(tmp_path / "found", "abcd")
        assert faults_compare.compare("embed", calm, tmp_path / "found") == ([], 0, 0)

    def test_lost_rows_are_counted(self, calm: Path, tmp_path: Path) -> None:
        write_store(tmp_path / "found", "ab")
        found = faults_compare.compare("embed", calm, tmp_path / "found")
        assert (found.lost, found.doubled, len(found.differing)) == (2, 0, 1)

    def test_doubled_rows_are_counted(self, calm: Path, tmp_path: Path) -> None:
        write_store(tmp_path / "found", "abcdab")
        found = faults_compare.compare("embed", calm, tmp_path / "found")
        assert (found.lost, found.doubled) == (0, 2)

    def test_another_vector_differs(self, calm: Path, tmp_path: Path) -> None:
        write_store(tmp_path / "found", "ab")
        write_store(tmp_path / "found" / "other", "cd", value=2.0)
        (shard,) = (tmp_path / "found" / "other").rglob("*.parquet")
        shard.rename(tmp_path / "found" / "embeddings" / "gallery" / "00000-000002-cd.parquet")
        found = faults_compare.compare("embed", calm, tmp_path / "found")
        assert (found.lost, found.doubled) == (0, 0)
        assert len(found.differing) == 3  # the file and both rows

    def test_a_changed_picture_is_compared_with_the_run_after_the_change(self, calm: Path, tmp_path: Path) -> None:
        write_store(tmp_path / "after", "abcd", value=2.0)
        write_store(tmp_path / "found", "a")
        write_store(tmp_path / "late", "bcd")
        for number, shard in enumerate((tmp_path / "late").rglob("*.parquet")):
            shard.rename(tmp_path / "found" / "embeddings" / "gallery" / f"{number}.parquet")
        arguments = calm, tmp_path / "after", tmp_path / "found"
        assert faults_compare.compare_changed(*arguments, "x.png") == ([], 0, 0)
        differing, lost, doubled = faults_compare.compare_changed(*arguments, "b.png")
        assert (len(differing), lost, doubled) == (1, 0, 0)


class TestRedone:
    def test_work_that_was_begun_once_is_none(self) -> None:
        assert faults_compare.max_redone("embed", begun(("a", 1), ("b", 1), ("c", 2))) == 0

    def test_it_is_counted_by_the_process_that_lost_it(self) -> None:
        events = begun(("a", 1), ("b", 1), ("c", 2), ("a", 3), ("b", 3), ("c", 4))
        assert faults_compare.max_redone("embed", events) == 2
        assert faults_compare.max_redone("embed", events, excused=["a"]) == 1

    def test_commits_and_decoding_are_no_work(self) -> None:
        events = [*begun(("a", 1), ("a", 2), kind="decode"), *begun(("f", 1), ("f", 1), kind="commit")]
        assert faults_compare.max_redone("embed", events) == 0

    def test_training_is_counted_in_checkpoint_intervals(self) -> None:
        steps = [(str(step), 1) for step in range(4)]
        again = [(str(step), 2) for step in range(4 - faults_plan.CHECKPOINT_EVERY, 6)]
        assert faults_compare.max_redone("train", begun(*steps, *again, kind="step")) == 1
        assert faults_compare.max_redone("train", begun(*steps, *steps, kind="step")) == 2


def row(**values: object) -> dict[str, object]:
    found = {"number": 0, "stage": "embed", "fault": "actor", "injected": True, "identical": True, "as_expected": True}
    return {**found, "rows_lost": 0, "rows_doubled": 0, "redone": 1, "first_exit": 0, **values}


def test_the_summary_counts_what_struck(tmp_path: Path) -> None:
    rows = [row(), row(identical=False, rows_lost=3), row(injected=False), row(stage="train", rows_doubled=1, redone=2)]
    found = faults.summary(rows)
    assert found == {"injected": 3, "identical": 2, "rows_lost": 3, "rows_doubled": 1, "max_redone": 2}
    assert "| actor | 1 of 1 | 1 of 2 |  |  |  | 2 |" in faults.table(rows).splitlines()
    file = tmp_path / "faults.json"
    faults.write(file, 7, rows)
    assert found.items() <= json.loads(file.read_text()).items()
    assert faults.taken_up(file, 7) == rows
    assert faults.taken_up(file, 8) == []


def test_the_page_gets_the_table_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{faults.MARKS[0]}\nold\n{faults.MARKS[1]}\nafter\n")
    faults.paste(page, "new\n")
    assert page.read_text() == f"before\n{faults.MARKS[0]}\nnew\n{faults.MARKS[1]}\nafter\n"


WRITER = """
import sys
from pathlib import Path
from retrieval_core.files import storage
for name in "abc":
    storage.write_bytes(str(Path(sys.argv[1], name)), bytes(1000))
    assert storage.read_bytes(str(Path(sys.argv[1], name))) == bytes(1000)
"""


@pytest.mark.parametrize(
    ("fault", "code", "left"),
    [("torn", -9, {"a": 1000, ".b.tmp": 500}), ("full", 1, {"a": 1000}), ("fail", 0, dict.fromkeys("abc", 1000))],
)
def test_a_fault_strikes_inside_another_process(fault: str, code: int, left: dict[str, int], tmp_path: Path) -> None:
    """Half a file is left, the system refuses to write, or a read fails once and is tried again."""
    control, folder = tmp_path / "control", tmp_path / "folder"
    control.mkdir()
    plan = {"events": "log", "pace": 0, "fault": fault, "match": "folder", "at": 2}
    (control / "plan.json").write_text(json.dumps(plan))
    paths = os.pathsep.join([str(HOOKS), str(HOOKS.parents[1])])
    environment = {**os.environ, "FAULT_CONTROL": str(control), "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(folder)], env=environment, capture_output=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert (control / "log.happened").read_text() == str(folder / "b")
    assert (fault == "full") == (f"File too large: '{folder / 'b'}'" in done.stderr.decode())
    names = {path.name: path.stat().st_size for path in folder.iterdir()}
    found = {f".{name.split('.')[1]}.tmp" if name.startswith(".") else name: size for name, size in names.items()}
    assert found == left
