"""A password in a URL is refused, naming the key, and never said again."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_jobs.__main__ import main
from retrieval_core.config import ConfigError, load_config
from retrieval_core.credentials import hide_credentials, holds_credentials

SECRET = "wJalr/XUtn+FEMI=xyz"
WITH = f"s3://AKIAEXAMPLE:{SECRET}@bucket/data"


@pytest.mark.parametrize(
    "text",
    [WITH, "s3://:s@b/x", "s3://key:1234@bucket", "https://me:p@ss@host/x", f"see {WITH} there", "ftp://u:p@[::1]/x"],
)
def test_passwords_are_seen_and_hidden(text: str) -> None:
    assert holds_credentials(text)
    hidden = hide_credentials(text)
    assert "://***@" in hidden
    assert not holds_credentials(hidden)
    assert SECRET not in hidden
    assert "p@ss" not in hidden


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/a:b@c.png",
        "http://host:8080/a@b.png",
        "abfs://container@account.dfs.core.windows.net/x",
        "hdfs://me@host:9000/x",
        "/data/a:b@c.png",
        "C: #5",
        "",
    ],
)
def test_what_holds_no_password_stays(text: str) -> None:
    assert not holds_credentials(text)
    assert hide_credentials(text) == text


@pytest.mark.parametrize(
    "key",
    ["data.root", "data.queries", "model.weights", "model.checkpoint", "run.output_dir", "data.rooot", "data.x.y"],
)
def test_a_url_with_a_password_is_refused_without_repeating_it(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--set", f"{key}={WITH}"]) == 2
    said = capsys.readouterr()
    assert key in said.err
    assert "wJalr" not in said.err + said.out
    assert "FEMI" not in said.err + said.out


def test_a_password_in_a_file_is_refused_too(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"data:\n  root: {WITH}\n")
    with pytest.raises(ConfigError, match=r"data\.root = 's3://\*\*\*@bucket/data': must not hold a password") as found:
        load_config(file)
    assert SECRET not in str(found.value)


def test_a_misplaced_url_is_not_repeated_either(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", WITH])
    assert SECRET not in capsys.readouterr().err
