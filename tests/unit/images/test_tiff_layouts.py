"""TIFF: the same picture comes out of every layout, or the layout is called unsupported; never other pixels."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from PIL import Image

from retrieval_core.images.rgb import ImageRejected
from tests.odd_images import decoded, smooth_noise
from tests.tiff_files import BYTE, CMYK, GREY, LAB, LONG, RGB, SHORT, YCBCR, tiff, written

COLOURS = np.asarray(smooth_noise(40, 50))
GREYS = COLOURS[..., :1]
OPAQUE = np.full(GREYS.shape, 255, np.uint8)
INKS = np.asarray(Image.fromarray(COLOURS).convert("CMYK"))
LUMA = np.asarray(Image.fromarray(COLOURS).convert("YCbCr"))
WHITE_IS_ZERO, PALETTE = 0, 3
SAMPLES = {
    "grey": (GREYS, GREY, ()),
    "inverted grey": (255 - GREYS, WHITE_IS_ZERO, ()),
    "RGB": (COLOURS, RGB, ()),
    "RGB and an unknown sample": (np.dstack([COLOURS, GREYS]), RGB, (0,)),
    "RGB and alpha": (np.dstack([COLOURS, OPAQUE]), RGB, (2,)),
    "RGB and premultiplied alpha": (np.dstack([COLOURS, OPAQUE]), RGB, (1,)),
    "CMYK": (INKS, CMYK, ()),
}
LAYOUTS = [
    {"planar": planar, "deflate": deflate, "tile": tile, "order": order}
    for planar, deflate, tile, order in product((False, True), (False, True), (None, (16, 32)), "<>")
]


def expected(name: str) -> np.ndarray:
    if "grey" in name:
        return np.repeat(GREYS, 3, -1)
    return np.asarray(Image.fromarray(INKS, "CMYK").convert("RGB")) if name == "CMYK" else COLOURS


def reject_of(content: bytes) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        decoded(content)
    return caught.value


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_picture_is_the_same_in_every_layout(name: str, depth: int) -> None:
    pixels, colours, extra = SAMPLES[name]
    deep = pixels.astype(np.uint16) * 257 if depth == 16 else pixels
    unread = []
    for layout in LAYOUTS:
        try:
            found = decoded(tiff(deep, colours, extra=extra, **layout))
        except ImageRejected as rejected:
            assert rejected.reason == "unsupported"
            unread.append(layout)
            continue
        assert np.abs(found.astype(int) - expected(name)).max() <= 1, layout
    known = [layout for layout in LAYOUTS if layout["order"] == ">"] if (name, depth) == ("inverted grey", 16) else []
    assert unread == known


@pytest.mark.parametrize(
    "content",
    [
        tiff(GREYS.astype(np.float32) / 255, GREY, order=">", deflate=True),
        tiff(GREYS.astype(np.float32) / 255, GREY, order=">", planar=True),
        tiff(GREYS.astype(np.int32) * 257, GREY, order=">", deflate=True),
        tiff(GREYS.astype(np.uint32) * 257, GREY),
        tiff(GREYS.astype(np.uint16) * 257, GREY, big=True, planar=True),
        tiff(GREYS, GREY, reversed_bits=True),
        tiff(255 - GREYS, WHITE_IS_ZERO, reversed_bits=True),
        tiff(GREYS, GREY, reversed_bits=True, planar=True),
        tiff(np.dstack([GREYS, OPAQUE]), GREY, extra=(1,)),
        tiff(np.dstack([GREYS, OPAQUE]), GREY, extra=(2,)),
        tiff(GREYS, PALETTE, planar=True, more={320: (SHORT, [257 * level for level in range(256)] * 3)}),
    ],
    ids=["float", "float planes", "int32", "uint32", "big", "bits", "inverted bits", "bits planes", "La", "LA", "P"],
)
def test_grey(content: bytes) -> None:
    found = decoded(content)
    assert (found == found[..., :1]).all()
    assert np.abs(found[..., 0].astype(int) - GREYS[..., 0]).max() <= 1


def test_numbers_of_32_bits_have_no_sign_where_the_file_gives_them_none() -> None:
    levels = np.array([[[0], [2**31], [2**32 - 1]]], np.uint32)
    assert decoded(tiff(levels, GREY))[0, :, 0].tolist() == [0, 128, 255]
    assert decoded(tiff(levels.view(np.int32), GREY))[0, :, 0].tolist() == [255, 0, 255]


@pytest.mark.parametrize("subsampling", [{}, {530: (SHORT, [2, 2])}])
def test_colour_of_a_quarter_of_the_resolution(subsampling: dict[int, tuple[int, list[int]]]) -> None:
    height, width = LUMA.shape[:2]
    coarse = np.asarray(Image.fromarray(LUMA).reduce(2))
    units = LUMA[..., 0].reshape(height // 2, 2, width // 2, 2).transpose(0, 2, 1, 3).reshape(-1, 4)
    block = np.hstack([units, coarse[..., 1:].reshape(-1, 2)]).tobytes()
    tags = {256: (SHORT, [width]), 257: (SHORT, [height]), 258: (SHORT, [8] * 3), 259: (SHORT, [1])}
    tags |= {262: (SHORT, [YCBCR]), 277: (SHORT, [3]), 278: (LONG, [height]), 279: (LONG, [len(block)]), **subsampling}
    painted = np.dstack([LUMA[..., :1], coarse[..., 1:].repeat(2, 0).repeat(2, 1)])
    expected = np.asarray(Image.fromarray(painted, "YCbCr").convert("RGB")).astype(int)
    assert np.abs(decoded(written(tags, 273, [block])) - expected).max() <= 4


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (tiff(COLOURS.astype(np.float32) / 255, RGB), "3 x 32 float bits, RGB"),
        (tiff(COLOURS.astype(np.uint32), RGB), "3 x 32 bits, RGB"),
        (tiff(GREYS.astype(np.float64), GREY), "1 x 64 float bits, BlackIsZero"),
        (tiff(GREYS.view(np.int8), GREY), "1 x 8 signed bits"),
        (tiff(COLOURS.astype(np.uint16), LAB), "3 x 16 bits, CieLAB"),
        (tiff(COLOURS, LAB, planar=True), "CieLAB, in planes"),
        (tiff(COLOURS, LAB, planar=True, deflate=True), "CieLAB, in planes"),
        (tiff(np.dstack([GREYS, OPAQUE]), GREY, extra=(2,), planar=True), "in planes, extra samples (2,)"),
        (tiff(np.dstack([GREYS, OPAQUE]), GREY, extra=(2,), planar=True, deflate=True), "2 x 8 bits, BlackIsZero"),
        (tiff(np.dstack([GREYS, OPAQUE]).astype(np.uint16), GREY, extra=(2,)), "2 x 16 bits"),
        (tiff(np.dstack([COLOURS, GREYS, OPAQUE]), RGB, extra=(2, 0), planar=True), "extra samples (2, 0)"),
        (tiff(COLOURS, YCBCR, extra=(0,), planar=True), "YCbCr, in planes"),
        (tiff(COLOURS, 32803), "CFA"),
        (tiff(COLOURS, RGB, more={259: (SHORT, [4711])}), "compression 4711"),
        (tiff(COLOURS, RGB, more={259: (SHORT, [32809])}), "compression 32809"),
        (tiff(np.dstack([COLOURS] * 3), RGB, extra=(0,) * 6), "9 x 8 bits"),
        (tiff(GREYS, GREY, big=True, order=">"), "big-endian BigTIFF"),
    ],
)
def test_what_is_not_read_is_unsupported_and_told_what_to_do(content: bytes, says: str) -> None:
    rejected = reject_of(content)
    assert rejected.reason == "unsupported"
    assert says in rejected.detail
    assert rejected.detail.endswith("; save it as PNG, or as TIFF of 8 bits with interleaved RGB")


@pytest.mark.parametrize("layout", [{"planar": True}, {"reversed_bits": True}, {"planar": True, "tile": (16, 32)}])
@pytest.mark.parametrize("missing", [1, 100, 2000])
def test_one_that_ends_early_is_never_half_read(layout: dict[str, object], missing: int) -> None:
    content = tiff(COLOURS.astype(np.uint8), RGB, **layout)  # type: ignore[arg-type]
    assert reject_of(content[:-missing]).reason in ("truncated", "corrupt")


@pytest.mark.parametrize("kind", [BYTE, SHORT, LONG])
@pytest.mark.parametrize("tag", [270, 282, 305, 700, 33723, 34377, 34665, 34675, 34853])
@pytest.mark.parametrize("deflate", [False, True])
def test_notes_of_programs_decide_nothing(tag: int, kind: int, deflate: bool) -> None:
    content = tiff(COLOURS, RGB, deflate=deflate, more={tag: (kind, [99] * 30)})
    np.testing.assert_array_equal(decoded(content), COLOURS)
