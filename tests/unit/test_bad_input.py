"""Every bad input has its expected outcome: one clear line or the right result, and nothing else happens."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from ray_jobs.__main__ import main
from retrieval_core.config import ImagesConfig, load_config
from retrieval_core.images import ImageRejected, read_image
from retrieval_core.weights import WeightsError, load_model
from tests.bad_input import BadInput, bad_inputs
from tests.bad_settings import MARKER, bad_settings

CORPUS = [*bad_inputs(), *bad_settings()]
PATIENCE_SECONDS = 60
LEAST_LARGE = 300_000_000
"""Bytes of memory beyond which a file of a gigabyte was not read in parts."""


@contextmanager
def no_hang() -> Iterator[None]:
    """Fail instead of waiting for ever; every row takes a small part of a second."""

    def give_up(_: int, frame: FrameType | None) -> None:
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Everything in a folder with what changes when it is written."""
    found = {}
    for path in folder.rglob("*"):
        info = path.lstat()
        found[str(path)] = (info.st_mode, info.st_size, info.st_mtime_ns)
    return found


def memory(field: str) -> int:
    """``VmRSS`` or ``VmHWM`` (its peak) of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def outcome(row: BadInput, words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and what was said."""
    if row.entry == "image":
        try:
            read_image(words[0], ImagesConfig())
        except ImageRejected as rejected:
            return 0, str(rejected)
        return 0, "embedded"
    if row.entry == "load":
        with pytest.raises(WeightsError) as refused:
            load_model(load_config(None, words[1::2]).model, 0, with_head=False)
        return 1, str(refused.value)
    code = main(["check", *words])
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.mark.parametrize("row", CORPUS, ids=[row.name for row in CORPUS])
def test_bad_input_has_its_outcome(
    row: BadInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "input").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    words = row.make(tmp_path / "input")
    before = snapshot(tmp_path)
    if row.large:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    start = memory("VmRSS")
    with no_hang():
        code, said = outcome(row, words, capsys)
    assert (code, row.says in said) == (row.code, True), said
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if row.says in line]
    assert max(map(len, lines)) < 2500, "one clear line"
    assert said.replace("\n", "").isprintable()
    assert snapshot(tmp_path) == before
    assert not Path(MARKER).exists()
    if row.large:
        assert memory("VmHWM") - start < LEAST_LARGE


def test_the_corpus_covers_what_it_should() -> None:
    names = [row.name for row in CORPUS]
    assert len(set(names)) == len(names) >= 100
    assert {row.code for row in CORPUS} == {0, 1, 2}
    assert {row.entry for row in CORPUS} == {"check", "image", "load"}
