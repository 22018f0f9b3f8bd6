"""What a user's mistake looks like: the right exit code, one line that names the remedy, and no traceback."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import socket
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest

from ray_jobs.__main__ import main
from ray_jobs.console.command_line import COMMANDS, FIRST_STEPS, build_parser
from retrieval_core.config.config import load_config
from tests.jobs.small_data import as_options, fabric_path, query_paths, settings, write_catalogue


class Terminal:
    """Runs the program as a shell does, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """(exit code, stdout, stderr)"""
        self.capsys.readouterr()
        try:
            code = main(words)
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            code = stop.code
        out, err = self.capsys.readouterr()
        return code, out, err

    def complaint(self, code: int, *words: str) -> str:
        """The one line of a command that must fail with this code."""
        found, _, err = self(*words)
        lines = [line for line in err.splitlines() if line.startswith("fabric-retrieval: ")]
        assert (found, len(lines)) == (code, 1), err
        assert "Traceback" not in err
        return lines[0]


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("embed.batchsize=4", ["embed.batchsize", "embed.batch_size"]),
        ("embd.batch_size=4", ["embd", "embed"]),
        ("embed.batch_size=0", ["embed.batch_size", "0"]),
        ("model.pooling=max", ["model.pooling", "'max'", "'cls'"]),
        ("embed.batch_size", ["section.key=value"]),
    ],
)
def test_wrong_key_or_value(terminal: Terminal, override: str, words: list[str]) -> None:
    line = terminal.complaint(2, "run", "--set", override)
    assert all(word in line for word in words)


@pytest.mark.parametrize(
    ("words", "nearest"),
    [(["run", "--overwite"], "--overwrite"), (["retreive"], "retrieve"), (["run", "--confg", "x.yaml"], "--config")],
)
def test_wrong_flag_or_command(terminal: Terminal, words: list[str], nearest: str) -> None:
    assert f"did you mean {nearest}?" in terminal.complaint(2, *words)


def test_missing_command(terminal: Terminal) -> None:
    assert "COMMAND" in terminal.complaint(2)


def test_missing_config_file_names_those_there_are(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("run: {name: x}")
    line = terminal.complaint(2, "run", "--config", str(tmp_path / "mien.yaml"))
    assert "mien.yaml" in line
    assert "mine.yaml" in line


def test_config_that_is_not_yaml(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("run: {name: [x}")
    assert "not valid YAML" in terminal.complaint(2, "check", "--config", str(tmp_path / "mine.yaml"))


def test_relative_output_of_a_submitted_job(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    absolute = ["--set", "data.root=/data", "--set", "model.weights=/weights"]
    line = terminal.complaint(2, "run", *absolute, "--set", "run.output_dir=Output")
    assert "run.output_dir = 'Output'" in line
    assert "Ray's own copy" in line


def test_missing_data_root(terminal: Terminal, ray_cluster: None, weights: Path, tmp_path: Path) -> None:
    line = terminal.complaint(1, "run", *as_options(settings(tmp_path / "nowhere", weights, tmp_path / "out")))
    assert str(tmp_path / "nowhere") in line


def test_missing_weights(terminal: Terminal, tmp_path: Path) -> None:
    root = write_catalogue(tmp_path / "data")
    line = terminal.complaint(1, "run", *as_options(settings(root, tmp_path / "no-weights", tmp_path / "out")))
    assert str(tmp_path / "no-weights") in line
    assert "config.json" in line


def test_search_without_a_store(terminal: Terminal, weights: Path, tmp_path: Path) -> None:
    root = write_catalogue(tmp_path / "data")
    image = str(fabric_path(root, 0))
    line = terminal.complaint(1, "search", image, *as_options(settings(root, weights, tmp_path / "out")))
    assert "fabric-retrieval embed" in line


def test_dry_run_writes_nothing(terminal: Terminal, weights: Path, tmp_path: Path) -> None:
    options = as_options(settings(write_catalogue(tmp_path / "data"), weights, tmp_path / "out"))
    code, out, _ = terminal("run", "--dry-run", *options)
    assert code == 0
    assert [word for word in ("train", "embed", "retrieve", "evaluate", "report") if word not in out] == []
    assert not (tmp_path / "out").exists()


def test_check_of_a_sound_data_set(terminal: Terminal, weights: Path, tmp_path: Path) -> None:
    options = as_options(settings(write_catalogue(tmp_path / "data"), weights, tmp_path / "out"))
    code, out, _ = terminal("check", *options)
    assert (code, out.splitlines()[-1]) == (0, "check: ready to run")
    assert not (tmp_path / "out").exists()


def test_check_counts_what_a_run_works_around(terminal: Terminal, weights: Path, tmp_path: Path) -> None:
    root = write_catalogue(tmp_path / "data")
    lost = query_paths(root)[1]
    (root / lost).unlink()
    code, out, _ = terminal("check", *as_options(settings(root, weights, tmp_path / "out")))
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines() if lost in line] == [["warning", "missing-query:"]]


def test_check_finds_all_that_stops_a_run(terminal: Terminal, weights: Path, tmp_path: Path) -> None:
    root = write_catalogue(tmp_path / "data", training=3)
    (root / "test.txt").unlink()
    (root / "Train_split.json").write_text(json.dumps({"not": "a list"}))
    keys = {"train__enabled": True}
    code, out, err = terminal("check", *as_options(settings(root, tmp_path / "no-weights", tmp_path / "out", **keys)))
    errors = [line for line in out.splitlines() if line.startswith("error")]
    assert (code, err) == (1, "")
    for word in ("no-weights", "test.txt", "Train_split.json"):
        assert any(word in line for line in errors), word


def test_dry_run_counts_and_measures(terminal: Terminal, weights: Path, tmp_path: Path) -> None:
    root = write_catalogue(tmp_path / "data", training=4)
    keys: dict[str, Any] = {"train__enabled": True, "train__epochs": 3, "train__batch_size": 2, "retrieve__top_k": 7}
    _, out, _ = terminal("run", "--dry-run", *as_options(settings(root, weights, tmp_path / "out", **keys)))
    assert "12 fabrics, 5 queries" in out
    assert "at most 6 steps of 2 queries" in out
    assert "unknown until the first step" in out
    assert "17 images to do" in out
    assert "unknown until the first shard" in out
    assert f"disk: {17 * (16 * 4 + 16) / 1000:.1f} kB" in out
    assert "top 7 of 12 vectors for 5 queries in 1 blocks" in out
    assert "are free" in out


def test_dry_run_tells_time_by_the_last_run(
    terminal: Terminal, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out_dir = write_catalogue(tmp_path / "data"), tmp_path / "out"
    folder = out_dir / "trial" / "work" / "stages"
    folder.mkdir(parents=True)
    for role, images in (("gallery", 380), ("queries", 20)):
        record = {"fingerprint": "x", "encoded": images, "seconds": images / 4, "views": 1, "side": 28}
        (folder / f"embed.{role}.json").write_text(json.dumps(record))
    options = as_options(settings(root, weights, out_dir))
    _, out, _ = terminal("embed", "--dry-run", "--overwrite", *options)
    assert "about 4 s (4.0 images/s as in the last run here)" in out
    _, out, _ = terminal("embed", "--dry-run", "--overwrite", *options, "--set", "model.image_size=56")
    assert "unknown until the first shard" in out


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "completion"])
def test_help_teaches(terminal: Terminal, name: str) -> None:
    """Examples come first, parse, and name keys that there are; defaults are shown."""
    code, out, _ = terminal(name, "--help")
    assert code == 0
    about = COMMANDS[name]
    assert out.index("examples:") < out.index("options:")
    for words in about.examples:
        options = build_parser().parse_args([name, *shlex.split(words)])
        load_config(None, options.overrides)
    assert [key for key in about.keys if f"  {key}" not in out] == []
    assert out.count("(default: ") >= len(about.keys) + 2


def test_help_of_the_program_starts_with_examples(terminal: Terminal) -> None:
    code, out, _ = terminal("--help")
    assert code == 0
    assert out.splitlines()[2] == "examples:"
    for words, _ in FIRST_STEPS:
        build_parser().parse_args(shlex.split(words))


def test_no_colours_where_nobody_looks(terminal: Terminal) -> None:
    _, _, err = terminal("run", "--set", "embd.x=1")
    assert "\033" not in err


COMPLETE = """
source /dev/stdin <<< "$SCRIPT"
complete -p fabric-retrieval > /dev/null
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_fabric_retrieval fabric-retrieval "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}" 2> /dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("retr", ["retrieve"]),
        ("run --over", ["--overwrite"]),
        ("embed --set embed.batch", ["embed.batch_size="]),
        (
            "embed --config a.yaml --set retrieve.",
            [f"retrieve.{key}=" for key in ("top_k", "expand", "rescore", "query_block", "gallery_block")],
        ),
    ],
)
def test_completion_in_bash(terminal: Terminal, typed: str, completed: list[str]) -> None:
    code, script, _ = terminal("completion", "bash")
    assert code == 0
    done = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", "fabric-retrieval", *typed.split()],
        env={**os.environ, "SCRIPT": script},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == completed


def test_completion_for_zsh_knows_commands_and_keys(terminal: Terminal) -> None:
    code, script, _ = terminal("completion", "zsh")
    assert code == 0
    assert script.startswith("#compdef fabric-retrieval")
    assert "embed.batch_size=" in script
    assert "--only-rejected" in script


def test_warnings_of_libraries_go_to_the_log_of_the_run(
    terminal: Terminal, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stage(*_: Any) -> None:
        warnings.warn("a library's", UserWarning, stacklevel=1)
        logging.getLogger("some.library").warning("another's")
        raise KeyError("lost")

    monkeypatch.setattr("ray_jobs.pipeline.run_stage", stage)
    root = write_catalogue(tmp_path / "data")
    code, _, err = terminal("embed", *as_options(settings(root, weights, tmp_path / "out")))
    (file,) = (tmp_path / "out" / "trial" / "work" / "logs").iterdir()
    assert code == 1
    assert err == f"fabric-retrieval: KeyError: 'lost'\nfabric-retrieval: {file} shows where it happened\n"
    kept = file.read_text()
    assert f"WARNING run=trial stage=- node={socket.gethostname()} some.library: another's\n" in kept
    assert all(text in kept for text in ("a library's", "another's", "Traceback", "KeyError: 'lost'"))
