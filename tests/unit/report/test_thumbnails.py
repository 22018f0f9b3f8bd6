"""Pictures in a page: each stored once, in order, and never more than there is room for."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from retrieval_core.config.sections import ImagesConfig
from retrieval_core.report.thumbnails import BLOCK, NO_ROOM, SMALLEST, Album

PLENTY = 10_000_000


def png(folder: Path, name: str, width: int = 20, height: int = 20, colour: str = "red") -> str:
    Image.new("RGB", (width, height), colour).save(folder / name)
    return str(folder / name)


def noise(folder: Path, number: int, side: int = 200) -> str:
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"noise-{number}.png")
    return str(folder / f"noise-{number}.png")


def album(locations: list[str], side: int = 32, room: int = PLENTY) -> tuple[Album, list[str]]:
    made = Album(ImagesConfig(), side, room)
    return made, [text for block in made.blocks(locations) for text in block]


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_pictures_are_reduced_and_keep_their_size_in_mind(tmp_path: Path) -> None:
    wide = png(tmp_path, "wide.png", width=400, height=100)
    made, texts = album([wide, png(tmp_path, "small.png", 8, 8), png(tmp_path, "strip.png", 900, 2)])
    assert [opened(text).size for text in texts] == [(32, 8), (8, 8), (32, 1)]
    assert made.entries[wide] == (0, 400, 100)
    pixel = opened(texts[0]).convert("RGB").getpixel((16, 4))
    assert isinstance(pixel, tuple)
    assert np.abs(np.array(pixel) - (255, 0, 0)).max() < 8


def test_the_same_picture_is_stored_once_under_any_name(tmp_path: Path) -> None:
    names = [png(tmp_path, "a.png"), png(tmp_path, "b.png", colour="blue"), png(tmp_path, "copy of a.png")]
    made, texts = album(names)
    assert len(texts) == 2
    assert [made.entries[name][0] for name in names] == [0, 1, 0]


def test_a_picture_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    good = png(tmp_path, "good.png")
    (tmp_path / "torn.png").write_bytes(Path(good).read_bytes()[:40])
    torn, gone = str(tmp_path / "torn.png"), str(tmp_path / "gone.png")
    made, texts = album([torn, gone, good])
    assert made.entries[gone] == "missing"
    assert isinstance(made.entries[torn], str)
    assert made.entries[good] == (0, 20, 20) and len(texts) == 1


def test_blocks_have_the_length_that_the_page_counts_on(tmp_path: Path) -> None:
    names = [png(tmp_path, f"{shade}.png", colour=f"rgb({shade},0,{255 - shade})") for shade in range(0, 240, 2)]
    blocks = list(Album(ImagesConfig(), 8, PLENTY).blocks(names))
    assert [len(block) for block in blocks[:-1]] == [BLOCK] * (len(blocks) - 1)
    assert 1 <= len(blocks[-1]) <= BLOCK


def test_pictures_shrink_before_they_are_left_out(tmp_path: Path) -> None:
    names = [noise(tmp_path, number) for number in range(30)]
    whole = sum(map(len, album(names, side=200)[1]))
    smaller, texts = album(names, side=200, room=whole // 2)
    assert len(texts) == 30 and SMALLEST < smaller.side < 200
    assert sum(map(len, texts)) <= whole // 2
    least, texts = album(names, side=200, room=whole // 100)
    assert least.side == SMALLEST
    kept = [name for name in names if least.entries[name] != NO_ROOM]
    assert kept == names[: len(kept)] and sum(map(len, texts)) <= whole // 100
    assert all(least.entries[name] == NO_ROOM for name in names[len(kept) :])


def test_no_room_at_all(tmp_path: Path) -> None:
    made, texts = album([noise(tmp_path, 0)], room=0)
    assert texts == [] and len(made.entries) == 1
