"""From a file to upright 8-bit RGB pixels. How the unusual becomes such:

- Transparency is composited on white, or with ``alpha: published`` dropped as ``Image.convert("RGB")`` drops it.
- 16-bit grey (``I;16``, and ``I`` as read from 16-bit PGM): 0..65535 becomes 0..255, rounded. 12-bit TIFF: 0..4095.
  ``convert`` would clip at 255, so this holds for both values of ``alpha``. Colour of 16 bits keeps its high byte.
- Other ``I``: 0..65535, widened to the image's minimum and maximum where they lie outside. ``F``: 0..1, widened
  likewise, so that black stays black; an image with NaN or infinity is rejected.
- CMYK, YCbCr, LAB, palettes and 1-bit: as Pillow converts them. The first frame of an animation, an icon's largest.
- ``profile: convert`` brings colours to sRGB by the ICC profile in the file, before transparency is composited. A
  profile that is damaged or of other colours than the pixels is ignored, and so are gamma and primaries without one.
- ``exif: apply`` follows the orientation tag (an unreadable tag counts as none). ``ignore`` leaves the pixels as
  Pillow's decoder gives them, like the published code; for TIFF that decoder has then already applied the tag.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from retrieval_core.config.sections import ImagesConfig
from retrieval_core.images.colour_profiles import conversion, converts
from retrieval_core.images.decoding import REASONS, ImageRejected, decode_frame, pillow_call, read_content

__all__ = ["REASONS", "ImageRejected", "Picture", "decode_rgb", "read_image"]

_TRANSPOSES = {  # by the EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {_TRANSPOSES[tag] for tag in (5, 6, 7, 8)}


class Picture(NamedTuple):
    """A decoded, upright image."""

    rgb: Image.Image  # in Pillow's mode RGB
    whole: tuple[int, int]  # width and height at whole size
    alpha: Image.Image | None = None  # in mode L, of the picture's size, where it was composited on white


def read_image(location: str, images: ImagesConfig) -> np.ndarray:
    """The upright pixels of a file or URL, (height, width, 3) uint8, writable; raises as ``decode_rgb``."""
    return np.array(decode_rgb(read_content(location, images.max_pixels), images)[0])


def decode_rgb(content: bytes, images: ImagesConfig, least: int | None = None) -> Picture:
    """Decode a file's bytes to 8-bit RGB, by the conventions at the top of this module.

    ``least`` reduces JPEGs, as in ``decode_frame``. Raises ImageRejected for whatever is wrong with this file, and
    RuntimeError if other code told Pillow to load truncated images, which would paint what is missing. Thread safe;
    Pillow releases the interpreter while it decodes. Memory O(pixels), bounded by ``images.max_pixels``.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on: damaged images would pass; set it to False")
    opened, (width, height) = decode_frame(content, images.max_pixels, least)
    transpose = _transpose_of(opened) if images.exif == "apply" else None
    scale = round(width / opened.width)
    if transpose is not None and (width % scale or height % scale):
        # Transposed, the pixel that is only partly picture might come first. Few cameras give such sides.
        return decode_rgb(content, images)
    picture, alpha = _to_rgb(opened, images, content)
    if transpose is None:
        return Picture(picture, (width, height), alpha)
    whole = (height, width) if transpose in _SIDEWAYS else (width, height)
    return Picture(picture.transpose(transpose), whole, None if alpha is None else alpha.transpose(transpose))


def _transpose_of(opened: ImageFile.ImageFile) -> Image.Transpose | None:
    try:
        orientation = opened.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # hostile metadata can raise anything, and says nothing about the pixels
        return None
    return _TRANSPOSES.get(orientation) if isinstance(orientation, int) else None


def _to_rgb(
    opened: ImageFile.ImageFile, images: ImagesConfig, content: bytes
) -> tuple[Image.Image, Image.Image | None]:
    """The picture, and its alpha where that was composited."""
    key = opened.info.get("transparency")
    if opened.mode == "F" or opened.mode.startswith("I"):
        with pillow_call(content):
            values = _values(opened)
        picture = Image.fromarray(_to_8_bits(values, *_tiff_grey(opened))).convert("RGB")
        picture = _to_srgb(opened, picture, images) or picture
        if images.alpha == "white" and isinstance(key, int):
            shown = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
            return Image.composite(picture, Image.new("RGB", opened.size, "white"), shown), shown
        return picture, None
    with pillow_call(content):
        source = opened.convert("LA") if opened.mode == "La" else opened
        if images.alpha == "white" and source.has_transparency_data:
            layer = source.convert("RGBA")
            white = Image.new("RGB", opened.size, "white")
            white.paste(_to_srgb(opened, layer, images) or layer, mask=layer)
            return white, layer.getchannel("A")
        source.info.pop("transparency", None)  # dropped in any case; Pillow would warn about some kinds
        picture = source if source.mode == "RGB" else source.convert("RGB")
        return _to_srgb(opened, picture, images) or picture, None


def _to_srgb(opened: ImageFile.ImageFile, picture: Image.Image, images: ImagesConfig) -> Image.Image | None:
    """``picture``, what ``opened`` is in RGB or RGBA, by the profile in the file; None without a conversion."""
    mode = "L" if opened.mode[0] in "1LIF" and opened.mode != "LAB" else opened.mode
    mode = mode if mode in ("L", "CMYK", "LAB") else "RGB"
    convert = conversion(opened.info.get("icc_profile"), mode) if converts(images) else None
    if convert is None:
        return None
    return convert(opened if mode == "CMYK" else picture.getchannel("R") if mode == "L" else picture.convert("RGB"))


def _to_8_bits(values: np.ndarray, full: int, inverted: bool) -> np.ndarray:
    """Grey values of any number type to uint8, by the convention at the top of this module."""
    scaled: np.ndarray
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        scaled = np.rint(np.arange(65536) * (255 / full)).clip(0, 255).astype(np.uint8)[values]
    else:
        exact = values.astype(np.float64)
        if not np.isfinite(exact).all():
            raise ImageRejected("corrupt", "pixels are NaN or infinite")
        low, high = min(0.0, exact.min()), max(float(full), exact.max())
        scaled = np.rint((exact - low) * (255 / (high - low))).astype(np.uint8)
    return 255 - scaled if inverted else scaled


def _values(opened: ImageFile.ImageFile) -> np.ndarray:
    values = np.asarray(opened)
    if opened.mode == "I" and isinstance(opened, TiffImagePlugin.TiffImageFile):
        unsigned = opened.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, (1,)) == (1,)
        return values.view(np.uint32) if unsigned else values  # Pillow has no mode for them
    return values


def _tiff_grey(opened: ImageFile.ImageFile) -> tuple[int, bool]:
    """The value of full scale, and whether it means black: Pillow leaves both to the caller for deep TIFF."""
    full, inverted = (1 if opened.mode == "F" else 65535), False
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        inverted = opened.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
        if opened.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE) == (12,):
            full = 4095
    return full, inverted
