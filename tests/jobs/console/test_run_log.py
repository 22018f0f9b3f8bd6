"""Lines for people stay on the screen, everything else goes into the run's log file."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from ray_jobs.console.run_log import in_file, log, on_screen
from retrieval_core.config.config import load_config
from retrieval_core.run.workspace import Workspace


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
