"""Decoding: a file is decoded whole or rejected for the right reason, whatever it holds and wherever it lies."""

from __future__ import annotations

import os
import pickle
import struct
import warnings

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, WebPImagePlugin

from retrieval_core.config.sections import ImagesConfig
from retrieval_core.files import storage
from retrieval_core.images.decoding import _PillowLimit
from retrieval_core.images.rgb import REASONS, ImageRejected, read_image
from tests.odd_images import decoded, encode, quadrants, smooth_noise

DEFAULT = ImagesConfig()


def reason_of(content: bytes, **settings: object) -> str:
    with pytest.raises(ImageRejected) as caught:
        decoded(content, **settings)
    return caught.value.reason


def _deeper(jpeg: bytes) -> bytes:
    """A JPEG whose header says 12 bits."""
    at = jpeg.index(b"\xff\xc0") + 4
    return jpeg[:at] + b"\x0c" + jpeg[at + 1 :]


def _psd(bits: int, channels: int, version: bytes = b"") -> bytes:
    """A Photoshop file of one pixel, with what it says of itself in the resource 1057."""
    resource = b"8BIM" + struct.pack(">HHI", 1057, 0, len(version)) + version + bytes(len(version) % 2)
    resource = resource if version else b""
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, channels, 1, 1, bits, 3)
    return head + struct.pack(">II", 0, len(resource)) + resource + struct.pack(">IH", 0, 0) + bytes([10, 20, 30])


class TestRejects:
    @pytest.mark.parametrize(
        ("form", "options"),
        [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("GIF", {}), ("BMP", {}), ("WEBP", {})],
    )
    def test_truncated_at_every_tenth(self, form, options):
        content = encode(smooth_noise(), form, **options)
        reasons = {reason_of(content[: len(content) * tenth // 10]) for tenth in range(1, 10)}
        assert reasons == {"truncated"}

    @pytest.mark.parametrize("form", ["TIFF", "JPEG2000", "AVIF", "TGA", "PCX", "PPM", "ICO", "QOI"])
    def test_other_formats_are_never_half_read(self, form):
        content = encode(smooth_noise(), form)
        reasons = {reason_of(content[: len(content) * tenth // 10]) for tenth in range(1, 10)}
        assert reasons <= {"truncated", "corrupt"}

    @pytest.mark.parametrize("missing", [1, 2, 4, 12, 13, 20])
    def test_a_file_cut_near_its_end_is_rejected_or_whole(self, missing):
        for form in ("PNG", "JPEG", "GIF", "TIFF"):
            content = encode(smooth_noise(), form)
            whole = decoded(content)
            try:
                pixels = decoded(content[:-missing])
            except ImageRejected:
                continue
            np.testing.assert_array_equal(pixels, whole)

    @given(position=st.integers(0, 10**6), value=st.integers(0, 255))
    @settings(max_examples=60)
    def test_a_changed_byte_of_a_png_never_changes_its_pixels(self, position, value):
        content = bytearray(encode(smooth_noise(20, 24), "PNG"))
        whole = decoded(bytes(content))
        content[position % len(content)] = value
        try:
            pixels = decoded(bytes(content))
        except ImageRejected as reject:
            assert reject.reason in REASONS
        else:
            np.testing.assert_array_equal(pixels, whole)

    @given(content=st.binary(min_size=1, max_size=200), magic=st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0", b"RIFF\xff\0\0\0WEBPVP8 ",
         b"\0\0\1\0", b"\0\0\2\0", b"8BPS\0\1", b"\1\xda", b"P6 9 9 255 ", b"qoif", b"DDS ", b"\x0a\5\1\x08"]
    ))  # fmt: skip
    @settings(max_examples=150)
    def test_hostile_bytes_are_an_image_or_a_reject(self, content, magic):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pixels = decoded(magic + content, max_pixels=10_000)
            except ImageRejected as reject:
                assert reject.reason in REASONS
            else:
                assert pixels.shape[0] * pixels.shape[1] <= 10_000

    @pytest.mark.parametrize("error", [MemoryError(), OverflowError("x"), RecursionError(), EOFError(), SyntaxError()])
    def test_whatever_a_decoder_raises_is_a_reject(self, monkeypatch, error):
        def fail(self: ImageFile.ImageFile) -> None:
            raise error

        monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
        expected = "truncated" if isinstance(error, EOFError) else "corrupt"
        assert reason_of(encode(smooth_noise(), "BMP")) == expected

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (_deeper(encode(smooth_noise(), "JPEG")), "cannot handle 12-bit layers"),
            (_psd(16, 3), "Photoshop file of 16 bits a channel"),
            (_psd(32, 3), "Photoshop file of 32 bits a channel"),
            (_psd(8, 3)[:4] + b"\0\2" + _psd(8, 3)[6:], "large Photoshop file of 8 bits a channel"),
            (_psd(8, 3, bytes.fromhex("0000000100")), "Photoshop file with nothing but layers"),
            (encode(smooth_noise(), "BMP").replace(struct.pack("<H", 24), struct.pack("<H", 25), 1), "BMP pixel depth"),
        ],
    )
    def test_what_pillow_does_not_read_is_not_called_damaged(self, content, says):
        with pytest.raises(ImageRejected, match=f"unsupported: .*{says}.*; save it as PNG"):
            decoded(content)

    def test_a_format_that_this_pillow_was_built_without(self, monkeypatch):
        monkeypatch.setattr(WebPImagePlugin, "SUPPORTED", False)
        with pytest.raises(ImageRejected, match=r"unsupported: .*WEBP support not installed; save it as PNG"):
            decoded(encode(smooth_noise(), "WEBP"))

    def test_a_photoshop_file_with_its_picture_is_read(self):
        for resource in (b"", bytes.fromhex("0000000101")):
            assert decoded(_psd(8, 3, resource)).tolist() == [[[10, 20, 30]]]

    def test_too_large_is_told_from_the_header(self, monkeypatch):
        content = encode(smooth_noise(60, 80), "BMP")
        assert decoded(content, max_pixels=4800).shape == (60, 80, 3)
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
        assert reason_of(content, max_pixels=4799) == "too_large"

    def test_a_file_far_larger_than_its_pixels_could_be(self, tmp_path):
        path = tmp_path / "sparse.png"
        with path.open("wb") as file:
            file.truncate(70 << 20)
        with pytest.raises(ImageRejected, match="too_large"):
            read_image(str(path), ImagesConfig(max_pixels=100))

    @pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "ICO", "GIF", "BMP"])
    @pytest.mark.parametrize("limit", [1, 3000])
    def test_pillows_own_limit_neither_fires_nor_changes(self, monkeypatch, form, limit):
        """4800 pixels lie beyond the limit of 1 and its double, and between 3000 and its double."""
        content = encode(smooth_noise(60, 80), form, **({"sizes": [(80, 60)]} if form == "ICO" else {}))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            assert decoded(content).shape == (60, 80, 3)
        assert limit == Image.MAX_IMAGE_PIXELS
        assert reason_of(content, max_pixels=4000) == "too_large"
        assert limit == Image.MAX_IMAGE_PIXELS

    def test_pillows_limit_is_put_back_after_the_last_who_needs_it(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        limit, seen = _PillowLimit(), []
        with limit.at_least(50):
            seen.append(Image.MAX_IMAGE_PIXELS)
        first, second = limit.at_least(300), limit.at_least(200)
        for step in (first.__enter__, second.__enter__):
            step()
            seen.append(Image.MAX_IMAGE_PIXELS)
        for done in (first, second):
            done.__exit__(None, None, None)
            seen.append(Image.MAX_IMAGE_PIXELS)
        assert seen == [100, 300, 300, 300, 100]
        with limit.at_least(300):
            Image.MAX_IMAGE_PIXELS = 7  # someone else decides meanwhile
        assert Image.MAX_IMAGE_PIXELS == 7

    def test_no_permission(self, tmp_path):
        path = tmp_path / "closed.png"
        path.write_bytes(encode(smooth_noise(), "PNG"))
        path.chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # the superuser may read anything
        try:
            with pytest.raises(ImageRejected, match="unreadable"):
                read_image(str(path), DEFAULT)
        finally:
            os.seteuid(user)

    def test_a_failing_disk_is_not_a_corrupt_image(self, tmp_path, monkeypatch):
        def fail(path: str) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(storage, "open_once", fail)
        (tmp_path / "a.png").write_bytes(encode(smooth_noise(), "PNG"))
        with pytest.raises(ImageRejected, match="unreadable"):
            read_image(str(tmp_path / "a.png"), DEFAULT)

    @pytest.mark.parametrize(
        ("location", "reason"),
        [("/nowhere/a.png", "missing"), ("nul\0byte.png", "unreadable"), ("nostore://bucket/a.png", "unreadable")],
    )
    def test_odd_locations(self, location, reason):
        with pytest.raises(ImageRejected, match=reason):
            read_image(location, DEFAULT)

    def test_below_a_file(self, tmp_path):
        (tmp_path / "file").write_bytes(b"x")
        with pytest.raises(ImageRejected, match="missing"):
            read_image(str(tmp_path / "file" / "a.png"), DEFAULT)

    def test_survives_pickling(self):
        reject = pickle.loads(pickle.dumps(ImageRejected("empty", "the file has 0 bytes")))
        assert (reject.reason, reject.detail) == ("empty", "the file has 0 bytes")
        assert str(reject) == "empty: the file has 0 bytes"

    def test_refuses_to_run_where_pillow_paints_what_is_missing(self, monkeypatch):
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        with pytest.raises(RuntimeError, match="LOAD_TRUNCATED_IMAGES"):
            decoded(encode(smooth_noise(), "PNG"))


def test_urls(tmp_path):
    fsspec.filesystem("memory").pipe("/images/a.png", encode(Image.fromarray(quadrants()), "PNG"))
    np.testing.assert_array_equal(read_image("memory://images/a.png", DEFAULT), quadrants())
    with pytest.raises(ImageRejected, match="missing"):
        read_image("memory://images/b.png", DEFAULT)
    fsspec.filesystem("memory").pipe({"/images/empty.png": b"", "/images/large.png": bytes((64 << 20) + 17)})
    with pytest.raises(ImageRejected, match="empty"):
        read_image("memory://images/empty.png", DEFAULT)
    with pytest.raises(ImageRejected, match="too_large"):
        read_image("memory://images/large.png", ImagesConfig(max_pixels=1))
    (tmp_path / "a.png").write_bytes(encode(Image.fromarray(quadrants()), "PNG"))
    np.testing.assert_array_equal(read_image(f"file://{tmp_path}/a.png", DEFAULT), quadrants())
