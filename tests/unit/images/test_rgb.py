"""Pixels are right one by one, whatever the mode, depth, transparency or orientation of the file."""

from __future__ import annotations

import itertools
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retrieval_core.config.sections import ImagesConfig
from retrieval_core.images.rgb import REASONS, ImageRejected, decode_rgb, read_image
from tests.odd_images import (
    BLUE,
    GREEN,
    OddImage,
    decoded,
    encode,
    photograph,
    png_chunk,
    quadrants,
    raw_png,
    with_orientation,
    write_odd_images,
)

DEFAULT = ImagesConfig()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, OddImage]]:
    folder = tmp_path_factory.mktemp("odd")
    return folder, {entry.name: entry for entry in write_odd_images(folder)}


class TestCorpus:
    def test_every_entry_is_embedded_right_or_rejected_for_its_reason(self, corpus):
        folder, entries = corpus
        wrong = []
        for entry in entries.values():
            try:
                pixels = read_image(str(folder / entry.name), DEFAULT)
            except ImageRejected as reject:
                if reject.reason != entry.expected or "\n" in reject.detail or not reject.detail:
                    wrong.append((entry, str(reject)))
                continue
            assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
            assert pixels.flags.c_contiguous and pixels.flags.writeable
            off = np.abs(pixels.mean((0, 1)) - entry.mean).max()
            if entry.expected != "embedded" or off > entry.tolerance:
                wrong.append((entry, f"embedded, {off:.1f} levels off"))
        assert wrong == []

    def test_it_covers_what_it_should(self, corpus):
        _, entries = corpus
        outcomes = {entry.expected for entry in entries.values()}
        assert outcomes == {*REASONS, "embedded"}
        assert len(entries) >= 60
        assert all((entry.mean is not None) == (entry.expected == "embedded") for entry in entries.values())

    def test_lossless_colour_files_hold_the_exact_pixels(self, corpus):
        folder, _ = corpus
        for name in ("rgb.png", "rgb.bmp", "lzw.tiff", "rgb.pcx", "rgb.ppm", "rgb.tga", "rgb.qoi", "palette.png",
                     "moving.png", "moving.webp", "moving.gif", "pages.tif", "rgb.ico", "linked.png"):  # fmt: skip
            np.testing.assert_array_equal(read_image(str(folder / name), DEFAULT), quadrants(), err_msg=name)

    def test_published_alpha_is_what_convert_gives(self, corpus):
        folder, entries = corpus
        published = ImagesConfig(alpha="published", exif="ignore", profile="ignore")
        beyond = {"text-of-2-mb.png", "planes.tif"}  # Pillow alone refuses one, and misreads the other
        good = [name for name, entry in entries.items() if entry.expected == "embedded" and name not in beyond]
        names = [name for name in good if "deep" not in name]
        compared = 0
        for name in names:
            with Image.open(folder / name) as opened, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if opened.mode[0] in "IF":
                    continue
                expected = np.asarray(opened.convert("RGB"))
            np.testing.assert_array_equal(read_image(str(folder / name), published), expected, err_msg=name)
            compared += 1
        assert compared > 40


class TestTransparency:
    def test_dropping_transparency_is_silent(self, corpus):
        folder, _ = corpus
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pixels = read_image(str(folder / "veil-palette.png"), ImagesConfig(alpha="published"))
        assert pixels.tolist() == [[list(BLUE)]]

    def test_hidden_colour_is_exposed_only_by_published(self):
        rgba = np.zeros((2, 2, 4), dtype=np.uint8)
        rgba[0, 0] = (*GREEN, 255)
        rgba[0, 1] = (*BLUE, 0)
        png = encode(Image.fromarray(rgba), "PNG")
        white = decoded(png)
        assert white.tolist() == [[list(GREEN), [255] * 3], [[255] * 3, [255] * 3]]
        assert decoded(png, alpha="published").tolist() == rgba[..., :3].tolist()

    @pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (6, -1), (3, 2)])
    def test_it_is_told_beside_the_colours(self, orientation, turns):
        picture, alpha = Image.fromarray(quadrants()).convert("RGBA"), np.arange(1200, dtype=np.uint16).reshape(30, 40)
        alpha = (alpha % 251).astype(np.uint8)
        picture.putalpha(Image.fromarray(alpha))
        content = encode(picture, "PNG", exif=with_orientation(orientation))
        found = decode_rgb(content, DEFAULT)
        np.testing.assert_array_equal(found.alpha, np.rot90(alpha, turns))
        assert found.alpha.size == found.rgb.size == found.whole
        assert decode_rgb(content, ImagesConfig(alpha="published")).alpha is None
        assert decode_rgb(encode(Image.fromarray(quadrants()), "PNG"), DEFAULT).alpha is None

    def test_it_is_told_of_a_transparent_grey(self):
        content = raw_png(2, 1, 16, 0, b"\0\x12\x34\xab\xcd", png_chunk(b"tRNS", b"\x12\x34"))
        found = decode_rgb(content, DEFAULT)
        assert np.asarray(found.alpha).tolist() == [[0, 255]]
        assert np.asarray(found.rgb)[0].tolist() == [[255] * 3, [round(0xABCD / 257)] * 3]
        assert decode_rgb(content, ImagesConfig(alpha="published")).alpha is None

    @given(colour=st.tuples(*[st.integers(0, 255)] * 3), alpha=st.integers(0, 255))
    @settings(max_examples=25)
    def test_half_transparent_is_blended_with_white(self, colour, alpha):
        png = encode(Image.new("RGBA", (1, 1), (*colour, alpha)), "PNG")
        pixel = decoded(png)[0, 0]
        expected = (np.array(colour) * alpha + 255.0 * (255 - alpha)) / 255
        assert np.abs(pixel - expected).max() <= 0.51

    @pytest.mark.parametrize(
        ("depth", "colour", "row", "key", "expected"),
        [
            (1, 0, b"\x80", (1,), [255, 0]),
            (2, 0, b"\x40", (1,), [255, 0]),
            (4, 0, b"\x63", (6,), [255, 51]),
            (8, 0, b"\x63\x06", (6,), [99, 255]),
            (16, 0, struct.pack(">2H", 300, 65535), (300,), [255, 255]),
            (16, 0, struct.pack(">2H", 300, 40000), (300,), [255, 156]),
            (16, 0, struct.pack(">2H", 301, 40000), (300,), [1, 156]),
        ],
    )
    def test_a_key_level_of_any_depth(self, depth, colour, row, key, expected):
        chunk = png_chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
        pixels = decoded(raw_png(2, 1, depth, colour, b"\0" + row, chunk))
        assert pixels[0, :, 0].tolist() == expected

    def test_a_key_colour_of_16_bits(self):
        chunk = png_chunk(b"tRNS", struct.pack(">3H", 0x1234, 0x5678, 0x9ABC))
        row = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0x4000, 0x5000, 0x6000)
        pixels = decoded(raw_png(2, 1, 16, 2, b"\0" + row, chunk))
        assert pixels[0].tolist() == [[255, 255, 255], [0x40, 0x50, 0x60]]


class TestOrientation:
    """Against the table of the EXIF standard: where a viewer shows row 0 and column 0 of the stored pixels."""

    UPRIGHT = {  # noqa: RUF012
        1: lambda y, x, h, w: (y, x),
        2: lambda y, x, h, w: (y, w - 1 - x),
        3: lambda y, x, h, w: (h - 1 - y, w - 1 - x),
        4: lambda y, x, h, w: (h - 1 - y, x),
        5: lambda y, x, h, w: (x, y),
        6: lambda y, x, h, w: (x, h - 1 - y),
        7: lambda y, x, h, w: (w - 1 - x, h - 1 - y),
        8: lambda y, x, h, w: (w - 1 - x, y),
    }

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
    def test_each_pixel_lands_where_the_standard_says(self, form, orientation):
        stored = np.random.default_rng(orientation).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        height, width = stored.shape[:2]
        options = {"lossless": True} if form == "WEBP" else {}
        content = encode(Image.fromarray(stored), form, exif=with_orientation(orientation), **options)
        shape = (width, height, 3) if orientation > 4 else (height, width, 3)
        expected = np.zeros(shape, dtype=np.uint8)
        for y, x in itertools.product(range(height), range(width)):
            expected[self.UPRIGHT[orientation](y, x, height, width)] = stored[y, x]
        np.testing.assert_array_equal(decoded(content), expected)
        if form != "TIFF":  # Pillow's decoder has already applied the tag
            np.testing.assert_array_equal(decoded(content, exif="ignore"), stored)

    def test_jpeg(self):
        content = encode(Image.fromarray(quadrants()), "JPEG", quality=95, subsampling=0, exif=with_orientation(6))
        assert np.abs(decoded(content).astype(int) - np.rot90(quadrants(), -1)).mean() < 3
        assert np.abs(decoded(content, exif="ignore").astype(int) - quadrants()).mean() < 3

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_an_impossible_orientation_counts_as_none(self, orientation):
        content = encode(Image.fromarray(quadrants()), "PNG", exif=with_orientation(orientation))
        np.testing.assert_array_equal(decoded(content), quadrants())

    def test_deep_grey_is_rotated_too(self):
        stored = np.arange(6, dtype=np.uint16).reshape(2, 3) * 257
        content = encode(Image.fromarray(stored), "PNG", exif=with_orientation(8))
        assert decoded(content)[..., 0].tolist() == np.rot90(stored // 257).tolist()


class TestDepth:
    WORDS = np.array([[0, 128, 129, 257, 1000, 32768, 65406, 65535]], dtype=np.uint16)
    SCALED = [0, 0, 1, 1, 4, 128, 254, 255]  # noqa: RUF012 - v / 257, rounded

    @pytest.mark.parametrize("alpha", ["white", "published"])
    @pytest.mark.parametrize("form", ["PNG", "TIFF"])
    def test_16_bits_are_scaled_not_clipped(self, form, alpha):
        pixels = decoded(encode(Image.fromarray(self.WORDS), form), alpha=alpha)
        assert pixels[0, :, 0].tolist() == self.SCALED
        assert (pixels == pixels[..., :1]).all()

    def test_integer_images_are_16_bits_wide_unless_they_need_more(self):
        def levels(*values: int) -> list[int]:
            picture = Image.fromarray(np.array([values], dtype=np.int32))
            return decoded(encode(picture, "TIFF"))[0, :, 0].tolist()

        assert levels(*self.WORDS[0]) == self.SCALED
        assert levels(0, 65535 * 2, 65535 * 4) == [0, 128, 255]
        assert levels(-65535, 0, 65535) == [0, 128, 255]

    def test_float_images(self):
        def levels(*values: float) -> list[int]:
            picture = Image.fromarray(np.array([values], dtype=np.float32))
            return decoded(encode(picture, "TIFF"))[0, :, 0].tolist()

        assert levels(0.2, 0.4, 0.6) == [51, 102, 153]
        assert levels(51, 102, 255) == [51, 102, 255]
        assert levels(-1, 0, 1) == [0, 128, 255]
        assert levels(0.5) == [128]
        for value in (float("nan"), float("inf")):
            picture = Image.fromarray(np.array([[0.5, value]], dtype=np.float32))
            with pytest.raises(ImageRejected, match="corrupt: pixels are NaN or infinite"):
                decoded(encode(picture, "TIFF"))

    def test_tiff_where_zero_is_white(self):
        tag = struct.pack("<HHIH", 262, 3, 1, 1)
        content = encode(Image.fromarray(self.WORDS), "TIFF")
        assert content.count(tag) == 1
        content = content.replace(tag, struct.pack("<HHIH", 262, 3, 1, 0))
        assert decoded(content)[0, :, 0].tolist() == [255 - level for level in self.SCALED]

    def test_tiff_of_12_bits(self):
        entries = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 3)]
        directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", t, 3, 1, v) for t, v in entries)
        content = b"II*\0" + struct.pack("<I", 12) + bytes([0xFF, 0xF8, 0x00, 0]) + directory + bytes(4)
        assert decoded(content)[0, :, 0].tolist() == [255, 128]


class TestReducedJpeg:
    @pytest.mark.parametrize(
        ("whole", "least", "size"),
        [
            ((1900, 1300), 300, (475, 325)),
            ((1901, 1300), 160, (238, 163)),
            ((3000, 2000), 20, (375, 250)),
            ((390, 390), 300, (390, 390)),
        ],
    )
    def test_it_keeps_what_the_model_needs(self, whole, least, size):
        picture = decode_rgb(encode(photograph(*whole), "JPEG", quality=90), DEFAULT, least)
        assert picture.whole == whole
        assert picture.rgb.size == size
        assert min(size) >= least

    def test_it_is_read_whole_where_its_rotated_edge_would_be_half_a_pixel(self):
        content = encode(photograph(1601, 1203), "JPEG", exif=with_orientation(6))
        picture = decode_rgb(content, DEFAULT, 100)
        assert picture.rgb.size == picture.whole == (1203, 1601)

    @pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "GIF"])
    def test_other_formats_are_never_reduced(self, form):
        content = encode(photograph(640, 480), form)
        picture = decode_rgb(content, DEFAULT, 20)
        assert picture.whole == (640, 480)
        np.testing.assert_array_equal(picture.rgb, decoded(content))

    def test_one_that_ends_early_is_rejected_all_the_same(self):
        with pytest.raises(ImageRejected, match="truncated"):
            decode_rgb(encode(photograph(1600, 1200), "JPEG")[:-2000], DEFAULT, 100)
