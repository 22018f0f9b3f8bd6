"""Every bad input has its expected outcome: one clear line or the right result, and nothing else happens."""

from __future__ import annotations

import json
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ray_jobs.__main__ import main
from retrieval_core.config.config import ConfigError, load_config
from retrieval_core.config.sections import ImagesConfig
from retrieval_core.images.rgb import REASONS, ImageRejected, read_image
from retrieval_core.model.weight_files import read_tensors
from retrieval_core.model.weights import WeightsError, load_model
from tests.bad_input import BadInput, bad_inputs
from tests.bad_settings import MARKER, bad_settings, sound_weights
from tests.odd_images import encode, smooth_noise

CORPUS = [*bad_inputs(), *bad_settings()]
SOUND = sound_weights()
JPEG = encode(smooth_noise(20, 24), "JPEG")
PIECES = [*" \n{}[]'\"1é\t|?", "run:", "evaluate:", "ks:", "- ", "&a", "*a", "!!python/name:os.system", "<<"]
JSON = st.recursive(
    st.none() | st.integers() | st.floats() | st.sampled_from(["F32", "BF16", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "a"]), inner, max_size=4)
    ),
    max_leaves=12,
)
PATIENCE_SECONDS = 60
MEMORY_LIMIT = 300_000_000
"""Bytes of memory; whoever needs more for a file of a gigabyte did not read it in parts."""


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
        assert memory("VmHWM") - start < MEMORY_LIMIT


@given(at=st.integers(0, 10**6), value=st.binary(min_size=1, max_size=9), name=st.sampled_from(sorted(SOUND)))
@example(at=13326, value=b"\n", name="sound.pth")  # a line break in a name that the message quotes
@settings(max_examples=150)
def test_a_changed_file_of_weights_is_read_or_refused(tmp_path_factory, at: int, value: bytes, name: str) -> None:
    content = bytearray(SOUND[name])
    start = at % len(content)
    content[start : start + len(value)] = value
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    for values in (False, True):
        try:
            read_tensors(str(path), values=values)
        except WeightsError as error:
            assert name in str(error)
            assert "\n" not in str(error)


@given(text=st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()), excess=st.integers(-9, 9))
@settings(max_examples=150)
def test_any_header_of_safetensors_is_read_or_refused(tmp_path_factory, text: bytes, excess: int) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(struct.pack("<Q", max(0, len(text) + excess)) + text + bytes(8))
    try:
        read_tensors(str(path), values=False)
    except WeightsError as error:
        assert "any.safetensors" in str(error)


@given(at=st.integers(0, 10**6), value=st.binary(min_size=1, max_size=4))
@settings(max_examples=100)
def test_a_changed_jpeg_is_an_image_or_a_reject(tmp_path_factory, at: int, value: bytes) -> None:
    content = bytearray(JPEG)
    start = at % len(content)
    content[start : start + len(value)] = value
    path = tmp_path_factory.getbasetemp() / "changed.jpg"
    path.write_bytes(content)
    try:
        pixels = read_image(str(path), ImagesConfig(max_pixels=10**6))
    except ImageRejected as rejected:
        assert rejected.reason in REASONS
    else:
        assert pixels.size <= 3 * 10**6


@given(text=st.lists(st.sampled_from(PIECES)).map("".join))
@settings(max_examples=150)
def test_any_configuration_file_is_taken_or_refused(tmp_path_factory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text)
    try:
        load_config(path)
    except ConfigError as error:
        assert str(error)


def test_the_corpus_covers_what_it_should() -> None:
    names = [row.name for row in CORPUS]
    assert len(set(names)) == len(names) >= 100
    assert {row.code for row in CORPUS} == {0, 1, 2}
    assert {row.entry for row in CORPUS} == {"check", "image", "load"}
