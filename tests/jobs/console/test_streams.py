"""Closed streams, a pipe that nobody reads and a terminal without the characters change no exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.processes import PROJECT
from tests.jobs.small_data import as_options, settings, write_catalogue

SCRIPT = """
import logging, os, sys
from ray_jobs.console.streams import prepare_streams
prepare_streams()
for descriptor in range(3):
    os.fstat(descriptor)
for number in range(20000):
    print("Gr\\u00f6\\u00dfe", number)
    print("said", number, file=sys.stderr)
sys.stdout.flush()
sys.exit(7)
"""


def shell(line: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which "$@" is the program; its exit code is the last that is not 0."""
    command = ["bash", "-o", "pipefail", "-c", line, "bash", *words]
    variables = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT, env=variables)


REDIRECTIONS = [
    ('"$@" >&-', 7),
    ('"$@" 2>&-', 7),
    ('"$@" <&- >&- 2>&-', 7),
    ('"$@" | head -1', 7),
    ('"$@" 2>&1 >/dev/null | head -1', 7),
    ('"$@" 2>/dev/full', 7),
    ('"$@" >/dev/full', 1),  # what a user asked for is lost
]


@pytest.mark.parametrize(("line", "code"), REDIRECTIONS)
def test_only_lost_results_change_the_exit_code(line: str, code: int) -> None:
    done = shell(line, sys.executable, "-c", SCRIPT)
    assert done.returncode == code
    assert "BrokenPipe" not in done.stderr
    assert ("No space left on device: 'standard output'" in done.stderr) == (code == 1)


def test_what_an_encoding_lacks_becomes_an_escape() -> None:
    done = shell('"$@"', sys.executable, "-c", SCRIPT, PYTHONIOENCODING="ascii")
    assert done.returncode == 7
    assert done.stdout.startswith("Gr\\xf6\\xdfe 0\n")


CHECKS = [
    ('"$@" | head -1', 0, "warning ignored-file"),
    ('"$@" >&- 2>&-', 0, ""),
    ('"$@" >/dev/full', 1, "fabric-retrieval: standard output: No space left on device\n"),
]


@pytest.mark.parametrize(("line", "code", "said"), CHECKS)
def test_a_command(line: str, code: int, said: str, weights: Path, tmp_path: Path) -> None:
    root = write_catalogue(tmp_path / "data")
    (root / "fabrics" / "test" / "img" / "images" / "Größe.txt").write_text("x")
    values = settings(root, weights, tmp_path / "out", data__format="folder", data__gallery="fabrics")
    words = ["check", *as_options([*values, f"data.gallery={root}/fabrics", f"data.queries={root}/element img"])]
    done = shell(line, sys.executable, "-m", "ray_jobs", *words, PYTHONIOENCODING="ascii")
    assert done.returncode == code, done.stderr
    assert (done.stdout or done.stderr).startswith(said)
    assert "ignored-file" not in said or "Gr\\xf6\\xdfe.txt" in done.stdout
