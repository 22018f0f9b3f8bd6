"""Profiles: pictures come in sRGB whatever colours they are kept in; what cannot be believed is ignored."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from retrieval_core.config.sections import ImagesConfig
from retrieval_core.images import colour_profiles
from retrieval_core.images.colour_profiles import conversion, converts
from retrieval_core.images.rgb import decode_rgb
from tests.icc_profiles import ADOBE, PROPHOTO, cmyk_profile, grey_profile, rgb_profile
from tests.odd_images import decoded, encode, photograph, smooth_noise, with_orientation
from tests.tiff_files import CMYK, GREY, RGB, tiff

PICTURE = smooth_noise(40, 48)
PIXELS = np.asarray(PICTURE)
PRO, SRGB = rgb_profile(PROPHOTO, 1.8), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREYS = PICTURE.convert("L")
DARK = grey_profile(1.0)
INKS = PICTURE.convert("CMYK")
PRESS = cmyk_profile()


def naive(pixels: np.ndarray, primaries: object, gamma: float) -> np.ndarray:
    """By hand: linear, to XYZ, to linear sRGB, encoded."""
    from_srgb = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
    linear = (pixels / 255) ** gamma @ np.array(primaries) @ np.linalg.inv(from_srgb).T
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


@pytest.mark.parametrize(("primaries", "gamma"), [(PROPHOTO, 1.8), (ADOBE, 2.2)])
def test_colours_are_those_of_the_formulas(primaries: object, gamma: float) -> None:
    content = encode(PICTURE, "PNG", icc_profile=rgb_profile(primaries, gamma))  # type: ignore[arg-type]
    off = np.abs(decoded(content) - naive(PIXELS, primaries, gamma))
    assert off.max() <= 3
    assert np.abs(decoded(content).astype(int) - PIXELS).max() > 20
    np.testing.assert_array_equal(decoded(content, profile="ignore"), PIXELS)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF", "MPO"])
def test_every_format_that_holds_a_profile(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    if form in ("JPEG", "MPO"):
        options = {"quality": 95, "subsampling": 0}
    plain, tagged = encode(PICTURE, form, **options), encode(PICTURE, form, icc_profile=PRO, **options)
    as_stored = decoded(tagged, profile="ignore")
    np.testing.assert_array_equal(as_stored, decoded(plain))
    assert np.abs(decoded(tagged) - naive(as_stored, PROPHOTO, 1.8)).max() <= 3


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (encode(GREYS, "PNG", icc_profile=DARK), "L"),
        (encode(GREYS, "JPEG", quality=100, icc_profile=DARK), "L"),
        (encode(Image.merge("LA", [GREYS, Image.new("L", GREYS.size, 255)]), "PNG", icc_profile=DARK), "L"),
        (tiff(np.asarray(GREYS)[..., None].astype(np.uint16) * 257, GREY, more={34675: (1, DARK)}), "L"),
        (encode(Image.fromarray(np.asarray(GREYS, np.uint16) * 257), "PNG", icc_profile=DARK), "L"),
        (encode(PICTURE.quantize(64), "PNG", icc_profile=PRO), "RGB"),
        (encode(PICTURE.convert("RGBA"), "PNG", icc_profile=PRO), "RGB"),
        (tiff(PIXELS.astype(np.uint16) * 257, RGB, planar=True, more={34675: (1, PRO)}), "RGB"),
        (encode(INKS, "TIFF", icc_profile=PRESS), "CMYK"),
        (encode(INKS, "JPEG", quality=100, icc_profile=PRESS), "CMYK"),
        (tiff(np.asarray(INKS).astype(np.uint16) * 257, CMYK, planar=True, more={34675: (1, PRESS)}), "CMYK"),
    ],
    ids=[
        "L",
        "L JPEG",
        "LA",
        "16-bit TIFF",
        "16-bit PNG",
        "P",
        "RGBA",
        "RGB planes",
        "CMYK",
        "CMYK JPEG",
        "CMYK planes",
    ],
)
def test_every_kind_of_pixels(content: bytes, mode: str) -> None:
    """The whole of a picture is converted as its pixels are one by one; a linear grey becomes lighter."""
    stored, found = decoded(content, profile="ignore").astype(int), decoded(content).astype(int)
    profile = {"L": DARK, "RGB": PRO, "CMYK": PRESS}[mode]
    convert = conversion(profile, mode)
    assert convert is not None
    source = INKS if mode == "CMYK" else Image.fromarray(stored.astype(np.uint8)).convert(mode)
    assert np.abs(found - np.asarray(convert(source))).max() <= (12 if content[:2] == b"\xff\xd8" else 1)
    assert np.abs(found - stored).mean() > 5


def test_white_stays_white_and_transparency_is_white() -> None:
    for picture, profile in ((Image.new("RGB", (4, 4), "white"), PRO), (Image.new("CMYK", (4, 4)), PRESS)):
        assert decoded(encode(picture, "TIFF", icc_profile=profile)).min() >= 254
    hidden = Image.new("RGBA", (4, 4), (200, 30, 40, 0))
    assert decoded(encode(hidden, "PNG", icc_profile=PRO)).min() == 255
    deep = Image.fromarray(np.full((2, 2), 999, np.uint16))
    picture = decode_rgb(encode(deep, "PNG", transparency=999, icc_profile=DARK), ImagesConfig())
    assert np.asarray(picture.rgb).min() == 255
    assert picture.alpha is not None and np.asarray(picture.alpha).max() == 0


def test_dropped_transparency_leaves_converted_colours() -> None:
    hidden = encode(Image.new("RGBA", (4, 4), (200, 30, 40, 0)), "PNG", icc_profile=PRO)
    shown = encode(Image.new("RGB", (4, 4), (200, 30, 40)), "PNG", icc_profile=PRO)
    np.testing.assert_array_equal(decoded(hidden, alpha="published"), decoded(shown))


def test_a_reduced_and_turned_jpeg_is_converted_too() -> None:
    large = photograph(1600, 1200)
    content = encode(large, "JPEG", quality=95, icc_profile=PRO, exif=with_orientation(6))
    stored, found = (decode_rgb(content, ImagesConfig(profile=how), 100).rgb for how in ("ignore", "convert"))
    assert found.size == stored.size == (150, 200)
    assert np.abs(np.asarray(found) - naive(np.asarray(stored), PROPHOTO, 1.8)).max() <= 3


@pytest.mark.parametrize(
    ("picture", "profile"),
    [
        (PICTURE, PRO[:-200]),
        (PICTURE, PRO[:300]),
        (PICTURE, bytes(500)),
        (PICTURE, b"x"),
        (PICTURE, PRO[:200] + bytes(len(PRO) - 200)),
        (PICTURE, PRO[:12] + b"link" + PRO[16:]),
        (PICTURE, PRO + bytes(colour_profiles.LARGEST_PROFILE)),
        (PICTURE, DARK),
        (PICTURE, PRESS),
        (GREYS, PRO),
        (INKS, PRO),
        (INKS, PRESS[:-900]),
        (PICTURE.convert("LAB"), PRO),
    ],
    ids=["cut", "cut tags", "zeros", "byte", "blank", "link", "giant", "grey", "press", "RGB of grey", "RGB of inks",
         "cut press", "Lab"],
)  # fmt: skip
def test_a_profile_that_cannot_be_believed_is_ignored(picture: Image.Image, profile: bytes) -> None:
    np.testing.assert_array_equal(
        decoded(encode(picture, "TIFF", icc_profile=profile)), decoded(encode(picture, "TIFF"))
    )


@pytest.mark.parametrize("profile", [None, "text", (1, 2), 7, b""])
def test_what_is_no_profile_at_all(profile: object) -> None:
    assert conversion(profile, "RGB") is None


def test_srgb_is_known_by_what_it_does() -> None:
    assert conversion(SRGB, "RGB") is None
    rec709 = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
    assert conversion(rgb_profile(rec709, 2.2), "RGB") is not None  # the same primaries, another curve
    assert conversion(grey_profile(1.0), "L") is not None


def test_transforms_are_kept_and_not_too_many() -> None:
    assert conversion(PRO, "RGB") is conversion(bytes(bytearray(PRO)), "RGB")
    for number in range(40):
        conversion(rgb_profile(PROPHOTO, 1 + number / 100), "RGB")
    assert colour_profiles._conversion.cache_info().currsize <= 16


def test_a_pillow_without_littlecms_ignores_profiles_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    colour_profiles._has_littlecms.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                np.testing.assert_array_equal(decoded(encode(PICTURE, "PNG", icc_profile=PRO)), PIXELS)
        assert not converts(ImagesConfig())
    finally:
        colour_profiles._has_littlecms.cache_clear()
    assert [record.message.partition(":")[0] for record in caplog.records] == ["colour profiles are ignored"]
