"""A path at which nothing is names the file that is meant, if one differs in spelling only."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval_core.files.spelling import other_spelling


@pytest.mark.parametrize(
    ("there", "asked", "told"),
    [
        ("fab/f0.png", "fab\\f0.png", "is there as {root}/fab/f0.png"),
        ("fab/f0.png", "FAB/F0.PNG", "is there as {root}/fab/f0.png"),
        ("fab/my rose.png", "fab/my%20rose.png", "is there as {root}/fab/my rose.png"),
        ("fab/my rose.png", "Fab\\My%20rose.png", "is there as {root}/fab/my rose.png"),
        ("fab/rose .png", "fab /rose .png", "is there as {root}/fab/rose .png"),
        (
            "fab/Bl\u00fcte.png",
            "fab/Blu\u0308te.png",
            "is there as {root}/fab/Bl\u00fcte.png, its letters composed otherwise: NFC or NFD",
        ),
        ("fab/Blu\u0308te.png", "fab/BL\u00dcTE.png", "is there as {root}/fab/Blu\u0308te.png"),
        ("home/pic/f0.png", "data/~/pic/f0.png", "is there as {root}/home/pic/f0.png"),
        ("fab/f0.png", "C:\\pic\\f0.png", "back-slashes are no separators here: write /"),
        ("fab/f0.png", "fab/f1.png", None),
        ("fab/f0.png", "nul%00/f0.png", None),
        ("fab/f0.png", "fab/f0.png/x", None),
    ],
)
def test_other_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str, asked: str, told: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / there).parent.mkdir(parents=True)
    (tmp_path / there).touch()
    expected = None if told is None else told.format(root=tmp_path)
    assert other_spelling(f"{tmp_path}/{asked}") == expected
    assert other_spelling(f"file://{tmp_path}/{asked}") == expected


def test_what_is_no_spelling() -> None:
    assert other_spelling("s3://bucket/a%20b.png") is None


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("gone.png")
    assert other_spelling(f"{tmp_path}/a.png") == "is a link that leads nowhere"
