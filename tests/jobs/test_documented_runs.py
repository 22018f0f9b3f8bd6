"""The command blocks of the pages that compute, made small by the notes before them: see ``tests.doc_blocks``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray_jobs.__main__ import main
from ray_jobs.console.command_line import build_parser
from retrieval_core.config.config import load_config
from tests.doc_blocks import ROOT, arguments, commands_of, computes, runnable_blocks
from tests.jobs.small_data import write_png


def from_here(words: list[str], folder: Path) -> list[str]:
    """The words with absolute paths: relative ones would start where the tests' Ray was started."""
    options = build_parser().parse_args(words)
    config = load_config(options.config, options.overrides)
    paths = {
        "data.root": config.data.root,
        "run.output_dir": config.run.output_dir,
        "model.weights": config.model.weights,
    }
    return [*words, *(word for key, value in paths.items() if value for word in ("--set", f"{key}={folder / value}"))]


def test_the_first_steps_end_with_a_picture(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All blocks in order: draw the catalogue, embed and rank it, then search it for a picture."""
    monkeypatch.chdir(tmp_path)
    for name in ("ray_jobs", "Weight_Path"):
        (tmp_path / name).symlink_to(ROOT / name)
    write_png(tmp_path / "motif.png", 1)
    done = []
    for block in sorted(filter(computes, runnable_blocks())):
        for command in commands_of(block):
            words = arguments(command, block)
            assert words is not None, command
            capsys.readouterr()
            assert main(from_here(words, tmp_path)) == 0, command
            done.append(words[0])
    assert done == ["simulate", "run", "search", "simulate"]
    look = tmp_path / "Output" / "look"
    assert "<html" in (look / "report.html").read_text()
    assert set(json.loads((look / "metrics.json").read_text())) == {"random", "fine_tuned"}
    assert (tmp_path / "Output/my-fabrics/test.txt").is_file()
