"""A password in a URL is refused, naming the key, and never repeated."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ray_jobs.__main__ import main
from retrieval_core.config.config import ConfigError, load_config
from retrieval_core.files.credentials import CredentialsError, hide_credentials, holds_credentials
from retrieval_core.images.decoding import read_content

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


@pytest.mark.parametrize("key", ["data.root", "model.weights"])
def test_missing_credentials_are_one_line_that_says_what_to_set(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    s3fs = pytest.importorskip("s3fs")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # the machine that tests may have a role
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        assert main(["check", "--set", f"{key}=s3://catalogue/data", "--set", "train.enabled=true"]) == 1
        said = capsys.readouterr()
        lines = [line for line in said.out.splitlines() if "no credentials" in line]
        assert lines
        assert all("s3://catalogue/data" in line and "AWS_SECRET_ACCESS_KEY" in line for line in lines)
        assert "Traceback" not in said.out + said.err
        with pytest.raises(CredentialsError):  # the run ends: a reject of every image would hide why
            read_content("s3://catalogue/a.png", 1000)
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_a_misplaced_url_is_not_repeated_either(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", WITH])
    assert SECRET not in capsys.readouterr().err
