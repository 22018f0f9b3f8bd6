"""Catalogues whose pictures cannot be read, or are gone: the run says so, and keeps what it had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray_jobs.__main__ import main
from tests.jobs.small_data import as_options, settings, write_png

KEYS = {"data__format": "folder", "report__queries": 1}


def command(place: Path, weights: Path, *words: str, name: str = "run") -> list[str]:
    """A command over the folders ``gallery`` and ``queries`` of a place."""
    keys = {**KEYS, "data__gallery": place / "gallery", "data__queries": place / "queries"}
    return [name, *as_options(settings(place, weights, place / "out", **keys)), *words]


def complaint(err: str) -> str:
    (line,) = (line for line in err.splitlines() if line.startswith("fabric-retrieval: "))
    return line


def test_a_gallery_of_which_nothing_was_embedded_is_a_failure(
    ray_cluster: None, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_png(tmp_path / "queries" / "q.png", 1)
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "notes.txt").write_text("no picture, and not counted as one")
    for name in ("a.png", "b.png"):
        (tmp_path / "gallery" / name).write_text("not a picture")
    for _ in range(2):  # the second time its stage is skipped
        assert main(command(tmp_path, weights, name="embed")) == 1
        told = complaint(capsys.readouterr().err)
        assert "gallery: none of 2 images could be embedded (2 not_an_image)" in told
        assert f"{tmp_path}/out/trial/rejects.parquet" in told
        written = json.loads((tmp_path / "out" / "trial" / "run.json").read_text())
        assert written["error"] in told
        counts = {key: written["counts"]["gallery"][key] for key in ("inputs", "embedded", "rejected")}
        assert counts == {"inputs": 2, "embedded": 0, "rejected": 2}
    write_png(tmp_path / "gallery" / "a.png", 2)
    assert main(command(tmp_path, weights, name="embed")) == 0
    assert "error" not in json.loads((tmp_path / "out" / "trial" / "run.json").read_text())
    err = capsys.readouterr().err
    assert "gallery: 2 images, 1 embedded, 1 rejected (1 not_an_image); left out: 1 without an image suffix\n" in err
    assert "queries: 1 images, 1 embedded\n" in err


def contents(folder: Path) -> dict[str, bytes]:
    """Vectors, plan and pool of a run."""
    files = [*folder.glob("embeddings/*/*"), *folder.glob("work/plan/**/*.parquet"), *folder.glob("*results.json")]
    return {str(file): file.read_bytes() for file in files}


def test_a_gallery_that_is_gone_is_refused_until_that_is_accepted(
    ray_cluster: None, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery, away, out = tmp_path / "gallery", tmp_path / "away", tmp_path / "out" / "trial"
    write_png(tmp_path / "queries" / "q.png", 1)
    for number in range(3):
        write_png(gallery / f"{number}.png", number)
    assert main(command(tmp_path, weights)) == 0
    before = contents(out)
    gallery.rename(away)
    gallery.mkdir()  # as a share that is not mounted
    assert main(command(tmp_path, weights)) == 1
    assert "the gallery is empty" in complaint(capsys.readouterr().err)
    for number in range(2):
        (gallery / f"{number}.png").symlink_to(tmp_path / "not mounted")
    for words in ([], ["--overwrite"]):
        assert main(command(tmp_path, weights, *words)) == 1
        assert "3 of the 3 fabrics embedded before are gone at once, 0 are there" in complaint(capsys.readouterr().err)
    assert contents(out) == before
    assert not (out / "work" / "staged" / "frozen" / "gallery").exists()
    gallery.rename(tmp_path / "links")
    away.rename(gallery)
    assert main(command(tmp_path, weights, name="embed")) == 0
    assert contents(out) == before
    gallery.rename(away)
    (tmp_path / "links").rename(gallery)
    assert main(command(tmp_path, weights, "--accept-removals", name="embed")) == 1
    assert "none of 2 images could be embedded (2 missing)" in complaint(capsys.readouterr().err)
    assert contents(out) != before
