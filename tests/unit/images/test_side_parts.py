"""Side parts: text, profiles and notes of programs never decide whether a sound picture is embedded."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from retrieval_core.images.rgb import ImageRejected
from retrieval_core.images.side_parts import without_side_parts
from tests.icc_profiles import rgb_profile
from tests.odd_images import decoded, encode, png_chunk, quadrants, smooth_noise, with_orientation

PICTURE = smooth_noise(40, 50)
PIXELS = np.asarray(PICTURE)
PNG, JPEG = encode(PICTURE, "PNG"), encode(PICTURE, "JPEG", quality=95)
TURN = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
MEGABYTES = zlib.compress(bytes(3 << 20))
ROTATED = encode(PICTURE, "PNG", exif=with_orientation(6))


def with_chunks(png: bytes, *chunks: bytes, last: bool = False) -> bytes:
    """Behind the header, or before the end."""
    at = len(png) - 12 if last else 33
    return png[:at] + b"".join(chunks) + png[at:]


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


CHUNKS = {
    "long zTXt": png_chunk(b"zTXt", b"workflow\0\0" + MEGABYTES),
    "long iTXt": png_chunk(b"iTXt", b"workflow\0\1\0\0\0" + MEGABYTES),
    "tEXt of 70 MB": png_chunk(b"tEXt", b"workflow\0" + bytes(70 << 20)),
    "zTXt of an unknown method": png_chunk(b"zTXt", b"workflow\0\7abc"),
    "iCCP of an unknown method": png_chunk(b"iCCP", b"p\0\1" + bytes(20)),
    "iCCP without a name": png_chunk(b"iCCP", b"p"),
    "long iCCP": png_chunk(b"iCCP", b"printer\0\0" + zlib.compress(os.urandom(1_600_000))),
    "iCCP that is no zlib stream": png_chunk(b"iCCP", b"printer\0\0" + bytes(99)),
    "text with a wrong checksum": png_chunk(b"tEXt", b"a\0b")[:-1] + b"\0",
    "eXIf with a wrong checksum": png_chunk(b"eXIf", b"II*\0")[:-1] + b"\0",
    "eXIf of nothing": png_chunk(b"eXIf", b""),
    "long eXIf": png_chunk(b"eXIf", b"II*\0\xff\xff\xff\xff" + os.urandom(3 << 20)),
    "short gAMA": png_chunk(b"gAMA", b"\0"),
    "short cHRM": png_chunk(b"cHRM", b"\0"),
    "short sRGB": png_chunk(b"sRGB", b""),
    "short pHYs": png_chunk(b"pHYs", b"\0\0"),
    "private chunk": png_chunk(b"prVt", os.urandom(2 << 20)),
}


@pytest.mark.parametrize("last", [False, True], ids=["before the pixels", "behind them"])
@pytest.mark.parametrize("name", CHUNKS)
def test_a_png_is_embedded_whatever_stands_beside_its_pixels(name: str, last: bool) -> None:
    np.testing.assert_array_equal(decoded(with_chunks(PNG, CHUNKS[name], last=last)), PIXELS)


SEGMENTS = {
    "short JFIF": segment(0xE0, b"JFIF\0"),
    "short Adobe": segment(0xEE, b"Adobe"),
    "Photoshop cut short": segment(0xED, b"Photoshop 3.0\08BIM\x04\x04"),
    "Photoshop of a huge resource": segment(0xED, b"Photoshop 3.0\08BIM\x04\x04\0\0\xff\xff\xff\xff"),
    "ICC profile without a number": segment(0xE2, b"ICC_PROFILE\0"),
    "ICC profile of which a part is missing": segment(0xE2, b"ICC_PROFILE\0\1\2" + rgb_profile()),
    "index of no pictures": segment(0xE2, b"MPF\0"),
    "index of pictures that is cut short": segment(0xE2, b"MPF\0II*\0\x08\0\0\0\x03\0\0\xb0"),
    "EXIF of nothing": segment(0xE1, b"Exif\0\0"),
    "EXIF that points nowhere": segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "comment of nothing": segment(0xFE, b""),
    "long unknown segment": segment(0xEB, os.urandom(65_000)),
}


@pytest.mark.parametrize("name", SEGMENTS)
def test_a_jpeg_is_embedded_whatever_stands_beside_its_pixels(name: str) -> None:
    np.testing.assert_array_equal(decoded(with_segments(JPEG, SEGMENTS[name])), decoded(JPEG))


XMP = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + TURN)
JPEG_EXIF = encode(PICTURE, "JPEG", quality=95, exif=with_orientation(6))
JPEG_XMP = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + TURN)


@pytest.mark.parametrize(
    ("content", "upright"),
    [
        (with_chunks(ROTATED, CHUNKS["long zTXt"]), PIXELS),
        (with_chunks(ROTATED, CHUNKS["long iTXt"], last=True), PIXELS),
        (with_chunks(PNG, CHUNKS["long zTXt"], XMP), PIXELS),
        (with_segments(JPEG_EXIF, SEGMENTS["Photoshop cut short"]), decoded(JPEG)),
        (with_segments(JPEG, SEGMENTS["Photoshop cut short"], JPEG_XMP), decoded(JPEG)),
    ],
    ids=["eXIf", "eXIf, text behind", "XMP", "JPEG", "JPEG with XMP"],
)
def test_the_orientation_beside_a_bad_part_still_counts(content: bytes, upright: np.ndarray) -> None:
    np.testing.assert_array_equal(decoded(content), np.rot90(upright, -1))


def test_transparency_and_animations_keep_their_pixels() -> None:
    frames = {"save_all": True, "append_images": [Image.new("RGB", (40, 30), "black")]}
    moving = encode(Image.fromarray(quadrants()), "PNG", **frames)
    np.testing.assert_array_equal(decoded(with_chunks(moving, CHUNKS["long zTXt"])), quadrants())
    keyed = encode(Image.fromarray(quadrants()), "PNG", transparency=(200, 30, 40))
    np.testing.assert_array_equal(decoded(with_chunks(keyed, CHUNKS["long zTXt"])), decoded(keyed))


def test_a_profile_beyond_pillows_limit_is_read() -> None:
    profile = rgb_profile() + bytes(2 << 20)
    content = with_chunks(PNG, png_chunk(b"iCCP", b"large\0\0" + zlib.compress(profile)))
    with pytest.raises(ValueError, match="too large"):
        PngImagePlugin.PngImageFile(io.BytesIO(content))
    np.testing.assert_array_equal(decoded(content), decoded(encode(PICTURE, "PNG", icc_profile=rgb_profile())))
    np.testing.assert_array_equal(decoded(content, profile="ignore"), PIXELS)


@pytest.mark.parametrize("content", [PNG, JPEG], ids=["PNG", "JPEG"])
@pytest.mark.parametrize("tenth", range(1, 10))
def test_damage_is_still_told_beside_a_bad_part(content: bytes, tenth: int) -> None:
    bad = with_chunks(content, CHUNKS["long zTXt"])
    if content is JPEG:
        bad = with_segments(content, SEGMENTS["Photoshop cut short"])
    start = len(bad) - len(content) + 40
    with pytest.raises(ImageRejected, match="truncated"):
        decoded(bad[: start + (len(bad) - start - 1) * tenth // 10])


def test_an_optional_chunk_of_another_name_needs_its_checksum() -> None:
    """It may be one that decides pixels, with a damaged name."""
    keyed = encode(Image.fromarray(quadrants()), "PNG", transparency=(200, 30, 40))
    with pytest.raises(ImageRejected, match="corrupt"):
        decoded(keyed.replace(b"tRNS", b"tRNs"))


def test_other_formats_are_left_alone() -> None:
    assert without_side_parts(encode(PICTURE, "GIF")) is None
