"""Pictures are reduced, made once while they are kept, and an unreadable file is tried again."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from retrieval_core.config.sections import ImagesConfig
from retrieval_core.images.rgb import ImageRejected
from retrieval_core.serving.pictures import cached_pictures
from tests.unit.serving.small_store import as_file, picture


def test_the_latest_pictures_are_kept(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for number, file in enumerate(files):
        file.write_bytes(as_file(picture(number)))
    draw = cached_pictures(ImagesConfig(), side=32, keep=2)
    drawn = [draw(str(file)) for file in files]
    with Image.open(io.BytesIO(drawn[0])) as small:
        assert (small.format, small.size) == ("JPEG", (32, 24))
    for file in files:
        file.unlink()
    assert [draw(str(file)) for file in files[1:]] == drawn[1:]
    with pytest.raises(ImageRejected):
        draw(str(files[0]))


def test_a_file_that_could_not_be_read_is_read_again(tmp_path: Path) -> None:
    draw, file = cached_pictures(ImagesConfig(), side=32, keep=2), tmp_path / "late.png"
    with pytest.raises(ImageRejected):
        draw(str(file))
    file.write_bytes(as_file(picture(1)))
    assert draw(str(file)).startswith(b"\xff\xd8")
