"""Lines for people stay on the screen, everything else goes into the run's log file."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ray_jobs.console.run_log import in_file, log, on_screen
from retrieval_core.config.config import load_config
from retrieval_core.run.workspace import Workspace
from tests.jobs.processes import PROJECT


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(load_config(None, [f"run.output_dir={tmp_path}", "run.name=trial"]))


def test_the_file_has_all_lines_and_the_traceback(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(KeyError),
        on_screen(debug=False) as console,
        in_file(workspace, "embed", console, debug=False) as path,
    ):
        log.info("our line")
        logging.getLogger("some.library").warning("a library's line")
        raise KeyError("lost")
    kept = Path(path).read_text()
    assert Path(path).name.endswith(f"-embed-{os.getpid()}.txt")
    assert all(text in kept for text in ("run=trial stage=-", "our line", "a library's line", "KeyError: 'lost'"))
    said = capsys.readouterr().err
    assert "our line" in said
    assert "library" not in said


def test_loggers_are_left_as_they_were(workspace: Workspace) -> None:
    root = logging.getLogger()
    before = log.handlers[:], log.level, log.propagate, root.handlers[:], root.level
    with on_screen(debug=True) as console, in_file(workspace, "run", console, debug=False):
        assert len(log.handlers) == 2
    assert (log.handlers[:], log.level, log.propagate, root.handlers[:], root.level) == before


DYING = """
import os, signal, sys
from ray_jobs.console.run_log import in_file, on_screen
from ray_jobs.console.streams import prepare_streams
from retrieval_core.config.config import load_config
from retrieval_core.run.workspace import Workspace
prepare_streams()
ends = {
    "returns": lambda: None,
    "raises": lambda: sys.exit(3),
    "abort": os.abort,  # of a library in C++
    "exit": lambda: os._exit(1),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
}
workspace = Workspace(load_config(None, [f"run.output_dir={sys.argv[1]}", "run.name=trial"]))
with on_screen(debug=False) as console, in_file(workspace, "run", console, debug=False):
    os.write(2, b"last words of a library")
    ends[sys.argv[2]]()
"""


@pytest.mark.parametrize(("end", "code"), [("returns", 0), ("raises", 3), ("abort", -6), ("exit", 1), ("killed", -9)])
def test_a_death_below_python_is_told(end: str, code: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DYING, tmp_path, end], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert done.returncode == code
    (kept,) = (tmp_path / "trial" / "work" / "logs").iterdir()
    assert "last words of a library" in kept.read_text()
    said = [line for line in done.stderr.splitlines() if line]
    assert [line.startswith("fabric-retrieval: this process was killed") for line in said] == [True] * (
        code in {-9, -6, 1}
    )
    assert not said or str(kept) in said[0]


def test_a_full_disk_under_the_log_does_not_end_a_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    really = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: really("/dev/full" if "/logs/" in str(path) else path, *rest))
    with on_screen(debug=False) as console, in_file(workspace, "embed", console, debug=False):
        log.info("our line")
        logging.getLogger("some.library").warning("a library's line")
    said = capsys.readouterr().err
    assert "our line" in said
    assert "this log is incomplete (No space left on device)" in said
    assert "Traceback" not in said
