"""Ctrl-C: the first one becomes a KeyboardInterrupt that is announced, and the command to go on is named."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ray_jobs.console.interrupt import how_to_go_on, stops_on_ctrl_c
from ray_jobs.console.progress import Console


def test_the_first_one_is_announced_and_raised(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with (tmp_path / "said").open("w") as stream, pytest.raises(KeyboardInterrupt), stops_on_ctrl_c(Console(stream)):
        os.kill(os.getpid(), signal.SIGINT)
    assert (tmp_path / "said").read_text() == "\nstopping; Ctrl-C again stops at once\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_to_go_on_nothing_is_overwritten_and_names_are_quoted() -> None:
    words = ["run", "--overwrite", "--set", "data.root=my fabrics"]
    assert how_to_go_on(words) == "fabric-retrieval run --set 'data.root=my fabrics'"
