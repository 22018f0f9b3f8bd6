"""What a user's mistake looks like: the right exit code, one line that names the remedy, and no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray_jobs.__main__ import main
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
