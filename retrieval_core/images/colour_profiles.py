"""From the colours of an ICC profile to sRGB, which the network was trained on and screens show."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageCms, features

from retrieval_core.config.sections import ImagesConfig

log = logging.getLogger("fabric_retrieval")

LARGEST_PROFILE = 16 << 20
"""Bytes; those of printing presses have two to four million."""
_SPACES = {"RGB": b"RGB ", "L": b"GRAY", "CMYK": b"CMYK"}
_SAME = 2
"""Grey levels of 255: a profile that moves no colour further is sRGB as another program writes it."""

Conversion = Callable[[Image.Image], Image.Image]


def converts(images: ImagesConfig) -> bool:
    """Whether pictures are converted here: that is asked for, and this Pillow can. Vectors depend on it."""
    return images.profile == "convert" and _has_littlecms()


@cache
def _has_littlecms() -> bool:
    if features.check("littlecms2"):
        return True
    log.warning("colour profiles are ignored: this Pillow is built without LittleCMS; install Pillow's own wheel")
    return False


def conversion(profile: object, mode: str) -> Conversion | None:
    """What turns a picture in ``mode`` into sRGB, a picture in mode RGB.

    ``profile`` is what Pillow found in the file. None where there is nothing to convert by (no profile, a damaged one,
    one of other colours than RGB, L or CMYK as ``mode`` names them) and where the profile is that of sRGB. Relative
    colorimetric with black point compensation: the white of the paper is white. A conversion takes about 20 ns a pixel,
    of CMYK 50, of grey 10.
    """
    if not isinstance(profile, bytes) or not 128 < len(profile) <= LARGEST_PROFILE:
        return None
    whole = profile[36:40] == b"acsp" and int.from_bytes(profile[:4], "big") <= len(profile)
    if not whole or mode not in _SPACES or profile[16:20] != _SPACES[mode]:
        return None
    return _conversion(profile, mode)


@lru_cache(maxsize=16)
def _conversion(profile: bytes, mode: str) -> Conversion | None:
    try:
        transform = ImageCms.ImageCmsTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        ).transform

        def convert(picture: Image.Image) -> Image.Image:
            target = Image.new("RGB", picture.size)
            transform.apply(picture.getim(), target.getim())
            return target

        if mode == "CMYK":
            convert(Image.new(mode, (1, 1)))
            return convert
        samples = _samples(mode)
        converted = np.asarray(convert(samples))
    except Exception:  # a damaged profile says nothing about the pixels, and anything can come of it
        return None
    if np.abs(converted.astype(int) - np.asarray(samples.convert("RGB"))).max() <= _SAME:
        return None
    if mode == "L":  # the 256 greys are all there is, and a table of them is faster
        table = converted[0].T.ravel().tolist()
        return lambda picture: picture.convert("RGB").point(table)
    return convert


def _samples(mode: str) -> Image.Image:
    """All greys, or 17 levels of each colour with one another."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 17).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    return Image.fromarray(grid.reshape(17, -1, 3))
