"""Hostile or broken YAML is bounded when it is read and when it is shown."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.config.yaml_text import MAX_FILE_BYTES, UNREADABLE_YAML, read_text, shown

BILLION = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))

json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_text_is_read_with_or_without_a_byte_order_mark(tmp_path, encoding):
    file = tmp_path / "run.yaml"
    file.write_text("run: {name: ünicode}\n", encoding=encoding)
    assert read_text(file) == "run: {name: ünicode}\n"


def test_a_file_may_have_the_largest_size_and_no_more(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_bytes(b"#" * MAX_FILE_BYTES)
    assert len(read_text(file)) == MAX_FILE_BYTES
    file.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ValueError, match=r"^is larger than 100,000 bytes, so it is no configuration$"):
        read_text(file)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_bytes(b"\x89PNG\xff")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_text(file)


def test_a_fifo_is_refused_before_it_blocks(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ValueError, match="is a FIFO, not a file"):
        read_text(tmp_path / "fifo")


def test_the_pipe_of_a_shell_is_read():
    script = "import pathlib, sys; from retrieval_core.config.yaml_text import read_text; "
    script += "print(read_text(pathlib.Path(sys.argv[1])))"
    command = ["bash", "-c", f"{sys.executable} -c '{script}' <(echo run:)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "run:"


@pytest.mark.parametrize("text", ["2026-99-99", "0x_", "{a: b", "[" * 5000, "!!python/object:os.system {}"])
def test_what_yaml_cannot_read_is_one_of_its_errors(text):
    with pytest.raises(UNREADABLE_YAML):
        yaml.safe_load(text)


@given(json_like)
def test_any_value_is_shown_on_one_line(value):
    assert "\n" not in shown(value)


def test_a_wide_and_deep_value_is_shortened():
    deep = ["v" * 10_000] * 1000
    for _ in range(100):
        deep = [deep] * 1000
    assert len(shown({f"{number}" * 10_000: deep for number in range(1000)})) < 5000


@pytest.mark.parametrize("value", [3, "trial", [1, 2], {"a": None}, True, 0.5])
def test_a_small_value_is_shown_as_it_is(value):
    assert shown(value) == repr(value)


def test_a_billion_values_are_not_printed():
    assert len(shown(yaml.safe_load(BILLION))) < 1000


def test_a_long_text_keeps_its_ends():
    text = shown("a" * 500 + "z" * 500)
    assert text.startswith("'aaa") and text.endswith("zzz'") and len(text) < 200


def test_a_large_number_is_counted_in_bits():
    assert shown(1 << 999) == "a number of 1,000 bits"
    assert shown(1 << 998) == str(1 << 998)


def test_a_password_is_not_shown_even_if_the_text_is_cut_in_it():
    text = shown("s3://key:" + "p" * 300 + "@bucket/" + "x" * 300)
    assert "pp" not in text and "***@" in text
    assert "secret" not in shown({"root": ["s3://key:secret@bucket"]})
