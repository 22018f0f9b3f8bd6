"""Signals to stop: the first one becomes a KeyboardInterrupt that is announced; the command to go on is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest

from ray_jobs.console.interrupt import how_to_go_on, stops_on_signals
from ray_jobs.console.progress import Console

FIRST = [
    (signal.SIGINT, 130, "\nstopping; Ctrl-C again stops at once\n", "stopped"),
    (signal.SIGTERM, 143, "\nSIGTERM: stopping; Ctrl-C stops at once\n", "stopped by SIGTERM"),
    (signal.SIGHUP, 129, "\nSIGHUP: stopping; Ctrl-C stops at once\n", "stopped by SIGHUP"),
]


@pytest.mark.parametrize(("sent", "code", "said", "line"), FIRST)
def test_the_first_one_is_announced_and_raised(
    tmp_path: Path, sent: signal.Signals, code: int, said: str, line: str
) -> None:
    before = signal.getsignal(sent)
    with (tmp_path / "said").open("w") as stream, stops_on_signals(Console(stream)) as told:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), sent)
        for again in (signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), again)  # changes nothing
    assert (told.code, told.line()) == (code, line)
    assert (tmp_path / "said").read_text() == said
    assert signal.getsignal(sent) is before


class Thing:
    """Of which there can be weak references."""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_one_that_arrives_in_a_callback_is_raised_after_it(tmp_path: Path, sent: signal.Signals) -> None:
    hook, went_on = sys.unraisablehook, False
    with (
        (tmp_path / "said").open("w") as stream,
        stops_on_signals(Console(stream)) as told,
        pytest.raises(KeyboardInterrupt),
    ):
        thing = Thing()
        kept = weakref.ref(thing, lambda _: os.kill(os.getpid(), sent))
        del thing
        went_on = kept() is None  # Python has dropped the exception
        time.sleep(60)
    assert went_on
    assert told.signal == sent
    assert sys.unraisablehook is hook


def test_nohup_is_respected(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with (tmp_path / "said").open("w") as stream, stops_on_signals(Console(stream)) as told:
            os.kill(os.getpid(), signal.SIGHUP)
        assert told.signal is None
    finally:
        signal.signal(signal.SIGHUP, before)


SERVER = """
import os, signal, sys
from ray_jobs.console.interrupt import says_when_terminated, stops_on_signals
from ray_jobs.console.progress import Console
console, first, second = Console(sys.stderr), *map(int, sys.argv[1:3])
with says_when_terminated(console) if not second else stops_on_signals(console):
    try:
        os.kill(os.getpid(), first)
    except KeyboardInterrupt:
        os.kill(os.getpid(), second)
"""


@pytest.mark.parametrize(
    ("first", "second", "code", "line"),
    [
        (signal.SIGTERM, 0, -signal.SIGTERM, "fabric-retrieval: stopped by SIGTERM"),
        (signal.SIGHUP, 0, -signal.SIGHUP, "fabric-retrieval: stopped by SIGHUP"),
        (signal.SIGINT, signal.SIGINT, 130, "stopping; Ctrl-C again stops at once"),
        (signal.SIGTERM, signal.SIGINT, 143, "SIGTERM: stopping; Ctrl-C stops at once"),
    ],
)
def test_the_end_of_a_process(first: int, second: int, code: int, line: str) -> None:
    words = [sys.executable, "-c", SERVER, str(int(first)), str(int(second))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (code, line)


def test_to_go_on_nothing_is_overwritten_and_names_are_quoted() -> None:
    words = ["run", "--overwrite", "--set", "data.root=my fabrics"]
    assert how_to_go_on(words) == "fabric-retrieval run --set 'data.root=my fabrics'"
