"""The notebook runs as it stands, cell by cell in one namespace, in a process of its own as a kernel would."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.jobs.processes import Processes

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "initial_retrieval.ipynb"
RUNNER = """
import json, os, sys
os.chdir(sys.argv[2])
names = {"__name__": "__main__"}
for number, cell in enumerate(json.load(open(sys.argv[1], encoding="utf-8"))["cells"]):
    if cell["cell_type"] == "code":
        print("cell", number, flush=True)
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
print("all cells", flush=True)
"""


def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return found


def test_the_notebook_keeps_no_outputs_and_needs_no_magic() -> None:
    for cell in cells():
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            assert not [line for line in cell["source"] if line.startswith(("%", "!"))]


def test_the_notebook_runs(tmp_path: Path) -> None:
    for name in ("ray_jobs", "Weight_Path"):
        (tmp_path / name).symlink_to(ROOT / name)
    log = tmp_path / "log"
    with Processes(log, RAY_OVERRIDE_RESOURCES='{"CPU": 2, "GPU": 0}', PYTHONPATH=str(ROOT)) as processes:
        program = processes.start([sys.executable, "-c", RUNNER, str(NOTEBOOK), str(tmp_path)])
        assert program.wait(300) == 0
    shown = log.read_text()
    assert shown.splitlines()[-1] == "all cells"
    assert "fine_tuned recall@5 " in shown
    metrics = json.loads((tmp_path / "Output" / "notebook" / "metrics.json").read_text())
    assert set(metrics) == {"random", "histogram", "frozen", "fine_tuned"}
    assert (tmp_path / "Output" / "notebook" / "first_retrieval_results.json").is_file()
